"""Whether a station's clock can be right, by what its service last said."""

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
    ahead = timedelta(seconds=state.ahead_s)
    # Were it still as much ahead, it would now be a time that the service's clock had passed.
    was_set = ahead > MAX_AHEAD and now - ahead < heard - MAX_AHEAD
    if abs(ahead) > MAX_AHEAD and not was_set:
        how = f"{abs(state.ahead_s):.0f} s {'ahead of' if state.ahead_s > 0 else 'behind'}"
        message = f"this clock is {how} the service's: set it"
        raise ConflictError(message, code="CLOCK_WRONG")
