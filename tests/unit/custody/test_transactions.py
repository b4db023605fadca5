"""A transaction that fails, before its end or at it, leaves nothing; one that returned is all there."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from medtrail.errors import DuplicateError, MalformedError, MedtrailError
from services.custody import events_store, units
from services.custody.holdings_store import HoldingQuery, list_holdings
from services.custody.office import check_reason, check_request_id, parse_gln
from tests.unit.custody.conftest import START, packs, sscc

if TYPE_CHECKING:
    from tests.unit.custody.conftest import House

PALLET = sscc(1)
TABLES = ("holding", "holding_before", "known_event", "event_unit", "signed_event", "outbox", "counter")


def content(house: "House") -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(house.path)) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608  # fixed names
            for table in (*TABLES, "outgoing")
        }


@pytest.mark.parametrize("table", TABLES)
def test_a_write_that_fails_in_any_table_leaves_nothing(maker: "House", distributor: "House", table: str) -> None:
    maker.commission(packs(1, 2))
    maker.pack(PALLET, packs(1, 2))
    with closing(sqlite3.connect(maker.path)) as connection:
        # The storage refuses the write; for counters, which are updated in place, the update.
        for verb in ("INSERT", "UPDATE"):
            connection.execute(
                f"CREATE TRIGGER full_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
    before = content(maker)
    with pytest.raises(MedtrailError):
        maker.ship([PALLET], distributor.gln)
    maker.reopen()
    assert content(maker) == before
    with closing(sqlite3.connect(maker.path)) as connection:
        for verb in ("INSERT", "UPDATE"):
            connection.execute(f"DROP TRIGGER full_{verb}")
    maker.ship([PALLET], distributor.gln)
    assert [event.header.source_seq for event in maker.events()] == [1, 2, 3]


def test_what_was_answered_is_there_after_reopening(maker: "House", distributor: "House") -> None:
    maker.commission(packs(1))
    maker.ship(packs(1), distributor.gln)
    before = content(maker)
    maker.reopen()
    assert content(maker) == before
    assert (len(before["outbox"]), len(before["outgoing"])) == (2, 1)


_KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE holding SET state = 'ended'")
connection.execute("DELETE FROM outbox")
if sys.argv[2] == "after":
    connection.execute("COMMIT")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_killed_around_the_commit_leaves_all_or_nothing(maker: "House", moment: str) -> None:
    maker.commission(packs(1, 2))
    maker.close()
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(maker.path), moment], check=False)
    assert ended.returncode == -signal.SIGKILL
    maker.open()
    states = {held.state.value for held in maker.all_holdings().values()}
    assert (states, maker.pending()) == (({"on_hand"}, 1) if moment == "before" else ({"ended"}, 0))


def test_an_answer_is_kept_under_its_request_id(maker: "House") -> None:
    def keep(connection: object) -> None:
        events_store.keep_answer(connection, "r1", method="Ship", request_sha256=b"1" * 32, answer=b"yes")  # type: ignore[arg-type]

    maker.database.write_now(keep)
    assert maker.read(lambda c: events_store.answered(c, "r1", method="Ship", request_sha256=b"1" * 32)) == b"yes"
    assert maker.read(lambda c: events_store.answered(c, "r2", method="Ship", request_sha256=b"1" * 32)) is None
    for method, digest in (("Ship", b"2" * 32), ("Hold", b"1" * 32)):
        with pytest.raises(DuplicateError) as caught:
            maker.read(lambda c, m=method, d=digest: events_store.answered(c, "r1", method=m, request_sha256=d))  # type: ignore[misc]
        assert (caught.value.code, caught.value.field) == ("REQUEST_ID_REUSED", "request_id")


@pytest.mark.parametrize("text", ["", "1", "{12345678-1234-1234-1234-123456789012}", "x" * 36, "1" * 32])
def test_refuses_a_request_id_that_is_no_uuid(text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        check_request_id(text)
    assert (caught.value.code, caught.value.field) == ("REQUEST_ID_MALFORMED", "request_id")


def test_one_request_id_has_one_spelling() -> None:
    assert check_request_id("ABCDEF12-1234-1234-1234-123456789012") == "abcdef12-1234-1234-1234-123456789012"


def test_refuses_reasons_and_glns_that_are_none() -> None:
    with pytest.raises(MalformedError):
        check_reason("")
    with pytest.raises(MalformedError):
        check_reason("x" * 501)
    with pytest.raises(MalformedError) as caught:
        parse_gln("0399999999990", field="destination_party")
    assert caught.value.field == "destination_party"


@pytest.mark.parametrize(
    "text",
    [
        "urn:epc:id:sgtin:030001.0012345.1",
        "https://example.com/01/00300010123455/10/A123/21/1?17=280331",
        "(01)00300010123455(21)1",
        "]d201003000101234552117280331\x1d10A123".replace("2117280331", "211\x1d17280331"),
    ],
)
def test_units_are_read_in_every_spelling(text: str) -> None:
    assert units.parse_unit(text, field="epcs[0]", today=START.date()) == packs(1)[0]


@pytest.mark.parametrize(
    ("texts", "code", "field"),
    [
        ([], "FIELD_MISSING", "epcs"),
        (["(00)003000100000000015"] * 4, "TOO_MANY_UNITS", "epcs"),
        (["(00)003000100000000015", "urn:epc:id:sscc:030001.00000000001"], "UNIT_TWICE", "epcs[1]"),
        (["(01)00300010123455"], "UNIT_NOT_SERIALISED", "epcs[0]"),
        (["(414)0300011111116"], "UNIT_NOT_SERIALISED", "epcs[0]"),
        (["(00)003000100000000016"], "CHECK_DIGIT_WRONG", "epcs[0]"),
    ],
)
def test_refuses_units_that_are_none(texts: list[str], code: str, field: str) -> None:
    with pytest.raises(MalformedError) as caught:
        units.parse_units(texts, field="epcs", today=START.date(), most=3)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_lists_holdings_by_lot_and_state_in_pages(maker: "House") -> None:
    from tests.unit.custody.conftest import GTIN

    maker.commission(packs(*range(10)))
    maker.commission(packs(*range(10, 13)), lot="B9")
    query = HoldingQuery(GTIN, "A123")
    first, total = maker.read(lambda c: list_holdings(c, query, after="", limit=6))
    rest, _ = maker.read(lambda c: list_holdings(c, query, after=first[-1].unit.path, limit=6))
    assert (len(first), len(rest), total) == (6, 4, 10)
    paths = [held.unit.path for held in (*first, *rest)]
    assert paths == sorted(paths)
