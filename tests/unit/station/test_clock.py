"""A station's clock: what it may be off by, and when it is believed again."""

from datetime import UTC, datetime, timedelta

import pytest

from medtrail.errors import ConflictError
from services.station.books import CopyState
from services.station.clock import check_clock, service_time

HEARD = datetime(2026, 3, 1, 9, tzinfo=UTC)
YEAR = timedelta(days=365)


def wrong(*, ahead: timedelta, now: datetime) -> bool:
    """Whether a station refuses to sign that heard its service at nine."""
    try:
        check_clock(CopyState(complete_time=HEARD, ahead_s=ahead.total_seconds()), now=now)
    except ConflictError as error:
        return error.code == "CLOCK_WRONG"
    return False


@pytest.mark.parametrize("off", [timedelta(minutes=6), YEAR])
def test_refuses_to_sign_under_a_clock_that_is_wrong(off: timedelta) -> None:
    for alone in (timedelta(), timedelta(hours=1), timedelta(days=3)):
        assert wrong(ahead=off, now=HEARD + off + alone)
        assert wrong(ahead=-off, now=HEARD - off + alone)


@pytest.mark.parametrize("off", [timedelta(), timedelta(minutes=5), -timedelta(minutes=5), timedelta(seconds=1)])
def test_signs_under_a_clock_that_is_nearly_right(off: timedelta) -> None:
    for alone in (timedelta(), timedelta(hours=1), timedelta(days=3)):
        assert not wrong(ahead=off, now=HEARD + off + alone)


def test_refuses_to_sign_before_what_the_service_said_last() -> None:
    assert wrong(ahead=timedelta(), now=HEARD - timedelta(minutes=6))
    assert not wrong(ahead=timedelta(), now=HEARD - timedelta(minutes=4))


def test_believes_a_clock_that_was_ahead_and_has_been_set() -> None:
    assert not wrong(ahead=YEAR, now=HEARD + timedelta(hours=1))
    assert not wrong(ahead=timedelta(), now=HEARD + YEAR)


def test_signs_when_nothing_was_ever_heard() -> None:
    check_clock(CopyState(), now=HEARD)


@pytest.mark.parametrize("off", [timedelta(), timedelta(minutes=4), YEAR, -YEAR])
def test_scans_are_judged_by_the_services_clock_however_wrong_this_one_is(off: timedelta) -> None:
    state = CopyState(complete_time=HEARD, ahead_s=off.total_seconds())
    for alone in (timedelta(), timedelta(hours=1), timedelta(days=3)):
        assert service_time(state, now=HEARD + off + alone) == HEARD + alone


def test_scans_are_judged_by_a_clock_that_was_set_and_never_before_what_was_heard() -> None:
    later = HEARD + timedelta(hours=1)
    assert service_time(CopyState(complete_time=HEARD, ahead_s=YEAR.total_seconds()), now=later) == later
    assert service_time(CopyState(complete_time=HEARD), now=HEARD - YEAR) == HEARD
    assert service_time(CopyState(), now=HEARD) == HEARD
