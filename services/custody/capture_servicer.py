"""CustodyService, continued: events that are captured as they are, chunk by chunk, several of which may be one step."""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from medtrail.api.custody.v1 import custody_pb2
from medtrail.codec import epcis_from_message
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MalformedError, MedtrailError, TooLargeError, UnavailableError
from medtrail.runtime.guard import Context
from services.custody import capture
from services.custody.books_servicer import BooksServicer
from services.custody.capture import CaptureRefusedError
from services.custody.changes import newest_change
from services.custody.desk import Session
from services.custody.messages import accepted_to_message
from services.custody.office import check_request_id

if TYPE_CHECKING:
    from services.custody.units import Unit

MAX_CHUNK_EVENTS = 500
MAX_CHUNK_BYTES = 2 * 1024 * 1024
MAX_TRANSACTION_EVENTS = 10_000
MAX_TRANSACTION_BYTES = 32 * 1024 * 1024


class CaptureServicer(BooksServicer):
    """Capturing."""

    async def CaptureEvents(
        self, request_iterator: AsyncIterator[custody_pb2.CaptureEventsRequest], context: Context
    ) -> AsyncIterator[custody_pb2.CaptureEventsResponse]:
        """Capture EPCIS events as they are; one answer a chunk, in order."""
        async for parts in _transactions(request_iterator):
            for answer in await self._capture(parts):
                yield answer

    async def _capture(self, parts: list[custody_pb2.CaptureEventsRequest]) -> list[custody_pb2.CaptureEventsResponse]:
        """Capture the chunks of one transaction; one answer each."""
        at = 0
        try:
            chunks: list[list[EpcisEvent]] = []
            units: set[Unit] = set()
            for at, part in enumerate(parts):  # noqa: B007 - tells where it stopped
                check_request_id(part.request_id)
                chunks.append(_statements(part))
                units |= capture.units_of_chunk(chunks[-1])

            def work(session: Session) -> custody_pb2.CaptureEventsResponse:
                nonlocal at
                made = []
                for at, (part, chunk) in enumerate(zip(parts, chunks, strict=True)):  # noqa: B007 - as above
                    captured = capture.capture_part(
                        session, chunk, second_hand=part.second_hand, happened=part.happened
                    )
                    made.append(captured)
                # The despatch that makes goods ours may stand behind all that tells what is inside of them.
                ours = {unit for captured in made for unit in captured.ours}
                for at, captured in enumerate(made):  # noqa: B007 - as above
                    capture.check_party(session, captured, ours)
                capture.hear_sensors(session, made)
                number = newest_change(session.connection)
                accepted = [item for captured in made for item in captured.accepted]
                return custody_pb2.CaptureEventsResponse(
                    events=[accepted_to_message(item) for item in accepted], change_number=number
                )

            *before, last = parts
            whole = await self._office.write(
                last, custody_pb2.CaptureEventsResponse, work, units=tuple(units), before=before
            )
        except UnavailableError:
            raise
        except MedtrailError as error:
            return [_refused(part, error if number == at else None) for number, part in enumerate(parts)]
        return list(_answers(parts, whole))


async def _transactions(
    requests: AsyncIterator[custody_pb2.CaptureEventsRequest],
) -> AsyncIterator[list[custody_pb2.CaptureEventsRequest]]:
    """Yield the requests of each transaction; those of one that is not ended are dropped."""
    parts: list[custody_pb2.CaptureEventsRequest] = []
    events = size = 0
    async for request in requests:
        parts.append(request)
        events, size = events + len(request.events), size + request.ByteSize()
        if len(parts) > 1 and (events > MAX_TRANSACTION_EVENTS or size > MAX_TRANSACTION_BYTES):
            message = f"one transaction has at most {MAX_TRANSACTION_EVENTS} events of {MAX_TRANSACTION_BYTES} bytes"
            raise TooLargeError(message, code="TRANSACTION_SIZE", field="continued")
        if not request.continued:
            yield parts
            parts, events, size = [], 0, 0


def _answers(
    parts: list[custody_pb2.CaptureEventsRequest], whole: custody_pb2.CaptureEventsResponse
) -> Iterator[custody_pb2.CaptureEventsResponse]:
    first = 0
    for part in parts:
        yield custody_pb2.CaptureEventsResponse(
            request_id=part.request_id,
            events=whole.events[first : first + len(part.events)],
            change_number=whole.change_number,
        )
        first += len(part.events)


def _refused(part: custody_pb2.CaptureEventsRequest, error: MedtrailError | None) -> custody_pb2.CaptureEventsResponse:
    if error is not None:
        found = _capture_error(error)
    else:
        message = "another chunk of the transaction was refused"
        found = custody_pb2.CaptureError(code="TRANSACTION_REFUSED", message=message)
    return custody_pb2.CaptureEventsResponse(request_id=part.request_id, errors=[found])


def _capture_error(error: MedtrailError) -> custody_pb2.CaptureError:
    number = error.number if isinstance(error, CaptureRefusedError) else 0
    return custody_pb2.CaptureError(
        event_number=number, code=error.code, field=error.field or "", message=error.message
    )


def _statements(request: custody_pb2.CaptureEventsRequest) -> list[EpcisEvent]:
    if not 1 <= len(request.events) <= MAX_CHUNK_EVENTS or request.ByteSize() > MAX_CHUNK_BYTES:
        message = f"expected 1 to {MAX_CHUNK_EVENTS} events of at most {MAX_CHUNK_BYTES} bytes in all"
        raise TooLargeError(message, code="CHUNK_SIZE", field="events")
    found = []
    for number, event in enumerate(request.events):
        try:
            found.append(epcis_from_message(event, field=f"events[{number}]"))
        except MalformedError as error:
            raise CaptureRefusedError(number, error) from error
    return found
