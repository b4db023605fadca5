"""Bringing the authority's statements about organisations and stations into the log of an embedded network."""

import asyncio
from collections.abc import Callable, Sequence

from medtrail import codec
from medtrail.api.trust.v1 import trust_pb2, trust_pb2_grpc
from medtrail.cli.network import RunningNetwork
from medtrail.cli.setup import NetworkFolders
from medtrail.errors import MedtrailError, UnavailableError
from medtrail.event import MAX_BATCH_EVENTS, Enrolment, KeyAddition
from medtrail.gs1 import Gln
from medtrail.runtime.bus import Bus, connect_bus
from medtrail.runtime.client import connect
from medtrail.subjects import events_subject

ENROLMENT_TIMEOUT_S = 60.0
POLL_S = 0.1

Report = Callable[[str], None]


async def enrol(folders: NetworkFolders, network: RunningNetwork, report: Report) -> None:
    """Publish the enrolments that the log lacks, stations' keys behind them, and wait until it has them all."""
    everyone = [folders.ledger, *folders.organisations.values()]
    wanted = {str(folder.gln): folder.enrolment_bytes() for folder in everyone}
    wanted |= {station.signing_key().key_id: station.key_addition_bytes() for station in folders.stations}
    missing = wanted.keys() - await _enrolled(folders, network)
    if not missing:
        return
    report(f"enrolling {len(missing)} organisations and stations")
    bus = await connect_bus(
        network.nats_url, seed=folders.authority.nats_seed(), gln=folders.authority.gln, name="authority"
    )
    try:
        await publish_trust(bus, folders.authority.gln, [data for name, data in wanted.items() if name in missing])
    finally:
        await bus.close()
    deadline = asyncio.get_running_loop().time() + ENROLMENT_TIMEOUT_S
    while missing - await _enrolled(folders, network):
        if asyncio.get_running_loop().time() > deadline:
            raise UnavailableError("the ledger did not chain the enrolments in time: see its log", code="ENROLMENT")
        await asyncio.sleep(POLL_S)


async def publish_trust(bus: Bus, authority: Gln, statements: Sequence[bytes]) -> None:
    """Publish statements of the authority, as many a message as one may have."""
    for start in range(0, len(statements), MAX_BATCH_EVENTS):
        await bus.publish(events_subject(authority), codec.encode_batch(statements[start : start + MAX_BATCH_EVENTS]))


async def _enrolled(folders: NetworkFolders, network: RunningNetwork) -> set[str]:
    """Return the GLNs and further keys that are in the log; nobody may ask before anyone is enrolled."""
    asker = next(iter(folders.organisations.values()))
    found: set[str] = set()
    channel = connect(network.ledger_address, folder=asker, audience=folders.ledger.gln, server="ledger", attempts=1)
    async with channel:
        stub = trust_pb2_grpc.TrustServiceStub(channel)
        request = trust_pb2.ListTrustEntriesRequest(page_size=500)
        while True:
            try:
                answer = await stub.ListTrustEntries(request)
            except UnavailableError:
                raise
            except MedtrailError:
                return set()
            for entry in answer.entries:
                signed = codec.decode_signed_event(entry.signed_event)
                statement = codec.decode_payload(signed.payload_type, signed.payload).statement
                if isinstance(statement, Enrolment):
                    found.add(str(statement.gln))
                elif isinstance(statement, KeyAddition):
                    found.add(statement.key_id)
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token
