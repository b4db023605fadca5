"""Makes the folder of an embedded network from its description: authority, ledger, organisations, genesis.

Every part is made in a folder beside its place and moved there whole, so that an interrupted run is taken up again.
"""

import hashlib
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medtrail import codec
from medtrail.cli.network_file import FILE_NAME, SAMPLE, NetworkDescription, OrganisationDescription, read_network_file
from medtrail.errors import ConflictError
from medtrail.event import Genesis, Role
from medtrail.note import SEED_BYTES, Cosigner, NoteSigner, format_vkey
from medtrail.runtime.files import read_secret, write_secret
from medtrail.runtime.folder import (
    AuthorityFolder,
    OrganisationFolder,
    Profile,
    StationFolder,
    create_authority,
    create_organisation,
    create_station,
)

LEDGER_NAME = "ledger"
GENESIS_FILE = "genesis.bin"
STATIONS = "stations"
"""Folder of an organisation that holds its stations'."""


@dataclass(frozen=True, slots=True)
class NetworkFolders:
    """The parts of a network's folder.

    Attributes:
        root: The folder.
        description: What network.toml says.
        authority: Keys of the authority.
        ledger: Keys of the ledger.
        organisations: Keys of each organisation by name.
        stations: Keys of each station, those that network.toml names and those that were added since.
    """

    root: Path
    description: NetworkDescription
    authority: AuthorityFolder
    ledger: OrganisationFolder
    organisations: dict[str, OrganisationFolder]
    stations: tuple[StationFolder, ...] = ()

    @property
    def log_vkey(self) -> str:
        """The log's verifier key (C2SP signed-note)."""
        return format_vkey(NoteSigner(self.description.origin, self.ledger.log_seed()).verifier)

    @property
    def witness_key(self) -> Path:
        """The local witness's key file."""
        return self.root / "witness" / "witness.key"

    @property
    def witness_name(self) -> str:
        """The local witness's name: of its key, too."""
        return f"{self.description.origin.partition('/')[0]}/witness"

    @property
    def witness_vkey(self) -> str:
        """The local witness's verifier key (C2SP tlog-cosignature)."""
        seed = bytes.fromhex(read_secret(self.witness_key).decode())
        return format_vkey(Cosigner(self.witness_name, seed).verifier)

    @property
    def authority_key_id(self) -> str:
        """The authority's key, did:key."""
        return self.authority.signing_key().key_id


def ensure_description(root: Path) -> NetworkDescription:
    """Return what network.toml says; a sample is written first when there is none.

    Raises:
        MalformedError: network.toml cannot be read.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root / FILE_NAME
    if not path.exists():
        path.write_text(SAMPLE, encoding="utf-8")
    return read_network_file(path)


def ensure_folders(root: Path, description: NetworkDescription) -> NetworkFolders:
    """Return the network's folders; what is missing is made.

    Raises:
        ConflictError: The authority, the log or an organisation stands there with other facts than network.toml states.
    """
    authority_path = root / "authority"
    if not authority_path.exists():
        profile = Profile("authority", "Network authority", description.authority_gln)
        make_whole(authority_path, lambda path: create_authority(path, profile))
    authority = AuthorityFolder(authority_path)
    if authority.gln != description.authority_gln:
        raise _changed(authority_path, "authority")
    ledger_profile = Profile(LEDGER_NAME, "Ledger", description.ledger_gln, roles=frozenset({Role.LEDGER}))
    ledger = _ensure_organisation(root / "ledger" / "org", ledger_profile, authority)
    _ensure_genesis(ledger, authority, description.origin)
    if not (root / "witness").exists():
        make_whole(root / "witness", _make_witness)
    organisations = {
        item.name: _ensure_organisation(root / "orgs" / item.name, _profile(item), authority)
        for item in description.organisations
    }
    for item in description.organisations:
        for name in item.stations:
            ensure_station(organisations[item.name], name, authority)
    stations = tuple(station for folder in organisations.values() for station in stations_of(folder))
    return NetworkFolders(root, description, authority, ledger, organisations, stations)


def ensure_station(organisation: OrganisationFolder, name: str, authority: AuthorityFolder) -> StationFolder:
    """Return the folder of an organisation's station; it is made when absent."""
    path = organisation.path / STATIONS / name
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        make_whole(path, lambda made: create_station(made, name, organisation=organisation, authority=authority))
    return StationFolder(path)


def stations_of(organisation: OrganisationFolder) -> tuple[StationFolder, ...]:
    """Return the stations of an organisation, in order of their names."""
    folder = organisation.path / STATIONS
    found = sorted(folder.iterdir()) if folder.exists() else []
    return tuple(StationFolder(path) for path in found if not path.name.startswith("."))


def _profile(item: OrganisationDescription) -> Profile:
    return Profile(
        item.name,
        item.display_name,
        item.gln,
        item.locations,
        item.company_prefixes,
        frozenset({item.role}),
        item.responder_url,
    )


def _ensure_organisation(path: Path, profile: Profile, authority: AuthorityFolder) -> OrganisationFolder:
    if not path.exists():
        make_whole(path, lambda temporary: create_organisation(temporary, profile, authority=authority))
    folder = OrganisationFolder(path)
    if folder.profile != profile:
        raise _changed(path, profile.name)
    return folder


def _changed(path: Path, what: str) -> ConflictError:
    message = f"{path} holds other facts than {FILE_NAME}: restore them there, or start another network folder"
    return ConflictError(message, code="NETWORK_CHANGED", field=what)


def _ensure_genesis(ledger: OrganisationFolder, authority: AuthorityFolder, origin: str) -> None:
    path = ledger.path / GENESIS_FILE
    if not path.exists():
        genesis = Genesis(origin, authority.signing_key().key_id, hashlib.sha256(authority.map_salt()).digest())
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(authority.sign(genesis))
        temporary.replace(path)
    signed = codec.decode_signed_event(path.read_bytes())
    statement = codec.decode_payload(signed.payload_type, signed.payload).statement
    # A log has one origin for good: its checkpoints under another would be another log's.
    if not isinstance(statement, Genesis) or statement.origin != origin:
        raise _changed(path, "network.origin")


def _make_witness(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    write_secret(folder / "witness.key", secrets.token_bytes(SEED_BYTES).hex().encode() + b"\n")


def make_whole(path: Path, make: Callable[[Path], object]) -> None:
    """Make a folder beside its place and move it there, so that it stands there whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    # What an interrupted run left is nobody's yet: its keys were never used.
    shutil.rmtree(temporary, ignore_errors=True)
    make(temporary)
    temporary.rename(path)
