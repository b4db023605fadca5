"""Tokens of calls: a JWT signed by the caller's enrolled Ed25519 key, for one callee, living at most 60 seconds.

Header: ``alg`` = ``Ed25519``, ``kid`` = the key as did:key. Claims: ``iss`` = caller's party GLN, ``aud`` = callee's
party GLN, ``iat``, ``exp``, ``jti``; ``person``, where the caller says who of its people acts. A token is minted for
each attempt and taken once: a copied one is refused.

Source: RFC 7519; RFC 9864 (fully specified algorithm names); ARCHITECTURE, section 7.
"""

import base64
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from joserfc import errors as jose_errors
from joserfc import jws, jwt
from joserfc.jwk import OKPKey

from medtrail.envelope import SigningKey, public_key_of
from medtrail.errors import AuthenticationError, MalformedError, MedtrailError, UnavailableError
from medtrail.gs1 import Gln
from medtrail.trust import Organisation, Registry

ALGORITHM = "Ed25519"
LIFETIME_S = 60
LEEWAY_S = 5
LONGEST_TOKEN = 2048
MOST_TOKENS_REMEMBERED = 200_000
PERSON = re.compile(r"[A-Za-z0-9._@-]{1,64}")
"""How an organisation names one of its people."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the clock's time, aware UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        organisation: An enrolled one.
        key_id: did:key with which it signed.
        person: Who of its people, if it says. The organisation answers for the person: it is the one who signs.
        station: The station of the organisation whose key it is; empty: none, the organisation itself calls.
    """

    organisation: Organisation
    key_id: str
    person: str = ""
    station: str = ""


class TokenMinter:
    """Makes the tokens of one caller for one callee."""

    def __init__(
        self, key: SigningKey, *, issuer: Gln, audience: Gln, clock: Clock = utc_now, person: str = ""
    ) -> None:
        """Hold the caller's key.

        Args:
            key: The caller's enrolled signing key.
            issuer: The caller's party GLN.
            audience: The callee's party GLN.
            clock: Aware UTC.
            person: Who of the caller's people acts: 1 to 64 of [A-Za-z0-9._@-]; empty: nobody is named.

        Raises:
            MalformedError: PERSON_MALFORMED.
        """
        if person and not PERSON.fullmatch(person):
            message = f"expected {PERSON.pattern}, got {person[:80]!r}"
            raise MalformedError(message, code="PERSON_MALFORMED", field="person")
        self._header: dict[str, object] = {"alg": ALGORITHM, "kid": key.key_id, "typ": "JWT"}
        self._claims = {"iss": str(issuer), "aud": str(audience), **({"person": person} if person else {})}
        self._key = _private_jwk(key)
        self._clock = clock

    def mint(self) -> str:
        """Return a new token, good for one attempt of one call."""
        now = int(self._clock().timestamp())
        claims = {**self._claims, "iat": now, "exp": now + LIFETIME_S, "jti": secrets.token_urlsafe(16)}
        return jwt.encode(self._header, claims, self._key, algorithms=[ALGORITHM])


class TokenVerifier:
    """Tells who calls, by the callee's registry; remembers tokens until they expire, so that none is taken twice."""

    def __init__(
        self,
        registry: Callable[[], Registry],
        *,
        audience: Gln,
        clock: Clock = utc_now,
        remember: int = MOST_TOKENS_REMEMBERED,
    ) -> None:
        """Hold what tokens are judged by.

        Args:
            registry: Gives the registry as of now.
            audience: The callee's own party GLN.
            clock: Aware UTC.
            remember: Most live tokens at one time, some 100 bytes each; more are refused, not let in unremembered.
        """
        self._registry = registry
        self._audience = str(audience)
        self._clock = clock
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._remember = remember

    def verify(self, token: str) -> Caller:
        """Return who signed a token for this callee.

        Raises:
            AuthenticationError: TOKEN_MISSING, TOKEN_MALFORMED, KEY_UNKNOWN, KEY_RETIRED, KEY_REVOKED, TOKEN_SIGNATURE,
                TOKEN_ISSUER, TOKEN_AUDIENCE, TOKEN_LIFETIME, TOKEN_EXPIRED, TOKEN_NOT_YET_VALID, TOKEN_REPLAYED.
            UnavailableError: TOKENS_TOO_MANY: more calls in a minute than this process remembers.
        """
        if not token:
            raise AuthenticationError("the call carries no token", code="TOKEN_MISSING", field="authorization")
        if len(token) > LONGEST_TOKEN:
            message = f"the token has {len(token)} characters, more than {LONGEST_TOKEN}"
            raise AuthenticationError(message, code="TOKEN_MALFORMED", field="authorization")
        key_id = _key_id_of(token)
        organisation, station = self._signer(key_id)
        claims = _verified_claims(token, key_id)
        self._check_claims(claims, organisation)
        person = claims.get("person", "")
        if not isinstance(person, str) or (person and not PERSON.fullmatch(person)):
            raise _refused("TOKEN_MALFORMED", f"person is a text of {PERSON.pattern}")
        self._take_once(claims)
        return Caller(organisation, key_id, person, station)

    def check_stands(self, caller: Caller) -> None:
        """Check that the key of a caller who was let in has not ended meanwhile.

        Raises:
            AuthenticationError: KEY_RETIRED or KEY_REVOKED.
        """
        self._signer(caller.key_id)

    def _signer(self, key_id: str) -> tuple[Organisation, str]:
        """Return the organisation for which a key speaks now, and the station, if it is one's."""
        registry = self._registry()
        try:
            organisation = registry.signer(key_id)
        except MedtrailError as error:
            raise AuthenticationError(error.message, code=error.code, field="authorization") from error
        record = registry.key(key_id)
        return organisation, "" if record is None else record.station

    def _check_claims(self, claims: dict[str, object], organisation: Organisation) -> None:
        now = self._clock().timestamp()
        issued, expires = claims.get("iat"), claims.get("exp")
        if type(issued) is not int or type(expires) is not int:
            raise _refused("TOKEN_MALFORMED", "iat and exp are whole seconds")
        if claims.get("iss") != str(organisation.gln):
            raise _refused("TOKEN_ISSUER", f"the key speaks for {organisation.gln}, not for the token's issuer")
        if claims.get("aud") != self._audience:
            raise _refused("TOKEN_AUDIENCE", f"the token is for another callee than {self._audience}")
        if not 0 < expires - issued <= LIFETIME_S:
            raise _refused("TOKEN_LIFETIME", f"a token lives at most {LIFETIME_S} s, this one {expires - issued} s")
        if now >= expires + LEEWAY_S:
            raise _refused("TOKEN_EXPIRED", "the token has expired")
        if now < issued - LEEWAY_S:
            raise _refused("TOKEN_NOT_YET_VALID", "the token is dated ahead of this clock")

    def _take_once(self, claims: dict[str, object]) -> None:
        token_id, expires = claims.get("jti"), claims["exp"]
        if not isinstance(token_id, str) or not 16 <= len(token_id) <= 64:
            raise _refused("TOKEN_MALFORMED", "jti is a text of 16 to 64 characters")
        now = self._clock().timestamp()
        # In order of arrival, which is nearly the order of expiry: lifetimes are alike.
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest] > now:
                break
            del self._seen[oldest]
        name = f"{claims['iss']} {token_id}"
        if name in self._seen:
            raise _refused("TOKEN_REPLAYED", "the token was used before")
        if len(self._seen) >= self._remember:
            message = "too many calls within a minute: try again later"
            raise UnavailableError(message, code="TOKENS_TOO_MANY")
        self._seen[name] = float(str(expires)) + LEEWAY_S


def _refused(code: str, message: str) -> AuthenticationError:
    return AuthenticationError(message, code=code, field="authorization")


def _key_id_of(token: str) -> str:
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (jose_errors.JoseError, ValueError, TypeError, AttributeError) as error:
        raise _refused("TOKEN_MALFORMED", "the token is not a compact JWT") from error
    # Pinned before any key is looked up: "none", "HS256" and the like never reach a verifier.
    if header.get("alg") != ALGORITHM:
        raise _refused("TOKEN_MALFORMED", f"alg is {ALGORITHM}")
    key_id = header.get("kid")
    if not isinstance(key_id, str):
        raise _refused("TOKEN_MALFORMED", "kid is the key as did:key")
    return key_id


def _verified_claims(token: str, key_id: str) -> dict[str, object]:
    try:
        return dict(jwt.decode(token, _public_jwk(key_id), algorithms=[ALGORITHM]).claims)
    except jose_errors.BadSignatureError as error:
        raise _refused("TOKEN_SIGNATURE", f"the signature does not verify under {key_id}") from error
    except (jose_errors.JoseError, json.JSONDecodeError, ValueError, TypeError) as error:
        raise _refused("TOKEN_MALFORMED", "the token is not a JWT that this server takes") from error


def _private_jwk(key: SigningKey) -> OKPKey:
    return OKPKey.import_key(
        {"kty": "OKP", "crv": "Ed25519", "x": _base64url(key.public_key), "d": _base64url(key.seed), "alg": ALGORITHM}
    )


def _public_jwk(key_id: str) -> OKPKey:
    return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": _base64url(public_key_of(key_id))})


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
