"""Where deliveries go and where they do not, and how a subscriber knows that they are ours."""

import asyncio
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from medtrail.errors import MedtrailError, UnavailableError
from services.portal.query.errors import InvalidUriError
from services.portal.subscriptions.webhook import Reach, Webhooks, check_destination, lookup, signature

OPEN = Reach()
WIDE = Reach(private=True, plain_http=True)


def test_a_subscriber_can_check_the_signature() -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    digest = hmac.new(b"secret", b"1772323200.body", hashlib.sha256).hexdigest()
    assert signature("secret", b"body", moment=moment) == f"t=1772323200,v1={digest}"


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "x" * 3000,
        "https://exämple.com/",
        "https://example.com/a\nb",
        "/path",
        "http://example.com/",
        "ftp://example.com/",
        "https:///x",
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://example.com/#part",
        "https://example.com:99999/",
        "https://[::1/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://192.168.0.1/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://[::1]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[2002:7f00:1::]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[ff02::1]/",
    ],
)
def test_refuses_what_is_no_public_https_address(text: object) -> None:
    with pytest.raises(InvalidUriError):
        check_destination(text, OPEN)


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("https://erp.example/hook?x=1", OPEN),
        ("https://erp.example:8443", OPEN),
        ("https://8.8.8.8/", OPEN),
        ("https://[2001:4860:4860::8888]/", OPEN),
        ("https://10.0.0.1/", Reach(private=True)),
        ("http://erp.example/", Reach(plain_http=True)),
        ("http://127.0.0.1:8080/", WIDE),
    ],
)
def test_takes_what_may_be_reached(text: str, reach: Reach) -> None:
    assert check_destination(text, reach) == text


def delivery(destination: str, addresses: list[str], reach: Reach = OPEN) -> MedtrailError:
    async def resolve(_host: str, _port: int) -> list[str]:
        return addresses

    async def main() -> MedtrailError:
        webhooks = Webhooks(reach, resolve=resolve)
        try:
            with pytest.raises(MedtrailError) as caught:
                await webhooks.post(destination, b"{}", {})
            return caught.value
        finally:
            await webhooks.close()

    return asyncio.run(main())


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:10.0.0.1"], ["fe80::1%eth0"]])
def test_refuses_a_name_that_leads_into_the_own_network(addresses: list[str]) -> None:
    assert delivery("https://innocent.example/", addresses).code == "DESTINATION_FORBIDDEN"


def test_a_name_without_address_is_tried_again_later() -> None:
    error = delivery("https://gone.example/", [])
    assert isinstance(error, UnavailableError)
    assert error.code == "DELIVERY_FAILED"


def test_nobody_at_an_address_is_tried_again_later() -> None:
    # Port 9 of loopback: nobody listens.
    assert delivery("https://127.0.0.1:9/", [], WIDE).code == "DELIVERY_FAILED"


def test_names_are_looked_up_by_the_systems_resolver() -> None:
    assert set(asyncio.run(lookup("localhost", 80))) & {"127.0.0.1", "::1"}
