"""An embedded network: nats-server, the ledger, and one process an organisation, under one supervisor."""

import asyncio
import fcntl
import json
import socket
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # ships no types

from medtrail import codec
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.trust.v1 import trust_pb2, trust_pb2_grpc
from medtrail.cli.network import OrganisationAddress, RunningNetwork, write_network
from medtrail.cli.portals import PORTAL_PREFIX, portal_program, with_portals
from medtrail.cli.session import open_session
from medtrail.cli.setup import NetworkFolders, ensure_description, ensure_folders
from medtrail.cli.supervisor import Program, Supervisor
from medtrail.errors import ConflictError, MalformedError, MedtrailError, UnavailableError
from medtrail.event import Enrolment
from medtrail.gs1 import Gln
from medtrail.runtime import nats_config
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.ca import server_name
from medtrail.runtime.client import connect
from medtrail.runtime.files import write_file
from medtrail.subjects import events_subject

READY_CALL_S = 2.0
ENROLMENT_TIMEOUT_S = 60.0
POLL_S = 0.1
HOST = "127.0.0.1"
VERIFICATION_FILE = "verification.toml"
POLICY_FILE = "policy.txt"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports, picked once and kept in ports.json."""

    nats: int
    ledger: int
    http: int
    witness: int
    organisations: dict[str, int]
    portals: dict[str, int]


class EmbeddedNetwork:
    """A network that lives in one folder while this object is started.

    Args:
        root: The folder; made when absent.
        report: Told in words what happens.
        portals: Whether each organisation gets a portal, too.
    """

    def __init__(self, root: Path, *, report: Report, portals: bool = False) -> None:
        self._root = root.resolve()
        self._report = report
        self._portals = portals
        self._supervisor = Supervisor(self._root / "logs", report=self._restarted)
        self._lock: IO[bytes] | None = None
        self._network: RunningNetwork | None = None

    @property
    def root(self) -> Path:
        """The folder, absolute."""
        return self._root

    async def start(self) -> RunningNetwork:
        """Start everything; returns, with network.json written, when all is healthy.

        Raises:
            ConflictError: Another process runs the network of this folder.
            MalformedError: network.toml cannot be read.
            UnavailableError: A process did not come up.
        """
        description = ensure_description(self._root)
        self._take_lock()
        folders = ensure_folders(self._root, description)
        ports = _ports(self._root / "ports.json", tuple(folders.organisations))
        network = _network(folders, ports)
        try:
            self._report("starting the exchange")
            await self._supervisor.start([_nats_program(folders, ports)])
            _write_policy(folders, ports)
            self._report("starting the witness and the ledger")
            await self._supervisor.start([_witness_program(folders, ports)])
            await self._supervisor.start([_ledger_program(folders, ports)])
            await _enrol(folders, network, self._report)
            self._report(f"starting {len(folders.organisations)} services")
            await self._supervisor.start([_service_program(folders, ports, name) for name in folders.organisations])
            await _register_products(folders, network)
            if self._portals:
                self._report(f"starting {len(folders.organisations)} portals")
                network = with_portals(network, ports.portals)
                await self._supervisor.start([portal_program(item) for item in network.organisations])
        except BaseException:
            await self.stop()
            raise
        self._network = network
        self._write()
        return network

    async def stop(self) -> None:
        """Stop all processes and give the folder free."""
        if self._lock is None:
            # Nothing here is ours: network.json is that of the process that holds the lock.
            return
        (self._root / "network.json").unlink(missing_ok=True)
        self._network = None
        await self._supervisor.stop()
        self._lock.close()
        self._lock = None

    def pids(self) -> dict[str, int]:
        """Return process ids by name: ``nats``, ``ledger``, and each organisation's."""
        return self._supervisor.pids()

    def _take_lock(self) -> None:
        lock = (self._root / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            message = f"a network runs in {self._root} already"
            raise ConflictError(message, code="NETWORK_RUNNING") from error
        self._lock = lock

    def _restarted(self, text: str) -> None:
        self._report(text)
        try:
            self._write()
        except OSError as error:
            # What is wrong in the file is wrong until the next change; the processes run all the same.
            self._report(f"network.json could not be written: {error.strerror}")

    def _write(self) -> None:
        if self._network is not None:
            pids = self._supervisor.pids()
            found = self._network.to_document()
            found.pop("format")
            network = self._network
            write_network(
                self._root,
                RunningNetwork(
                    **{
                        **found,
                        "organisations": network.organisations,
                        "verifier_keys": network.verifier_keys,
                        "pids": pids,
                    }
                ),
            )


def _ports(path: Path, names: tuple[str, ...]) -> Ports:
    """Return the ports of ports.json, with free ones added for what is new.

    Raises:
        MalformedError: The file is not JSON, or not of ports by name.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise MalformedError(f"{path} is not JSON: remove it, and new ports are picked", code="PORTS_FILE") from error
    if not isinstance(found, dict) or not all(type(port) is int and 0 < port < 2**16 for port in found.values()):
        message = f"{path} does not hold ports by name: remove it, and new ports are picked"
        raise MalformedError(message, code="PORTS_FILE")
    portals = {name: f"{PORTAL_PREFIX}{name}" for name in names}
    wanted = ["nats", "ledger", "http", "witness", *names, *portals.values()]
    sockets = []
    for name in wanted:
        if name not in found:
            # All stay open until all are picked, so that no port is picked twice.
            probe = socket.socket()
            probe.bind((HOST, 0))
            sockets.append(probe)
            found[name] = probe.getsockname()[1]
    for probe in sockets:
        probe.close()
    write_file(path, json.dumps(found, indent=2).encode() + b"\n")
    return Ports(
        nats=found["nats"],
        ledger=found["ledger"],
        http=found["http"],
        witness=found["witness"],
        organisations={name: found[name] for name in names},
        portals={name: found[key] for name, key in portals.items()},
    )


def _network(folders: NetworkFolders, ports: Ports) -> RunningNetwork:
    return RunningNetwork(
        origin=folders.description.origin,
        ledger_address=f"{HOST}:{ports.ledger}",
        ledger_gln=str(folders.ledger.gln),
        nats_url=f"nats://{HOST}:{ports.nats}",
        log_url=f"http://{HOST}:{ports.http}",
        verifier_keys=(folders.log_vkey,),
        policy=str(folders.root / POLICY_FILE),
        authority_key_id=folders.authority_key_id,
        ca_certificate=str(folders.authority.path / "ca.crt"),
        organisations=tuple(
            OrganisationAddress(
                name=item.name,
                display_name=item.display_name,
                role=item.role.value,
                gln=str(item.gln),
                address=f"{HOST}:{ports.organisations[item.name]}",
                folder=str(folders.organisations[item.name].path),
            )
            for item in folders.description.organisations
        ),
        pids={},
    )


# --- programs ---


def _nats_program(folders: NetworkFolders, ports: Ports) -> Program:
    users = [
        nats_config.ledger_user("ledger", gln=folders.ledger.gln, public_key=folders.ledger.nats_user_key()),
        nats_config.organisation_user(
            "authority", gln=folders.authority.gln, public_key=folders.authority.nats_user_key()
        ),
        *(
            nats_config.organisation_user(name, gln=folder.gln, public_key=folder.nats_user_key())
            for name, folder in folders.organisations.items()
        ),
    ]
    data = folders.root / "nats"
    data.mkdir(mode=0o700, exist_ok=True)
    config = data / "nats.conf"
    config.write_text(nats_config.render(users, store_dir=data, listen=f"{HOST}:{ports.nats}"), encoding="utf-8")
    command = (str(nats_config.find_nats_server()), "--config", str(config))
    return Program("nats", command, {}, lambda: _nats_ready(ports.nats))


def _write_policy(folders: NetworkFolders, ports: Ports) -> None:
    """Write who must have seen a checkpoint: the one local witness."""
    text = (
        f"log {folders.log_vkey} http://{HOST}:{ports.http}\n"
        f"witness local {folders.witness_vkey} http://{HOST}:{ports.witness}\n"
        "quorum local\n"
    )
    write_file(folders.root / POLICY_FILE, text.encode())


def _witness_program(folders: NetworkFolders, ports: Ports) -> Program:
    environment = {
        "MEDTRAIL_WITNESS_NAME": folders.witness_name,
        "MEDTRAIL_WITNESS_KEY_FILE": str(folders.witness_key),
        "MEDTRAIL_WITNESS_POLICY_FILE": str(folders.root / POLICY_FILE),
        "MEDTRAIL_WITNESS_DATA_DIR": str(folders.root / "witness"),
        "MEDTRAIL_WITNESS_LISTEN": f"{HOST}:{ports.witness}",
    }
    command = (sys.executable, "-m", "ledger", "witness")
    return Program("witness", command, environment, lambda: _port_open(ports.witness))


async def _port_open(port: int) -> None:
    try:
        _reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), READY_CALL_S)
        writer.close()
        await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        raise UnavailableError(f"nothing answers on {HOST}:{port}", code="PROCESS_NOT_READY") from error


def _ledger_program(folders: NetworkFolders, ports: Ports) -> Program:
    environment = {
        "MEDTRAIL_ORG_DIR": str(folders.ledger.path),
        "MEDTRAIL_DATA_DIR": str(folders.root / "ledger"),
        "MEDTRAIL_LISTEN": f"{HOST}:{ports.ledger}",
        "MEDTRAIL_HTTP_LISTEN": f"{HOST}:{ports.http}",
        "MEDTRAIL_NATS_URL": f"nats://{HOST}:{ports.nats}",
        "MEDTRAIL_LOG_ORIGIN": folders.description.origin,
        "MEDTRAIL_LOG_URL": f"http://{HOST}:{ports.http}",
        "MEDTRAIL_LOG_VKEY": folders.log_vkey,
        "MEDTRAIL_AUTHORITY_KEY_ID": folders.authority_key_id,
        "MEDTRAIL_POLICY_FILE": str(folders.root / POLICY_FILE),
    }
    command = (sys.executable, "-m", "ledger", "serve")
    return Program("ledger", command, environment, lambda: _grpc_ready(folders, ports.ledger, "ledger"))


def _service_program(folders: NetworkFolders, ports: Ports, name: str) -> Program:
    folder = folders.organisations[name]
    data = folders.root / "services" / name
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    port = ports.organisations[name]
    environment = {
        "MEDTRAIL_ORG_DIR": str(folder.path),
        "MEDTRAIL_DATA_DIR": str(data),
        "MEDTRAIL_LISTEN": f"{HOST}:{port}",
        "MEDTRAIL_NATS_URL": f"nats://{HOST}:{ports.nats}",
        "MEDTRAIL_LEDGER_ADDRESS": f"{HOST}:{ports.ledger}",
        "MEDTRAIL_LEDGER_GLN": str(folders.ledger.gln),
        "MEDTRAIL_LOG_URL": f"http://{HOST}:{ports.http}",
        "MEDTRAIL_LOG_VKEY": folders.log_vkey,
        "MEDTRAIL_POLICY_FILE": str(folders.root / POLICY_FILE),
        "MEDTRAIL_AUTHORITY_KEY_ID": folders.authority_key_id,
    }
    arranged = folder.path / VERIFICATION_FILE
    if arranged.exists():
        environment["MEDTRAIL_VERIFICATION_FILE"] = str(arranged)
    role = folders.description.organisation(name).role
    command = (sys.executable, "-m", f"services.{role}")
    return Program(name, command, environment, lambda: _grpc_ready(folders, port, name))


async def _nats_ready(port: int) -> None:
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), READY_CALL_S)
        greeting = await asyncio.wait_for(reader.readline(), READY_CALL_S)
        writer.close()
        await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        raise UnavailableError(f"nothing answers on {HOST}:{port}", code="PROCESS_NOT_READY") from error
    if not greeting.startswith(b"INFO "):
        raise UnavailableError(f"{HOST}:{port} is no nats-server", code="PROCESS_NOT_READY")


async def _grpc_ready(folders: NetworkFolders, port: int, name: str) -> None:
    credentials = grpc.ssl_channel_credentials(root_certificates=folders.authority.ca_certificate())
    options = [("grpc.ssl_target_name_override", server_name(name))]
    async with grpc.aio.secure_channel(f"{HOST}:{port}", credentials, options=options) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=READY_CALL_S
            )
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(f"{name}: {error.code().name}", code="PROCESS_NOT_READY") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise UnavailableError(f"{name} is not serving yet", code="PROCESS_NOT_READY")


# --- products ---


async def _register_products(folders: NetworkFolders, network: RunningNetwork) -> None:
    """Register the products of network.toml; the same one under the same request id, so that it is said once."""
    for item in folders.description.products:
        message = codec.product_to_message(item.product)
        name = f"{folders.description.origin}/{message.SerializeToString(deterministic=True).hex()}"
        request = manufacturer_pb2.RegisterProductRequest(
            request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, name)), product=message
        )
        async with open_session(network, network.organisation(item.owner)) as session:
            await session.manufacturer.RegisterProduct(request)


# --- enrolment ---


async def _enrol(folders: NetworkFolders, network: RunningNetwork, report: Report) -> None:
    """Publish the enrolments that the log lacks, and wait until it has them all."""
    everyone = [folders.ledger, *folders.organisations.values()]
    missing = {folder.gln for folder in everyone} - await _enrolled(folders, network)
    if not missing:
        return
    report(f"enrolling {len(missing)} organisations")
    batch = codec.encode_batch([folder.enrolment_bytes() for folder in everyone if folder.gln in missing])
    bus = await connect_bus(
        network.nats_url, seed=folders.authority.nats_seed(), gln=folders.authority.gln, name="authority"
    )
    try:
        await bus.publish(events_subject(folders.authority.gln), batch)
    finally:
        await bus.close()
    deadline = asyncio.get_running_loop().time() + ENROLMENT_TIMEOUT_S
    while missing - await _enrolled(folders, network):
        if asyncio.get_running_loop().time() > deadline:
            raise UnavailableError("the ledger did not chain the enrolments in time: see its log", code="ENROLMENT")
        await asyncio.sleep(POLL_S)


async def _enrolled(folders: NetworkFolders, network: RunningNetwork) -> set[Gln]:
    """Return the GLNs whose present enrolment is in the log; nobody may ask before anyone is enrolled."""
    asker = next(iter(folders.organisations.values()))
    found: set[Gln] = set()
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
                    found.add(statement.gln)
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token
