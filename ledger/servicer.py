"""The ledger's gRPC methods: messages in, messages out; who may call is decided before (medtrail.runtime.access).

Every answer is of one published checkpoint, and every event in it has its proof in that checkpoint.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import date, datetime

from google.protobuf.message import Message

from ledger.answers import (
    belief_to_message,
    group_to_message,
    level_to_message,
    link_of,
    quantity_to_message,
    status_to_message,
)
from ledger.intake import from_us
from ledger.log_reader import LARGEST_PAGE_BYTES, LogReader, ProvenEntry
from ledger.queries import EventFilter, Queries, Scan
from ledger.status import LedgerStatus
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.entry_store import StoredEntry
from ledger.storage.erasure_store import Outcome
from medtrail.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from medtrail.api.trust.v1 import trust_pb2, trust_pb2_grpc
from medtrail.codec import from_timestamp, to_timestamp
from medtrail.codec.verdict import verdict_to_message
from medtrail.errors import MalformedError
from medtrail.event import PayloadType
from medtrail.gs1 import Gln, Gtin, Lgtin, Sgtin, parse_epc
from medtrail.runtime.guard import Context
from medtrail.runtime.paging import PageTokens, page_size
from medtrail.runtime.server import Binding, caller_of
from medtrail.runtime.tokens import Clock, utc_now
from medtrail.tlog_proof import TlogProof, format_proof

LARGEST_START = 2**63 - 1
MOST_PAYLOAD_TYPES = 10
MOST_UNITS = 10_000
DEFAULT_UNITS = 1_000
_HASH_BYTES = 32
LEDGER_SERVICE = "medtrail.api.ledger.v1.LedgerService"
TRUST_SERVICE = "medtrail.api.trust.v1.TrustService"
_LEDGER = f"/{LEDGER_SERVICE}"
_TRUST = f"/{TRUST_SERVICE}"


class TrustServicer(trust_pb2_grpc.TrustServiceServicer):
    """Hands out the trust entries."""

    def __init__(self, reader: LogReader, tokens: PageTokens) -> None:
        """Hold the log and the page tokens."""
        self._reader = reader
        self._tokens = tokens

    async def ListTrustEntries(
        self, request: trust_pb2.ListTrustEntriesRequest, context: Context
    ) -> trust_pb2.ListTrustEntriesResponse:
        """Return trust entries in log order, each with its proof."""
        pages = _Pages(self._tokens, context, f"{_TRUST}/ListTrustEntries", request)
        limit = page_size(request.page_size)
        start = pages.start(request.page_token, request.start_index)
        checkpoint = self._reader.checkpoint
        found = await self._reader.entries_of_types(
            [PayloadType.TRUST], start=start, end=checkpoint.tree.size, limit=limit + 1
        )
        page = fitting(found[:limit])
        proven = await self._reader.prove(page, checkpoint)
        return trust_pb2.ListTrustEntriesResponse(
            entries=[
                trust_pb2.TrustEntry(
                    leaf_index=item.stored.leaf_index,
                    signed_event=item.stored.require_event(),
                    key_list_sha256=item.key_list_sha256,
                    inclusion_proof=item.proof,
                )
                for item in proven
            ],
            next_page_token=pages.issue(found[len(page)].leaf_index) if len(found) > len(page) else "",
            checkpoint=checkpoint.note,
        )


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """Answers questions about packs, lots and the log."""

    def __init__(
        self,
        reader: LogReader,
        queries: Queries,
        tokens: PageTokens,
        *,
        status: Callable[[], Awaitable[LedgerStatus]],
        clock: Clock = utc_now,
    ) -> None:
        """Hold the parts.

        Args:
            reader: The published log.
            queries: What is believed.
            tokens: Page tokens.
            status: Tells how this instance stands.
            clock: Aware UTC: the moment for which to judge when the caller names none.
        """
        self._reader = reader
        self._queries = queries
        self._tokens = tokens
        self._status = status
        self._clock = clock

    # --- the log ---

    async def GetCheckpoint(
        self, request: ledger_pb2.GetCheckpointRequest, context: Context
    ) -> ledger_pb2.GetCheckpointResponse:
        """Return the newest published checkpoint."""
        return ledger_pb2.GetCheckpointResponse(checkpoint=self._reader.checkpoint.note)

    async def WatchCheckpoints(
        self, request: ledger_pb2.WatchCheckpointsRequest, context: Context
    ) -> AsyncIterator[ledger_pb2.WatchCheckpointsResponse]:
        """Send the newest checkpoint, then each newer one."""
        async for checkpoint in self._reader.feed.watch():
            yield ledger_pb2.WatchCheckpointsResponse(checkpoint=checkpoint.note)

    async def GetStatus(self, request: ledger_pb2.GetStatusRequest, context: Context) -> ledger_pb2.GetStatusResponse:
        """Tell how this instance stands."""
        return status_to_message(await self._status())

    async def GetInclusionProof(
        self, request: ledger_pb2.GetInclusionProofRequest, context: Context
    ) -> ledger_pb2.GetInclusionProofResponse:
        """Prove that one event is in the log."""
        checkpoint = self._reader.checkpoint
        stored = await self._reader.entry(await self._wanted_index(request), checkpoint)
        (proven,) = await self._reader.prove([stored], checkpoint)
        proof = TlogProof(stored.leaf_index, proven.key_list_sha256, proven.proof, checkpoint.note)
        return ledger_pb2.GetInclusionProofResponse(
            leaf_index=stored.leaf_index,
            signed_event=_bytes_of(proven),
            key_list_sha256=proven.key_list_sha256,
            inclusion_proof=proven.proof,
            checkpoint=checkpoint.note,
            tlog_proof=format_proof(proof),
            erased=_erased(proven),
            signed_event_sha256=_digest_of(proven),
        )

    async def _wanted_index(self, request: ledger_pb2.GetInclusionProofRequest) -> int:
        kind = request.WhichOneof("event")
        if kind == "leaf_index":
            return request.leaf_index
        if kind == "signed_event_sha256":
            if len(request.signed_event_sha256) != _HASH_BYTES:
                message = f"expected {_HASH_BYTES} bytes, got {len(request.signed_event_sha256)}"
                raise MalformedError(message, code="HASH_LENGTH", field="signed_event_sha256")
            return await self._reader.index_of(sha256=request.signed_event_sha256)
        if not request.event_id:
            raise MalformedError("expected an index, an event id or a hash", code="FIELD_MISSING", field="event")
        return await self._reader.index_of(event_id=request.event_id)

    async def GetConsistencyProof(
        self, request: ledger_pb2.GetConsistencyProofRequest, context: Context
    ) -> ledger_pb2.GetConsistencyProofResponse:
        """Prove that an older tree is a prefix of a newer one."""
        checkpoint = self._reader.checkpoint
        new_size = request.new_size or checkpoint.tree.size
        proof = await self._reader.prove_consistency(
            old_size=request.old_size, new_size=new_size, checkpoint=checkpoint
        )
        return ledger_pb2.GetConsistencyProofResponse(
            consistency_proof=proof, new_size=new_size, checkpoint=checkpoint.note
        )

    async def ListEvents(
        self, request: ledger_pb2.ListEventsRequest, context: Context
    ) -> ledger_pb2.ListEventsResponse:
        """Return chained events in log order, each with its proof."""
        pages = _Pages(self._tokens, context, f"{_LEDGER}/ListEvents", request)
        limit = page_size(request.page_size)
        start = pages.start(request.page_token, request.start_index)
        found, checkpoint = await self._listed(request, start=start, limit=limit + 1)
        page = fitting(found[:limit])
        proven = await self._reader.prove(page, checkpoint)
        return ledger_pb2.ListEventsResponse(
            events=[_proven_event(item) for item in proven],
            next_page_token=pages.issue(found[len(page)].leaf_index) if len(found) > len(page) else "",
            checkpoint=checkpoint.note,
        )

    async def ListErasures(
        self, request: ledger_pb2.ListErasuresRequest, context: Context
    ) -> ledger_pb2.ListErasuresResponse:
        """Return what became of orders to erase, each with the proven order."""
        pages = _Pages(self._tokens, context, f"{_LEDGER}/ListErasures", request)
        limit = page_size(request.page_size)
        start = pages.start(request.page_token, request.start_index)
        outcomes = await self._reader.erasure_outcomes(start=start, limit=limit + 1)
        # Read after the outcomes: an order is decided once it is published.
        checkpoint = self._reader.checkpoint
        orders = await self._reader.entries_at([outcome.order_index for outcome in outcomes[:limit]])
        page = fitting([orders[one.order_index] for one in outcomes[:limit] if one.order_index in orders])
        proven = await self._reader.prove(page, checkpoint)
        return ledger_pb2.ListErasuresResponse(
            outcomes=[_outcome(outcome, item) for outcome, item in zip(outcomes, proven, strict=False)],
            next_page_token=pages.issue(outcomes[len(page)].order_index) if len(outcomes) > len(page) else "",
            checkpoint=checkpoint.note,
        )

    async def _listed(
        self, request: ledger_pb2.ListEventsRequest, *, start: int, limit: int
    ) -> tuple[list[StoredEntry], StoredCheckpoint]:
        if len(request.payload_types) > MOST_PAYLOAD_TYPES:
            message = f"expected at most {MOST_PAYLOAD_TYPES} payload types, got {len(request.payload_types)}"
            raise MalformedError(message, code="TOO_MANY", field="payload_types")
        if not (request.epc or request.actor or request.biz_step):
            checkpoint = self._reader.checkpoint
            found = await self._reader.entries_of_types(
                list(request.payload_types), start=start, end=checkpoint.tree.size, limit=limit
            )
            return found, checkpoint
        wanted = EventFilter(
            payload_types=tuple(request.payload_types),
            unit=_unit_path(request.epc) if request.epc else "",
            actor=str(_gln(request.actor, field="actor")) if request.actor else "",
            biz_step=request.biz_step,
        )
        _size, indices = await self._queries.list_events(wanted, start=start, limit=limit)
        by_index = await self._reader.entries_at(indices)
        # Read after the projection, which never runs ahead of what is published.
        return [by_index[index] for index in indices if index in by_index], self._reader.checkpoint

    # --- packs and lots ---

    async def VerifyPack(
        self, request: ledger_pb2.VerifyPackRequest, context: Context
    ) -> ledger_pb2.VerifyPackResponse:
        """Judge one scanned pack against the whole log."""
        true_time = _optional_time(request, "judge_time")
        scan = Scan(
            unit=_pack(request.epc).path,
            judge_time=true_time or self._clock(),
            lot=request.lot,
            expiry=_expiry(request.expiry),
            caller=str(caller_of(context).organisation.gln),
        )
        answer = await self._queries.verify_pack(scan, true_time=true_time)
        state = None if answer.belief is None else belief_to_message(answer.belief, answer.level)
        return ledger_pb2.VerifyPackResponse(
            verdict=verdict_to_message(answer.verdict), state=state, checkpoint=self._reader.checkpoint.note
        )

    async def TracePack(self, request: ledger_pb2.TracePackRequest, context: Context) -> ledger_pb2.TracePackResponse:
        """Return the complete history of a unit, each event with its proof."""
        pages = _Pages(self._tokens, context, f"{_LEDGER}/TracePack", request)
        limit = page_size(request.page_size)
        known_size, first = pages.snapshot(request.page_token, request.known_tree_size)
        trace = await self._queries.trace_unit(
            _unit_path(request.epc), true_time=_optional_time(request, "true_time"), tree_size=known_size
        )
        checkpoint = self._reader.checkpoint
        # What was erased has no time of its own any more: it comes after all that is known.
        steps: list[tuple[int, str, bool]] = [
            (step.fact.leaf_index, link_of(step.via), step.standing.disbelieved) for step in trace.steps
        ]
        steps += [(leaf_index, "", False) for leaf_index in trace.erased]
        wanted = steps[first : first + limit]
        by_index = await self._reader.entries_at([leaf_index for leaf_index, _via, _disbelieved in wanted])
        page = fitting([by_index[leaf_index] for leaf_index, _via, _disbelieved in wanted if leaf_index in by_index])
        proven = await self._reader.prove(page, checkpoint)
        last = first + len(page)
        return ledger_pb2.TracePackResponse(
            state=None if trace.belief is None else belief_to_message(trace.belief, trace.level),
            events=[
                _proven_event(item, via=via, disbelieved=disbelieved)
                for item, (_leaf_index, via, disbelieved) in zip(proven, wanted, strict=False)
            ],
            # The next page is of the same size: else an event chained meanwhile would shift all that follow.
            next_page_token=pages.issue(trace.tree_size, last) if last < len(steps) else "",
            checkpoint=checkpoint.note,
        )

    async def TraceLot(self, request: ledger_pb2.TraceLotRequest, context: Context) -> ledger_pb2.TraceLotResponse:
        """Return where every pack of a lot is now."""
        pages = _Pages(self._tokens, context, f"{_LEDGER}/TraceLot", request)
        limit = page_size(request.page_size, default=DEFAULT_UNITS, at_most=MOST_UNITS)
        position = pages.open(request.page_token)
        known_size, after = request.known_tree_size, ""
        if position is not None:
            known_size, after = int(position[0]), str(position[1])
        trace = await self._queries.trace_lot(
            _lot(request.gtin, request.lot), true_time=_optional_time(request, "true_time"), tree_size=known_size
        )
        units = trace.units(after=after, limit=limit + 1)
        more = len(units) > limit
        return ledger_pb2.TraceLotResponse(
            commissioned_count=trace.commissioned_count,
            level=level_to_message(trace.level),
            groups=[group_to_message(group) for group in trace.groups],
            quantities=[quantity_to_message(quantity) for quantity in trace.quantities],
            units=[belief_to_message(unit, trace.level) for unit in units[:limit]],
            next_page_token=pages.issue(trace.tree_size, units[limit - 1].unit) if more else "",
            checkpoint=self._reader.checkpoint.note,
            recall_ids=trace.recall_ids,
        )


class _Pages:
    """Page tokens of one call."""

    def __init__(self, tokens: PageTokens, context: Context, method: str, request: Message) -> None:
        self._tokens = tokens
        self._caller: Gln = caller_of(context).organisation.gln
        self._method = method
        self._request = request

    def open(self, token: str) -> tuple[int | str, ...] | None:
        return self._tokens.open(token, caller=self._caller, method=self._method, request=self._request)

    def start(self, token: str, first: int) -> int:
        position = self.open(token)
        # What lies behind the largest index is none, in every database's numbers.
        return min(first, LARGEST_START) if position is None else int(position[0])

    def snapshot(self, token: str, known_size: int) -> tuple[int, int]:
        position = self.open(token)
        return (known_size, 0) if position is None else (int(position[0]), int(position[1]))

    def issue(self, *position: int | str) -> str:
        return self._tokens.issue(position, caller=self._caller, method=self._method, request=self._request)


def fitting(entries: Sequence[StoredEntry]) -> list[StoredEntry]:
    """Return the first entries that fit into one answer of 2 MiB: at least one where there is any."""
    page: list[StoredEntry] = []
    size = 0
    for entry in entries:
        size += len(entry.signed_event or b"") + 2048
        if page and size > LARGEST_PAGE_BYTES:
            break
        page.append(entry)
    return page


def _proven_event(item: ProvenEntry, *, via: str = "", disbelieved: bool = False) -> ledger_pb2.ProvenEvent:
    stored = item.stored
    return ledger_pb2.ProvenEvent(
        leaf_index=stored.leaf_index,
        signed_event=_bytes_of(item),
        key_list_sha256=item.key_list_sha256,
        inclusion_proof=item.proof,
        via=via,
        log_time=to_timestamp(from_us(stored.stream_time_us)),
        disbelieved=disbelieved,
        erased=_erased(item),
        signed_event_sha256=_digest_of(item),
    )


def _bytes_of(item: ProvenEntry) -> bytes:
    return b"" if item.erased else item.stored.require_event()


def _digest_of(item: ProvenEntry) -> bytes:
    return item.stored.entry[1:33] if item.erased else b""


def _erased(item: ProvenEntry) -> ledger_pb2.Erased | None:
    erased = item.erased
    if erased is None:
        return None
    return ledger_pb2.Erased(
        gln=erased.signer_gln,
        reason=erased.reason,
        order_index=erased.order_index,
        erase_time=to_timestamp(from_us(erased.erase_time_us)),
        consent_index=erased.consent_index,
    )


def _outcome(outcome: Outcome, order: ProvenEntry) -> ledger_pb2.ErasureOutcome:
    return ledger_pb2.ErasureOutcome(
        order=_proven_event(order),
        leaf_index=None if outcome.erased is None else outcome.erased.leaf_index,
        code=outcome.code,
        message=outcome.message,
    )


def _optional_time(request: Message, name: str) -> datetime | None:
    if not request.HasField(name):
        return None
    return from_timestamp(getattr(request, name), field=name)


def _expiry(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise MalformedError("expected YYYY-MM-DD", code="DATE_WRONG", field="expiry") from error


def _unit_path(text: str) -> str:
    try:
        return parse_epc(text).path
    except MalformedError as error:
        if error.code == "EPC_NOT_GS1" and text:
            # Units of other schemes are known under their URI as it stands.
            return text
        raise MalformedError(error.message, code=error.code, field="epc") from error


def _pack(text: str) -> Sgtin:
    try:
        key = parse_epc(text)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="epc") from error
    if not isinstance(key, Sgtin):
        raise MalformedError("expected one pack: GTIN (01) and serial (21)", code="EPC_NOT_PACK", field="epc")
    return key


def _gln(text: str, *, field: str) -> Gln:
    try:
        return Gln(text)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field=field) from error


def _lot(gtin: str, lot: str) -> Lgtin:
    try:
        number = Gtin(gtin)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="gtin") from error
    try:
        return Lgtin(number, lot)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="lot") from error


def ledger_bindings(
    reader: LogReader, queries: Queries, tokens: PageTokens, *, status: Callable[[], Awaitable[LedgerStatus]]
) -> list[Binding]:
    """Return both services with their servicers, for a process to serve."""
    return [
        Binding(
            LEDGER_SERVICE,
            ledger_pb2_grpc.add_LedgerServiceServicer_to_server,
            LedgerServicer(reader, queries, tokens, status=status),
        ),
        Binding(TRUST_SERVICE, trust_pb2_grpc.add_TrustServiceServicer_to_server, TrustServicer(reader, tokens)),
    ]
