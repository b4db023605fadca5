"""network.toml: who takes part in an embedded network, in words that a person edits."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtrail.cli.storage_limits import parse_storage
from medtrail.codec.trust import RESPONDER_URL
from medtrail.errors import MalformedError
from medtrail.event import NationalNumber, PackLevel, Product, ProductContent, Role, StorageLimits, is_station_name
from medtrail.gs1 import Gln, Gtin
from medtrail.note_format import check_key_name

FILE_NAME = "network.toml"

# Roles that run as a process of their own.
SERVICE_ROLES = (Role.MANUFACTURER, Role.DISTRIBUTOR, Role.PHARMACY)

_NAME = re.compile(r"[a-z0-9-]{1,64}\Z")
_PREFIX = re.compile(r"[0-9]{4,12}\Z")
_RESERVED_NAMES = frozenset({"authority", "ledger", "nats"})

SAMPLE = """\
# A medtrail network on this machine. Edit it before the first `medtrail up`; parties added later are enrolled at the
# next start, and what stands stays as it is.

[network]
# Origin of the log (C2SP tlog-checkpoint): schema-less URL prefix and name of its key.
origin = "log.medtrail.example/sample"

[authority]
gln = "9521000000018"

[ledger]
gln = "9521000000025"

# The parties and locations of the GS1 US example (DSCSA, direct purchase): a maker with a distribution centre, and a
# wholesaler with a warehouse.

[[organisation]]
name = "gs1-pharma"
display_name = "GS1 Pharma"
role = "manufacturer"
gln = "0300011111116"
locations = ["0300011111215"]
company_prefixes = ["030001"]

[[organisation]]
name = "gs1-drug-distributor"
display_name = "GS1 Drug Distributor"
role = "distributor"
gln = "0399999999991"
locations = ["0399993456780"]
company_prefixes = ["039999"]

# Further parties, under the prefix that GS1 keeps for examples (952).

[[organisation]]
name = "riverside-wholesale"
display_name = "Riverside Wholesale"
role = "distributor"
gln = "9521001000017"
locations = ["9521001000024"]
company_prefixes = ["9521001"]

[[organisation]]
name = "elm-street-pharmacy"
display_name = "Elm Street Pharmacy"
role = "pharmacy"
gln = "9521002000016"

[[organisation]]
name = "harbour-pharmacy"
display_name = "Harbour Pharmacy"
role = "pharmacy"
gln = "9521003000015"

[[organisation]]
name = "hilltop-pharmacy"
display_name = "Hilltop Pharmacy"
role = "pharmacy"
gln = "9521004000014"

[[organisation]]
name = "station-pharmacy"
display_name = "Station Pharmacy"
role = "pharmacy"
gln = "9521005000013"

# Trade items at their packaging levels; the owner registers them at the first start.

[[product]]
owner = "gs1-pharma"
gtin = "00300010123455"
level = "pack"
name = "Epcistra"
ndc = "0001-0123-45"
strength = "100 mg"
dosage_form = "pill"
net_content = "500 pills"

[[product]]
owner = "gs1-pharma"
gtin = "10300010123452"
level = "case"
name = "Epcistra, case of 4"
ndc = "0001-0123-45"
strength = "100 mg"
dosage_form = "pill"
contains = { gtin = "00300010123455", count = 4 }
"""


@dataclass(frozen=True, slots=True)
class OrganisationDescription:
    """An organisation as network.toml states it; ``stations``: names of its receiving bays and tills."""

    name: str
    display_name: str
    role: Role
    gln: Gln
    locations: tuple[Gln, ...]
    company_prefixes: tuple[str, ...]
    responder_url: str = ""
    stations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProductDescription:
    """A trade item and the name of the organisation that registers it."""

    owner: str
    product: Product


@dataclass(frozen=True, slots=True)
class NetworkDescription:
    """A whole network as network.toml states it."""

    origin: str
    authority_gln: Gln
    ledger_gln: Gln
    organisations: tuple[OrganisationDescription, ...]
    products: tuple[ProductDescription, ...]

    def organisation(self, name: str) -> OrganisationDescription:
        """Return the organisation of a name.

        Raises:
            MalformedError: None has it.
        """
        for organisation in self.organisations:
            if organisation.name == name:
                return organisation
        known = ", ".join(item.name for item in self.organisations)
        raise MalformedError(f"no organisation {name!r}; known are: {known}", code="ORGANISATION_UNKNOWN")


def read_network_file(path: Path) -> NetworkDescription:
    """Read a network.toml.

    Raises:
        MalformedError: Not TOML, a key is missing, unknown or of wrong form, or a name or GLN stands twice.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MalformedError(f"{path.name}: {error}", code="NETWORK_FILE") from error
    return _Reader(path.name).network(table)


def check_name(name: str, *, field: str) -> None:
    """Check that an organisation may be called so; the name becomes that of folders and log files.

    Raises:
        MalformedError: Not 1 to 64 of a-z, 0-9 and -, or the name of a part of every network.
    """
    if not _NAME.match(name) or name in _RESERVED_NAMES:
        message = f"expected 1 to 64 of a-z, 0-9, -, not reserved; got {name[:80]!r}"
        raise MalformedError(message, code="NETWORK_FILE", field=field)


def check_station_name(name: str, *, field: str) -> None:
    """Check that a station may be called so: its events' source, and its place within the location (AI 254).

    Raises:
        MalformedError: Not 1 to 20 of a-z, 0-9 and, inside, -; or the source of others.
    """
    if not is_station_name(name):
        message = f"expected 1 to 20 of a-z, 0-9 and, inside, -, not reserved; got {name[:40]!r}"
        raise MalformedError(message, code="NETWORK_FILE", field=field)


class _Reader:
    """Takes tables apart, naming the key that is wrong."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name

    def network(self, table: dict[str, Any]) -> NetworkDescription:
        self._check_keys(table, "", {"network", "authority", "ledger", "organisation", "product"})
        organisations = tuple(self._organisation(item, where) for where, item in self._tables(table, "organisation"))
        if not organisations:
            raise self._error("organisation", "name at least one organisation")
        authority = self._gln(self._table(table, "authority", {"gln"}), "authority", "gln")
        ledger = self._gln(self._table(table, "ledger", {"gln"}), "ledger", "gln")
        self._check_unique(organisations, authority, ledger)
        names = {item.name for item in organisations}
        products = tuple(self._product(item, where, names) for where, item in self._tables(table, "product"))
        return NetworkDescription(self._origin(table), authority, ledger, organisations, products)

    def _origin(self, table: dict[str, Any]) -> str:
        origin = self._text(self._table(table, "network", {"origin"}), "network", "origin")
        try:
            check_key_name(origin, field="origin")
        except MalformedError as error:
            raise self._error("network.origin", error.message) from error
        return origin

    def _check_unique(self, organisations: tuple[OrganisationDescription, ...], authority: Gln, ledger: Gln) -> None:
        names = [item.name for item in organisations]
        glns = [str(authority), str(ledger)]
        for item in organisations:
            glns += [str(item.gln), *(str(gln) for gln in item.locations if gln != item.gln)]
        for values, what in ((names, "name"), (glns, "GLN")):
            for value in values:
                if values.count(value) > 1:
                    raise self._error("organisation", f"the {what} {value} stands twice")

    def _organisation(self, table: dict[str, Any], where: str) -> OrganisationDescription:
        known = {"name", "display_name", "role", "gln", "locations", "company_prefixes", "responder_url", "stations"}
        self._check_keys(table, where, known)
        name = self._text(table, where, "name")
        check_name(name, field=f"{self._file_name}: {where}.name")
        role = self._text(table, where, "role")
        if role not in {item.value for item in SERVICE_ROLES}:
            wanted = ", ".join(SERVICE_ROLES)
            raise self._error(f"{where}.role", f"expected one of {wanted}; got {role!r}")
        return OrganisationDescription(
            name=name,
            display_name=self._text(table, where, "display_name", default=name),
            role=Role(role),
            gln=self._gln(table, where, "gln"),
            locations=tuple(
                self._gln({place: gln}, where, place) for place, gln in self._items(table, where, "locations")
            ),
            company_prefixes=tuple(
                self._prefix({place: prefix}, where, place)
                for place, prefix in self._items(table, where, "company_prefixes")
            ),
            responder_url=self._responder_url(table, where),
            stations=self._stations(table, where),
        )

    def _stations(self, table: dict[str, Any], where: str) -> tuple[str, ...]:
        names = []
        for place, name in self._items(table, where, "stations"):
            field = f"{self._file_name}: {where}.{place}"
            if not isinstance(name, str) or name in names:
                raise self._error(f"{where}.{place}", "expected a text that stands once")
            check_station_name(name, field=field)
            names.append(name)
        return tuple(names)

    def _responder_url(self, table: dict[str, Any], where: str) -> str:
        text = self._text(table, where, "responder_url", default="")
        if not RESPONDER_URL.match(text):
            raise self._error(
                f"{where}.responder_url", f"expected https://host or https://host/path, got {text[:80]!r}"
            )
        return text

    def _product(self, table: dict[str, Any], where: str, names: set[str]) -> ProductDescription:
        texts = {"name", "ndc", "strength", "dosage_form", "net_content"}
        self._check_keys(table, where, {"owner", "gtin", "level", "contains", "storage", *texts})
        owner = self._text(table, where, "owner")
        if owner not in names:
            raise self._error(f"{where}.owner", f"no organisation {owner!r}")
        level = self._text(table, where, "level")
        if level not in {item.value for item in PackLevel}:
            raise self._error(f"{where}.level", f"expected one of {', '.join(PackLevel)}; got {level!r}")
        product = Product(
            gtin=self._gtin(table, where),
            level=PackLevel(level),
            name=self._text(table, where, "name"),
            national_numbers=(NationalNumber("NDC", self._text(table, where, "ndc")),) if "ndc" in table else (),
            strength=self._text(table, where, "strength", default=""),
            dosage_form=self._text(table, where, "dosage_form", default=""),
            net_content=self._text(table, where, "net_content", default=""),
            content=self._content(table, where),
            storage=self._storage(table, where),
        )
        return ProductDescription(owner, product)

    def _storage(self, table: dict[str, Any], where: str) -> StorageLimits | None:
        if "storage" not in table:
            return None
        return parse_storage(table["storage"], field=f"{self._file_name}: {where}.storage")

    def _content(self, table: dict[str, Any], where: str) -> ProductContent | None:
        if "contains" not in table:
            return None
        place = f"{where}.contains"
        contains = self._table(table, "contains", {"gtin", "count"}, place=place)
        count = contains.get("count")
        # TOML's true is Python's 1.
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise self._error(f"{place}.count", "expected a number from 1")
        return ProductContent(self._gtin(contains, place), count)

    def _table(self, table: dict[str, Any], key: str, known: set[str], *, place: str | None = None) -> dict[str, Any]:
        found = table.get(key, {})
        if not isinstance(found, dict):
            raise self._error(place or key, "expected a table")
        self._check_keys(found, place or key, known)
        return found

    def _tables(self, table: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
        found = table.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self._error(key, f"expected tables, each under [[{key}]]")
        return [(f"{key}[{number}]", item) for number, item in enumerate(found)]

    def _items(self, table: dict[str, Any], where: str, key: str) -> list[tuple[str, Any]]:
        found = table.get(key, [])
        if not isinstance(found, list):
            raise self._error(f"{where}.{key}", "expected a list")
        return [(f"{key}[{number}]", item) for number, item in enumerate(found)]

    def _check_keys(self, table: dict[str, Any], where: str, known: set[str]) -> None:
        for key in table:
            if key not in known:
                raise self._error(f"{where}.{key}".lstrip("."), f"unknown key; known are: {', '.join(sorted(known))}")

    def _text(self, table: dict[str, Any], where: str, key: str, *, default: str | None = None) -> str:
        value = table.get(key, default)
        if not isinstance(value, str) or not (value or default == ""):
            raise self._error(f"{where}.{key}", "expected a text")
        return value

    def _gln(self, table: dict[str, Any], where: str, key: str) -> Gln:
        text = self._text(table, where, key)
        try:
            return Gln(text)
        except MalformedError as error:
            raise self._error(f"{where}.{key}", error.message) from error

    def _prefix(self, table: dict[str, Any], where: str, key: str) -> str:
        text = self._text(table, where, key)
        if not _PREFIX.match(text):
            raise self._error(f"{where}.{key}", f"expected a GS1 company prefix of 4 to 12 digits, got {text!r}")
        return text

    def _gtin(self, table: dict[str, Any], where: str) -> Gtin:
        text = self._text(table, where, "gtin")
        try:
            return Gtin(text)
        except MalformedError as error:
            raise self._error(f"{where}.gtin", error.message) from error

    def _error(self, field: str, message: str) -> MalformedError:
        return MalformedError(message, code="NETWORK_FILE", field=f"{self._file_name}: {field}")
