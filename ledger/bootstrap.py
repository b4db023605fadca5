"""Builds an instance of the ledger from its settings, runs it, and takes it down in order.

Several instances may share one database; one of them leads (:mod:`ledger.leadership`). All publish what is signed in
files of their own and answer reads, also while the exchange is away or the sequencer has halted. The health of the
process (the empty name) says SERVING once it answers; that of ``ledger.Sequencer`` and ``ledger.Publisher`` whether
this instance makes the log grow, and publishes it.

A replica (``MEDTRAIL_REPLICA_OF``) has a database of its own and adopts what another signs in place of signing.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta
from functools import partial
from typing import Any

from ledger.adopter import Adopter
from ledger.creation import ensure_log
from ledger.erasing import Eraser
from ledger.examiners import Examiners, spare_collector
from ledger.feed import CheckpointFeed
from ledger.leadership import InstanceRole, Leadership
from ledger.log_reader import LogReader
from ledger.mirror import Mirror
from ledger.notifier import Notifier
from ledger.operator import StreamOperator
from ledger.projections.erasures import ProjectedErasures
from ledger.projections.projector import PROJECTION_NAME, Projector, open_projection
from ledger.projector_process import Follower, ProjectorProcess, read_chained
from ledger.public_files import PublicServer
from ledger.published import fetch_checkpoint
from ledger.queries import Queries
from ledger.sequencer import Sequencer, SequencerStatus
from ledger.servicer import LEDGER_SERVICE, TRUST_SERVICE, ledger_bindings
from ledger.signer import Signer
from ledger.standby import StandbyCheck
from ledger.status import StatusReader
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.migrate import migrate
from ledger.storage.open import open_storage
from ledger.stream import EventStream
from ledger.tile_files import TileFiles
from ledger.trust_state import TrustState, load_registry
from ledger.witnessing import Witnessing
from medtrail.errors import ConflictError, MalformedError, MedtrailError, UnavailableError, VerificationError
from medtrail.gs1 import Gln
from medtrail.note import NoteSigner, NoteVerifier, format_vkey, parse_vkey
from medtrail.policy import parse_policy
from medtrail.runtime.bus import Bus
from medtrail.runtime.files import read_file
from medtrail.runtime.folder import OrganisationFolder
from medtrail.runtime.logging import configure_logging, get_logger
from medtrail.runtime.paging import PageTokens
from medtrail.runtime.server import Server, serve, wait_for_signal
from medtrail.runtime.settings import LedgerSettings, load_settings
from medtrail.runtime.tokens import utc_now
from medtrail.trust import Registry

log = get_logger(__name__)

PUBLIC_NAME = "public"
SWITCH_INTERVAL_S = 0.001
SEQUENCER_HEALTH = "ledger.Sequencer"
PUBLISHER_HEALTH = "ledger.Publisher"


class Ledger:
    """All parts of an instance, built and not yet running."""

    def __init__(self, settings: LedgerSettings) -> None:
        """Open the databases, create the log when it is new, and build the parts. Blocks.

        Raises:
            MedtrailError: A setting, a key or the genesis is not right, or the database cannot be opened.
        """
        self.settings = settings
        self.folder = OrganisationFolder(settings.org_dir)
        self._signer = None if settings.replica_of else NoteSigner(settings.log_origin, self.folder.log_seed())
        verifier = _verifier(self._signer, settings)
        # Whatever fails here leaves nothing open.
        with ExitStack() as opened:
            self._open(opened)
            self._build(verifier)
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack) -> None:
        settings = self.settings
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._map_salt = self.folder.map_salt()
        self.database = open_storage(settings.data_dir, settings.database_url)
        opened.callback(self.database.close)
        self._authority_gln = self._create(self._map_salt)
        self.trust = TrustState(self.database.read_now(self._load_registry))
        self._projection = open_projection(settings.data_dir / PROJECTION_NAME)
        opened.callback(self._projection.close)
        self._examiners = Examiners(map_salt=self._map_salt)
        opened.callback(self._examiners.close)

    def _build(self, verifier: NoteVerifier) -> None:
        settings = self.settings
        self._bus = Bus(
            settings.nats_url, seed=self.folder.nats_seed(), gln=self.folder.gln, name=self.folder.profile.name
        )
        self.feed = CheckpointFeed()
        files = TileFiles(settings.data_dir / PUBLIC_NAME)
        self.reader = LogReader(self.database, files, self.feed, map_salt=self._map_salt)
        self.mirror = Mirror(
            self.database,
            files,
            verifier=verifier,
            feed=self.feed,
            on_halt=lambda _error: self._health(PUBLISHER_HEALTH, serving=False),
        )
        self._queries = Queries(self._projection, map_salt=self._map_salt)
        self._projected_erasures = ProjectedErasures(self.database, self._projection)
        self._build_leader(verifier)
        self._standby = StandbyCheck(self.database)
        self.leadership = Leadership(
            self.database, name=settings.instance, lead=self._lead, check=self._check, on_role=self._role_changed
        )
        self.projector: Follower
        if settings.projector_process:
            self.projector = ProjectorProcess(
                settings.data_dir, database_url=settings.database_url, log_level=settings.log_level
            )
        else:
            self.projector = Projector(self._projection, partial(read_chained, self.database))
        self.status = StatusReader(
            self.database,
            self.feed,
            role=lambda: self.leadership.role,
            projected=lambda: self.projector.taken_in,
            witnesses=lambda: [] if self.witnessing is None else self.witnessing.status(),
        )
        self._server: Server | None = None
        self.public_address = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def _build_leader(self, verifier: NoteVerifier) -> None:
        settings = self.settings
        self.operator = StreamOperator(
            self._bus, self.trust, authority_gln=self._authority_gln, replicas=settings.stream_replicas
        )
        self.sequencer = Sequencer(
            self.database,
            EventStream(self._bus),
            trust=self.trust,
            examiners=self._examiners,
            on_status=self._sequencer_status,
            on_commit=self._committed,
        )
        halted: Callable[[MedtrailError], None] = lambda _error: self._health(PUBLISHER_HEALTH, serving=False)  # noqa: E731 - one callback for two parts
        self.signer: Signer | Adopter
        if self._signer is None:
            self.signer = Adopter(
                self.database,
                partial(fetch_checkpoint, settings.replica_of),
                verifier=verifier,
                interval_s=settings.checkpoint_interval_s,
                on_adopted=self.mirror.wake,
                on_halt=halted,
            )
        else:
            self.signer = Signer(
                self.database,
                self._signer,
                interval_s=settings.checkpoint_interval_s,
                on_signed=self.mirror.wake,
                on_halt=halted,
            )
        self.witnessing: Witnessing | None = None
        if settings.policy_file is not None and not settings.replica_of:
            policy = parse_policy(read_file(settings.policy_file).decode("utf-8", "replace"))
            self.witnessing = Witnessing(
                self.database, policy, verifier=verifier, prove_consistency=self._prove_consistency
            )
        self._notifier = Notifier(
            self.database,
            self._bus,
            feed=self.feed,
            trust=self.trust,
            key=self.folder.signing_key(),
            gln=self.folder.gln,
        )
        self.eraser = Eraser(
            self.database,
            feed=self.feed,
            queries=self._queries,
            projected=self._projected_erasures,
            wait_projected=self._wait_projected,
            retention=timedelta(days=settings.retention_days),
        )

    @property
    def server(self) -> Server:
        """The running gRPC server.

        Raises:
            UnavailableError: NOT_SERVING: it does not run.
        """
        if self._server is None:
            raise UnavailableError("the server does not run", code="NOT_SERVING")
        return self._server

    async def _wait_projected(self, tree_size: int) -> None:
        await self.projector.wait_for(tree_size)

    async def projected(self) -> bool:
        """Tell whether the projection has taken in all that is published."""
        return await self._queries.size() >= self.feed.newest.tree.size

    def _create(self, map_salt: bytes) -> Gln:
        migrate(self.database, map_salt=map_salt)
        ensure = partial(
            ensure_log,
            folder=self.settings.org_dir,
            origin=self.settings.log_origin,
            authority_key_id=self.settings.authority_key_id,
            map_salt=map_salt,
            now=utc_now(),
        )
        try:
            return self.database.write_now(ensure)
        except ConflictError as error:
            if error.code != "STORAGE_CONSTRAINT":
                raise
            # Another instance has begun the log at the same moment: it stands now.
            return self.database.write_now(ensure)

    def _load_registry(self, connection: Any) -> Registry:  # noqa: ANN401 - a SQLAlchemy connection
        return load_registry(connection, authority_key_id=self.settings.authority_key_id, tree_size=2**62)

    def close(self) -> None:
        """Close the databases; one that runs does so at its end. Safe to call twice."""
        self._opened.close()

    # --- running ---

    async def run(self, stop: Coroutine[Any, Any, object]) -> None:
        """Run until ``stop`` returns, or a part fails unexpectedly.

        Raises:
            Exception: What a part failed with.
        """
        async with AsyncExitStack() as stack:
            stack.callback(self.close)
            stack.push_async_callback(self._bus.close)
            if self.witnessing is not None:
                stack.push_async_callback(self.witnessing.close)
            self._bus.start()
            self._server = await self._serve()
            stack.push_async_callback(self._server.stop)
            # The last that may fail: it is closed by whoever runs it.
            public = PublicServer(self.settings.data_dir / PUBLIC_NAME, listen=self.settings.http_listen)
            self.public_address = public.address
            log.info("public files", address=public.address)
            parts = [
                asyncio.create_task(part, name=name)
                for name, part in (
                    ("public", public.run()),
                    ("leadership", self._take_part()),
                    ("mirror", self.mirror.run()),
                    ("projector", self.projector.run()),
                    ("erasures", self._projected_erasures.run()),
                    ("followers", self._feed_followers()),
                    ("ready", self._tell_ready()),
                    ("status", self.status.run()),
                )
            ]
            stack.push_async_callback(_end, parts)
            stack.callback(public.stop)
            await _until_stop(parts, asyncio.create_task(_awaited(stop), name="stop"))

    async def _serve(self) -> Server:
        tokens = PageTokens(self.folder.signing_key().seed)
        server = await serve(
            ledger_bindings(self.reader, self._queries, tokens, status=self.status.look),
            folder=self.folder,
            registry=lambda: self.trust.current,
            listen=self.settings.listen,
            serving=False,
        )
        for name in (SEQUENCER_HEALTH, PUBLISHER_HEALTH):
            await server.set_serving(name, serving=False)
        return server

    # --- leading and standing by ---

    async def _take_part(self) -> None:
        try:
            await self.leadership.run()
        except MedtrailError as error:
            if self.leadership.role is not InstanceRole.UNFIT:
                # A part of the leader failed as none should: whoever watches this process starts it again.
                raise
            # It goes on answering from what it has published; it must not lead.
            log.error("instance must not lead", code=error.code, reason=error.message, **error.facts)  # noqa: TRY400 - a decision, not a fault of ours

    async def _check(self) -> None:
        await self._standby.run_once()
        await self.trust.follow(self.database, authority_key_id=self.settings.authority_key_id)

    async def _prove_consistency(self, old_size: int, stored: StoredCheckpoint) -> tuple[bytes, ...]:
        return await self.reader.prove_consistency(old_size=old_size, new_size=stored.tree.size, checkpoint=stored)

    async def _lead(self, fence: int) -> None:
        if self.witnessing is not None:
            # Before the first signature: a witness may know what this database has lost.
            await self.witnessing.check_ahead()
            self.mirror.cosign = self.witnessing.cosign
        parts: list[Awaitable[None]] = [self.sequencer.run(fence), self._sign(fence), self.eraser.run(fence)]
        if not self.settings.replica_of:
            parts += [self._notifier.run(), self.operator.run()]
        if self.witnessing is not None:
            parts.append(self.witnessing.run())
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            pending = set(tasks)
            # Sequencer and signer end by themselves when they halt: the rest goes on, and the lease is kept.
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            await asyncio.Event().wait()
        finally:
            self.mirror.cosign = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _sign(self, fence: int) -> None:
        # The public files may know of a signature that this database has lost: they are looked at first.
        await self.mirror.checked.wait()
        await self.signer.run(fence)

    async def _tell_ready(self) -> None:
        async for _checkpoint in self.feed.watch():
            break
        for name in (LEDGER_SERVICE, TRUST_SERVICE, PUBLISHER_HEALTH):
            self._health(name, serving=True)
        if self.leadership.role is InstanceRole.LEADER and not self.settings.replica_of:
            await self.operator.ready.wait()
        self._health("", serving=True)

    async def _feed_followers(self) -> None:
        async for checkpoint in self.feed.watch():
            self.projector.published(checkpoint.tree.size)
            self._notifier.wake()

    # --- what parts tell ---

    def _role_changed(self, role: InstanceRole) -> None:
        log.info("instance", role=role.value, fence=self.leadership.fence)

    def _sequencer_status(self, status: SequencerStatus) -> None:
        self._health(SEQUENCER_HEALTH, serving=status is SequencerStatus.RUNNING)

    def _committed(self, trust_changed: bool) -> None:  # noqa: FBT001 - a callback
        self._notifier.wake()
        if trust_changed:
            self.operator.trust_changed()

    def _health(self, service: str, *, serving: bool) -> None:
        if self._server is not None:
            task = asyncio.get_running_loop().create_task(self._server.set_serving(service, serving=serving))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _verifier(signer: NoteSigner | None, settings: LedgerSettings) -> NoteVerifier:
    if signer is None:
        if not settings.log_vkey:
            message = "a replica has no key of the log: tell it the log's verifier key"
            raise MalformedError(message, code="SETTING_INVALID", field="MEDTRAIL_LOG_VKEY")
        return parse_vkey(settings.log_vkey)
    _check_vkey(signer, settings.log_vkey)
    return signer.verifier


def _check_vkey(signer: NoteSigner, expected: str) -> None:
    found = format_vkey(signer.verifier)
    if expected and found != expected:
        raise VerificationError(f"log.key is {found}, not {expected}", code="LOG_KEY_MISMATCH", field="log_vkey")


async def _awaited(stop: Coroutine[Any, Any, object]) -> None:
    await stop


async def _until_stop(parts: list[asyncio.Task[None]], stop: asyncio.Task[None]) -> None:
    # The sequencer and the publisher end by themselves when they halt: the rest goes on. A part that fails ends all.
    pending = {*parts, stop}
    try:
        while not stop.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)


async def _end(parts: list[asyncio.Task[None]]) -> None:
    for task in parts:
        # uvicorn ends by its own flag; cancelling it in the middle of an answer would be reported as an error.
        if task.get_name() != "public":
            task.cancel()
    await asyncio.gather(*parts, return_exceptions=True)


def serve_from_environment() -> int:
    """Run the ledger from its settings until SIGTERM; return the exit code."""
    try:
        settings = load_settings(LedgerSettings)
        configure_logging(process="ledger", level=settings.log_level)
        ledger = Ledger(settings)
    except MedtrailError as error:
        configure_logging(process="ledger")
        log.error("ledger cannot start", code=error.code, field=error.field, reason=error.message)  # noqa: TRY400 - its own message tells all
        return 2
    # Who waits for the interpreter lock waits this long: at the default of 5 ms a fifth of the rate is lost to it.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    spare_collector()
    asyncio.run(_serve_until_signal(ledger))
    return 0


async def _serve_until_signal(ledger: Ledger) -> None:
    await ledger.run(wait_for_signal())
    log.info("ledger stopped")
