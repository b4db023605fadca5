"""The event from which a change of the books follows."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from medtrail.gs1 import Gln


@dataclass(frozen=True, slots=True)
class Origin:
    """The event from which a change follows.

    Attributes:
        event_id: Its id.
        time: When it happened; aware UTC.
        utc_offset: In force there.
        location: Of ours, where; None when not known.
        happened: It tells what has happened, whether it should have or not: what is wrong with it is noted, not
            refused.
    """

    event_id: str
    time: datetime
    utc_offset: timedelta = timedelta()
    location: Gln | None = None
    happened: bool = False
