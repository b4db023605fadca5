"""How events name an organisation's people: by a pseudonym that only the organisation can resolve.

A name would be read by every partner downstream, for years. The pseudonym is a keyed hash under a secret of the
service's database: the same person has the same one in all events, nobody else can try names against it, and without
the secret it names nobody (docs/adr/0021-holds-and-returns.md).
"""

import base64
import hashlib
import hmac
import secrets

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from services.custody.holds_tables import PersonSecret

_BYTES = 10


def pseudonym(connection: Connection, person: str) -> str:
    """Return the pseudonym of a person: ``p-`` and 16 characters; made with the first one is the secret."""
    connection.execute(insert(PersonSecret).values(number=1, secret=secrets.token_bytes(32)).on_conflict_do_nothing())
    secret = connection.execute(select(col(PersonSecret.secret))).scalar_one()
    digest = hmac.digest(secret, person.encode(), hashlib.sha256)
    return "p-" + base64.b32encode(digest[:_BYTES]).decode().lower()
