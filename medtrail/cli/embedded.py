"""An embedded network: nats-server, the ledger, and one process an organisation, under one supervisor."""

import fcntl
import json
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from medtrail import codec
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.cli.enrolling import enrol
from medtrail.cli.network import OrganisationAddress, RunningNetwork, write_network
from medtrail.cli.portals import PORTAL_PREFIX, portal_program, with_portals
from medtrail.cli.ready import HOST, grpc_ready, nats_ready, port_open
from medtrail.cli.session import open_session
from medtrail.cli.setup import NetworkFolders, ensure_description, ensure_folders
from medtrail.cli.stations import port_names, station_program, with_stations
from medtrail.cli.supervisor import Program, Supervisor
from medtrail.errors import ConflictError, MalformedError
from medtrail.runtime import nats_config
from medtrail.runtime.files import write_file

VERIFICATION_FILE = "verification.toml"
POLICY_FILE = "policy.txt"

NO_STATIONS: Mapping[str, str] = MappingProxyType({})

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
    stations: dict[str, int]


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
        ports = _ports(self._root / "ports.json", tuple(folders.organisations), port_names(folders))
        network = with_stations(_network(folders, ports), folders, ports.stations)
        try:
            self._report("starting the exchange")
            await self._supervisor.start([_nats_program(folders, ports)])
            _write_policy(folders, ports)
            self._report("starting the witness and the ledger")
            await self._supervisor.start([_witness_program(folders, ports)])
            await self._supervisor.start([_ledger_program(folders, ports)])
            await enrol(folders, network, self._report)
            self._report(f"starting {len(folders.organisations)} services")
            await self._supervisor.start([_service_program(folders, ports, name) for name in folders.organisations])
            await _register_products(folders, network)
            if network.stations:
                self._report(f"starting {len(network.stations)} stations")
                await self._supervisor.start([station_program(item, network, self._root) for item in network.stations])
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
                        "stations": network.stations,
                        "pids": pids,
                    }
                ),
            )


def _ports(path: Path, names: tuple[str, ...], stations: Mapping[str, str] = NO_STATIONS) -> Ports:
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
    wanted = ["nats", "ledger", "http", "witness", *names, *portals.values(), *stations.values()]
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
        stations={name: found[key] for name, key in stations.items()},
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
    return Program("nats", command, {}, lambda: nats_ready(ports.nats))


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
    return Program("witness", command, environment, lambda: port_open(ports.witness))


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


async def _grpc_ready(folders: NetworkFolders, port: int, name: str) -> None:
    await grpc_ready(folders.authority.ca_certificate(), f"{HOST}:{port}", name)


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
