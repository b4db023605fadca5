"""CustodyService, continued: what is wrong in the books, and taking back what was done."""

from medtrail.api.custody.v1 import custody_pb2
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.paging import page_size
from services.custody import alerts, undoing
from services.custody.desk import Session
from services.custody.handover_servicer import HandoverServicer
from services.custody.messages import accepted_to_message, alert_to_message
from services.custody.office import check_reason
from services.custody.undoing import Request


class BooksServicer(HandoverServicer):
    """Alerts, and undoing."""

    async def ListAlerts(
        self, request: custody_pb2.ListAlertsRequest, context: Context
    ) -> custody_pb2.ListAlertsResponse:
        """List alerts on units in the books, newest first."""
        size = page_size(request.page_size, at_most=500)
        caller = caller_of(context).organisation.gln
        method = "ListAlerts"
        position = self._office.tokens.open(request.page_token, caller=caller, method=method, request=request)
        unit = self._office.unit(request.epc, field="epc").unit if request.epc else None
        query = alerts.AlertQuery(request.code, unit, request.include_withdrawn)
        before = None if position is None else int(position[0])
        found = await self._office.database.read(
            lambda connection: alerts.list_alerts(connection, query, before=before, limit=size + 1)
        )
        token = ""
        if len(found) > size:
            token = self._office.tokens.issue((found[size - 1].number,), caller=caller, method=method, request=request)
        return custody_pb2.ListAlertsResponse(
            alerts=[alert_to_message(alert) for alert in found[:size]], next_page_token=token
        )

    async def Undo(self, request: custody_pb2.UndoRequest, context: Context) -> custody_pb2.UndoResponse:
        """Take back a dispensing or decommissioning."""
        named = self._office.unit(request.epc, field="epc")
        occasion = self._office.occasion(request.occasion)
        wanted = Request(occasion.location, occasion.offset, check_reason(request.reason), request.not_supplied)

        def work(session: Session) -> custody_pb2.UndoResponse:
            made = undoing.undo_deed(session, named, wanted)
            return custody_pb2.UndoResponse(events=[accepted_to_message(item) for item in made])

        return await self._office.write(request, custody_pb2.UndoResponse, work, units=(named.unit,))
