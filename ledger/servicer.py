"""The ledger's gRPC methods: messages in, messages out; who may call is decided before (medtrail.runtime.access).

Every answer is of one published checkpoint, and every event in it has its proof in that checkpoint.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from ledger.answers import (
    belief_to_message,
    bytes_of,
    digest_of,
    erased_to_message,
    group_to_message,
    level_to_message,
    link_of,
    outcome_to_message,
    proven_to_message,
    quantity_to_message,
    status_to_message,
)
from ledger.log_reader import LARGEST_PAGE_BYTES, LogReader
from ledger.queries import EventFilter, Queries, Scan
from ledger.questions import Pages, expiry_of, gln_of, lot_of, optional_time, pack_of, unit_path_of
from ledger.status import LedgerStatus
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.entry_store import StoredEntry
from medtrail.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from medtrail.api.trust.v1 import trust_pb2, trust_pb2_grpc
from medtrail.codec.verdict import verdict_to_message
from medtrail.errors import MalformedError
from medtrail.event import PayloadType
from medtrail.runtime.guard import Context
from medtrail.runtime.paging import PageTokens, page_size
from medtrail.runtime.server import Binding, caller_of
from medtrail.runtime.tokens import Clock, utc_now
from medtrail.tlog_proof import TlogProof, format_proof

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
        pages = Pages(self._tokens, context, f"{_TRUST}/ListTrustEntries", request)
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
            signed_event=bytes_of(proven),
            key_list_sha256=proven.key_list_sha256,
            inclusion_proof=proven.proof,
            checkpoint=checkpoint.note,
            tlog_proof=format_proof(proof),
            erased=erased_to_message(proven),
            signed_event_sha256=digest_of(proven),
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
        pages = Pages(self._tokens, context, f"{_LEDGER}/ListEvents", request)
        limit = page_size(request.page_size)
        start = pages.start(request.page_token, request.start_index)
        found, checkpoint = await self._listed(request, start=start, limit=limit + 1)
        page = fitting(found[:limit])
        proven = await self._reader.prove(page, checkpoint)
        return ledger_pb2.ListEventsResponse(
            events=[proven_to_message(item) for item in proven],
            next_page_token=pages.issue(found[len(page)].leaf_index) if len(found) > len(page) else "",
            checkpoint=checkpoint.note,
        )

    async def ListErasures(
        self, request: ledger_pb2.ListErasuresRequest, context: Context
    ) -> ledger_pb2.ListErasuresResponse:
        """Return what became of orders to erase, each with the proven order."""
        pages = Pages(self._tokens, context, f"{_LEDGER}/ListErasures", request)
        limit = page_size(request.page_size)
        start = pages.start(request.page_token, request.start_index)
        outcomes = await self._reader.erasure_outcomes(start=start, limit=limit + 1)
        # Read after the outcomes: an order is decided once it is published.
        checkpoint = self._reader.checkpoint
        orders = await self._reader.entries_at([outcome.order_index for outcome in outcomes[:limit]])
        page = fitting([orders[one.order_index] for one in outcomes[:limit] if one.order_index in orders])
        proven = await self._reader.prove(page, checkpoint)
        return ledger_pb2.ListErasuresResponse(
            outcomes=[outcome_to_message(outcome, item) for outcome, item in zip(outcomes, proven, strict=False)],
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
            unit=unit_path_of(request.epc) if request.epc else "",
            actor=str(gln_of(request.actor, field="actor")) if request.actor else "",
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
        true_time = optional_time(request, "judge_time")
        scan = Scan(
            unit=pack_of(request.epc).path,
            judge_time=true_time or self._clock(),
            lot=request.lot,
            expiry=expiry_of(request.expiry),
            caller=str(caller_of(context).organisation.gln),
        )
        answer = await self._queries.verify_pack(scan, true_time=true_time)
        state = None if answer.belief is None else belief_to_message(answer.belief, answer.level)
        return ledger_pb2.VerifyPackResponse(
            verdict=verdict_to_message(answer.verdict), state=state, checkpoint=self._reader.checkpoint.note
        )

    async def TracePack(self, request: ledger_pb2.TracePackRequest, context: Context) -> ledger_pb2.TracePackResponse:
        """Return the complete history of a unit, each event with its proof."""
        pages = Pages(self._tokens, context, f"{_LEDGER}/TracePack", request)
        limit = page_size(request.page_size)
        known_size, first = pages.snapshot(request.page_token, request.known_tree_size)
        trace = await self._queries.trace_unit(
            unit_path_of(request.epc), true_time=optional_time(request, "true_time"), tree_size=known_size
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
                proven_to_message(item, via=via, disbelieved=disbelieved)
                for item, (_leaf_index, via, disbelieved) in zip(proven, wanted, strict=False)
            ],
            # The next page is of the same size: else an event chained meanwhile would shift all that follow.
            next_page_token=pages.issue(trace.tree_size, last) if last < len(steps) else "",
            checkpoint=checkpoint.note,
        )

    async def TraceLot(self, request: ledger_pb2.TraceLotRequest, context: Context) -> ledger_pb2.TraceLotResponse:
        """Return where every pack of a lot is now."""
        pages = Pages(self._tokens, context, f"{_LEDGER}/TraceLot", request)
        limit = page_size(request.page_size, default=DEFAULT_UNITS, at_most=MOST_UNITS)
        position = pages.open(request.page_token)
        known_size, after = request.known_tree_size, ""
        if position is not None:
            known_size, after = int(position[0]), str(position[1])
        trace = await self._queries.trace_lot(
            lot_of(request.gtin, request.lot), true_time=optional_time(request, "true_time"), tree_size=known_size
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
