import base64
import copy
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import SigningKey, public_key_of, verify_signatures
from medtrail.errors import AuthenticationError, UnavailableError
from medtrail.event import Genesis, KeyAddition, KeyRetirement, KeyRevocation
from medtrail.runtime.tokens import LEEWAY_S, LIFETIME_S, TokenMinter, TokenVerifier
from medtrail.trust import Registry

if TYPE_CHECKING:
    from tests.conftest import Network

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(network: "Network", registry: Registry, clock: Clock) -> TokenVerifier:
    return TokenVerifier(lambda: registry, audience=network["ledger"].gln, clock=clock)


@pytest.fixture
def minter(network: "Network", clock: Clock) -> TokenMinter:
    maker = network["maker"]
    return TokenMinter(maker.signing_key(), issuer=maker.gln, audience=network["ledger"].gln, clock=clock)


def refused(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(AuthenticationError) as caught:
        verifier.verify(token)
    assert caught.value.field == "authorization"
    return caught.value.code


def forge(key: SigningKey, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """Sign a token by hand, with whatever header and claims."""
    head = {"alg": "Ed25519", "kid": key.key_id} | (header or {})
    parts = [_encode(json.dumps(part).encode()) for part in (head, claims)]
    signed = ".".join(parts)
    return f"{signed}.{_encode(key.sign(signed.encode()))}"


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def good_claims(network: "Network") -> dict[str, Any]:
    now = int(NOW.timestamp())
    return {
        "iss": str(network["maker"].gln),
        "aud": str(network["ledger"].gln),
        "iat": now,
        "exp": now + LIFETIME_S,
        "jti": "0123456789abcdef",
    }


def test_token_tells_the_caller(network: "Network", verifier: TokenVerifier, minter: TokenMinter) -> None:
    caller = verifier.verify(minter.mint())
    assert caller.organisation.name == "maker"
    assert caller.key_id == network["maker"].signing_key().key_id


def test_token_by_hand_is_as_good(network: "Network", verifier: TokenVerifier) -> None:
    token = forge(network["maker"].signing_key(), **good_claims(network))
    assert verifier.verify(token).organisation.name == "maker"


def test_refuses_call_without_token(verifier: TokenVerifier) -> None:
    assert refused(verifier, "") == "TOKEN_MISSING"


@pytest.mark.parametrize("token", ["x", "a.b.c", "..", "é.é.é", "x" * 3000, "e30.e30.e30"])
def test_refuses_what_is_no_token(verifier: TokenVerifier, token: str) -> None:
    assert refused(verifier, token) == "TOKEN_MALFORMED"


def test_refuses_replayed_token_until_it_has_expired(
    verifier: TokenVerifier, minter: TokenMinter, clock: Clock
) -> None:
    token = minter.mint()
    verifier.verify(token)
    assert refused(verifier, token) == "TOKEN_REPLAYED"
    clock.now += timedelta(seconds=LIFETIME_S + LEEWAY_S)
    assert refused(verifier, token) == "TOKEN_EXPIRED"


def test_remembers_a_token_as_long_as_it_is_good(verifier: TokenVerifier, minter: TokenMinter, clock: Clock) -> None:
    token = minter.mint()
    verifier.verify(token)
    clock.now += timedelta(seconds=LIFETIME_S + LEEWAY_S - 1)
    verifier.verify(minter.mint())
    assert refused(verifier, token) == "TOKEN_REPLAYED"


def test_refuses_token_for_another_callee(network: "Network", registry: Registry, minter: TokenMinter) -> None:
    elsewhere = TokenVerifier(lambda: registry, audience=network["pharmacy"].gln, clock=lambda: NOW)
    assert refused(elsewhere, minter.mint()) == "TOKEN_AUDIENCE"


def test_refuses_key_that_nobody_enrolled(network: "Network", verifier: TokenVerifier) -> None:
    assert refused(verifier, forge(SigningKey.generate(), **good_claims(network))) == "KEY_UNKNOWN"


def test_refuses_the_authoritys_own_key(network: "Network", verifier: TokenVerifier) -> None:
    assert refused(verifier, forge(network.authority.signing_key(), **good_claims(network))) == "KEY_UNKNOWN"


def test_refuses_token_under_anothers_name(network: "Network", verifier: TokenVerifier) -> None:
    claims = good_claims(network) | {"iss": str(network["pharmacy"].gln)}
    assert refused(verifier, forge(network["maker"].signing_key(), **claims)) == "TOKEN_ISSUER"


def test_refuses_signature_of_another_key(network: "Network", verifier: TokenVerifier) -> None:
    header = {"kid": network["maker"].signing_key().key_id}
    token = forge(network["pharmacy"].signing_key(), header=header, **good_claims(network))
    assert refused(verifier, token) == "TOKEN_SIGNATURE"


def test_refuses_changed_claims(network: "Network", verifier: TokenVerifier) -> None:
    head, _, signature = forge(network["maker"].signing_key(), **good_claims(network)).split(".")
    claims = good_claims(network) | {"jti": "another-identifier"}
    assert refused(verifier, f"{head}.{_encode(json.dumps(claims).encode())}.{signature}") == "TOKEN_SIGNATURE"


@pytest.mark.parametrize("algorithm", ["none", "HS256", "EdDSA", "ES256", None])
def test_refuses_other_algorithms(network: "Network", verifier: TokenVerifier, algorithm: str | None) -> None:
    token = forge(network["maker"].signing_key(), header={"alg": algorithm}, **good_claims(network))
    assert refused(verifier, token) == "TOKEN_MALFORMED"


def test_refuses_hmac_under_the_public_key(network: "Network", verifier: TokenVerifier) -> None:
    key_id = network["maker"].signing_key().key_id
    secret = OctKey.import_key(public_key_of(key_id))
    token = jwt.encode({"alg": "HS256", "kid": key_id}, good_claims(network), secret, algorithms=["HS256"])
    assert refused(verifier, token) == "TOKEN_MALFORMED"


def test_refuses_token_without_key_id(network: "Network", verifier: TokenVerifier) -> None:
    token = forge(network["maker"].signing_key(), header={"kid": 7}, **good_claims(network))
    assert refused(verifier, token) == "TOKEN_MALFORMED"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"exp": int(NOW.timestamp()) + LIFETIME_S + 1}, "TOKEN_LIFETIME"),
        ({"exp": int(NOW.timestamp())}, "TOKEN_LIFETIME"),
        ({"iat": int(NOW.timestamp()) - 100, "exp": int(NOW.timestamp()) - 40}, "TOKEN_EXPIRED"),
        ({"iat": int(NOW.timestamp()) + 6, "exp": int(NOW.timestamp()) + 60}, "TOKEN_NOT_YET_VALID"),
        ({"iat": "now"}, "TOKEN_MALFORMED"),
        ({"exp": 1e400}, "TOKEN_MALFORMED"),
        ({"exp": True}, "TOKEN_MALFORMED"),
        ({"jti": "short"}, "TOKEN_MALFORMED"),
        ({"jti": None}, "TOKEN_MALFORMED"),
        ({"aud": ["0614141000005"]}, "TOKEN_AUDIENCE"),
    ],
)
def test_refuses_wrong_claims(network: "Network", verifier: TokenVerifier, change: dict[str, Any], code: str) -> None:
    token = forge(network["maker"].signing_key(), **(good_claims(network) | change))
    assert refused(verifier, token) == code


@pytest.mark.parametrize("seconds", [-LEEWAY_S, 0, LIFETIME_S + LEEWAY_S - 1])
def test_forgives_clocks_that_differ_by_five_seconds(
    verifier: TokenVerifier, minter: TokenMinter, clock: Clock, seconds: int
) -> None:
    token = minter.mint()
    clock.now += timedelta(seconds=seconds)
    verifier.verify(token)


def test_refuses_ended_keys(network: "Network") -> None:
    authority = network.authority
    folders = (network["maker"], network["pharmacy"])
    keys = [folder.signing_key() for folder in folders]
    statements = [
        authority.sign(Genesis("log.example", authority.signing_key().key_id, bytes(32))),
        *(folder.enrolment_bytes() for folder in folders),
        authority.sign(KeyRetirement(keys[0].key_id)),
        authority.sign(KeyRevocation(keys[1].key_id, NOW)),
    ]
    registry = Registry(authority_key_id=authority.signing_key().key_id)
    for index, data in enumerate(statements):
        signed = decode_signed_event(data)
        registry.apply(index, verify_signatures(signed), decode_payload(signed.payload_type, signed.payload))
    verifier = TokenVerifier(lambda: registry, audience=network["ledger"].gln, clock=lambda: NOW)
    codes = [
        refused(verifier, forge(key, **(good_claims(network) | {"iss": str(folder.gln)})))
        for key, folder in zip(keys, folders, strict=True)
    ]
    assert codes == ["KEY_RETIRED", "KEY_REVOKED"]


def test_token_of_a_station_tells_its_name_until_its_key_ends(network: "Network", registry: Registry) -> None:
    pharmacy, ledger, key = network["pharmacy"], network["ledger"], SigningKey.generate()
    known = copy.deepcopy(registry)

    def say(statement: KeyAddition | KeyRevocation) -> None:
        signed = decode_signed_event(network.authority.sign(statement))
        known.apply(known.next_index, verify_signatures(signed), decode_payload(signed.payload_type, signed.payload))

    say(KeyAddition(pharmacy.gln, key.key_id, "till-1"))
    verifier = TokenVerifier(lambda: known, audience=ledger.gln, clock=lambda: NOW)
    minter = TokenMinter(key, issuer=pharmacy.gln, audience=ledger.gln, clock=lambda: NOW, person="anna")
    caller = verifier.verify(minter.mint())
    assert (caller.organisation.gln, caller.station, caller.person) == (pharmacy.gln, "till-1", "anna")
    own = TokenMinter(pharmacy.signing_key(), issuer=pharmacy.gln, audience=ledger.gln, clock=lambda: NOW)
    assert verifier.verify(own.mint()).station == ""
    verifier.check_stands(caller)
    say(KeyRevocation(key.key_id, NOW))
    with pytest.raises(AuthenticationError) as caught:
        verifier.check_stands(caller)
    assert (caught.value.code, caught.value.field) == ("KEY_REVOKED", "authorization")


def test_refuses_more_tokens_than_it_can_remember(network: "Network", registry: Registry, minter: TokenMinter) -> None:
    verifier = TokenVerifier(lambda: registry, audience=network["ledger"].gln, clock=lambda: NOW, remember=2)
    verifier.verify(minter.mint())
    verifier.verify(minter.mint())
    with pytest.raises(UnavailableError) as caught:
        verifier.verify(minter.mint())
    assert caught.value.code == "TOKENS_TOO_MANY"
