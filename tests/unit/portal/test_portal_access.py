"""Who is let in: tokens, scopes, and the file that holds their hashes."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from medtrail.errors import AuthenticationError, AuthorizationError, MalformedError
from medtrail.runtime import portal_tokens
from medtrail.runtime.portal_tokens import Scope, add_token, new_token, read_tokens, remove_token, token_line
from services.portal.access import Access, by_itself, guard, is_guarded

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def _connection(authorization: str | None) -> HTTPConnection:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    return HTTPConnection({"type": "http", "headers": headers})


def test_only_a_token_of_the_file_opens_and_only_for_its_scopes(file: Path) -> None:
    token = add_token(file, "erp", frozenset({Scope.CAPTURE}), created=NOW)
    access = Access(file)
    caller = access.check(_connection(f"bearer  {token} "), Scope.CAPTURE)
    assert caller.name == "erp"
    with pytest.raises(AuthorizationError) as forbidden:
        access.check(_connection(f"Bearer {token}"), Scope.QUERY)
    assert forbidden.value.code == "SCOPE_MISSING"
    for authorization, code in (
        (None, "TOKEN_MISSING"),
        (f"Basic {token}", "TOKEN_MISSING"),
        ("Bearer", "TOKEN_MISSING"),
        ("Bearer ", "TOKEN_UNKNOWN"),
        (f"Bearer {token}x", "TOKEN_UNKNOWN"),
        ("Bearer \xff", "TOKEN_UNKNOWN"),
    ):
        with pytest.raises(AuthenticationError) as caught:
            access.caller(_connection(authorization))
        assert caught.value.code == code


def test_a_token_comes_and_goes_without_a_restart(file: Path) -> None:
    access = Access(file)
    with pytest.raises(AuthenticationError):
        access.caller(_connection("Bearer mtp_x"))
    first = add_token(file, "first", frozenset(Scope), created=NOW)
    assert access.caller(_connection(f"Bearer {first}")).name == "first"
    second = add_token(file, "second", frozenset(Scope), created=NOW)
    assert access.caller(_connection(f"Bearer {second}")).name == "second"
    remove_token(file, "first")
    with pytest.raises(AuthenticationError):
        access.caller(_connection(f"Bearer {first}"))
    file.unlink()
    with pytest.raises(AuthenticationError):
        access.caller(_connection(f"Bearer {second}"))


def test_a_broken_or_exposed_file_lets_nobody_in(file: Path) -> None:
    token = add_token(file, "erp", frozenset(Scope), created=NOW)
    access = Access(file)
    assert access.caller(_connection(f"Bearer {token}")).name == "erp"
    file.write_text(file.read_text(encoding="utf-8") + "{}\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(MalformedError) as broken:
            access.caller(_connection(f"Bearer {token}"))
        assert broken.value.code == "TOKEN_FILE"
    remaining = file.read_text(encoding="utf-8").splitlines()[0]
    file.unlink()
    file.write_text(remaining + "\n\n", encoding="utf-8")
    file.chmod(0o644)
    with pytest.raises(AuthorizationError) as exposed:
        access.caller(_connection(f"Bearer {token}"))
    assert exposed.value.code == "KEY_FILE_EXPOSED"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scopes": ["all"]}, "unknown scope"),
        ({"scopes": 1}, "scopes that are no list"),
        ({"sha256": "00"}, "a short hash"),
        ({"sha256": "x"}, "a hash that is no hex"),
        ({"created": "yesterday"}, "no moment"),
        ({"name": ""}, "no name"),
        ({"name": "a b"}, "a space in the name"),
        ({"name": 7}, "a name that is no text"),
    ],
)
def test_a_line_that_tells_no_token_is_refused_without_repeating_it(
    file: Path, changes: dict[str, object], named: str
) -> None:
    token, record = new_token("erp", frozenset(Scope), created=NOW)
    file.write_text(json.dumps(json.loads(token_line(record)) | changes), encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(MalformedError) as caught:
        read_tokens(file)
    assert (caught.value.code, caught.value.field) == ("TOKEN_FILE", "tokens:1"), named
    assert token not in caught.value.message


def test_a_token_is_for_something_and_there_are_not_endless_ones(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MalformedError) as caught:
        new_token("erp", frozenset(), created=NOW)
    assert caught.value.code == "SCOPE_UNKNOWN"
    monkeypatch.setattr(portal_tokens, "MOST_TOKENS", 1)
    for name in ("a", "b"):
        add_token(file, name, frozenset(Scope), created=NOW)
    with pytest.raises(MalformedError) as many:
        read_tokens(file)
    assert many.value.code == "TOKEN_FILE"


def test_a_guarded_endpoint_answers_only_its_callers(file: Path) -> None:
    token = add_token(file, "erp", frozenset({Scope.QUERY}), created=NOW)

    async def endpoint(request: Request) -> Response:
        return Response(request.state.caller.name)

    guarded = guard(Access(file), Scope.QUERY, endpoint)
    assert is_guarded(guarded)
    assert is_guarded(by_itself(endpoint))
    assert not is_guarded(endpoint)
    scope = {"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]}

    async def story() -> None:
        assert (await guarded(Request(scope))).body == b"erp"
        with pytest.raises(AuthenticationError):
            await guarded(Request({"type": "http", "headers": []}))

    asyncio.run(story())
