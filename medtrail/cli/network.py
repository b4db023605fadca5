"""network.json: where a running network's processes listen, for scripts and for the other commands."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medtrail.errors import MalformedError, UnavailableError

FILE_NAME = "network.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class OrganisationAddress:
    """An organisation of a running network.

    Attributes:
        address: Of its gRPC service, ``127.0.0.1:port``.
        folder: Its keys.
        portal_url: Of its EPCIS REST interface; empty where none runs.
        portal_token_file: Holds a token for it; empty where none runs.
    """

    name: str
    display_name: str
    role: str
    gln: str
    address: str
    folder: str
    portal_url: str = ""
    portal_token_file: str = ""


@dataclass(frozen=True, slots=True)
class StationAddress:
    """A station of a running network.

    Attributes:
        organisation: Short name of its owner.
        address: Where it listens for its own machine, ``127.0.0.1:port``.
        folder: Its key, and the token that opens it.
    """

    name: str
    organisation: str
    address: str
    folder: str


@dataclass(frozen=True, slots=True)
class RunningNetwork:
    """What network.json says.

    Attributes:
        origin: Of the log.
        ledger_address: gRPC, ``127.0.0.1:port``.
        ledger_gln: The audience of tokens for the ledger.
        nats_url: ``nats://127.0.0.1:port``.
        log_url: Where ``/checkpoint`` and ``/tile/…`` are served.
        verifier_keys: Of the log, in C2SP notation.
        policy: Path of the policy that names the log and its witnesses (C2SP tlog-policy).
        authority_key_id: did:key.
        ca_certificate: Path of the private CA's certificate.
        pids: Process id by process name, as of the last change.
        stations: Receiving bays and tills.
    """

    origin: str
    ledger_address: str
    ledger_gln: str
    nats_url: str
    log_url: str
    verifier_keys: tuple[str, ...]
    policy: str
    authority_key_id: str
    ca_certificate: str
    organisations: tuple[OrganisationAddress, ...]
    pids: dict[str, int]
    stations: tuple[StationAddress, ...] = ()

    def station(self, organisation: str, name: str | None) -> StationAddress:
        """Return a station of an organisation; without a name the first.

        Raises:
            MalformedError: There is none (STATION_UNKNOWN).
        """
        known = [item for item in self.stations if item.organisation == organisation]
        for item in known:
            if name in {None, item.name}:
                return item
        message = f"{organisation} has no station {name or ''}; known are: {', '.join(item.name for item in known)}"
        raise MalformedError(message, code="STATION_UNKNOWN", field="--station")

    def organisation(self, name: str) -> OrganisationAddress:
        """Return an organisation by its name or GLN.

        Raises:
            MalformedError: None has it.
        """
        for organisation in self.organisations:
            if name in {organisation.name, organisation.gln}:
                return organisation
        known = ", ".join(item.name for item in self.organisations)
        raise MalformedError(f"no organisation {name!r}; known are: {known}", code="ORGANISATION_UNKNOWN", field="--as")

    def to_document(self) -> dict[str, Any]:
        """Return what network.json holds."""
        return {"format": FORMAT, **asdict(self)}


def read_network(folder: Path) -> RunningNetwork:
    """Read the network.json of a folder.

    Raises:
        UnavailableError: There is none: no network runs there.
        MalformedError: It is of another format or not whole.
    """
    path = folder / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"no network runs in {folder}: start one with `medtrail --dir {folder} up`, or name another --dir"
        raise UnavailableError(message, code="NETWORK_DOWN") from error
    except ValueError as error:
        raise MalformedError(f"{path}: not JSON", code="NETWORK_FILE") from error
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise MalformedError(f"{path}: expected format {FORMAT}", code="NETWORK_FILE")
    try:
        organisations = tuple(OrganisationAddress(**item) for item in document.pop("organisations"))
        stations = tuple(StationAddress(**item) for item in document.pop("stations", ()))
        keys = tuple(document.pop("verifier_keys"))
        return RunningNetwork(organisations=organisations, verifier_keys=keys, stations=stations, **document)
    except (KeyError, TypeError) as error:
        raise MalformedError(f"{path}: {error}", code="NETWORK_FILE") from error


def write_network(folder: Path, network: RunningNetwork) -> None:
    """Write network.json in one step, so that a reader sees all of it or none."""
    path = folder / FILE_NAME
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(network.to_document(), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
