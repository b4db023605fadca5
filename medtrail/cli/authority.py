"""What the network's authority says once the network runs: published in its name, and seen into the log."""

import asyncio
import hashlib

from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.api.trust.v1 import trust_pb2
from medtrail.cli.enrolling import publish_trust
from medtrail.cli.main import Globals
from medtrail.cli.session import Session
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.errors import ConflictError, NotFoundError, UnavailableError
from medtrail.event import ErasureConsent, TrustStatement
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.folder import AuthorityFolder
from medtrail.trust import Registry

AUTHORITY_NAME = "authority"
LOGGED_TIMEOUT_S = 60.0
POLL_S = 0.25


def open_authority(found: Globals) -> AuthorityFolder:
    """Return the authority's keys.

    Raises:
        ConflictError: --dir holds none (AUTHORITY_MISSING).
    """
    path = found.folder / AUTHORITY_NAME
    if not path.exists():
        raise ConflictError(f"{found.folder} holds no authority", code="AUTHORITY_MISSING", field="--dir")
    return AuthorityFolder(path)


async def publish_statement(
    session: Session, authority: AuthorityFolder, statement: TrustStatement | ErasureConsent, *, unlogged: str
) -> int:
    """Sign and publish a statement of the authority, and return its index once a checkpoint covers it.

    Args:
        session: Asks the ledger.
        authority: Who signs.
        statement: What it says.
        unlogged: Code of the error when the log does not hold it in time.

    Raises:
        UnavailableError: It is published and not in the log in time; it stands all the same.
    """
    signed = authority.sign(statement)
    bus = await connect_bus(
        session.network.nats_url, seed=authority.nats_seed(), gln=authority.gln, name=AUTHORITY_NAME
    )
    try:
        await publish_trust(bus, authority.gln, [signed])
    finally:
        await bus.close()
    request = ledger_pb2.GetInclusionProofRequest(signed_event_sha256=hashlib.sha256(signed).digest())
    clock = asyncio.get_running_loop().time
    deadline = clock() + LOGGED_TIMEOUT_S
    while clock() < deadline:
        try:
            return (await session.ledger.GetInclusionProof(request)).leaf_index
        except NotFoundError:
            await asyncio.sleep(POLL_S)
    raise UnavailableError("the authority's word is published; the log does not hold it yet", code=unlogged)


async def read_registry(session: Session) -> Registry:
    """Return whose keys are whose by the log, as far as the ledger tells; signatures are checked, proofs are not.

    Raises:
        VerificationError: The ledger tells what the authority did not sign.
    """
    registry = Registry(authority_key_id=session.network.authority_key_id)
    request = trust_pb2.ListTrustEntriesRequest(page_size=500)
    while True:
        answer = await session.trust.ListTrustEntries(request)
        for entry in answer.entries:
            signed = decode_signed_event(entry.signed_event)
            event = decode_payload(signed.payload_type, signed.payload)
            registry.apply(entry.leaf_index, verify_signatures(signed), event)
        if not answer.next_page_token:
            return registry
        request.page_token = answer.next_page_token
