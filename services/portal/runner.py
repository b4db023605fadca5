"""Runs capture jobs, one after the other, in the order in which they came: a later one may rest on an earlier one.

``rollback``: every event is read and checked first; then all go to the service as one transaction, so that either all
are signed or none. ``proceed``: chunk by chunk; a chunk that is refused is cut until the refused event stands alone.
What the service has answered it answers again after a crash, under the same request id.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from medtrail.epcis import Position
from medtrail.errors import MalformedError, MedtrailError, NotFoundError, TooLargeError, UnavailableError
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from services.portal import jobs
from services.portal.custody_client import (
    CHUNK_EVENTS,
    TRANSACTION_BYTES,
    TRANSACTION_EVENTS,
    TRANSACTION_REFUSED,
    CaptureRefusal,
    Chunk,
    ChunkAnswer,
    capture,
    capture_one,
    refusal_error,
)
from services.portal.errors import problem
from services.portal.headers import ErrorBehaviour
from services.portal.jobs import Job, Problem
from services.portal.reading import Item, Reading, Taken, open_reading
from services.portal.repository import EventRepository
from services.portal.uploads import Uploads

if TYPE_CHECKING:
    from medtrail.api.custody.v1 import custody_pb2_grpc

log = get_logger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
INDEX_PATIENCE_S = 5.0
MOST_FAULTS = 1000
_REQUESTS = uuid.UUID("6a6bdb3c-6df5-4c86-9f0c-7fbd0f1c5a52")
_FORGET_EVERY_S = 3600.0


class JobRunner:
    """Runs until it is cancelled; a crash or a service that is away costs time, and no event."""

    def __init__(
        self,
        database: Database,
        custody: "custody_pb2_grpc.CustodyServiceAsyncStub",
        repository: EventRepository,
        uploads: Uploads,
        *,
        clock: Callable[[], datetime],
        capture_limit: int,
        keep: timedelta,
    ) -> None:
        """Hold what jobs need.

        Args:
            database: ``portal.db``, with the tables of jobs.
            custody: The organisation's service.
            repository: Where captured events are found again.
            uploads: Where documents lie.
            clock: Aware UTC.
            capture_limit: Most events of one capture.
            keep: How long finished jobs are kept.
        """
        self._database = database
        self._custody = custody
        self._repository = repository
        self._uploads = uploads
        self._clock = clock
        self._capture_limit = capture_limit
        self._keep = keep
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Say that there is a job."""
        self._woken.set()

    async def run(self) -> None:
        """Run jobs until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            self._woken.clear()
            job = await self._database.read(jobs.next_running)
            if job is None:
                await self._rest()
                continue
            try:
                await self._run_job(job)
                pause_s = FIRST_PAUSE_S
            except UnavailableError as error:
                log.info("capture waits", capture_id=job.capture_id, code=error.code, reason=error.message)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _rest(self) -> None:
        await self._database.write(lambda connection: jobs.forget_before(connection, self._clock() - self._keep))
        try:
            async with asyncio.timeout(_FORGET_EVERY_S):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _run_job(self, job: Job) -> None:
        try:
            if job.behaviour is ErrorBehaviour.PROCEED:
                await self._proceed(job)
            else:
                await self._all_or_nothing(job)
        except UnavailableError:
            raise
        except FileNotFoundError:
            error = NotFoundError("the upload is gone from the disk", code="UPLOAD_GONE")
            await self._finish(job, [problem(error)])
        except MedtrailError as error:
            # Before anything was sent, or of one transaction: nothing was recorded.
            await self._finish(job, [problem(error)])
        except Exception as error:
            # One capture that breaks something here must not stand in the way of all others.
            log.exception("capture broke", capture_id=job.capture_id)
            await self._finish(job, [problem(MedtrailError(str(error)))])

    async def _finish(self, job: Job, problems: Sequence[Problem] = (), *, answers: Sequence[ChunkAnswer] = ()) -> None:
        now = self._clock()
        captured, resends = _counts(answers)
        await self._database.write(
            lambda connection: jobs.finish(
                connection, job, finished=now, captured=captured, resends=resends, problems=problems
            )
        )
        # After the row: a crash between them leaves a file that the next start removes.
        await asyncio.to_thread(self._uploads.remove, job.capture_id)
        log.info("capture finished", capture_id=job.capture_id, errors=len(problems))

    # --- rollback -----------------------------------------------------------------------------------------------

    async def _all_or_nothing(self, job: Job) -> None:
        document = await self._open(job)
        try:
            problems = await self._check_all(document)
        finally:
            document.close()
        if problems:
            await self._finish(job, problems)
            return
        sent: list[tuple[int, ...]] = []
        document = await self._open(job)
        try:
            answers = await capture(self._custody, _transaction(job, document, sent))
        finally:
            document.close()
        problems = [
            refusal_problem(answer.refusal, indices)
            for answer, indices in zip(answers, sent, strict=True)
            if answer.refusal is not None and answer.refusal.code != TRANSACTION_REFUSED
        ]
        if not problems:
            await self._repository.put_master_data(document.head.vocabularies)
            await self._until_found(answers)
        # In one step: a crash before it begins anew, and the service answers as it did.
        await self._finish(job, problems, answers=answers)

    async def _open(self, job: Job) -> Reading:
        path = self._uploads.path(job.capture_id)
        return await asyncio.to_thread(open_reading, path, job.format, job.position)

    async def _check_all(self, document: Reading) -> list[Problem]:
        """Return what stands against a document; nothing has been asked of the service yet."""
        problems: list[Problem] = []
        count = size = 0
        while True:
            taken = await asyncio.to_thread(document.take, CHUNK_EVENTS)
            count += len(taken.items)
            size += sum(item.size for item in taken.items)
            problems += [found for item in taken.items for found in fault_problems(item)]
            if taken.failure is not None:
                problems.append(failure_problem(taken))
            most = min(self._capture_limit, TRANSACTION_EVENTS)
            if count > most or size > TRANSACTION_BYTES:
                text = (
                    f"a capture of all or nothing has at most {most} events and {TRANSACTION_BYTES} bytes:"
                    " send it in parts, or with GS1-Capture-Error-Behaviour: proceed"
                )
                return [*problems, problem(TooLargeError(text, code="CAPTURE_LIMIT", limit=most))]
            if taken.failure is not None or taken.ended or len(problems) >= MOST_FAULTS:
                return problems

    # --- proceed ------------------------------------------------------------------------------------------------

    async def _proceed(self, job: Job) -> None:
        document = await self._open(job)
        try:
            while True:
                taken = await asyncio.to_thread(document.take, CHUNK_EVENTS)
                if taken.after.index > self._capture_limit:
                    text = f"a capture has at most {self._capture_limit} events; those before were captured"
                    error = TooLargeError(text, code="CAPTURE_LIMIT", limit=self._capture_limit)
                    await self._finish(job, [problem(error)])
                    return
                problems = [found for item in taken.items for found in fault_problems(item)]
                if taken.failure is not None:
                    problems.append(failure_problem(taken))
                answers = await self._capture_good(job, taken.items, problems)
                await self._note(job, answers, position=taken.after, problems=problems)
                if taken.ended or taken.failure is not None:
                    break
            await self._repository.put_master_data(document.head.vocabularies)
            await self._until_found(answers)
            await self._finish(job)
        finally:
            document.close()

    async def _capture_good(self, job: Job, items: Sequence[Item], problems: list[Problem]) -> list[ChunkAnswer]:
        """Capture what the service takes of some events; what it refuses is added to the problems.

        Of a refused chunk, what stands before the refused event goes first, by itself; then that one goes alone; then
        ever more again.
        """
        left = [item for item in items if item.message is not None]
        answers: list[ChunkAnswer] = []
        size = len(left)
        while left:
            part = left[:size]
            answer = await capture_one(self._custody, _chunk(job, part))
            if answer.refusal is not None and len(part) > 1:
                size = min(max(1, answer.refusal.number), len(part) - 1)
                continue
            if answer.refusal is not None:
                problems.append(refusal_problem(answer.refusal, [item.index for item in part]))
            answers.append(answer)
            left, size = left[size:], size * 2
        return answers

    async def _note(
        self,
        job: Job,
        answers: Sequence[ChunkAnswer],
        *,
        position: Position,
        problems: Sequence[Problem],
    ) -> None:
        captured, resends = _counts(answers)
        await self._database.write(
            lambda connection: jobs.note_progress(
                connection, job, position=position, captured=captured, resends=resends, problems=problems
            )
        )

    async def _until_found(self, answers: Sequence[ChunkAnswer]) -> None:
        """Wait a little until captured events are found by queries: who is told of success may ask for them at once."""
        newest = max((answer.change_number for answer in answers), default=0)
        await self._repository.wait_for(newest, timeout_s=INDEX_PATIENCE_S)


def _counts(answers: Sequence[ChunkAnswer]) -> tuple[int, int]:
    """Return how many events were captured, and how many of them had been captured before."""
    events = [event for answer in answers for event in answer.events]
    return len(events), sum(event.resend for event in events)


def _request_id(job: Job, first: int, last: int) -> str:
    # The same events of the same job have the same id, whenever they are sent.
    return str(uuid.uuid5(_REQUESTS, f"{job.capture_id}/{job.behaviour}/{first}-{last}"))


def _chunk(job: Job, items: Sequence[Item], *, continued: bool = False) -> Chunk:
    messages = [item.message for item in items if item.message is not None]
    request_id = _request_id(job, items[0].index, items[-1].index)
    return Chunk(request_id, messages, second_hand=job.second_hand, happened=job.happened, continued=continued)


async def _transaction(job: Job, document: Reading, sent: list[tuple[int, ...]]) -> AsyncIterator[Chunk]:
    """Yield a document as chunks of one transaction, and note what each holds."""
    taken = await asyncio.to_thread(document.take, CHUNK_EVENTS)
    while taken.items:
        following = await asyncio.to_thread(document.take, CHUNK_EVENTS)
        sent.append(tuple(item.index for item in taken.items))
        yield _chunk(job, taken.items, continued=bool(following.items))
        taken = following


def fault_problems(item: Item) -> list[Problem]:
    """Return what makes an event unsound, as bodies that tell it."""
    return [_at_event(problem(fault), item.index, fault.field) for fault in item.faults]


def failure_problem(taken: Taken) -> Problem:
    """Return why the rest of a document cannot be read, as a body that tells it."""
    error = taken.failure or MalformedError("the document ends too early")
    return _at_event(problem(error), taken.after.index, error.field)


def refusal_problem(refusal: CaptureRefusal, indices: Sequence[int]) -> Problem:
    """Return why an event was refused, as a body that tells it.

    Args:
        refusal: Of a chunk.
        indices: Of its events in the document.
    """
    index = indices[min(refusal.number, len(indices) - 1)]
    return _at_event(problem(refusal_error(refusal)), index, refusal.field)


def _at_event(body: Problem, index: int, field: str | None) -> Problem:
    # Readers name fields of a document, checks those of an event.
    place = field or ""
    if not place.startswith(("$", "/", "events[", "epcisBody")):
        place = f"eventList[{index}].{place.lstrip('.')}".rstrip(".")
    return {**body, "field": place, "event": index}
