"""Reading PDG messages: from JSON documents that partners sent to values, and what is odd about them.

Unknown members are let be, since the document is kept as it came; a member that stands twice is not, since which of the
two counts would depend on the reader.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1 import Gln, Gtin
from medtrail.pdg import (
    MASTER_DATA,
    MAX_MESSAGE_BYTES,
    Alternative,
    Answer,
    ContactInformation,
    DataMisalignment,
    FollowUp,
    Item,
    Message,
    MissingProduct,
    MissingProductData,
    NumberError,
    ObservationSource,
    QuantityDifference,
    Report,
    ReportGroup,
    Resolution,
    Response,
    Traits,
)

MAX_ITEMS = 400
MAX_TEXT = 2000
MAX_VALUE = 200
MAX_PRESENTATION = 32 * 1024
LATEST_TIMESTAMP = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second that a datetime can say."""
LARGEST_QUANTITY = 10**9


def decode_message(data: bytes) -> Message:
    """Return the report or response of a JSON document; members that the schemas do not know are let be.

    Args:
        data: UTF-8, at most 128 KiB.

    Raises:
        TooLargeError: More than 128 KiB, or than 400 items.
        MalformedError: It is no JSON, names a member twice (PDG_MALFORMED), or a member is missing or of wrong form.
    """
    document = _Reader(_json(data), "message")
    if any(map(document.has, _REPORT_ONLY)):
        return _report(document)
    return _response(document)


def _json(data: bytes) -> Mapping[str, Any]:
    if len(data) > MAX_MESSAGE_BYTES:
        text = f"a message has at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}"
        raise TooLargeError(text, code="PDG_TOO_LARGE")
    try:
        document = json.loads(data.decode(), object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        text = f"expected a JSON document: {error}"
        raise MalformedError(text[:MAX_VALUE], code="PDG_MALFORMED") from error
    if not isinstance(document, dict):
        raise MalformedError("expected a JSON object", code="PDG_MALFORMED")
    return document


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Which of the two counts would depend on the reader.
        raise ValueError("a member stands twice in one object")
    return found


def _no_constant(name: str) -> Any:  # noqa: ANN401  # json's own form
    message = f"{name} is no JSON"
    raise ValueError(message)


_MISSING = object()
_REPORT_ONLY = ("case_resolved", "exceptions", "other_errors")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,100}@[^@\s\x00-\x1f]{1,150}\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


class _Reader:
    """One object of a document, and its path for errors."""

    def __init__(self, members: Mapping[str, Any], path: str) -> None:
        self._members = members
        self.path = path

    def has(self, name: str) -> bool:
        return name in self._members

    def _get(self, name: str, *, optional: bool) -> Any:  # noqa: ANN401  # any JSON
        value = self._members.get(name, _MISSING)
        if optional and (value is _MISSING or value is None):
            return None
        if value is _MISSING:
            raise MalformedError("the member is missing", code="FIELD_MISSING", field=f"{self.path}.{name}")
        return value

    def wrong(self, name: str, wanted: str, value: object) -> MalformedError:
        text = f"expected {wanted}, got {str(value)[:50]!r}"
        return MalformedError(text, code="PDG_MALFORMED", field=f"{self.path}.{name}")

    def text(self, name: str, *, most: int = MAX_VALUE, least: int = 1) -> str:
        value = self._get(name, optional=False)
        if not isinstance(value, str) or not least <= len(value) <= most or _CONTROL.search(value):
            raise self.wrong(name, f"a text of {least} to {most} characters", value)
        return value

    def maybe_text(self, name: str, *, most: int = MAX_VALUE) -> str | None:
        return None if self._get(name, optional=True) is None else self.text(name, most=most, least=0)

    def ident(self, name: str) -> str:
        value = self._get(name, optional=False)
        if not isinstance(value, str) or not _UUID.match(value):
            raise self.wrong(name, "a UUID", value)
        return str(uuid.UUID(value))

    def integer(self, name: str, *, most: int) -> int:
        value = self._get(name, optional=False)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise self.wrong(name, f"an integer from 0 to {most}", value)
        return value

    def flag(self, name: str) -> bool:
        value = self._get(name, optional=False)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false", value)
        return value

    def word(self, name: str, words: type[StrEnum]) -> Any:  # noqa: ANN401  # a member of words
        value = self._get(name, optional=False)
        try:
            return words(value)
        except ValueError:
            raise self.wrong(name, f"one of {', '.join(words)}", value) from None

    def maybe_word(self, name: str, words: type[StrEnum]) -> Any:  # noqa: ANN401  # a member of words, or None
        return None if self._get(name, optional=True) is None else self.word(name, words)

    def inner(self, name: str) -> "_Reader":
        value = self._get(name, optional=False)
        if not isinstance(value, dict):
            raise self.wrong(name, "an object", value)
        return _Reader(value, f"{self.path}.{name}")

    def maybe_inner(self, name: str) -> "_Reader | None":
        return None if self._get(name, optional=True) is None else self.inner(name)

    def list(self, name: str) -> list[Any]:
        value = self._get(name, optional=True)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "a list", value)
        if len(value) > MAX_ITEMS:
            text = f"expected at most {MAX_ITEMS} items, got {len(value)}"
            raise TooLargeError(text, code="PDG_TOO_LARGE", field=f"{self.path}.{name}")
        return value

    def each(self, name: str) -> "Iterator[_Reader]":
        for number, value in enumerate(self.list(name)):
            if not isinstance(value, dict):
                raise self.wrong(f"{name}[{number}]", "an object", value)
            yield _Reader(value, f"{self.path}.{name}[{number}]")


def _contact(reader: _Reader) -> ContactInformation:
    email = reader.text("email", most=254)
    if not _EMAIL.match(email):
        raise reader.wrong("email", "an e-mail address", email)
    return ContactInformation(
        email=email,
        vp=reader.maybe_text("vp", most=MAX_PRESENTATION),
        gln=reader.maybe_text("gln"),
        phone=reader.maybe_text("phone"),
    )


def _report(reader: _Reader) -> Report:
    groups = reader.maybe_inner("exceptions")
    items = () if groups is None else tuple(_items(groups))
    errors = tuple(_error_texts(reader))
    if len(items) > MAX_ITEMS:
        text = f"expected at most {MAX_ITEMS} items, got {len(items)}"
        raise TooLargeError(text, code="PDG_TOO_LARGE", field="message.exceptions")
    _once(reader, [item.item_id for _, item in items])
    return Report(
        message_id=reader.ident("message_uuid"),
        case_id=reader.ident("exception_case_uuid"),
        timestamp=reader.integer("timestamp", most=LATEST_TIMESTAMP),
        po_number=reader.text("po_number", most=64, least=0),
        sender=_contact(reader.inner("sender_information")),
        case_resolved=reader.flag("case_resolved"),
        items=items,
        other_errors=errors,
    )


def _once(reader: _Reader, ids: list[str]) -> None:
    if len(set(ids)) != len(ids):
        text = "an exception_item_uuid stands twice"
        raise MalformedError(text, code="PDG_ITEM_TWICE", field=reader.path)


def _error_texts(reader: _Reader) -> Iterator[str]:
    for number, value in enumerate(reader.list("other_errors")):
        if not isinstance(value, str) or len(value) > MAX_TEXT or _CONTROL.search(value):
            raise reader.wrong(f"other_errors[{number}]", f"a text of at most {MAX_TEXT} characters", value)
        yield value


def _items(groups: _Reader) -> Iterator[tuple[ReportGroup, Item]]:
    errors = groups.maybe_inner("master_data_errors")
    for group, read in _READERS.items():
        place = errors if group in MASTER_DATA else groups
        if place is not None:
            for reader in place.each(group.value):
                yield group, read(reader)


def _missing_data(reader: _Reader) -> Item:
    return MissingProductData(
        item_id=reader.ident("exception_item_uuid"),
        gtin=reader.text("product_gtin"),
        source=reader.word("observation_source", ObservationSource),
        request=reader.word("resolution_request", Resolution),
        serial=reader.maybe_text("product_serial"),
    )


def _missing_product(reader: _Reader) -> Item:
    return MissingProduct(
        item_id=reader.ident("exception_item_uuid"),
        file_id=reader.text("file_id", most=512, least=0),
        gtin=reader.text("product_gtin"),
        serial=reader.text("product_serial"),
        request=reader.word("resolution_request", Resolution),
    )


def _misalignment(reader: _Reader) -> Item:
    return DataMisalignment(
        item_id=reader.ident("exception_item_uuid"),
        product=_traits(reader, "received_product"),
        told=_traits(reader, "product_data"),
        request=reader.word("resolution_request", Resolution),
    )


def _traits(reader: _Reader, prefix: str) -> Traits:
    if not reader.has(f"{prefix}_serial"):
        raise MalformedError("the member is missing", code="FIELD_MISSING", field=f"{reader.path}.{prefix}_serial")
    return Traits(
        gtin=reader.text(f"{prefix}_gtin", least=0),
        lot=reader.text(f"{prefix}_lot", least=0),
        expiry=reader.text(f"{prefix}_expiry", least=0),
        serial=reader.maybe_text(f"{prefix}_serial"),
    )


def _quantity(reader: _Reader) -> Item:
    return QuantityDifference(
        item_id=reader.ident("exception_item_uuid"),
        gtin=reader.text("gtin"),
        ordered=reader.integer("quantity_ordered", most=LARGEST_QUANTITY),
        received=reader.integer("quantity_received", most=LARGEST_QUANTITY),
        request=reader.word("resolution_request", Resolution),
    )


def _number_error(number: str) -> Callable[[_Reader], Item]:
    def read(reader: _Reader) -> Item:
        return NumberError(
            item_id=reader.ident("exception_item_uuid"),
            invalid=reader.text(f"invalid_{number}", least=0),
            proposed=reader.maybe_text(f"proposed_{number}"),
            request=reader.maybe_word("resolution_request", Resolution),
        )

    return read


_READERS: dict[ReportGroup, Callable[[_Reader], Item]] = {
    ReportGroup.MISSING_PRODUCT_DATA: _missing_data,
    ReportGroup.MISSING_PRODUCT: _missing_product,
    ReportGroup.DATA_MISALIGNMENT: _misalignment,
    ReportGroup.OVERAGES: _quantity,
    ReportGroup.UNDERAGES: _quantity,
    ReportGroup.GLN_ERRORS: _number_error("gln"),
    ReportGroup.GTIN_ERRORS: _number_error("gtin"),
}


def _response(reader: _Reader) -> Response:
    answers = tuple(_answer(item) for item in reader.each("response_items"))
    _once(reader, [answer.item_id for answer in answers])
    return Response(
        message_id=reader.ident("message_uuid"),
        case_id=reader.ident("exception_case_uuid"),
        timestamp=reader.integer("timestamp", most=LATEST_TIMESTAMP),
        sender=_contact(reader.inner("sender_information")),
        po_number=reader.text("po_number", most=64, least=0),
        answers=answers,
        notes=reader.maybe_text("additional_notes", most=MAX_TEXT),
    )


def _answer(reader: _Reader) -> Answer:
    response = reader.text("resolution_response")
    if response not in {"Accept", "Reject"}:
        raise reader.wrong("resolution_response", "Accept or Reject", response)
    other = reader.maybe_inner("alternative_resolution")
    return Answer(
        item_id=reader.ident("exception_item_uuid"),
        accepted=response == "Accept",
        comments=reader.maybe_text("comments", most=MAX_TEXT),
        alternative=None if other is None else _alternative(other),
    )


def _alternative(reader: _Reader) -> Alternative:
    for name in ("alternative_resolution", "follow_up"):
        if not reader.has(name):
            raise MalformedError("the member is missing", code="FIELD_MISSING", field=f"{reader.path}.{name}")
    return Alternative(
        resolution=reader.maybe_word("alternative_resolution", Resolution),
        follow_up=reader.maybe_word("follow_up", FollowUp),
        details=reader.maybe_text("follow_up_details", most=MAX_TEXT),
    )


# --- remarks ---


def remarks(message: Message) -> tuple[str, ...]:
    """Return what is odd about a message that can be read, for people: numbers whose check digit is wrong."""
    found = []
    if message.sender.gln is not None and not _holds(Gln, message.sender.gln):
        found.append(f"sender_information.gln: {message.sender.gln} is no GLN")
    if isinstance(message, Report):
        for group, item in message.items:
            found += [f"{group.value}: {gtin} is no GTIN" for gtin in _gtins(item) if not _holds(Gtin, gtin)]
    return tuple(found)


def _gtins(item: Item) -> tuple[str, ...]:
    if isinstance(item, DataMisalignment):
        return (item.product.gtin, item.told.gtin)
    return () if isinstance(item, NumberError) else (item.gtin,)


def _holds(kind: Callable[[str], object], text: str) -> bool:
    try:
        kind(text)
    except MalformedError:
        return False
    return True
