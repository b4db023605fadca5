"""How the ledger finds an event by its id without keeping the id: by a keyed hash.

An event id may itself tell what an event said (it often is the hash of its content). The hash under the map salt stays
when the event is erased, so that the id is still known as one that was used, and by whom, to those who ask with it.
"""

import hashlib
import hmac
from functools import lru_cache

_LABEL = b"event id"


@lru_cache(maxsize=16)
def _keyed(map_salt: bytes) -> hmac.HMAC:
    return hmac.new(hashlib.sha256(_LABEL + map_salt).digest(), digestmod="sha256")


def event_id_hash(map_salt: bytes, event_id: str) -> bytes:
    """Return HMAC-SHA256 of an event id under SHA-256("event id" ‖ map salt), 32 bytes.

    Args:
        map_salt: The item map's secret, 32 bytes.
        event_id: As written in the event's header; any text.
    """
    # A copy of what the key has been put into costs half of putting it in anew.
    keyed = _keyed(map_salt).copy()
    keyed.update(event_id.encode("utf-8", "surrogatepass"))
    return keyed.digest()
