"""RecallService: states recalls, and lists those that are known."""

from sqlalchemy import Connection

from medtrail.api.recall.v1 import recall_pb2, recall_pb2_grpc
from medtrail.codec import recall_from_message, recall_to_message
from medtrail.errors import AuthorizationError, MalformedError, NotFoundError
from medtrail.event import Recall
from medtrail.gs1 import Lgtin, Sgtin
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.paging import page_size
from medtrail.runtime.server import Binding
from services.custody.desk import Session, known_recalls
from services.custody.messages import accepted_to_message
from services.custody.office import Office
from services.custody.recalls import RecallIndex

METHOD = "ListRecalls"


class RecallServicer(recall_pb2_grpc.RecallServiceServicer):
    """Recalls, for one organisation."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def IssueRecall(
        self, request: recall_pb2.IssueRecallRequest, context: Context
    ) -> recall_pb2.IssueRecallResponse:
        """State a recall, or end one. It holds here at once, and for others from the moment that it is in the log."""
        recall = recall_from_message(request.recall)
        check_scopes(recall)

        def work(session: Session) -> recall_pb2.IssueRecallResponse:
            _check_ended(session, recall)
            return recall_pb2.IssueRecallResponse(event=accepted_to_message(session.state(recall)))

        return await self._office.write(request, recall_pb2.IssueRecallResponse, work)

    async def ListRecalls(
        self, request: recall_pb2.ListRecallsRequest, context: Context
    ) -> recall_pb2.ListRecallsResponse:
        """List the recalls known here, in log order, own ones not yet in the log last."""
        size = page_size(request.page_size, at_most=500)
        caller = caller_of(context).organisation.gln
        position = self._office.tokens.open(request.page_token, caller=caller, method=METHOD, request=request)
        start = 0 if position is None else int(position[0])

        def look(connection: Connection) -> RecallIndex:
            return known_recalls(connection, self._office.desk)

        index = await self._office.database.read(look)
        page = index.known[start : start + size]
        token = ""
        if start + size < len(index.known):
            token = self._office.tokens.issue((start + size,), caller=caller, method=METHOD, request=request)
        return recall_pb2.ListRecallsResponse(
            recalls=[
                recall_pb2.KnownRecall(
                    recall_id=item.recall_id,
                    actor=str(item.actor),
                    recall=recall_to_message(item.recall),
                    active=index.is_active(item.recall_id),
                )
                for item in page
            ],
            next_page_token=token,
        )


def check_scopes(recall: Recall) -> None:
    """Check that lots and serials of a recall are such as packs can carry.

    Raises:
        MalformedError: One is not; a rule that can match nothing would be a recall that recalls nothing.
    """
    for number, scope in enumerate(recall.scopes):
        field = f"recall.scopes[{number}]"
        try:
            if scope.lot:
                Lgtin(scope.gtin, scope.lot)
            for serial in scope.serials:
                Sgtin(scope.gtin, serial)
        except MalformedError as error:
            raise MalformedError(error.message, code=error.code, field=field) from error


def _check_ended(session: Session, recall: Recall) -> None:
    ended = recall.terminated_recall_id
    if not ended:
        return
    known = next((item for item in session.recalls.known if item.recall_id == ended), None)
    if known is None:
        message = f"no recall {ended} is known here"
        raise NotFoundError(message, code="RECALL_UNKNOWN", field="recall.terminated_recall_id")
    if known.actor != session.desk.gln:
        message = f"recall {ended} was issued by {known.actor}"
        raise AuthorizationError(message, code="RECALL_NOT_OWN", field="recall.terminated_recall_id")


def recall_binding(office: Office) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.recall.v1.RecallService",
        recall_pb2_grpc.add_RecallServiceServicer_to_server,
        RecallServicer(office),
    )
