import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import status_pb2  # type: ignore[import-untyped]
from sqlalchemy import Connection

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.errors import (
    AuthorizationError,
    ConflictError,
    DuplicateError,
    MalformedError,
    MedtrailError,
    NotFoundError,
    TooLargeError,
)
from medtrail.exchange import ReceiptItem
from medtrail.gs1 import Gln
from medtrail.runtime import outbox
from medtrail.runtime.access import authorise
from medtrail.runtime.client import is_read
from medtrail.runtime.database import Database
from medtrail.runtime.logging import strike_secrets
from medtrail.runtime.nats_config import find_nats_server, render
from medtrail.runtime.paging import PageTokens, page_size
from medtrail.runtime.settings import LedgerSettings, NatsServerSettings, ServiceSettings, load_settings
from medtrail.runtime.status import grpc_code, status_to_error
from medtrail.runtime.tables import RUNTIME_METADATA
from medtrail.runtime.tokens import Caller
from medtrail.subjects import MessageKind
from medtrail.trust import Registry

if TYPE_CHECKING:
    from tests.conftest import Network

GLN = Gln("0300011111116")
OTHER = Gln("0399999999991")
METHOD = "/medtrail.api.custody.v1.CustodyService/ListHoldings"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


# --- paging ---


@pytest.fixture
def tokens() -> PageTokens:
    return PageTokens(b"secret")


def test_page_token_gives_back_its_position(tokens: PageTokens) -> None:
    request = custody_pb2.ListHoldingsRequest(page_size=10)
    token = tokens.issue([7, "é|x"], caller=GLN, method=METHOD, request=request)
    # Size and token of the page do not count: they change from page to page.
    request = custody_pb2.ListHoldingsRequest(page_size=20, page_token=token)
    assert tokens.open(token, caller=GLN, method=METHOD, request=request) == (7, "é|x")
    assert "secret" not in repr(tokens)


def test_first_and_last_page_have_no_token(tokens: PageTokens) -> None:
    request = custody_pb2.ListHoldingsRequest()
    assert tokens.issue([], caller=GLN, method=METHOD, request=request) == ""
    assert tokens.open("", caller=GLN, method=METHOD, request=request) is None


def test_refuses_page_tokens_of_others(tokens: PageTokens) -> None:
    request = ledger_pb2.ListEventsRequest(actor="x")
    token = tokens.issue([7], caller=GLN, method=METHOD, request=request)
    attempts = [
        (tokens, token, OTHER, METHOD, request),
        (tokens, token, GLN, METHOD + "s", request),
        (tokens, token, GLN, METHOD, ledger_pb2.ListEventsRequest(actor="y")),
        (PageTokens(b"other"), token, GLN, METHOD, request),
        (tokens, token[:-2] + "AA", GLN, METHOD, request),
        (tokens, "!", GLN, METHOD, request),
        (tokens, "é", GLN, METHOD, request),
        (tokens, "QUJD", GLN, METHOD, request),
        (tokens, "A" * 2000, GLN, METHOD, request),
    ]
    for opener, text, caller, method, question in attempts:
        with pytest.raises(MalformedError) as caught:
            opener.open(text, caller=caller, method=method, request=question)
        assert caught.value.code == "PAGE_TOKEN_INVALID"
        assert caught.value.field == "page_token"


def test_page_sizes_have_a_default_and_a_limit() -> None:
    assert [page_size(asked) for asked in (0, 1, 500, 501, 2**31 - 1)] == [100, 1, 500, 500, 500]
    with pytest.raises(MalformedError) as caught:
        page_size(-1)
    assert caught.value.code == "PAGE_SIZE_INVALID"


# --- access and status ---


def test_anonymous_row_lets_everybody_in(network: "Network", registry: Registry) -> None:
    organisation = registry.organisation_of_gln(network["maker"].gln)
    assert organisation is not None
    authorise("/grpc.health.v1.Health/Check", caller=Caller(organisation, "did:key:z"), callee=OTHER)
    with pytest.raises(AuthorizationError) as caught:
        authorise("/x.Y/Z", caller=Caller(organisation, "did:key:z"), callee=OTHER)
    assert caught.value.code == "METHOD_UNKNOWN"


def test_reads_are_told_by_their_names() -> None:
    assert is_read(METHOD)
    assert is_read(b"/medtrail.api.ledger.v1.LedgerService/VerifyPack")
    assert not is_read("/medtrail.api.custody.v1.CustodyService/Ship")


def test_subclass_outside_the_table_has_its_parents_code() -> None:
    class OwnError(ConflictError):
        pass

    assert grpc_code(OwnError("x")) is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [(5, NotFoundError, "NOT_FOUND"), (13, MedtrailError, "INTERNAL"), (15, MedtrailError, "STATUS_DATA_LOSS")],
)
def test_statuses_of_others_become_errors_by_their_codes(number: int, kind: type[MedtrailError], code: str) -> None:
    error = status_to_error(status_pb2.Status(code=number, message="said"))
    assert type(error) is kind
    assert (error.code, error.message) == (code, "said")
    assert status_to_error(status_pb2.Status(code=99)).code == "STATUS_UNKNOWN"


# --- settings and logs ---

SERVICE = {
    "MEDTRAIL_ORG_DIR": "/org",
    "MEDTRAIL_DATA_DIR": "/data",
    "MEDTRAIL_NATS_URL": "nats://127.0.0.1:4222",
    "MEDTRAIL_LEDGER_ADDRESS": "127.0.0.1:5000",
    "MEDTRAIL_LEDGER_GLN": "0614141000005",
    "MEDTRAIL_LOG_URL": "http://127.0.0.1:8080",
    "MEDTRAIL_LOG_VKEY": "log.example+00000000+AA",
    "MEDTRAIL_LOG_ORIGIN": "log.example",
    "MEDTRAIL_AUTHORITY_KEY_ID": "did:key:z6Mk",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in SERVICE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_settings_come_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    service = load_settings(ServiceSettings)
    assert (service.org_dir, service.listen, service.log_level) == (Path("/org"), "127.0.0.1:0", "info")
    assert load_settings(LedgerSettings).checkpoint_interval_s == 0.25
    environment.setenv("NATS_SERVER", "/opt/nats-server")
    assert load_settings(NatsServerSettings).nats_server == Path("/opt/nats-server")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEDTRAIL_LISTEN", "nowhere"),
        ("MEDTRAIL_NATS_URL", "http://user:secret@host"),
        ("MEDTRAIL_LOG_LEVEL", "loud"),
        ("MEDTRAIL_LEDGER_GLN", "12"),
    ],
)
def test_wrong_setting_is_named_and_its_value_is_not_repeated(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(MalformedError) as caught:
        load_settings(ServiceSettings)
    assert caught.value.code == "SETTING_INVALID"
    assert caught.value.field == name
    assert "secret" not in str(caught.value)


def test_missing_setting_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("MEDTRAIL_ORG_DIR")
    with pytest.raises(MalformedError) as caught:
        load_settings(ServiceSettings)
    assert caught.value.field == "MEDTRAIL_ORG_DIR"


def test_secrets_do_not_reach_the_log() -> None:
    fields = strike_secrets(None, "info", {"event": "x", "token": "t", "sha256": bytes(32), "data": bytes(100)})
    assert fields["token"] == "[struck out]"
    assert fields["sha256"] == "00" * 32
    assert fields["data"] == "0000000000000000… (100 bytes)"


def test_log_lines_are_json_on_standard_error() -> None:
    script = (
        "from medtrail.runtime.logging import configure_logging, get_logger\n"
        "log = get_logger('m')\n"
        "configure_logging(process='ledger', level='info')\n"
        "log.debug('hidden')\n"
        "try:\n"
        "    1 / 0\n"
        "except ZeroDivisionError:\n"
        "    log.exception('leaf appended', leaf_index=7, token='x')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    fields = json.loads(line)
    assert fields["event"] == "leaf appended"
    assert (fields["leaf_index"], fields["process"], fields["token"]) == (7, "ledger", "[struck out]")
    assert fields["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_log_of_a_failure_says_where_and_not_what_the_variables_held() -> None:
    script = (
        "from medtrail.runtime.logging import configure_logging, get_logger\n"
        "configure_logging(process='ledger')\n"
        "def judge(words):\n"
        "    bearer = ''.join(words)\n"
        "    raise ValueError(len(bearer))\n"
        "try:\n"
        "    judge(['hun', 'ter2'])\n"
        "except ValueError as error:\n"
        "    get_logger('m').error('call failed unexpectedly', exc_info=error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    fields = json.loads(done.stderr)
    assert fields["exception"][0]["frames"][-1]["name"] == "judge"
    assert "hunter2" not in done.stderr
    assert "locals" not in done.stderr


# --- nats configuration ---


def test_nats_server_takes_the_configuration(network: "Network", tmp_path: Path) -> None:
    config = render(network.users(), store_dir=tmp_path / "store", http="127.0.0.1:8222")
    path = tmp_path / "nats.conf"
    path.write_text(config, encoding="utf-8")
    subprocess.run([find_nats_server(), "-t", "-c", path], check=True, capture_output=True)
    assert "\n  sync_interval: always\n" in config
    for folder in network.organisations.values():
        assert folder.nats_seed().decode() not in config


def test_configured_nats_server_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        find_nats_server(tmp_path / "absent")
    assert caught.value.code == "NATS_SERVER_MISSING"


# --- outbox ---


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "test.db")
    database.create_tables(RUNTIME_METADATA)
    return database


def test_same_content_is_signed_once_until_it_is_refused(database: Database) -> None:
    first = database.write_now(lambda c: outbox.enqueue_event(c, b"one", event_id="e", now=NOW))
    with pytest.raises(DuplicateError) as caught:
        database.write_now(lambda c: outbox.enqueue_event(c, b"two", event_id="e", now=NOW))
    assert caught.value.code == "EVENT_ID_TAKEN"
    database.write_now(lambda c: outbox.enqueue_event(c, b"declared", event_id="e", declaration=True, now=NOW))
    assert database.write_now(lambda c: outbox.mark_refused(c, first, code="KEY_RETIRED"))
    assert database.read_now(lambda c: outbox.find_event(c, "e")) is None
    again = database.write_now(lambda c: outbox.enqueue_event(c, b"two", event_id="e", now=NOW))
    found = database.read_now(lambda c: outbox.find_event(c, "e"))
    assert found is not None
    assert found.sha256 == again
    database.close()


def test_batches_hold_at_most_512_kib(database: Database) -> None:
    def write(connection: Connection) -> None:
        for number in range(5):
            outbox.enqueue_event(connection, bytes([number]) * 200_000, event_id=str(number), now=NOW)

    database.write_now(write)
    batches = []
    after = 0
    while batch := database.read_now(lambda c: outbox.next_batch(c, after=after)):  # noqa: B023
        batches.append(len(batch))
        after = batch[-1].seq
    assert batches == [2, 2, 1]
    assert database.read_now(outbox.pending_count) == 5
    database.close()


def test_refuses_what_is_too_large_to_send(database: Database) -> None:
    with pytest.raises(TooLargeError):
        database.write_now(lambda c: outbox.enqueue_event(c, bytes(256 * 1024 + 1), event_id="e", now=NOW))
    with pytest.raises(TooLargeError):
        database.write_now(
            lambda c: outbox.enqueue_outgoing(c, to=OTHER, kind=MessageKind.ADVICE, data=bytes(768 * 1024 + 1))
        )
    with pytest.raises(NotFoundError):
        database.read_now(lambda c: outbox.get_event(c, bytes(32)))
    database.close()


def test_only_the_receiver_acknowledges_a_message(database: Database) -> None:
    sha256 = database.write_now(lambda c: outbox.enqueue_outgoing(c, to=OTHER, kind=MessageKind.ADVICE, data=b"x"))
    assert not database.write_now(lambda c: outbox.mark_acknowledged(c, sender=GLN, message_sha256=sha256))
    assert database.write_now(lambda c: outbox.mark_acknowledged(c, sender=OTHER, message_sha256=sha256))
    assert not database.write_now(lambda c: outbox.mark_acknowledged(c, sender=OTHER, message_sha256=sha256))
    database.close()


@pytest.mark.parametrize("signed_anew", [False, True])
def test_refused_event_that_is_logged_after_all_stands_unless_signed_anew(
    database: Database, signed_anew: bool
) -> None:
    first = database.write_now(lambda c: outbox.enqueue_event(c, b"one", event_id="e", now=NOW))
    database.write_now(lambda c: outbox.mark_refused(c, first, code="KEY_UNKNOWN"))
    if signed_anew:
        database.write_now(lambda c: outbox.enqueue_event(c, b"two", event_id="e", now=NOW))
    items = [ReceiptItem("e", first, 7), ReceiptItem("unknown", bytes(32), 8)]
    receipted = database.write_now(lambda c: outbox.mark_receipted(c, items, epoch=1))
    assert receipted.logged == (() if signed_anew else (first,))
    assert database.read_now(lambda c: outbox.get_event(c, first)).state == ("refused" if signed_anew else "logged")
    assert not database.write_now(lambda c: outbox.mark_receipted(c, items, epoch=1)).logged
    database.close()
