from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from joserfc import jwt

from medtrail.errors import AuthenticationError, MalformedError
from medtrail.runtime.tokens import ALGORITHM, TokenMinter, TokenVerifier, _private_jwk
from medtrail.trust import Registry
from tests.conftest import Network

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)


def clock() -> datetime:
    return NOW


@pytest.fixture
def mint(network: Network) -> Callable[[str], str]:
    folder = network["maker"]

    def make(person: str) -> str:
        return TokenMinter(
            folder.signing_key(), issuer=folder.gln, audience=folder.gln, clock=clock, person=person
        ).mint()

    return make


@pytest.fixture
def verifier(network: Network, registry: Registry) -> TokenVerifier:
    return TokenVerifier(lambda: registry, audience=network["maker"].gln, clock=clock)


@pytest.mark.parametrize("person", ["anna", "a.b-c_d@example.com", "A" * 64])
def test_a_token_says_who_of_the_callers_people_acts(
    person: str, mint: Callable[[str], str], verifier: TokenVerifier
) -> None:
    assert verifier.verify(mint(person)).person == person


def test_a_token_need_not_name_anybody(mint: Callable[[str], str], verifier: TokenVerifier) -> None:
    assert verifier.verify(mint("")).person == ""


@pytest.mark.parametrize("person", ["two words", "A" * 65, "tab\t", "ä"])
def test_a_name_of_another_form_is_not_minted(person: str, mint: Callable[[str], str]) -> None:
    with pytest.raises(MalformedError) as caught:
        mint(person)

    assert caught.value.code == "PERSON_MALFORMED"


@pytest.mark.parametrize("person", ["two words", "A" * 65, 7, None, ["anna"]])
def test_refuses_a_token_with_a_name_of_another_form(person: object, network: Network, verifier: TokenVerifier) -> None:
    folder = network["maker"]
    key = folder.signing_key()
    issued = int(NOW.timestamp())
    gln = folder.gln
    claims = {"iss": str(gln), "aud": str(gln), "iat": issued, "exp": issued + 60, "jti": "j" * 22, "person": person}
    token = jwt.encode({"alg": ALGORITHM, "kid": key.key_id}, claims, _private_jwk(key), algorithms=[ALGORITHM])

    with pytest.raises(AuthenticationError) as caught:
        verifier.verify(token)

    assert caught.value.code == "TOKEN_MALFORMED"
