"""Delivery to an address that a caller names: signed, never redirected, and never into our own network.

A name is looked up here, every address that it has is judged, and the connection goes to a judged address: looked up
again it could lead elsewhere. TLS still checks the certificate against the name.

The header ``GS1-Signature`` is ``t=<seconds since 1970>,v1=<hex>``: HMAC-SHA256 under the subscriber's signatureToken
over the digits of t, a full stop, and the body's bytes.

Source: EPCIS 2.0, section 12.7 and its OpenAPI (GS1-Signature); RFC 2104; RFC 6890 (special addresses).
"""

import asyncio
import hashlib
import hmac
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import httpx

from medtrail.errors import UnavailableError
from medtrail.runtime.logging import get_logger
from services.portal.query.errors import InvalidUriError

log = get_logger(__name__)

SIGNATURE_HEADER: Final = "GS1-Signature"
TIMEOUT_S: Final = 15.0
LOOKUP_S: Final = 5.0
LONGEST_URL: Final = 2000
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_PORTS: Final = {"https": 443, "http": 80}

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns the addresses of a name; raises OSError."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Where deliveries may go.

    Attributes:
        private: Also to private, loopback and other special addresses.
        plain_http: Also without TLS.
    """

    private: bool = False
    plain_http: bool = False


def signature(token: str, body: bytes, *, moment: datetime) -> str:
    """Return the value of the header that signs a delivery."""
    seconds = int(moment.timestamp())
    digest = hmac.new(token.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def check_destination(text: object, reach: Reach) -> str:
    """Return an address to which deliveries may go, as far as it tells by itself.

    Raises:
        InvalidUriError: Not an absolute https URL (http where it is allowed), with a user or a fragment, or a special
            address.
    """
    if not isinstance(text, str) or not 1 <= len(text) <= LONGEST_URL or not text.isascii() or not text.isprintable():
        message = f"expected an https URL of up to {LONGEST_URL} characters"
        raise InvalidUriError(message, field="dest")
    try:
        url = urlsplit(text)
        port = _port(url)
    except ValueError as error:
        message = "not a URL"
        raise InvalidUriError(message, field="dest") from error
    schemes = {"https", "http"} if reach.plain_http else {"https"}
    if url.scheme not in schemes or not url.hostname or url.username is not None or url.fragment or port is None:
        message = f"expected a URL of {' or '.join(sorted(schemes))} with a host, without user and fragment"
        raise InvalidUriError(message, field="dest")
    address = _literal(url.hostname)
    if address is not None:
        _check_address(address, reach)
    return text


def _port(url: SplitResult) -> int | None:
    return url.port or _PORTS.get(url.scheme)


def _literal(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _check_address(text: str, reach: Reach) -> None:
    address = ipaddress.ip_address(text.partition("%")[0])
    # An address of the old kind inside one of the new is judged as what it is.
    embedded = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if address in _NAT64:
        embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    for each in (address, embedded):
        if each is not None and not reach.private and (not each.is_global or each.is_multicast):
            message = f"{text} is no address in the open internet; deliveries do not go there"
            raise InvalidUriError(message, code="DESTINATION_FORBIDDEN", field="dest")


async def lookup(host: str, port: int) -> list[str]:
    """Return the addresses of a name from the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class Webhooks:
    """Posts documents to subscribers; one a process. Close it at the end."""

    def __init__(self, reach: Reach, *, resolve: Resolve = lookup, trust: ssl.SSLContext | None = None) -> None:
        """Hold where deliveries may go.

        Args:
            reach: Where deliveries may go.
            resolve: Tells the addresses of names.
            trust: Whose certificates are trusted; None: the system's.
        """
        self.reach = reach
        self._resolve = resolve
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT_S,
            follow_redirects=False,
            # A proxy from the environment would look names up by itself.
            trust_env=False,
            verify=True if trust is None else trust,
            # A connection kept would serve another name at the same address, whose certificate was not checked.
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=0),
        )

    async def check(self, destination: object) -> str:
        """Return an address to which deliveries may go, as far as it tells now: a name that nobody knows may come.

        Raises:
            InvalidUriError: It is none, or leads where deliveries do not go.
        """
        text = check_destination(destination, self.reach)
        url = urlsplit(text)
        try:
            async with asyncio.timeout(LOOKUP_S):
                await self._address(url.hostname or "", _port(url) or 443)
        except (OSError, TimeoutError, UnavailableError):
            log.info("no address yet", host=url.hostname)
        return text

    async def post(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Deliver a document.

        Raises:
            UnavailableError: DELIVERY_FAILED: nobody there, or no answer of 200 to 299.
            InvalidUriError: The destination leads where deliveries do not go.
        """
        url = urlsplit(check_destination(destination, self.reach))
        host = url.hostname or ""
        port = _port(url) or 443
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                address = await self._address(host, port)
                await self._post(url, address, body, headers)
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            message = f"{host} cannot be delivered to: {type(error).__name__}"
            raise UnavailableError(message, code="DELIVERY_FAILED") from error

    async def _address(self, host: str, port: int) -> str:
        literal = _literal(host)
        addresses = [literal] if literal is not None else await self._resolve(host, port)
        for address in addresses:
            # Any one that is forbidden forbids the name: which of them a connection takes is chance.
            _check_address(address, self.reach)
        if not addresses:
            message = f"{host} has no address"
            raise UnavailableError(message, code="DELIVERY_FAILED")
        return addresses[0]

    async def _post(self, url: SplitResult, address: str, body: bytes, headers: Mapping[str, str]) -> None:
        bracketed = f"[{address}]" if ":" in address else address
        target = f"{url.scheme}://{bracketed}:{_port(url)}{url.path or '/'}{'?' if url.query else ''}{url.query}"
        extensions: dict[str, Any] = {"sni_hostname": url.hostname}
        request = self._client.build_request(
            "POST", target, content=body, headers={**headers, "Host": url.netloc}, extensions=extensions
        )
        answer = await self._client.send(request, stream=True)
        # What they answer besides is not read: it could be endless.
        await answer.aclose()
        if not answer.is_success:
            message = f"{url.hostname} answered {answer.status_code}"
            raise UnavailableError(message, code="DELIVERY_FAILED", status=answer.status_code)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
