"""network.toml: who takes part in an embedded network, in words that a person edits."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtrail.errors import MalformedError
from medtrail.event import NationalNumber, PackLevel, Product, ProductContent, Role
from medtrail.gs1 import Gln, Gtin

FILE_NAME = "network.toml"

# Roles that run as a process of their own.
SERVICE_ROLES = (Role.MANUFACTURER, Role.DISTRIBUTOR, Role.PHARMACY)

_NAME = re.compile(r"[a-z0-9-]{1,64}\Z")
_RESERVED_NAMES = frozenset({"authority", "ledger", "nats"})

SAMPLE = """\
# A medtrail network on this machine. Edit it before the first `medtrail up`; later changes of parties are enrolled
# at the next start.

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
    """An organisation as network.toml states it."""

    name: str
    display_name: str
    role: Role
    gln: Gln
    locations: tuple[Gln, ...]
    company_prefixes: tuple[str, ...]


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


class _Reader:
    """Takes tables apart, naming the key that is wrong."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name

    def network(self, table: dict[str, Any]) -> NetworkDescription:
        self._check_keys(table, "", {"network", "authority", "ledger", "organisation", "product"})
        organisations = tuple(
            self._organisation(item, f"organisation[{number}]")
            for number, item in enumerate(table.get("organisation", []))
        )
        if not organisations:
            raise self._error("organisation", "name at least one organisation")
        authority = self._gln(table.get("authority", {}), "authority", "gln")
        ledger = self._gln(table.get("ledger", {}), "ledger", "gln")
        self._check_unique(organisations, authority, ledger)
        names = {item.name for item in organisations}
        products = tuple(
            self._product(item, f"product[{number}]", names) for number, item in enumerate(table.get("product", []))
        )
        origin = self._text(table.get("network", {}), "network", "origin")
        return NetworkDescription(origin, authority, ledger, organisations, products)

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
        self._check_keys(table, where, {"name", "display_name", "role", "gln", "locations", "company_prefixes"})
        name = self._text(table, where, "name")
        if not _NAME.match(name) or name in _RESERVED_NAMES:
            raise self._error(f"{where}.name", f"expected 1 to 64 of a-z, 0-9, -, not reserved; got {name!r}")
        role = self._text(table, where, "role")
        if role not in {item.value for item in SERVICE_ROLES}:
            wanted = ", ".join(SERVICE_ROLES)
            raise self._error(f"{where}.role", f"expected one of {wanted}; got {role!r}")
        return OrganisationDescription(
            name=name,
            display_name=table.get("display_name", name),
            role=Role(role),
            gln=self._gln(table, where, "gln"),
            locations=tuple(self._gln({"gln": gln}, f"{where}.locations", "gln") for gln in table.get("locations", [])),
            company_prefixes=tuple(table.get("company_prefixes", [])),
        )

    def _product(self, table: dict[str, Any], where: str, names: set[str]) -> ProductDescription:
        texts = {"name", "ndc", "strength", "dosage_form", "net_content"}
        self._check_keys(table, where, {"owner", "gtin", "level", "contains", *texts})
        owner = self._text(table, where, "owner")
        if owner not in names:
            raise self._error(f"{where}.owner", f"no organisation {owner!r}")
        level = self._text(table, where, "level")
        if level not in {item.value for item in PackLevel}:
            raise self._error(f"{where}.level", f"expected one of {', '.join(PackLevel)}; got {level!r}")
        contains = table.get("contains")
        content = None
        if contains is not None:
            content = ProductContent(self._gtin(contains, f"{where}.contains"), int(contains.get("count", 0)))
        product = Product(
            gtin=self._gtin(table, where),
            level=PackLevel(level),
            name=self._text(table, where, "name"),
            national_numbers=(NationalNumber("NDC", table["ndc"]),) if "ndc" in table else (),
            strength=table.get("strength", ""),
            dosage_form=table.get("dosage_form", ""),
            net_content=table.get("net_content", ""),
            content=content,
        )
        return ProductDescription(owner, product)

    def _check_keys(self, table: dict[str, Any], where: str, known: set[str]) -> None:
        for key in table:
            if key not in known:
                raise self._error(f"{where}.{key}".lstrip("."), f"unknown key; known are: {', '.join(sorted(known))}")

    def _text(self, table: dict[str, Any], where: str, key: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value:
            raise self._error(f"{where}.{key}", "expected a text")
        return value

    def _gln(self, table: dict[str, Any], where: str, key: str) -> Gln:
        text = self._text(table, where, key)
        try:
            return Gln(text)
        except MalformedError as error:
            raise self._error(f"{where}.{key}", error.message) from error

    def _gtin(self, table: dict[str, Any], where: str) -> Gtin:
        text = self._text(table, where, "gtin")
        try:
            return Gtin(text)
        except MalformedError as error:
            raise self._error(f"{where}.gtin", error.message) from error

    def _error(self, field: str, message: str) -> MalformedError:
        return MalformedError(message, code="NETWORK_FILE", field=f"{self._file_name}: {field}")
