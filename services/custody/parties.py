"""Who is party to an event: the one that did it, whence the goods came, whither they go."""

from collections.abc import Iterable

from medtrail.epcis.model import EpcisEvent, Place, SourceDest
from medtrail.errors import MalformedError
from medtrail.gs1 import Gln, OtherKey, Sgln, parse_epc
from medtrail.trust import Registry

_PARTY_AI = "417"
# Whose event it is is said by owner first: a carrier possesses, a location is a place.
_TYPES = ("owning_party", "possessing_party", "location")


def gln_of_uri(uri: str) -> Gln | None:
    """Return the GLN of a party or place identifier, or None where it names none."""
    try:
        key = parse_epc(uri)
    except MalformedError:
        return None
    if isinstance(key, Sgln):
        return key.gln
    if isinstance(key, OtherKey) and key.ai == _PARTY_AI:
        return Gln(key.value)
    return None


def party_of(items: Iterable[SourceDest]) -> Gln | None:
    """Return the GLN of the owning party, else of the possessing party, else of the location."""
    by_type = {item.type: item.id for item in reversed(tuple(items))}
    for kind in _TYPES:
        if kind in by_type:
            gln = gln_of_uri(by_type[kind])
            if gln is not None:
                return gln
    return None


def named_glns(items: Iterable[SourceDest]) -> frozenset[Gln]:
    """Return all GLNs that sources or destinations name."""
    return frozenset(gln for gln in (gln_of_uri(item.id) for item in items) if gln is not None)


def place_of(event: EpcisEvent) -> Gln | None:
    """Return the GLN of the business location, else of the read point."""
    for place in (event.biz_location, event.read_point):
        gln = _gln_of_place(place)
        if gln is not None:
            return gln
    return None


def _gln_of_place(place: Place | None) -> Gln | None:
    return None if place is None else gln_of_uri(place.id)


def organisation_gln(gln: Gln, registry: Registry) -> Gln:
    """Return the party GLN of the organisation that has a GLN, or the GLN itself where nobody enrolled it."""
    organisation = registry.organisation_of_gln(gln)
    return gln if organisation is None else organisation.gln


def actor_of(event: EpcisEvent, registry: Registry) -> Gln | None:
    """Return who did what an event says: the source of a shipment, the receiver of a delivery, else whose place it is.

    None where the event names nobody.
    """
    if event.biz_step in {"shipping", "void_shipping"}:
        found = party_of(event.source_list) or place_of(event)
    elif event.biz_step in {"receiving", "accepting"}:
        found = party_of(event.destination_list) or place_of(event)
    else:
        found = place_of(event)
    return None if found is None else organisation_gln(found, registry)
