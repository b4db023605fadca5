"""The headers and media types of the standard: what a caller asks for, and what every answer says.

Source: EPCIS 2.0, section 12.5 (versions, formats, limits); RFC 9110, section 12.5.1 (Accept).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from starlette.requests import HTTPConnection

from medtrail.errors import MalformedError
from services.portal.errors import NotAcceptableError, UnsupportedMediaTypeError

E = TypeVar("E", bound=StrEnum)

EPCIS_VERSION = "2.0.0"
EPCIS_MIN = "1.2.0"
CBV_VERSION = "2.0.0"
CBV_MIN = "1.2.0"
EXTENSIONS = "cbvmda=urn:epcglobal:cbv:mda, gs1ushc=http://epcis.gs1us.org/hc/ns"
_LONGEST_ACCEPT = 2000


class MediaType(StrEnum):
    """The forms of documents."""

    JSON_LD = "application/ld+json"
    JSON = "application/json"
    XML = "application/xml"
    TEXT_XML = "text/xml"

    @property
    def is_xml(self) -> bool:
        """Tell whether it is XML."""
        return self in {MediaType.XML, MediaType.TEXT_XML}


class EpcFormat(StrEnum):
    """How identifiers are spelled in answers (GS1-EPC-Format)."""

    NO_PREFERENCE = "No_Preference"
    ALWAYS_DIGITAL_LINK = "Always_GS1_Digital_Link"
    ALWAYS_URN = "Always_EPC_URN"
    NEVER_TRANSLATES = "Never_Translates"


class CbvFormat(StrEnum):
    """How CBV words are spelled in XML answers (GS1-CBV-XML-Format)."""

    NO_PREFERENCE = "No_Preference"
    ALWAYS_WEB_URI = "Always_Web_URI"
    ALWAYS_URN = "Always_URN"
    NEVER_TRANSLATES = "Never_Translates"


class ErrorBehaviour(StrEnum):
    """What becomes of a capture in which an event is refused (GS1-Capture-Error-Behaviour)."""

    ROLLBACK = "rollback"
    PROCEED = "proceed"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller wants of an answer.

    Attributes:
        media_type: Of the answer's body.
        epc_format: Of identifiers.
        cbv_format: Of CBV words in XML.
    """

    media_type: MediaType
    epc_format: EpcFormat = EpcFormat.NO_PREFERENCE
    cbv_format: CbvFormat = CbvFormat.NO_PREFERENCE


def wanted(
    connection: HTTPConnection,
    *,
    media_types: tuple[MediaType, ...] = (MediaType.JSON_LD, MediaType.JSON, MediaType.XML),
) -> Wanted:
    """Return what a caller wants, after checking that it can be given.

    Args:
        connection: The request.
        media_types: What can be given, the best first.

    Raises:
        NotAcceptableError: It cannot.
        MalformedError: A header has a value that it cannot have (HEADER_INVALID).
    """
    headers = connection.headers
    check_versions(headers)
    return Wanted(
        negotiate(headers.get("accept"), media_types),
        _choice(headers, "GS1-EPC-Format", EpcFormat, EpcFormat.NO_PREFERENCE),
        _choice(headers, "GS1-CBV-XML-Format", CbvFormat, CbvFormat.NO_PREFERENCE),
    )


def error_behaviour(connection: HTTPConnection) -> ErrorBehaviour:
    """Return what shall become of a capture in which an event is refused; rollback unless told.

    Raises:
        MalformedError: HEADER_INVALID.
    """
    return _choice(connection.headers, "GS1-Capture-Error-Behaviour", ErrorBehaviour, ErrorBehaviour.ROLLBACK)


def flag(connection: HTTPConnection, name: str) -> bool:
    """Return a header of ``true`` or ``false``; false where it is absent.

    Raises:
        MalformedError: HEADER_INVALID.
    """
    text = connection.headers.get(name, "false").strip().lower()
    if text not in {"true", "false"}:
        message = f"expected true or false, got {text[:50]!r}"
        raise MalformedError(message, code="HEADER_INVALID", field=name)
    return text == "true"


def _choice(headers: Mapping[str, str], name: str, kind: type[E], default: E) -> E:
    text = headers.get(name)
    if text is None:
        return default
    try:
        return kind(text.strip())
    except ValueError:
        known = ", ".join(kind)
        message = f"expected one of {known}, got {text[:50]!r}"
        raise MalformedError(message, code="HEADER_INVALID", field=name) from None


def check_versions(headers: Mapping[str, str]) -> None:
    """Check that the versions which a caller can read include ours.

    Raises:
        NotAcceptableError: They do not (VERSION_UNSUPPORTED).
        MalformedError: One is no version (HEADER_INVALID).
    """
    for name, lowest, ours in (("EPCIS", EPCIS_MIN, EPCIS_VERSION), ("CBV", CBV_MIN, CBV_VERSION)):
        exact, least, most = (_version(headers, f"GS1-{name}-{part}") for part in ("Version", "Min", "Max"))
        low, high = _numbers(lowest), _numbers(ours)
        outside = exact is not None and not (low[: len(exact)] <= exact <= high[: len(exact)])
        if outside or (least is not None and least > high) or (most is not None and most < low[: len(most)]):
            message = f"{name} {lowest} to {ours} is spoken here"
            raise NotAcceptableError(message, code="VERSION_UNSUPPORTED", field=f"GS1-{name}-Version")


def _version(headers: Mapping[str, str], name: str) -> tuple[int, ...] | None:
    text = headers.get(name)
    if text is None:
        return None
    parts = text.strip().split(".")
    if not 1 <= len(parts) <= 3 or not all(part.isascii() and part.isdigit() and len(part) <= 4 for part in parts):
        message = f"expected a version such as {EPCIS_VERSION}, got {text[:20]!r}"
        raise MalformedError(message, code="HEADER_INVALID", field=name)
    return _numbers(text.strip())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def negotiate(accept: str | None, offered: tuple[MediaType, ...]) -> MediaType:
    """Return the form in which to answer: the caller's best of those offered, the first of equals.

    Raises:
        NotAcceptableError: None of them.
    """
    ranges = list(_ranges(accept)) if accept and accept.strip() else [("*/*", 1.0)]
    best, best_quality = None, 0.0
    for media_type in offered:
        # The most exact range that covers a type tells its quality (RFC 9110, section 12.5.1).
        matching = [(_exactness(pattern, media_type), quality) for pattern, quality in ranges]
        exactness, quality = max(matching, default=(0, 0.0))
        if exactness and quality > best_quality:
            best, best_quality = media_type, quality
    if best is None:
        message = f"answers are given as {', '.join(offered)}"
        raise NotAcceptableError(message, field="Accept")
    return best


def _ranges(accept: str) -> Iterable[tuple[str, float]]:
    if len(accept) > _LONGEST_ACCEPT:
        message = f"expected at most {_LONGEST_ACCEPT} characters"
        raise MalformedError(message, code="HEADER_INVALID", field="Accept")
    for part in accept.split(","):
        pattern, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _quality(value.strip())
        yield pattern, quality


def _quality(text: str) -> float:
    digits = text.replace(".", "", 1)
    if not digits.isascii() or not digits.isdigit() or len(text) > 5 or float(text) > 1:
        message = f"expected a quality of 0 to 1, got {text[:20]!r}"
        raise MalformedError(message, code="HEADER_INVALID", field="Accept")
    return float(text)


def _exactness(pattern: str, media_type: MediaType) -> int:
    if pattern == media_type:
        return 3
    if pattern == f"{media_type.partition('/')[0]}/*":
        return 2
    return 1 if pattern == "*/*" else 0


def content_type(connection: HTTPConnection, *, media_types: tuple[MediaType, ...] = tuple(MediaType)) -> MediaType:
    """Return the form of a request's body.

    Raises:
        UnsupportedMediaTypeError: One that is not read here, or none.
    """
    text = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        found = MediaType(text)
    except ValueError:
        found = None
    encoding = connection.headers.get("content-encoding", "identity").strip().lower()
    if found is None or found not in media_types or encoding not in {"", "identity"}:
        message = f"bodies are read as {', '.join(media_types)}, without Content-Encoding; got {text[:50]!r}"
        raise UnsupportedMediaTypeError(message, field="Content-Type")
    return found


def version_headers(*, vendor_version: str) -> dict[str, str]:
    """Return the headers that every answer has."""
    return {
        "GS1-EPCIS-Version": EPCIS_VERSION,
        "GS1-EPCIS-Min": EPCIS_MIN,
        "GS1-EPCIS-Max": EPCIS_VERSION,
        "GS1-CBV-Version": CBV_VERSION,
        "GS1-CBV-Min": CBV_MIN,
        "GS1-CBV-Max": CBV_VERSION,
        "GS1-Vendor-Version": vendor_version,
    }
