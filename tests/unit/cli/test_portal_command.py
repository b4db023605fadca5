"""``medtrail portal``, and the portals of an embedded network before they run."""

import asyncio
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medtrail.cli import portals
from medtrail.cli.network import OrganisationAddress, RunningNetwork, write_network
from medtrail.cli.output import ExitCode
from medtrail.errors import UnavailableError
from medtrail.runtime.portal_tokens import Scope, add_token, read_tokens

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Medtrail


def _network(root: Path) -> RunningNetwork:
    folder = root / "orgs" / "maker"
    folder.mkdir(parents=True)
    organisation = OrganisationAddress("maker", "Maker", "manufacturer", "0300011111116", "127.0.0.1:4", str(folder))
    return RunningNetwork(
        origin="log.example",
        ledger_address="127.0.0.1:1",
        ledger_gln="9521000000025",
        nats_url="nats://127.0.0.1:2",
        log_url="http://127.0.0.1:3",
        verifier_keys=("log.example+00000000+AAAA",),
        policy="/net/policy.txt",
        authority_key_id="did:key:z",
        ca_certificate="/x/ca.crt",
        organisations=(organisation,),
        pids={},
    )


def test_a_token_is_shown_once_and_kept_as_its_hash(medtrail: "Medtrail", tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    run = medtrail("portal", "token", "erp", "--scope", "capture", "--scope", "query", "--file", file, "--json")
    assert run.code == ExitCode.TRUE
    token = run.document["token"]
    assert token not in file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o777 == 0o600
    [record] = read_tokens(file)
    assert record.caller.name == "erp"
    assert record.caller.scopes == frozenset({Scope.CAPTURE, Scope.QUERY})
    again = medtrail("portal", "token", "erp", "--scope", "verify", "--file", file, "--json")
    assert (again.code, again.error["code"]) == (ExitCode.REFUSED, "TOKEN_NAME_TAKEN")
    assert medtrail("portal", "revoke", "erp", "--file", file).code == ExitCode.TRUE
    assert read_tokens(file) == ()
    gone = medtrail("portal", "revoke", "erp", "--file", file, "--json")
    assert (gone.code, gone.error["code"]) == (ExitCode.REFUSED, "TOKEN_UNKNOWN")


def test_a_token_is_for_the_organisation_that_is_named(medtrail: "Medtrail", tmp_path: Path) -> None:
    write_network(tmp_path, _network(tmp_path))
    run = medtrail("portal", "token", "erp", "--scope", "query", "--dir", tmp_path, "--as", "maker")
    assert run.out.startswith("mtp_")
    assert [item.caller.name for item in read_tokens(tmp_path / "orgs/maker/portal.tokens")] == ["erp"]
    run = medtrail("portal", "token", "erp 2", "--scope", "query", "--dir", tmp_path, "--json")
    assert (run.code, run.error["code"]) == (ExitCode.WRONG_USE, "TOKEN_NAME")
    run = medtrail("portal", "token", "erp2", "--scope", "all", "--dir", tmp_path, "--json")
    assert (run.code, run.error["code"]) == (ExitCode.WRONG_USE, "SCOPE_UNKNOWN")


def test_each_organisation_gets_a_portal_with_one_token_that_lasts(tmp_path: Path) -> None:
    network = _network(tmp_path)
    found = portals.with_portals(network, {"maker": 4711})
    [maker] = found.organisations
    assert maker.portal_url == "http://127.0.0.1:4711"
    file = Path(maker.portal_token_file)
    token = file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o777 == 0o600
    assert portals.with_portals(network, {"maker": 4711}) == found
    assert file.read_text(encoding="utf-8") == token
    program = portals.portal_program(maker)
    assert program.name == "maker-portal"
    assert program.environment["MEDTRAIL_PORTAL_LISTEN"] == "127.0.0.1:4711"
    assert program.environment["MEDTRAIL_PORTAL_TOKEN_FILE"] == str(tmp_path / "orgs/maker/portal.tokens")


def test_a_crash_between_hash_and_token_is_mended_by_a_new_token(tmp_path: Path) -> None:
    network = _network(tmp_path)
    tokens = tmp_path / "orgs/maker/portal.tokens"
    add_token(tokens, "local", frozenset(Scope), created=datetime.now(UTC))
    [maker] = portals.with_portals(network, {"maker": 4711}).organisations
    assert Path(maker.portal_token_file).exists()
    assert len(read_tokens(tokens)) == 1


@pytest.mark.parametrize(
    ("answer", "serves"), [(b"HTTP/1.1 200 OK\r\n\r\n", True), (b"HTTP/1.1 503 No\r\n\r\n", False)]
)
def test_a_portal_serves_once_its_health_says_so(answer: bytes, serves: bool) -> None:
    async def story() -> None:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            if serves:
                await portals._healthy(port)
            else:
                with pytest.raises(UnavailableError):
                    await portals._healthy(port)

    asyncio.run(story())


def test_a_portal_that_does_not_listen_is_not_ready() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(UnavailableError) as caught:
            asyncio.run(portals._healthy(port))
    assert caught.value.code == "PROCESS_NOT_READY"
