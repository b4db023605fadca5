"""What is known of products and parties beside the events: from the log, and from the organisation's parties.toml."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from medtrail.epcis.export import TradeItem, TradingParty
from medtrail.event import PayloadType, Product
from medtrail.gs1 import Gln, Gtin, PrefixLengths
from medtrail.trust import Registry
from services.custody import events_store
from services.custody.parties_file import PartiesFile


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of products and parties beside the events.

    Attributes:
        registry: Who is enrolled.
        products: As their owners state them.
        file: What the organisation's own parties.toml says.
    """

    registry: Registry
    products: Mapping[Gtin, Product]
    file: PartiesFile

    def item(self, gtin: Gtin) -> TradeItem | None:
        """Return what is known of a product; of a grouping, what it does not say is that of what it holds."""
        stated, written = self.products.get(gtin), self.file.items.get(gtin)
        described = [*(() if stated is None else (stated,)), *(() if written is None else (written.product,))]
        if not described:
            return None
        product = described[0]
        content = product.content
        inner = None if content is None else self.products.get(content.gtin)
        for other in (*described[1:], *(() if inner is None else (inner,))):
            product = _filled(product, other)
        owners = (each.display_name for each in self.registry.organisations() if each.owns(gtin))
        manufacturer = (written.manufacturer if written else "") or next(owners, "")
        return TradeItem(product, manufacturer)

    def party(self, gln: Gln) -> TradingParty | None:
        """Return what is known of a party or place."""
        written = self.file.parties.get(gln)
        organisation = self.registry.organisation_of_gln(gln)
        if organisation is None:
            return written
        name = (written.name if written else "") or organisation.display_name
        return TradingParty(name, written.address if written else None)

    def prefix_lengths(self) -> PrefixLengths:
        """Return the company prefixes of enrolments and of the file."""
        lengths = PrefixLengths()
        for organisation in self.registry.organisations():
            for prefix in organisation.company_prefixes:
                lengths.learn_prefix(prefix)
        for prefix in self.file.company_prefixes:
            lengths.learn_prefix(prefix)
        return lengths


def _filled(product: Product, other: Product) -> Product:
    """Return a product whose missing texts are those of another."""
    return replace(
        product,
        name=product.name or other.name,
        national_numbers=product.national_numbers or other.national_numbers,
        strength=product.strength or other.strength,
        dosage_form=product.dosage_form or other.dosage_form,
        net_content=product.net_content or other.net_content,
    )


def known_products(connection: Connection, logged: Mapping[Gtin, Product]) -> dict[Gtin, Product]:
    """Return the products in the log and, over them, our own that may not be there yet."""
    own = events_store.own_of_type(connection, PayloadType.PRODUCT)
    stated = (item.event.statement for item in own)
    return {**logged, **{item.gtin: item for item in stated if isinstance(item, Product)}}
