"""The key folders of organisations and of the authority.

::

    organisation.json   name, display_name, gln, locations, company_prefixes, roles, responder_url
    signing.key         Ed25519 seed, hex        secret
    sealing.key         X25519 private key, hex  secret
    nats.key            NATS user seed (SU…)     secret
    tls.key  tls.crt    server certificate       secret, public
    ca.crt              the network's authority for TLS
    enrolment.bin       SignedEvent: the authority's word for all this
    log.key             Ed25519 seed of the log, hex; the ledger's folder only       secret
    map_salt.key        salt of the item map, hex; the ledger's folder and the authority's  secret

A station's folder has, of its organisation, organisation.json and ca.crt; of its own, signing.key, tls.key and tls.crt,
and further::

    station.json        name
    key_addition.bin    SignedEvent: the authority's word that the key is this station's, of the organisation
    desk.token          what the scanner and the till beside it show to the station  secret

Secrets have mode 0600 and are refused when others may read them; they are read when asked for and not kept.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import nacl.public
import nkeys  # type: ignore[import-untyped]

from medtrail.codec import decode_signed_event, encode_payload, encode_signed_event
from medtrail.envelope import SignedEvent, SigningKey, sign
from medtrail.errors import MalformedError
from medtrail.event import (
    SALT_BYTES,
    Enrolment,
    ErasureConsent,
    Event,
    Header,
    KeyAddition,
    Licence,
    Role,
    TrustStatement,
    new_event_id,
    new_salt,
)
from medtrail.gs1 import Gln
from medtrail.runtime import ca
from medtrail.runtime.files import read_file, read_secret, write_file, write_secret

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Profile:
    """Who an organisation is, as organisation.json tells it; the roles are empty for the authority.

    Attributes:
        responder_url: Where it answers verification requests for its products; may be empty.
    """

    name: str
    display_name: str
    gln: Gln
    locations: tuple[Gln, ...] = ()
    company_prefixes: tuple[str, ...] = ()
    roles: frozenset[Role] = frozenset()
    responder_url: str = ""


class _KeyFolder:
    """What the folders of organisations and of the authority have in common."""

    def __init__(self, path: Path) -> None:
        """Read organisation.json; the keys are read when asked for.

        Raises:
            NotFoundError: FILE_MISSING.
            MalformedError: PROFILE_MALFORMED.
        """
        self.path = path
        self.profile = _read_profile(path / "organisation.json")

    @property
    def gln(self) -> Gln:
        """The party's GLN."""
        return self.profile.gln

    def signing_key(self) -> SigningKey:
        """Return the key that speaks for it.

        Raises:
            AuthorizationError: KEY_FILE_EXPOSED; so do all methods that read a secret.
        """
        return SigningKey.from_seed(self._hex_secret("signing.key"))

    def nats_seed(self) -> bytes:
        """Return the NATS user seed (``SU…``), ASCII."""
        return read_secret(self.path / "nats.key").strip()

    def nats_user_key(self) -> str:
        """Return the NATS user's public key (``U…``)."""
        return nats_public_key(self.nats_seed())

    def ca_certificate(self) -> bytes:
        """Return the certificate of the network's authority for TLS, PEM."""
        return read_file(self.path / "ca.crt")

    def map_salt(self) -> bytes:
        """Return the item map's secret salt, 32 bytes."""
        return self._hex_secret("map_salt.key")

    def _hex_secret(self, name: str) -> bytes:
        try:
            content = bytes.fromhex(read_secret(self.path / name).decode())
        except ValueError:
            # Neither the content nor the original error, which quotes it, goes on.
            raise MalformedError(f"{name} is not hex", code="KEY_MALFORMED", field=name) from None
        if len(content) != SEED_BYTES:
            message = f"{name} has {len(content)} bytes, wanted {SEED_BYTES}"
            raise MalformedError(message, code="KEY_MALFORMED", field=name)
        return content

    def __repr__(self) -> str:
        """Name the folder."""
        return f"{type(self).__name__}({str(self.path)!r})"


class OrganisationFolder(_KeyFolder):
    """The folder of one organisation."""

    def sealing_key(self) -> nacl.public.PrivateKey:
        """Return the key to which partners seal commercial terms."""
        return nacl.public.PrivateKey(self._hex_secret("sealing.key"))

    def log_seed(self) -> bytes:
        """Return the seed of the log's Ed25519 key, 32 bytes; the ledger's folder only."""
        return self._hex_secret("log.key")

    def tls(self) -> ca.Credentials:
        """Return the server certificate and its key."""
        return ca.Credentials(read_file(self.path / "tls.crt"), read_secret(self.path / "tls.key"))

    def enrolment(self) -> SignedEvent:
        """Return the authority's enrolment of this organisation, signature unchecked."""
        return decode_signed_event(self.enrolment_bytes())

    def enrolment_bytes(self) -> bytes:
        """Return the enrolment exactly as signed."""
        return read_file(self.path / "enrolment.bin")


class StationFolder(OrganisationFolder):
    """The folder of one station of an organisation: all that its machine needs, and no key but its own."""

    def __init__(self, path: Path) -> None:
        """Read organisation.json and station.json; the keys are read when asked for.

        Raises:
            NotFoundError: FILE_MISSING.
            MalformedError: PROFILE_MALFORMED.
        """
        super().__init__(path)
        self.station = _text(_read_document(path / "station.json"), "name")

    @property
    def server(self) -> str:
        """Short name for which its certificate is."""
        return station_server(self.profile.name, self.station)

    def key_addition_bytes(self) -> bytes:
        """Return the authority's word for its key, exactly as signed."""
        return read_file(self.path / "key_addition.bin")

    def desk_token(self) -> str:
        """Return what callers on its own machine show."""
        return read_secret(self.path / "desk.token").decode().strip()


def station_server(organisation: str, station: str) -> str:
    """Return the short name for which a station's certificate is."""
    return f"{station}.{organisation}"


class AuthorityFolder(_KeyFolder):
    """The folder of the network's authority: signing.key, nats.key, ca.key, ca.crt, map_salt.key, source_seq."""

    def ca(self) -> ca.Credentials:
        """Return the authority for TLS."""
        return ca.Credentials(self.ca_certificate(), read_secret(self.path / "ca.key"))

    def sign(self, statement: TrustStatement | ErasureConsent) -> bytes:
        """Return a trust statement or a consent as SignedEvent bytes, with the next source_seq.

        The number is durable before the signature exists, so that none is used twice; a crash between leaves a gap.
        """
        source_seq = int(read_file(self.path / "source_seq")) + 1
        write_file(self.path / "source_seq", b"%d\n" % source_seq)
        header = Header(
            salt=new_salt(), actor=self.gln, source="authority", source_seq=source_seq, event_id=new_event_id()
        )
        event = Event(header, statement)
        return encode_signed_event(sign(event.payload_type, encode_payload(event), self.signing_key()))


def nats_public_key(seed: bytes) -> str:
    """Return the public key (``U…``) of a NATS user seed.

    Raises:
        MalformedError: KEY_MALFORMED.
    """
    try:
        pair = nkeys.from_seed(bytearray(seed))
        public: bytes = pair.public_key
    except (nkeys.NkeysError, ValueError):
        raise MalformedError("not a NATS user seed", code="KEY_MALFORMED", field="nats.key") from None
    return public.decode()


def new_nats_seed() -> bytes:
    """Return a new NATS user seed (``SU…``), ASCII."""
    seed: bytes = nkeys.encode_seed(secrets.token_bytes(SEED_BYTES), nkeys.PREFIX_BYTE_USER)
    return seed


def create_authority(path: Path, profile: Profile, *, now: datetime | None = None) -> AuthorityFolder:
    """Make the authority's folder with new keys; organisation.json comes last and makes it whole.

    Args:
        path: The folder; made when absent.
        profile: Name and GLN.
        now: Aware UTC; the clock's when None.

    Raises:
        FileExistsError: A key stands there already.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = ca.create_ca(f"{profile.name} medtrail CA", now=now or datetime.now(UTC))
    _write_hex_secret(path / "signing.key", SigningKey.generate().seed)
    _write_hex_secret(path / "map_salt.key", secrets.token_bytes(SALT_BYTES))
    write_secret(path / "nats.key", new_nats_seed() + b"\n")
    write_secret(path / "ca.key", root.private_key)
    write_file(path / "ca.crt", root.certificate)
    write_file(path / "source_seq", b"0\n")
    _write_profile(path, profile)
    return AuthorityFolder(path)


def create_organisation(
    path: Path,
    profile: Profile,
    *,
    authority: AuthorityFolder,
    licences: tuple[Licence, ...] = (),
    hosts: tuple[str, ...] = (),
    now: datetime | None = None,
) -> OrganisationFolder:
    """Make an organisation's folder with new keys, its TLS certificate and its signed enrolment.

    A profile with the role ledger gets log.key and the authority's map salt as well. organisation.json comes last and
    makes the folder whole: without it, it does not load.

    Args:
        path: The folder; made when absent.
        profile: Who it is.
        authority: Who signs.
        licences: For the enrolment.
        hosts: Further names for the certificate.
        now: Aware UTC; the clock's when None.

    Raises:
        FileExistsError: A key stands there already.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = SigningKey.generate()
    sealing_key = nacl.public.PrivateKey.generate()
    nats_seed = new_nats_seed()
    tls = ca.issue(authority.ca(), profile.name, now=now or datetime.now(UTC), hosts=hosts)
    _write_hex_secret(path / "signing.key", key.seed)
    _write_hex_secret(path / "sealing.key", bytes(sealing_key))
    write_secret(path / "nats.key", nats_seed + b"\n")
    write_secret(path / "tls.key", tls.private_key)
    write_file(path / "tls.crt", tls.certificate)
    write_file(path / "ca.crt", authority.ca_certificate())
    if Role.LEDGER in profile.roles:
        _write_hex_secret(path / "log.key", SigningKey.generate().seed)
        _write_hex_secret(path / "map_salt.key", authority.map_salt())
    enrolment = Enrolment(
        organisation=profile.name,
        display_name=profile.display_name,
        gln=profile.gln,
        locations=profile.locations,
        company_prefixes=profile.company_prefixes,
        roles=profile.roles,
        signing_key_ids=(key.key_id,),
        sealing_key=bytes(sealing_key.public_key),
        nats_user_key=nats_public_key(nats_seed),
        licences=licences,
        responder_url=profile.responder_url,
    )
    write_file(path / "enrolment.bin", authority.sign(enrolment))
    _write_profile(path, profile)
    return OrganisationFolder(path)


def create_station(
    path: Path, name: str, *, organisation: OrganisationFolder, authority: AuthorityFolder, now: datetime | None = None
) -> StationFolder:
    """Make a station's folder with a key of its own, and the authority's word that it speaks for the station.

    organisation.json comes last and makes the folder whole: without it, it does not load.

    Args:
        path: The folder; made when absent.
        name: Of the station, and the source of its events.
        organisation: Whose station it is.
        authority: Who signs.
        now: Aware UTC; the clock's when None.

    Raises:
        FileExistsError: A key stands there already.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = SigningKey.generate()
    tls = ca.issue(authority.ca(), station_server(organisation.profile.name, name), now=now or datetime.now(UTC))
    _write_hex_secret(path / "signing.key", key.seed)
    write_secret(path / "tls.key", tls.private_key)
    write_secret(path / "desk.token", secrets.token_urlsafe(32).encode() + b"\n")
    write_file(path / "tls.crt", tls.certificate)
    write_file(path / "ca.crt", authority.ca_certificate())
    write_file(path / "key_addition.bin", authority.sign(KeyAddition(organisation.gln, key.key_id, name)))
    write_file(path / "station.json", json.dumps({"name": name}, indent=2).encode() + b"\n")
    _write_profile(path, organisation.profile)
    return StationFolder(path)


def _write_hex_secret(path: Path, content: bytes) -> None:
    write_secret(path, content.hex().encode() + b"\n")


def _write_profile(path: Path, profile: Profile) -> None:
    document = {
        "name": profile.name,
        "display_name": profile.display_name,
        "gln": str(profile.gln),
        "locations": [str(gln) for gln in profile.locations],
        "company_prefixes": list(profile.company_prefixes),
        "roles": sorted(profile.roles),
    }
    if profile.responder_url:
        document["responder_url"] = profile.responder_url
    write_file(path / "organisation.json", json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")


def _read_document(path: Path) -> dict[str, object]:
    try:
        document = json.loads(read_file(path))
    except ValueError as error:
        raise MalformedError(f"{path} is not JSON: {error}", code="PROFILE_MALFORMED", field=path.name) from error
    if not isinstance(document, dict):
        raise MalformedError(f"{path} is not a JSON object", code="PROFILE_MALFORMED", field=path.name)
    return document


def _read_profile(path: Path) -> Profile:
    document = _read_document(path)
    try:
        return Profile(
            name=_text(document, "name"),
            display_name=_text(document, "display_name"),
            gln=Gln(_text(document, "gln")),
            locations=tuple(Gln(text) for text in _texts(document, "locations")),
            company_prefixes=_texts(document, "company_prefixes"),
            roles=frozenset(Role(text) for text in _texts(document, "roles")),
            responder_url=_text(document, "responder_url") if "responder_url" in document else "",
        )
    except ValueError as error:
        raise MalformedError(f"{path}: {error}", code="PROFILE_MALFORMED", field="roles") from error


def _text(document: Mapping[str, object], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedError("expected a text", code="PROFILE_MALFORMED", field=name)
    return value


def _texts(document: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = document.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise MalformedError("expected a list of texts", code="PROFILE_MALFORMED", field=name)
    return tuple(value)
