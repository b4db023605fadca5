"""Every change to the events kept here has a number, in the transaction that made it."""

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete

from medtrail.errors import ConflictError
from services.custody import changes, events_store
from services.custody.changes import Change, ChangeBell, ChangeKind
from services.custody.tables import EventChange
from tests.unit.custody.conftest import packs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.custody.conftest import House


def told(house: "House", after: int = 0) -> list[Change]:
    return house.read(lambda c: changes.changes_after(c, after))


def test_tells_each_event_once_and_then_what_becomes_of_it(maker: "House") -> None:
    first = maker.commission(packs(1))[0]
    second = maker.commission(packs(2))[0]
    maker.database.write_now(lambda c: events_store.set_leaf_index(c, 1, 7))
    maker.database.write_now(lambda c: events_store.set_leaf_index(c, 1, 7))
    maker.database.write_now(lambda c: events_store.set_refusal(c, 2, "ROLE_FORBIDS"))
    found = told(maker)
    assert [(change.number, change.sha256, change.kind) for change in found] == [
        (1, first.signed_event_sha256, ChangeKind.KEPT),
        (2, second.signed_event_sha256, ChangeKind.KEPT),
        (3, first.signed_event_sha256, ChangeKind.LOGGED),
        (4, second.signed_event_sha256, ChangeKind.REFUSED),
    ]
    assert [hashlib.sha256(change.signed_event).digest() for change in found[:2]] == [
        first.signed_event_sha256,
        second.signed_event_sha256,
    ]
    assert (found[0].leaf_index, found[1].refusal, found[2].signed_event) == (7, "ROLE_FORBIDS", b"")
    assert found[2].record_time_us == found[0].record_time_us
    assert [change.number for change in told(maker, 3)] == [4]


def test_an_event_of_a_partner_is_told_as_well(maker: "House", distributor: "House") -> None:
    units = packs(1)
    maker.commission(units)
    maker.ship(units, distributor.gln)
    maker.send_to(distributor)
    assert {change.signer for change in told(distributor)} == {str(maker.gln)}


def test_an_erased_event_is_told_without_its_content(maker: "House") -> None:
    maker.commission(packs(1))
    maker.database.write_now(lambda c: events_store.forget(c, 1))
    kept, gone = told(maker)
    assert (kept.kind, kept.signed_event, kept.gone) == (ChangeKind.KEPT, b"", True)
    assert (gone.kind, gone.gone, gone.sha256) == (ChangeKind.GONE, True, kept.sha256)


def test_an_event_signed_anew_keeps_its_record_time(maker: "House") -> None:
    accepted = maker.commission(packs(1))[0]
    maker.database.write_now(lambda c: events_store.replace_signed(c, 1, sha256=b"n" * 32, signed_event=b"new"))
    first, gone, anew = told(maker)
    assert (gone.kind, gone.sha256) == (ChangeKind.GONE, accepted.signed_event_sha256)
    assert (anew.kind, anew.signed_event) == (ChangeKind.KEPT, b"new")
    assert anew.record_time_us == first.record_time_us


def test_a_transaction_that_fails_leaves_no_gap(maker: "House") -> None:
    def fail(connection: object) -> None:
        changes.note_change(connection, b"x" * 32, ChangeKind.KEPT)  # type: ignore[arg-type]
        raise ConflictError("on purpose")

    with pytest.raises(ConflictError):
        maker.database.write_now(fail)
    maker.commission(packs(1))
    assert [change.number for change in told(maker)] == [1]


def test_one_answer_holds_at_most_a_mebibyte(maker: "House", monkeypatch: pytest.MonkeyPatch) -> None:
    maker.commission(packs(1))
    maker.commission(packs(2))
    monkeypatch.setattr(changes, "MAX_BYTES", 1)
    assert [change.number for change in told(maker)] == [1]
    assert [change.number for change in told(maker, 1)] == [2]


def test_refuses_to_go_on_after_a_change_of_another_database(maker: "House") -> None:
    sha256 = maker.commission(packs(1))[0].signed_event_sha256

    def check(number: int, digest: bytes) -> "Callable[..., None]":
        return lambda connection: changes.check_cursor(connection, number, digest)

    maker.read(check(0, b""))
    maker.read(check(1, sha256))
    for number, digest in ((1, b"x" * 32), (2, sha256), (1, b"")):
        with pytest.raises(ConflictError, match="follow anew") as caught:
            maker.read(check(number, digest))
        assert caught.value.code == "CHANGE_UNKNOWN"


def test_events_of_an_earlier_version_are_written_down_once(maker: "House", distributor: "House") -> None:
    units = packs(1)
    maker.commission(units)
    maker.ship(units, distributor.gln)
    maker.send_to(distributor)
    for house in (maker, distributor):
        before = told(house)
        house.database.write_now(lambda c: c.execute(delete(EventChange)))
        house.database.write_now(changes.note_earlier_events)
        after = told(house)
        assert [change.sha256 for change in after] == [change.sha256 for change in before]
        house.database.write_now(changes.note_earlier_events)
        assert told(house) == after


def test_the_bell_wakes_all_who_wait() -> None:
    async def main() -> None:
        bell = ChangeBell()
        waiting = [asyncio.create_task(bell.wait(timeout_s=60)) for _ in range(2)]
        await asyncio.sleep(0)
        bell.ring()
        await asyncio.gather(*waiting)
        await bell.wait(timeout_s=0)

    asyncio.run(main())
