"""Negotiation: media types, versions, formats."""

import pytest
from starlette.requests import HTTPConnection

from medtrail.errors import MalformedError
from services.portal.errors import NotAcceptableError, UnsupportedMediaTypeError
from services.portal.headers import (
    EpcFormat,
    ErrorBehaviour,
    MediaType,
    content_type,
    error_behaviour,
    flag,
    negotiate,
    wanted,
)

OFFERED = (MediaType.JSON_LD, MediaType.JSON, MediaType.XML)


def _connection(**headers: str) -> HTTPConnection:
    raw = [(name.replace("_", "-").lower().encode(), text.encode()) for name, text in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw})


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, MediaType.JSON_LD),
        (" ", MediaType.JSON_LD),
        ("*/*", MediaType.JSON_LD),
        ("application/json", MediaType.JSON),
        ("application/xml", MediaType.XML),
        ("application/json;q=0.5, application/xml", MediaType.XML),
        ("application/*;q=0.1, application/xml;q=0.2", MediaType.XML),
        ("text/html, */*;q=0.1", MediaType.JSON_LD),
        ("application/ld+json;q=0, */*", MediaType.JSON),
        ('application/ld+json; profile="x"', MediaType.JSON_LD),
    ],
)
def test_the_callers_best_form_is_chosen(accept: str | None, chosen: MediaType) -> None:
    assert negotiate(accept, OFFERED) is chosen


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", ",", "text/*"])
def test_a_form_that_is_not_spoken_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptableError):
        negotiate(accept, OFFERED)


@pytest.mark.parametrize("accept", ["*/*;q=2", "*/*;q=x", "*/*;q=1.00001", "*/*;q=.", "x" * 2001])
def test_a_malformed_accept_is_named(accept: str) -> None:
    with pytest.raises(MalformedError) as caught:
        negotiate(accept, OFFERED)
    assert (caught.value.code, caught.value.field) == ("HEADER_INVALID", "Accept")


@pytest.mark.parametrize(
    "headers",
    [
        {"GS1_EPCIS_Version": "2"},
        {"GS1_EPCIS_Version": "2.0"},
        {"GS1_EPCIS_Version": "1.2"},
        {"GS1_EPCIS_Min": "1.0", "GS1_EPCIS_Max": "9"},
        {"GS1_CBV_Version": "2.0.0"},
    ],
)
def test_versions_that_include_ours_are_spoken(headers: dict[str, str]) -> None:
    assert wanted(_connection(**headers)).media_type is MediaType.JSON_LD


@pytest.mark.parametrize(
    "headers",
    [
        {"GS1_EPCIS_Version": "1.1"},
        {"GS1_EPCIS_Version": "2.1"},
        {"GS1_EPCIS_Min": "2.1"},
        {"GS1_EPCIS_Max": "1.1"},
        {"GS1_CBV_Max": "1"},
    ],
)
def test_versions_that_exclude_ours_are_not_acceptable(headers: dict[str, str]) -> None:
    if headers == {"GS1_CBV_Max": "1"}:
        # 1 stands for all of 1.x, and 1.2 is spoken.
        wanted(_connection(**headers))
        return
    with pytest.raises(NotAcceptableError) as caught:
        wanted(_connection(**headers))
    assert caught.value.code == "VERSION_UNSUPPORTED"


@pytest.mark.parametrize("version", ["", "x", "1.2.3.4", "1..2", "99999", "²"])
def test_what_is_no_version_is_named(version: str) -> None:
    with pytest.raises(MalformedError) as caught:
        wanted(_connection(GS1_EPCIS_Min=version))
    assert (caught.value.code, caught.value.field) == ("HEADER_INVALID", "GS1-EPCIS-Min")


def test_formats_and_flags_are_read_and_others_named() -> None:
    assert wanted(_connection(GS1_EPC_Format="Always_EPC_URN")).epc_format is EpcFormat.ALWAYS_URN
    assert error_behaviour(_connection()) is ErrorBehaviour.ROLLBACK
    assert error_behaviour(_connection(GS1_Capture_Error_Behaviour=" proceed ")) is ErrorBehaviour.PROCEED
    assert flag(_connection(X="True"), "X")
    assert not flag(_connection(), "X")
    for call in (
        lambda: wanted(_connection(GS1_EPC_Format="always_epc_urn")),
        lambda: error_behaviour(_connection(GS1_Capture_Error_Behaviour="")),
        lambda: flag(_connection(X="1"), "X"),
    ):
        with pytest.raises(MalformedError) as caught:
            call()
        assert caught.value.code == "HEADER_INVALID"


def test_bodies_are_read_in_four_forms_without_encoding() -> None:
    for text, kind in (
        ("application/json; charset=utf-8", MediaType.JSON),
        ("Application/LD+JSON", MediaType.JSON_LD),
        ("text/xml", MediaType.TEXT_XML),
    ):
        assert content_type(_connection(Content_Type=text)) is kind
    assert MediaType.TEXT_XML.is_xml
    assert not MediaType.JSON.is_xml
    for headers in (
        {},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/json", "Content_Encoding": "gzip"},
    ):
        with pytest.raises(UnsupportedMediaTypeError):
            content_type(_connection(**headers))
    with pytest.raises(UnsupportedMediaTypeError):
        content_type(_connection(Content_Type="text/xml"), media_types=(MediaType.JSON,))
