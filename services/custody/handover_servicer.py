"""The calls of CustodyService that hand things on: one shipment as a file, and what reports are made of."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import BinaryIO, Literal

from sqlalchemy import Connection

from medtrail.api.custody.v1 import custody_pb2, custody_pb2_grpc
from medtrail.codec import from_timestamp, to_timestamp
from medtrail.epcis.rules import Profile
from medtrail.errors import MalformedError
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.paging import page_size
from services.custody.export import Exported, export_shipment
from services.custody.master_data import Known, known_products
from services.custody.office import Office
from services.custody.parties_file import read_parties
from services.custody.reports import OwnEvent, OwnEventKind, Pack, Page, list_own_events, packs_of

CHUNK_BYTES = 256 * 1024
GAPS_PER_ANSWER = 500
PACKS_PER_ANSWER = 1000

_PROFILES = {
    custody_pb2.EXPORT_PROFILE_UNSPECIFIED: None,
    custody_pb2.EXPORT_PROFILE_DSCSA: Profile.DSCSA,
}
_KIND_TO_MESSAGE = {kind: custody_pb2.OwnEventKind.Value(f"OWN_EVENT_KIND_{kind.name}") for kind in OwnEventKind}
_KIND_FROM_MESSAGE = {number: kind for kind, number in _KIND_TO_MESSAGE.items()}


class HandoverServicer(custody_pb2_grpc.CustodyServiceServicer):
    """Shipments as files, and own events for reports."""

    def __init__(self, office: Office) -> None:
        self._office = office
        # Large ones take seconds of a processor: the scans of a receiving bay go first.
        self._export_turn = asyncio.Semaphore(1)

    async def ExportShipment(
        self, request: custody_pb2.ExportShipmentRequest, context: Context
    ) -> AsyncIterator[custody_pb2.ExportShipmentResponse]:
        """Write a shipment as a file; its gaps first."""
        if request.profile not in _PROFILES:
            message = f"unknown profile {request.profile}"
            raise MalformedError(message, code="PROFILE_UNKNOWN", field="profile")
        with tempfile.TemporaryFile(prefix="medtrail-export-") as out:
            async with self._export_turn:
                work = partial(self._export, request=request, out=out)
                exported = await self._office.database.read(work)
            yield custody_pb2.ExportShipmentResponse(summary=_summary(exported))
            listed = exported.gaps.listed
            for start in range(0, len(listed), GAPS_PER_ANSWER):
                part = listed[start : start + GAPS_PER_ANSWER]
                yield custody_pb2.ExportShipmentResponse(
                    gaps=[
                        custody_pb2.ExportGap(code=gap.code, subject=gap.subject, message=gap.message) for gap in part
                    ]
                )
            if exported.gaps.count and not request.gaps_allowed:
                return
            out.seek(0)
            while chunk := await asyncio.to_thread(out.read, CHUNK_BYTES):
                yield custody_pb2.ExportShipmentResponse(chunk=chunk)

    def _export(self, connection: Connection, *, request: custody_pb2.ExportShipmentRequest, out: BinaryIO) -> Exported:
        office = self._office
        logged = {gtin: entry.product for gtin, entry in office.replica.products.items()}
        known = Known(office.desk.registry(), known_products(connection, logged), read_parties(office.parties_file))
        return export_shipment(
            connection,
            request.despatch_event_id,
            glns=office.desk.glns,
            known=known,
            profile=_PROFILES[request.profile],
            now=office.desk.clock(),
            out=out,
        )

    async def ListOwnEvents(
        self, request: custody_pb2.ListOwnEventsRequest, context: Context
    ) -> custody_pb2.ListOwnEventsResponse:
        """List what this organisation itself said of goods, in the order in which it was recorded."""
        size = page_size(request.page_size)
        caller = caller_of(context).organisation.gln
        method = "ListOwnEvents"
        position = self._office.tokens.open(request.page_token, caller=caller, method=method, request=request)
        unknown = [number for number in request.kinds if number not in _KIND_FROM_MESSAGE]
        if unknown:
            message = f"unknown kind {unknown[0]}"
            raise MalformedError(message, code="KIND_UNKNOWN", field="kinds")
        start = _moment(request, "start_time")
        end = _moment(request, "end_time")

        def look(connection: Connection) -> Page:
            return list_own_events(
                connection,
                after=0 if position is None else int(position[0]),
                start=start,
                end=end,
                kinds={_KIND_FROM_MESSAGE[number] for number in request.kinds},
                limit=size,
            )

        page = await self._office.database.read(look)
        token = ""
        if page.position is not None:
            token = self._office.tokens.issue((page.position,), caller=caller, method=method, request=request)
        return custody_pb2.ListOwnEventsResponse(
            events=[_own_event(item) for item in page.events], next_page_token=token
        )

    async def ListEventPacks(
        self, request: custody_pb2.ListEventPacksRequest, context: Context
    ) -> AsyncIterator[custody_pb2.ListEventPacksResponse]:
        """Tell the packs that an event of one's own concerns."""
        work = partial(packs_of, event_id=request.event_id, declaration=request.declaration)
        packs = await self._office.database.read(work)
        for first in range(0, len(packs), PACKS_PER_ANSWER):
            part = packs[first : first + PACKS_PER_ANSWER]
            yield custody_pb2.ListEventPacksResponse(packs=[_pack(pack) for pack in part])


def _moment(request: custody_pb2.ListOwnEventsRequest, name: Literal["start_time", "end_time"]) -> datetime | None:
    if not request.HasField(name):
        return None
    return from_timestamp(getattr(request, name), field=name)


def _summary(exported: Exported) -> custody_pb2.ShipmentSummary:
    return custody_pb2.ShipmentSummary(
        unit_count=exported.unit_count,
        pack_count=exported.pack_count,
        event_count=exported.event_count,
        document_size=exported.size,
        gap_count=exported.gaps.count,
    )


def _own_event(item: OwnEvent) -> custody_pb2.OwnEvent:
    declaration = item.declaration
    return custody_pb2.OwnEvent(
        event_id=item.event_id,
        declaration=declaration is not None,
        kind=_KIND_TO_MESSAGE[item.kind],
        event_time=to_timestamp(item.event_time),
        event_time_zone_offset=item.event_time_zone_offset,
        declaration_time=None if declaration is None else to_timestamp(declaration.declaration_time),
        corrective_event_ids=() if declaration is None else declaration.corrective_event_ids,
        partner="" if item.partner is None else str(item.partner),
        purchase_orders=[document.id for document in item.documents if document.type == "po"],
        despatch_advices=[document.id for document in item.documents if document.type == "desadv"],
        signed_event_sha256=item.sha256,
        leaf_index=item.leaf_index,
    )


def _pack(pack: Pack) -> custody_pb2.EventPack:
    expiry = "" if pack.expiry is None else pack.expiry.isoformat()
    return custody_pb2.EventPack(gtin=pack.gtin, serial=pack.serial, lot=pack.lot, expiry=expiry)
