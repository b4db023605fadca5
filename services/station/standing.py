"""Whether a station's key may still sign, by what its service and the log have told."""

from medtrail.errors import AuthorizationError
from medtrail.trust import Registry
from services.station.books import CopyState

KEY_ENDS = frozenset({"KEY_RETIRED", "KEY_REVOKED"})
"""Codes with which a service turns a key away for good: an ended key does not come back."""


def check_key(state: CopyState, registry: Registry, *, key_id: str, station: str) -> None:
    """Refuse to sign with a key that has ended, or is not that of the station. One that nobody knows yet may sign.

    Args:
        state: With what the service said of a key; it tells nobody else whose key has ended.
        registry: As known here.
        key_id: did:key of the station.
        station: Its name.

    Raises:
        AuthorizationError: KEY_RETIRED, KEY_REVOKED or STATION_KEY.
    """
    if state.ended_key_id == key_id:
        message = f"the key {key_id} has ended, as the service said: the station signs nothing more with it"
        raise AuthorizationError(message, code=state.ended_code, field="signatures[0].key_id")
    record = registry.key(key_id)
    if record is None:
        return
    registry.signer(key_id)
    if record.station != station:
        whose = f"the station {record.station}" if record.station else "the whole organisation"
        message = f"the key is that of {whose}, not of the station {station}: end it, and add the station anew"
        raise AuthorizationError(message, code="STATION_KEY", field="header.source")
