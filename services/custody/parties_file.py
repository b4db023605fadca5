"""parties.toml: what an organisation tells partners outside the network beyond what the log says.

The log holds names and numbers; postal addresses, and products of makers that are not enrolled, stand in this file in
the organisation's folder. It is read anew for each export.

::

    # The transaction statement's words, for the profile dscsa.
    legal_notice = "Seller has complied with each applicable subsection of FDCA Sec. 581(27)(A)-(G)."

    [[party]]
    gln = "0399999999991"
    name = "GS1 Drug Distributor"    # of an enrolled party the enrolment's name, when absent
    street = "230 Park Ave S"
    street_two = "Room 378"          # may be absent
    city = "New York"
    state = "NY"
    postal_code = "10003-1502"
    country = "US"                   # ISO 3166-1 alpha-2
    company_prefix = "039999"        # of a party that is not enrolled: its identifiers become EPC URNs by it

    [[product]]                      # what the maker has stated in the log goes first, text by text
    gtin = "00300010123455"
    name = "Epcistra"
    ndc = "0001-0123-45"
    strength = "100 mg"
    dosage_form = "pill"
    net_content = "500 pills"
    manufacturer = "GS1 Pharma LLC"
    company_prefix = "030001"
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtrail.epcis.export import LEGAL_NOTICE, Address, TradeItem, TradingParty
from medtrail.errors import MalformedError
from medtrail.event import NationalNumber, PackLevel, Product
from medtrail.gs1 import Gln, Gtin

FILE_NAME = "parties.toml"
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_TEXT = 500

_PREFIX = re.compile(r"[0-9]{4,12}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_ADDRESS = ("street", "city", "state", "postal_code", "country")
_PARTY = frozenset({"gln", "name", "street_two", "company_prefix", *_ADDRESS})
_PRODUCT = frozenset(
    {"gtin", "name", "ndc", "strength", "dosage_form", "net_content", "manufacturer", "company_prefix"}
)


@dataclass(frozen=True, slots=True)
class PartiesFile:
    """What the file says; all empty where there is none."""

    parties: Mapping[Gln, TradingParty] = field(default_factory=dict)
    items: Mapping[Gtin, TradeItem] = field(default_factory=dict)
    company_prefixes: tuple[str, ...] = ()
    legal_notice: str = LEGAL_NOTICE


def read_parties(path: Path | None) -> PartiesFile:
    """Return what a parties.toml says; nothing where there is no such file.

    Raises:
        MalformedError: It cannot be read, or a key is missing, unknown or of wrong form (PARTIES_FILE).
    """
    if path is None or not path.exists():
        return PartiesFile()
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _error("", f"expected at most {MAX_FILE_BYTES} bytes")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _error("", str(error)[:200]) from error
    _check_keys(table, "", frozenset({"party", "product", "legal_notice"}))
    parties: dict[Gln, TradingParty] = {}
    items: dict[Gtin, TradeItem] = {}
    prefixes: list[str] = []
    for where, entry in _tables(table, "party"):
        _check_keys(entry, where, _PARTY)
        gln = _gln(entry, where)
        if gln in parties:
            raise _error(f"{where}.gln", f"GLN {gln} stands twice")
        parties[gln] = _party(entry, where)
        prefixes += _prefix(entry, where)
    for where, entry in _tables(table, "product"):
        _check_keys(entry, where, _PRODUCT)
        item = _item(entry, where)
        if item.product.gtin in items:
            raise _error(f"{where}.gtin", f"GTIN {item.product.gtin} stands twice")
        items[item.product.gtin] = item
        prefixes += _prefix(entry, where)
    return PartiesFile(parties, items, tuple(prefixes), _text(table, "", "legal_notice") or LEGAL_NOTICE)


def _party(entry: dict[str, Any], where: str) -> TradingParty:
    name = _text(entry, where, "name")
    if not any(key in entry for key in (*_ADDRESS, "street_two")):
        return TradingParty(name)
    texts = {key: _text(entry, where, key) for key in _ADDRESS}
    for key, text in texts.items():
        if not text:
            raise _error(f"{where}.{key}", "an address has street, city, state, postal_code and country")
    if not _COUNTRY.fullmatch(texts["country"]):
        raise _error(f"{where}.country", f"expected two capital letters, ISO 3166-1 alpha-2; got {texts['country']!r}")
    return TradingParty(name, Address(**texts, street_two=_text(entry, where, "street_two")))


def _item(entry: dict[str, Any], where: str) -> TradeItem:
    ndc = _text(entry, where, "ndc")
    product = Product(
        gtin=_gtin(entry, where),
        level=PackLevel.UNKNOWN,
        name=_text(entry, where, "name"),
        national_numbers=(NationalNumber("NDC", ndc),) if ndc else (),
        strength=_text(entry, where, "strength"),
        dosage_form=_text(entry, where, "dosage_form"),
        net_content=_text(entry, where, "net_content"),
    )
    return TradeItem(product, _text(entry, where, "manufacturer"))


def _tables(table: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise _error(key, f"expected tables, each under [[{key}]]")
    return [(f"{key}[{number}]", item) for number, item in enumerate(found)]


def _check_keys(table: dict[str, Any], where: str, known: frozenset[str]) -> None:
    for key in table:
        if key not in known:
            raise _error(f"{where}.{key}".lstrip("."), f"unknown key; known are: {', '.join(sorted(known))}")


def _text(table: dict[str, Any], where: str, key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise _error(f"{where}.{key}".lstrip("."), f"expected a text of at most {MAX_TEXT} printable characters")
    return value.strip()


def _gln(entry: dict[str, Any], where: str) -> Gln:
    try:
        return Gln(_text(entry, where, "gln"))
    except MalformedError as error:
        raise _error(f"{where}.gln", error.message) from error


def _gtin(entry: dict[str, Any], where: str) -> Gtin:
    try:
        return Gtin(_text(entry, where, "gtin"))
    except MalformedError as error:
        raise _error(f"{where}.gtin", error.message) from error


def _prefix(entry: dict[str, Any], where: str) -> list[str]:
    text = _text(entry, where, "company_prefix")
    if text and not _PREFIX.fullmatch(text):
        raise _error(f"{where}.company_prefix", f"expected 4 to 12 digits, got {text!r}")
    return [text] if text else []


def _error(field_name: str, message: str) -> MalformedError:
    where = f"{FILE_NAME}: {field_name}" if field_name else FILE_NAME
    return MalformedError(message, code="PARTIES_FILE", field=where)
