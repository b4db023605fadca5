"""Tables of holds: requests for release, lots on hold, what sensors reported, and which stock was found expired."""

from typing import ClassVar

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from services.custody.tables import CustodyTable, HoldingRow

# Of the holdings: first expired first.
Index("holding_by_expiry", HoldingRow.__table__.c.expiry)  # type: ignore[attr-defined]


class ReleaseRequestRow(CustodyTable, table=True):
    """A request for release by one person, for another one to decide.

    Attributes:
        number: In order of asking, from 1.
        state: :class:`services.custody.release_requests.RequestState`.
        codes: Of the holds that are to end, one a line; empty: all.
        lot_hold_id: Of the lot; empty where units are named.
        units: A path a line.
        reasons: JSON: by path the reasons that stood when it was asked for; empty in what earlier versions wrote.
    """

    __tablename__: ClassVar[str] = "release_request"
    __table_args__ = (UniqueConstraint("release_request_id"),)

    number: int | None = Field(default=None, primary_key=True)
    release_request_id: str
    state: str
    codes: str
    lot_hold_id: str
    units: str
    reason: str
    requester: str
    request_us: int = Field(sa_type=BigInteger)
    decider: str = ""
    decision_us: int | None = Field(default=None, sa_type=BigInteger)
    decision_reason: str = ""
    reasons: str = Field(default="", sa_column_kwargs={"server_default": ""})


class LotHoldRow(CustodyTable, table=True):
    """A lot on hold: packs of it that are here, and those to come.

    Attributes:
        number: In order of making, from 1.
        line: As units on hold by it carry it.
    """

    __tablename__: ClassVar[str] = "lot_hold"
    __table_args__ = (UniqueConstraint("lot_hold_id"),)

    number: int | None = Field(default=None, primary_key=True)
    lot_hold_id: str
    gtin: str
    lot: str
    code: str
    reason: str
    line: str
    hold_us: int = Field(sa_type=BigInteger)
    release_us: int | None = Field(default=None, sa_type=BigInteger)


class ExcursionRow(CustodyTable, table=True):
    """That a unit was kept outside of its product's storage limits, as one event's sensors say.

    Attributes:
        number: In order of noting, from 1.
        release_us: When a person released the unit; None before.
    """

    __tablename__: ClassVar[str] = "excursion"
    __table_args__ = (UniqueConstraint("path", "event_id"),)

    number: int | None = Field(default=None, primary_key=True)
    path: str
    event_id: str
    description: str
    start_us: int = Field(sa_type=BigInteger)
    end_us: int = Field(sa_type=BigInteger)
    device_id: str
    release_us: int | None = Field(default=None, sa_type=BigInteger)


class SensorMove(CustodyTable, table=True):
    """That a sensor was put into a container, or taken out of it, by an AssociationEvent.

    Attributes:
        number: In order of noting, from 1; events come in any order.
        device: As :func:`services.custody.cold_chain.device_name` spells it; empty: all sensors were taken out.
        added: It was put in.
        despatch_id: Of the partner's despatch with which the event came; empty: it is our own.
    """

    __tablename__: ClassVar[str] = "sensor_move"
    __table_args__ = (Index("sensor_move_by_device", "device"), Index("sensor_move_by_path", "path"))

    number: int | None = Field(default=None, primary_key=True)
    device: str
    path: str
    added: bool
    move_us: int = Field(sa_type=BigInteger)
    despatch_id: str = Field(default="", sa_column_kwargs={"server_default": ""})


class SensorEvent(CustodyTable, table=True):
    """That an event carries readings of a sensor; its container may become known later."""

    __tablename__: ClassVar[str] = "sensor_event"

    device: str = Field(primary_key=True)
    event_number: int = Field(primary_key=True)


class SensorAdvice(CustodyTable, table=True):
    """That a partner's event about sensors came with a despatch: it is heard of the goods that this brought alone."""

    __tablename__: ClassVar[str] = "sensor_advice"

    event_number: int = Field(primary_key=True)
    despatch_id: str = Field(primary_key=True)


class ExpiredStock(CustodyTable, table=True):
    """That a pack was found here past its expiry, and told of: once."""

    __tablename__: ClassVar[str] = "expired_stock"

    path: str = Field(primary_key=True)
    found_us: int = Field(sa_type=BigInteger)


class PersonSecret(CustodyTable, table=True):
    """The secret under which events name persons by pseudonym; one row."""

    __tablename__: ClassVar[str] = "person_secret"

    number: int = Field(primary_key=True)
    secret: bytes
