"""Whether a station's clock can be right, and what the service's says, by what that last said."""

from datetime import datetime, timedelta

from medtrail.claims import MAX_AHEAD
from medtrail.errors import ConflictError
from services.station.books import CopyState


def check_clock(state: CopyState, *, now: datetime) -> None:
    """Refuse to sign under a clock that is known to be wrong by more than what the ledger lets pass.

    Ahead, what is signed would wait until its time has come, and all behind it; behind, packs past their expiry would
    pass. A clock that was ahead and is set while the station is alone is believed again; one that was behind, when
    the service has been heard.

    Args:
        state: With the service's clock as last heard, and by how much this one was ahead of it then.
        now: By this clock; aware UTC.

    Raises:
        ConflictError: CLOCK_WRONG.
    """
    heard = state.complete_time
    if heard is None:
        return
    if now < heard - MAX_AHEAD:
        message = f"this clock says {now.isoformat()}, which the service's had passed at {heard.isoformat()}: set it"
        raise ConflictError(message, code="CLOCK_WRONG")
    if abs(timedelta(seconds=state.ahead_s)) > MAX_AHEAD and not _was_set(state, heard, now):
        how = f"{abs(state.ahead_s):.0f} s {'ahead of' if state.ahead_s > 0 else 'behind'}"
        message = f"this clock is {how} the service's: set it"
        raise ConflictError(message, code="CLOCK_WRONG")


def service_time(state: CopyState, *, now: datetime) -> datetime:
    """Return what the service's clock says by now, as far as is known here: the time for which a scan is judged.

    Args:
        state: As for :func:`check_clock`.
        now: By this clock; aware UTC.
    """
    heard = state.complete_time
    if heard is None:
        return now
    believed = now if _was_set(state, heard, now) else now - timedelta(seconds=state.ahead_s)
    # It was that late already: a clock that was set back makes no pack younger.
    return max(believed, heard)


def _was_set(state: CopyState, heard: datetime, now: datetime) -> bool:
    """Tell whether a clock that was ahead has been set since its service was heard."""
    ahead = timedelta(seconds=state.ahead_s)
    # Were it still as much ahead, it would now be a time that the service's clock had passed.
    return ahead > MAX_AHEAD and now - ahead < heard - MAX_AHEAD
