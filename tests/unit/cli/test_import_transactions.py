"""Which chunks of a document are captured as one transaction."""

from collections.abc import Iterator

import pytest

from medtrail.api.event.v1 import epcis_pb2
from medtrail.cli import capture
from medtrail.cli.capture import Chunk, in_transactions
from medtrail.epcis import Position

EVENT = epcis_pb2.EpcisEvent(biz_step="commissioning")


def chunks(*sizes: int) -> Iterator[Chunk]:
    first = 0
    for size in sizes:
        yield Chunk(first, (EVENT,) * size, Position(first, 0))
        first += size


def ends(*sizes: int, together: bool = True) -> list[bool]:
    return [last for _, last in in_transactions(chunks(*sizes), together=together)]


def test_first_hand_every_chunk_is_one() -> None:
    assert ends(2, 2, 2, together=False) == [True, True, True]


def test_second_hand_all_that_fit_are_one() -> None:
    assert ends(2, 2, 2) == [False, False, True]
    assert ends() == []


def test_next_one_begins_where_the_services_limit_of_events_would_be_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "TRANSACTION_EVENTS", 4)
    assert ends(2, 2, 1, 3, 5, 1) == [False, True, False, True, True, True]


def test_next_one_begins_where_the_services_limit_of_bytes_would_be_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "TRANSACTION_BYTES", 4 * EVENT.ByteSize())
    assert ends(2, 2, 1) == [False, True, True]
