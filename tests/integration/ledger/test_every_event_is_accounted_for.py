from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtrail.codec import encode_batch
from medtrail.envelope import SigningKey
from medtrail.event import ErasureOrder, KeyAddition
from medtrail.gs1 import Gln

if TYPE_CHECKING:
    from tests.conftest import Network
    from tests.integration.ledger.conftest import CheckLog, Events, NewLog, OfflineLog

STREAM_TIME_AHEAD = timedelta(days=60)
KINDS = ("new", "resent", "signed anew", "conflict", "forged", "name of another", "unknown key", "ahead", "garbage")
CODES = {
    "conflict": "EVENT_ID_CONFLICT",
    "forged": "SIGNATURE_INVALID",
    "name of another": "ACTOR_NOT_SIGNER",
    "unknown key": "KEY_UNKNOWN",
    "ahead": "EVENT_IN_FUTURE",
    "garbage": "MESSAGE_MALFORMED",
}
URN = "urn:uuid:11111111-1111-4111-8111-{:012d}"


@pytest.fixture
def database_url() -> str:
    """Many logs, one after the other: what they hold is the same on every backend (test_log_store_contract)."""
    return ""


def make(kind: str, serial: int, events: "Events") -> bytes:
    """One event of a kind about a pack; what is not new refers to the event of the same serial that was."""
    event_id = URN.format(serial)
    statement = events.commission(serial)
    if kind == "garbage":
        return b"\xff" * (serial + 1)
    forged = bytearray(events.sign(statement))
    forged[-1] ^= 1
    ahead = events.commission(serial, when=statement.event_time + STREAM_TIME_AHEAD)
    made = {
        "conflict": lambda: events.sign(events.observe(serial), event_id=event_id),
        "forged": lambda: bytes(forged),
        "name of another": lambda: events.sign(statement, actor=Gln("0399999999991")),
        "unknown key": lambda: events.sign(statement, key=SigningKey.from_seed(bytes(32))),
        "ahead": lambda: events.sign(ahead),
    }
    return made.get(kind, lambda: events.sign(statement, event_id=event_id))()


def enrolled(new_log: "NewLog", events: "Events") -> "OfflineLog":
    log = new_log()
    log.enrol(events)
    return log


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(
        st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), min_size=1, max_size=6), min_size=1, max_size=6
    ),
    cuts=st.sets(st.integers(1, 5)),
)
def test_every_event_is_an_entry_a_duplicate_or_a_refusal_exactly_once(
    messages: list[list[tuple[str, int]]],
    cuts: set[int],
    new_log: "NewLog",
    events: "Events",
    check_log: "CheckLog",
) -> None:
    log = enrolled(new_log, events)
    chained: dict[int, bytes] = {}
    expected: Counter[str] = Counter()
    waiting = []
    for number, kinds in enumerate(messages):
        batch = []
        for kind, serial in kinds:
            if kind == "resent" and serial in chained:
                event, outcome = chained[serial], "duplicate"
            else:
                event = make(kind, serial, events)
                outcome = CODES.get(kind, "duplicate" if serial in chained else "entry")
                if kind == "conflict" and serial not in chained:
                    outcome = "entry"
                if outcome == "entry":
                    # From here on the other content is the one that conflicts.
                    chained[serial] = event
                elif kind != "conflict" and outcome == "duplicate" and b"storing" in chained[serial]:
                    outcome = "EVENT_ID_CONFLICT"
                elif kind == "conflict" and b"storing" in chained[serial]:
                    outcome = "duplicate"
            expected[outcome] += 1
            batch.append(event)
        waiting.append(log.message(encode_batch(batch)))
        if number in cuts:
            log.integrate(*waiting)
            waiting.clear()
    if waiting:
        log.integrate(*waiting)
    log.publish()
    found = Counter({"duplicate": 0})
    found["entry"] = log.rows("SELECT count(*) FROM entry WHERE stream_seq > 1")[0][0]
    found["duplicate"] = log.rows("SELECT count(*) FROM duplicate")[0][0]
    found.update(code for (code,) in log.rows("SELECT code FROM refusal"))
    assert +found == +expected
    check_log(log.home.root, acknowledged=chained.values())
    log.close()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(lambda: b"\xff\xff no batch", "MESSAGE_MALFORMED", id="poison"),
        pytest.param(lambda: b"", "BATCH_EMPTY", id="empty"),
        pytest.param(lambda: b"\x0a\x01a" * 501, "BATCH_TOO_LARGE", id="more than 500 events"),
        pytest.param(lambda: b"\x0a\x01a" * 200_000, "TOO_LARGE", id="more than 512 KiB"),
    ],
)
def test_message_that_is_no_batch_is_refused_and_the_log_goes_on(
    data: Callable[[], bytes], code: str, new_log: "NewLog", events: "Events", check_log: "CheckLog"
) -> None:
    log = enrolled(new_log, events)
    good = events.sign(events.commission(1))
    log.integrate(log.message(data()), log.message(encode_batch([good])))
    assert log.rows("SELECT code FROM refusal") == [(code,)]
    log.publish()
    check_log(log.home.root, acknowledged=[good])


def test_event_over_256_kib_is_refused(new_log: "NewLog", events: "Events", check_log: "CheckLog") -> None:
    log = enrolled(new_log, events)
    log.integrate(log.message(encode_batch([b"\x0a" + bytes(300_000)])))
    assert log.rows("SELECT code FROM refusal") == [("TOO_LARGE",)]
    log.publish()
    check_log(log.home.root)


def test_trust_statement_of_another_than_the_authority_is_refused(
    new_log: "NewLog", events: "Events", check_log: "CheckLog"
) -> None:
    from medtrail.event import KeyRetirement

    log = enrolled(new_log, events)
    log.integrate(log.message(encode_batch([events.sign(KeyRetirement(events.key("pharmacy").key_id))])))
    assert log.rows("SELECT code FROM refusal") == [("NOT_AUTHORITY",)]
    log.publish()
    check_log(log.home.root)


def test_what_a_stations_key_signs_under_another_source_is_refused(
    new_log: "NewLog", events: "Events", network: "Network", check_log: "CheckLog"
) -> None:
    log, maker = enrolled(new_log, events), network["maker"].gln
    line, bay = SigningKey.generate(), SigningKey.generate()
    additions = [
        network.authority.sign(KeyAddition(maker, key.key_id, name)) for key, name in ((line, "line-1"), (bay, "bay"))
    ]
    good, bad = (events.sign(events.observe(1), key=key) for key in (line, bay))
    order = events.sign(ErasureOrder(bytes(32), "why"), key=line)
    log.integrate(log.message(encode_batch([*additions, good, bad, order])))
    assert log.rows("SELECT code, field FROM refusal ORDER BY field") == [
        ("STATION_FORBIDS", "header.source"),
        ("STATION_FORBIDS", "payload_type"),
    ]
    log.publish()
    check_log(log.home.root, acknowledged=[*additions, good])


def test_resend_after_the_keys_retirement_gets_the_first_index(
    new_log: "NewLog", events: "Events", network: object, check_log: "CheckLog"
) -> None:
    from medtrail.event import KeyRetirement

    log = enrolled(new_log, events)
    before, after = events.sign(events.commission(1)), events.sign(events.commission(2))
    retirement = network.authority.sign(KeyRetirement(events.key("maker").key_id))  # type: ignore[attr-defined]
    log.integrate(log.message(encode_batch([before, retirement, before, after])))
    assert log.rows("SELECT leaf_index FROM duplicate") == [(8,)]
    assert log.rows("SELECT code FROM refusal") == [("KEY_RETIRED",)]
    log.publish()
    check_log(log.home.root, acknowledged=[before, retirement])
