"""Builds and runs the process of one organisation: the only place that reads settings and starts tasks."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta, tzinfo
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from medtrail.codec import decode_receipt
from medtrail.errors import AuthorizationError, MalformedError, MedtrailError, UnavailableError
from medtrail.event import Product, Refusal, Role
from medtrail.gs1 import Gln, Gtin
from medtrail.note import NoteVerifier, parse_vkey
from medtrail.policy import Policy, parse_policy
from medtrail.runtime.bus import Bus
from medtrail.runtime.client import connect
from medtrail.runtime.database import Database
from medtrail.runtime.files import read_file
from medtrail.runtime.folder import OrganisationFolder
from medtrail.runtime.inbox import AfterCommit, Handler, InboxMessage, InboxPuller
from medtrail.runtime.logging import configure_logging, get_logger
from medtrail.runtime.overdue import Alarm, OverdueWatch
from medtrail.runtime.paging import PageTokens
from medtrail.runtime.receipt_proofs import PublishedFiles, ReceiptProver
from medtrail.runtime.relay import Relay
from medtrail.runtime.replica import RegistryReplica
from medtrail.runtime.server import Binding, Server, serve, wait_for_signal
from medtrail.runtime.settings import ServiceSettings, load_settings
from medtrail.runtime.tables import prepare
from medtrail.subjects import MessageKind
from medtrail.terms import SaltedTerms, unseal
from services.custody import inbound_store, inbox, letters, parties_file
from services.custody.changes import note_earlier_events
from services.custody.confirm import Confirmer
from services.custody.desk import Desk
from services.custody.erasures import Erasures
from services.custody.exceptions.alarms import case_alarms
from services.custody.exceptions.servicer import exception_binding
from services.custody.expiry_watch import ExpiryWatch, expired_alarms
from services.custody.hold_policy import FILE_NAME as HOLDS_FILE
from services.custody.hold_policy import NO_POLICY, HoldPolicy, read_hold_policy
from services.custody.holds_servicer import hold_binding
from services.custody.ledger_client import LedgerClient
from services.custody.office import DispensingPolicy, Office
from services.custody.orders.servicer import orders_binding
from services.custody.recalls import KnownRecall
from services.custody.receiving import settle
from services.custody.receiving.servicer import receiving_binding
from services.custody.scan import Scanner
from services.custody.servicer import custody_binding
from services.custody.station_servicer import station_binding
from services.custody.upgrade import upgrade

log = get_logger(__name__)

DATABASE_NAME = "service.db"
LEDGER_NAME = "ledger"
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Premises:
    """All parts of one organisation's process.

    Attributes:
        office: What servicers work with.
        replica: What is known of the network.
        relay: The way out.
        puller: The way in.
        confirmer: Asks for the ledger's word on despatches.
        prover: Proves what receipts say.
        erasures: Erases copies of what is erased from the log.
        bus: The exchange.
        settings: Of the process.
    """

    folder: OrganisationFolder
    office: Office
    replica: RegistryReplica
    relay: Relay
    puller: InboxPuller
    confirmer: Confirmer
    prover: ReceiptProver
    erasures: Erasures
    bus: Bus
    settings: ServiceSettings


Bind = Callable[[Premises], Sequence[Binding]]


def _alarms(connection: Connection) -> tuple[Alarm, ...]:
    return (*expired_alarms(connection), *case_alarms(connection))


@contextlib.asynccontextmanager
async def open_premises(settings: ServiceSettings) -> AsyncIterator[Premises]:
    """Open the books, name the neighbours, and close all at the end; nothing needs to be reachable yet.

    Raises:
        MalformedError: A setting is wrong.
        UnavailableError: The database cannot be opened.
    """
    folder = OrganisationFolder(settings.org_dir)
    verifier = parse_vkey(settings.log_vkey)
    policy = _policy(settings)
    zone = _zone(settings.time_zone)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.data_dir / DATABASE_NAME)
    channel = connect(settings.ledger_address, folder=folder, audience=Gln(settings.ledger_gln), server=LEDGER_NAME)
    files = PublishedFiles(settings.log_url)
    bus = Bus(settings.nats_url, seed=folder.nats_seed(), gln=folder.gln, name=folder.profile.name)
    ledger = LedgerClient(channel, verifier)
    try:
        database.write_now(prepare)
        database.write_now(upgrade)
        database.write_now(note_earlier_events)
        replica = RegistryReplica(
            database, channel, verifier=verifier, authority_key_id=settings.authority_key_id, policy=policy
        )
        await replica.load()
        policy_of_holds = read_hold_policy(folder.path / HOLDS_FILE)
        desk = make_desk(folder, replica, holds=policy_of_holds, zone=zone)
        relay = Relay(bus, database, gln=folder.gln)
        office = Office(
            desk=desk,
            database=database,
            tokens=PageTokens(folder.signing_key().seed),
            scanner=Scanner(database, desk, ledger, zone),
            after_write=relay.wake,
            replica=replica,
            watch=OverdueWatch(database, overdue_after=timedelta(seconds=settings.overdue_after_s), further=_alarms),
            parties_file=folder.path / parties_file.FILE_NAME,
            dispensing=DispensingPolicy(settings.records_dispensing, settings.decommission_at_opening),
        )
        confirmer = Confirmer(database, ledger, lambda: replica.registry)
        prover = ReceiptProver(
            database,
            replica,
            gln=folder.gln,
            fetch_file=files,
            fetch_event=ledger.event_at,
            on_false=relay.resend,
        )
        handlers = make_handlers(desk, relay, confirmer, verifier, policy=policy)
        puller = InboxPuller(bus, database, gln=folder.gln, handlers=handlers)
        erasures = Erasures(database, ledger, replica, gln=folder.gln)
        yield Premises(folder, office, replica, relay, puller, confirmer, prover, erasures, bus, settings)
    finally:
        await bus.close()
        await ledger.end()
        await channel.close()
        database.close()
        files.close()


def _policy(settings: ServiceSettings) -> Policy | None:
    if settings.policy_file is None:
        return None
    return parse_policy(read_file(settings.policy_file).decode("utf-8", "replace"))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        message = f"no time zone {name[:50]!r}"
        raise MalformedError(message, code="SETTING_INVALID", field="MEDTRAIL_TIME_ZONE") from error


def make_desk(
    folder: OrganisationFolder, replica: RegistryReplica, *, holds: HoldPolicy = NO_POLICY, zone: tzinfo = UTC
) -> Desk:
    """Return who signs, with what the replica knows of the network, and the organisation's own rules."""

    def recalls() -> tuple[KnownRecall, ...]:
        return tuple(
            KnownRecall(entry.event_id, entry.issuer.gln, entry.recall, regulator=Role.REGULATOR in entry.issuer.roles)
            for entry in replica.all_recalls
        )

    def products() -> dict[Gtin, Product]:
        return {gtin: entry.product for gtin, entry in replica.products.items()}

    return Desk(
        gln=folder.gln,
        locations=folder.profile.locations,
        key=folder.signing_key(),
        registry=lambda: replica.registry,
        recalls=recalls,
        unseal=partial(_unseal, folder),
        products=products,
        holds=holds,
        zone=zone,
    )


def _unseal(folder: OrganisationFolder, sealed: bytes) -> SaltedTerms:
    """Open sealed terms; the key is read when it is wanted, and not kept.

    Raises:
        UnavailableError: The key cannot be read: what is sealed waits until it can.
    """
    try:
        key = folder.sealing_key()
    except MedtrailError as error:
        raise UnavailableError(error.message, code=error.code, field=error.field) from error
    return unseal(sealed, key)


def make_handlers(
    desk: Desk, relay: Relay, confirmer: Confirmer, verifier: NoteVerifier, *, policy: Policy | None
) -> dict[MessageKind, Handler]:
    """Return what happens with messages, by kind."""
    receipts = relay.receipts(verifier, policy=policy)

    def advised() -> None:
        confirmer.wake()
        # Goods that were here before their advice may have been received by it.
        relay.wake()

    def advice(connection: Connection, message: InboxMessage) -> AfterCommit | None:
        if message.sender is None:
            text = "the ledger advises nothing"
            raise AuthorizationError(text, code="SENDER_FORBIDDEN", field="subject")
        inbox.take_advice(connection, desk, message.data, sender=message.sender)
        return advised

    def receipt(connection: Connection, message: InboxMessage) -> AfterCommit | None:
        # The runtime verifies the checkpoint first; only then the books are told.
        after = receipts(connection, message)
        inbox.note_logged(connection, decode_receipt(message.data).items)
        return after

    def refused(connection: Connection, refusal: Refusal, _own: bool) -> None:  # noqa: FBT001  # the relay's form
        inbox.take_refusal(connection, desk, refusal)

    refusals = relay.refusals(desk.registry, refused)

    def refusal(connection: Connection, message: InboxMessage) -> AfterCommit | None:
        refusals(connection, message)
        # An event may have been signed anew.
        return relay.wake

    def notice(connection: Connection, message: InboxMessage) -> AfterCommit | None:
        if message.sender is None:
            text = "the ledger writes no letters"
            raise AuthorizationError(text, code="SENDER_FORBIDDEN", field="subject")
        letters.take_letter(connection, desk, message.data, sender=message.sender)
        # What a letter says may be answered by one.
        return relay.wake

    return {
        MessageKind.ADVICE: advice,
        MessageKind.NOTICE: notice,
        MessageKind.ACK: relay.acks(),
        MessageKind.RECEIPT: receipt,
        MessageKind.REFUSAL: refusal,
    }


async def complete_advices(premises: Premises) -> None:
    """Take in what waited for its signer's enrolment, whenever the registry has changed. Runs until cancelled."""
    desk, replica = premises.office.desk, premises.replica

    def retry(connection: Connection) -> bool:
        waiting = inbound_store.list_incomplete(connection)
        done = [
            inbox.complete_advice(connection, desk, sender=sender, despatch_id=despatch_id)
            for sender, despatch_id in waiting
        ]
        return any(done)

    while True:
        seen = replica.registry
        try:
            if await premises.office.database.write(retry):
                premises.confirmer.wake()
                premises.relay.wake()
            for work in (letters.take_waiting, settle.settle_all):
                if await premises.office.database.write(partial(work, desk=desk)):
                    premises.relay.wake()
        except UnavailableError as error:
            log.warning("advices wait", code=error.code, reason=error.message)
            await asyncio.sleep(RETRY_S)
            continue
        await replica.wait_until(partial(_is_other, replica, seen))


def _is_other(replica: RegistryReplica, seen: object) -> bool:
    return replica.registry is not seen


async def wake_confirmer(premises: Premises) -> None:
    """Ask for the ledger's word on despatches with each new checkpoint. Runs until cancelled."""
    replica = premises.replica
    while True:
        seen = replica.checkpoint
        await replica.wait_until(lambda: replica.checkpoint is not seen)  # noqa: B023  # awaited before seen changes
        premises.confirmer.wake()


async def announce(premises: Premises, server: Server, services: Sequence[str]) -> None:
    """Say that the process serves, once it knows that it is enrolled: before that it could sign nothing."""
    replica, gln = premises.replica, premises.folder.gln
    await replica.wait_until(lambda: replica.registry.organisation_of_gln(gln) is not None)
    for service in ("", *services):
        await server.set_serving(service, serving=True)
    log.info("ready", gln=str(gln))


@contextlib.asynccontextmanager
async def running(settings: ServiceSettings, bind: Bind) -> AsyncIterator[tuple[Premises, Server]]:
    """Run a service: server, relay, inbox, replica. A task that fails ends the whole, for the supervisor to restart.

    Raises:
        UnavailableError: LISTEN_FAILED.
    """
    async with open_premises(settings) as premises:
        bindings = [
            custody_binding(premises.office),
            hold_binding(premises.office),
            exception_binding(premises.office),
            orders_binding(premises.office),
            station_binding(premises.office),
            receiving_binding(premises.office, sample_share=settings.sample_share),
            *bind(premises),
        ]
        server = await serve(
            bindings,
            folder=premises.folder,
            registry=lambda: premises.replica.registry,
            listen=settings.listen,
            serving=False,
        )
        premises.bus.start()
        services = [binding.service for binding in bindings]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work, name=name)
                for name, work in (
                    ("replica", premises.replica.run()),
                    ("relay", premises.relay.run()),
                    ("inbox", premises.puller.run()),
                    ("confirmer", premises.confirmer.run()),
                    ("erasures", premises.erasures.run()),
                    ("prover", premises.prover.run()),
                    ("watch", premises.office.watch.run()),
                    ("expiry", ExpiryWatch(premises.office).run()),
                    ("advices", complete_advices(premises)),
                    ("checkpoints", wake_confirmer(premises)),
                    ("announce", announce(premises, server, services)),
                )
            ]
            try:
                yield premises, server
            finally:
                # Calls first: what they have been told was accepted is committed before anything is closed. Whoever
                # follows the events would stay for ever.
                premises.office.bell.close()
                await server.stop()
                for task in tasks:
                    task.cancel()


async def _serve_until_signal(settings: ServiceSettings, bind: Bind) -> None:
    async with running(settings, bind):
        name = await wait_for_signal()
        log.info("stopping", signal=name)


def run_service(role: str, bind: Bind) -> None:
    """Run a role's process with settings from the environment, until SIGTERM or SIGINT.

    Raises:
        SystemExit: 2: a setting or a key is wrong, or the database or the address cannot be had.
    """
    try:
        settings = load_settings(ServiceSettings)
        configure_logging(process=f"{role}/{settings.org_dir.name}", level=settings.log_level)
        asyncio.run(_serve_until_signal(settings, bind))
    except MedtrailError as error:
        configure_logging(process=role)
        log.error("service cannot start", code=error.code, field=error.field, reason=error.message)  # noqa: TRY400  # its own message tells all
        sys.exit(2)
