"""The application around all routes, and the process's settings."""

import asyncio
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from medtrail.errors import AuthorizationError, MalformedError, MedtrailError, UnavailableError
from medtrail.runtime.settings import PortalSettings
from services.portal import bootstrap
from services.portal.access import Access, by_itself
from services.portal.app import build_app, check_guarded
from services.portal.errors import ANSWERS, answer_of, on_error, problem
from services.portal.openapi import openapi_document

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tests.conftest import Network


def _settings(**changes: Any) -> PortalSettings:
    values: dict[str, Any] = {
        "org_dir": Path("/absent"),
        "data_dir": Path("/absent"),
        "service_address": "127.0.0.1:1",
        "token_file": Path("/absent"),
    }
    return PortalSettings(**{**values, **changes})


def _app(*routes: Route) -> "ASGIApp":
    settings = _settings()
    return build_app(routes, access=Access(settings.token_file), settings=settings, document=openapi_document(settings))


def _get(app: "ASGIApp", path: str, method: str = "GET") -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://portal") as client:
            return await client.request(method, path)

    return asyncio.run(ask())


def test_a_route_that_nobody_guards_stops_the_start() -> None:
    async def open_door(_request: Request) -> Response:
        return Response()

    with pytest.raises(AssertionError, match="/open is guarded by nobody"):
        check_guarded([Route("/open", open_door)])
    check_guarded([Route("/open", by_itself(open_door))])


def test_what_breaks_inside_is_told_without_its_reason() -> None:
    async def broken(_request: Request) -> Response:
        raise RuntimeError("secret of the inside")

    async def ours(_request: Request) -> Response:
        raise MedtrailError("secret of the inside", field="secret")

    app = _app(Route("/broken", by_itself(broken)), Route("/ours", by_itself(ours)))
    for path in ("/broken", "/ours"):
        answer = _get(app, path)
        assert answer.status_code == 500
        assert answer.json()["type"] == "epcisException:ImplementationException"
        assert "secret" not in answer.text


def test_strangers_learn_nothing_but_the_health_and_the_text() -> None:
    app = _app()
    assert _get(app, "/health").json() == {"status": "ok"}
    document = _get(app, "/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    for path, method in (("/", "GET"), ("/nothing", "GET"), ("/health", "DELETE"), ("/health", "OPTIONS")):
        answer = _get(app, path, method)
        assert (answer.status_code, answer.json()["type"]) == (401, "epcisException:SecurityException")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_every_kind_of_error_has_an_answer_and_others_go_on() -> None:
    for kind, answer in ANSWERS.items():
        error = kind.__new__(kind)
        MedtrailError.__init__(error, "text", field="field")
        assert answer_of(error) is answer
        assert problem(error)["status"] == answer.status
    with pytest.raises(ValueError, match="other"):
        asyncio.run(on_error(Request({"type": "http"}), ValueError("other")))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_plain_http_is_spoken_on_loopback(listen: str) -> None:
    bootstrap.check_transport(_settings(listen=listen))


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.0.2.1:80", "portal.example:80", "[::]:80"])
def test_plain_http_is_refused_elsewhere_unless_told(listen: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedError) as caught:
        bootstrap.check_transport(_settings(listen=listen))
    assert (caught.value.code, caught.value.field) == ("PLAIN_HTTP", "MEDTRAIL_PORTAL_LISTEN")
    bootstrap.check_transport(_settings(listen=listen, allow_plain_http=True))
    bootstrap.check_transport(_settings(listen=listen, tls_certificate=tmp_path / "c", tls_key=tmp_path / "k"))
    with pytest.raises(MalformedError) as half:
        bootstrap.check_transport(_settings(listen=listen, tls_certificate=tmp_path / "c"))
    assert half.value.code == "SETTING_INVALID"


def test_an_address_that_is_taken_and_a_key_that_others_read_are_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError) as caught:
            bootstrap._listener(_settings(listen=f"127.0.0.1:{port}"))
        assert caught.value.code == "LISTEN_FAILED"
    key = tmp_path / "key"
    key.write_text("x", encoding="utf-8")
    key.chmod(0o644)
    with pytest.raises(AuthorizationError) as exposed:
        bootstrap._config(_settings(tls_certificate=key, tls_key=key), _app())
    assert exposed.value.code == "KEY_FILE_EXPOSED"


def test_a_portal_whose_key_others_read_leaves_nothing_open(network: "Network", tmp_path: Path) -> None:
    folder, key = network["maker"].path, tmp_path / "key"
    key.touch(mode=0o644)
    settings = _settings(org_dir=folder, data_dir=tmp_path / "data", tls_certificate=folder / "tls.crt", tls_key=key)

    async def story() -> None:
        async with bootstrap.running(settings):
            raise AssertionError

    with pytest.raises(AuthorizationError):
        asyncio.run(story())


def test_https_is_spoken_with_a_certificate(network: "Network", tmp_path: Path) -> None:
    folder = network["maker"].path
    settings = _settings(
        org_dir=folder, data_dir=tmp_path / "data", tls_certificate=folder / "tls.crt", tls_key=folder / "tls.key"
    )
    trust = ssl.create_default_context(cadata=(folder / "ca.crt").read_text(encoding="ascii"))
    # The certificate is for the organisation's name, not for an address.
    trust.check_hostname = False

    async def story() -> None:
        async with bootstrap.running(settings) as (_portal, url), httpx.AsyncClient(verify=trust, timeout=60) as client:
            assert url.startswith("https://127.0.0.1:")
            assert (await client.get(f"{url}/health")).json() == {"status": "ok"}
            with pytest.raises(httpx.TransportError):
                await client.get(f"{url.replace('https', 'http')}/health")

    asyncio.run(story())


def test_a_signal_ends_the_process_at_peace(network: "Network", tmp_path: Path) -> None:
    environment = {
        "PATH": "",
        "MEDTRAIL_PORTAL_ORG_DIR": str(network["maker"].path),
        "MEDTRAIL_PORTAL_DATA_DIR": str(tmp_path / "data"),
        "MEDTRAIL_PORTAL_SERVICE_ADDRESS": "127.0.0.1:1",
        "MEDTRAIL_PORTAL_TOKEN_FILE": str(tmp_path / "tokens"),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "services.portal"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if '"ready"' in line:
                break
        process.send_signal(signal.SIGTERM)
        assert '"stopping"' in process.stderr.read()
        assert process.wait() == 0


def test_a_missing_setting_ends_the_process_with_its_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.portal"], env={"PATH": ""}, capture_output=True, check=False, text=True
    )
    assert done.returncode == 2
    assert "MEDTRAIL_PORTAL_" in done.stderr
    assert "portal cannot start" in done.stderr
