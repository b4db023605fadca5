"""One event's XML element taken apart, faults and all, and where its parts stand.

Source: EPCIS 1.2, section 9.5; EPCIS 2.0, section 9.5.
"""

from collections.abc import Iterator
from typing import Any, Final, cast

from lxml.etree import _Element as Element

from medtrail.epcis.build import EXTENSIONS
from medtrail.epcis.model import Extension
from medtrail.epcis.rules.finding import Faults, Path
from medtrail.epcis.rules.shape import EVENT, Kind
from medtrail.epcis.rules.xml_order import QUANTITY, Order, order_of
from medtrail.epcis.xml_elements import WRAPPERS, XSI, expand, extension_of, split_name
from medtrail.errors import MalformedError

# Lists, and the elements that they hold.
_ITEMS: Final = {
    **dict.fromkeys(("epcList", "childEPCs", "inputEPCList", "outputEPCList"), "epc"),
    **dict.fromkeys(
        ("quantityList", "childQuantityList", "inputQuantityList", "outputQuantityList"), "quantityElement"
    ),
    "bizTransactionList": "bizTransaction",
    "sourceList": "source",
    "destinationList": "destination",
    "sensorElementList": "sensorElement",
    "correctiveEventIDs": "correctiveEventID",
}
# Elements that stand several times instead of in a list.
_REPEATED: Final = frozenset({"certificationInfo", "set", "unset", "sensorReport"})
_CURIES: Final = frozenset({"type", "exception", "component", "reason"})


def name_of(element: Element) -> tuple[str, str]:
    """Return (namespace, local name); the standard's own namespaces are none, since its schemas qualify only roots."""
    namespace, name = split_name(str(element.tag))
    return "" if namespace.startswith("urn:epcglobal:epcis") else namespace, name


def unqualified(part: Element) -> None:
    """Take the standard's own namespaces off an element and all below it, as some writers put them on."""
    for element in part.iter():
        namespace, name = name_of(element)
        if not namespace and element.tag != name:
            element.tag = name


def children_of(parent: Element) -> Iterator[Element]:
    """Yield child elements, looking through the wrappers of version 1.2."""
    for child in parent:
        if child.tag in WRAPPERS:
            yield from children_of(child)
        else:
            yield child


def locate(event: Element, base: str, path: Path) -> tuple[str, int | None]:
    """Return place and line of a path in an event; of the nearest thing around it, where it is not there.

    Args:
        event: Its element.
        base: Its place.
        path: Names of fields and numbers of items.
    """
    element, attribute = event, ""
    for step in path:
        found = _item(element, step) if isinstance(step, int) else _child(element, step)
        if found is None:
            attribute = f"/@{step}" if isinstance(step, str) and element.get(step) is not None else ""
            break
        element = found
    steps: list[str] = []
    at = element
    while at is not event:
        parent = at.getparent()
        if parent is None:  # pragma: no cover  # lxml's type: an element below the event has a parent
            break
        same = [child for child in parent if child.tag == at.tag]
        number = f"[{same.index(at) + 1}]" if len(same) > 1 else ""
        steps.insert(0, f"/{name_of(at)[1]}{number}")
        at = parent
    return base + "".join(steps) + attribute, line_of(element)


def line_of(element: Element) -> int | None:
    """Return the line on which an element begins, from 1; None where it is not known."""
    return cast("int | None", element.sourceline)


def _child(parent: Element, name: str) -> Element | None:
    return next((child for child in children_of(parent) if name_of(child)[1] == name), None)


def _item(element: Element, number: int) -> Element | None:
    if element.tag in _REPEATED:
        items = [sibling for sibling in element.itersiblings(preceding=True) if sibling.tag == element.tag][::-1]
        items += [element, *(item for item in element.itersiblings() if item.tag == element.tag)]
    else:
        items = list(children_of(element))
    return items[number] if number < len(items) else None


class XmlEvent:
    """Takes one event apart.

    Args:
        element: Of one of the five event types, its names unqualified.
        version: 1 or 2, of the schema.
    """

    def __init__(self, element: Element, *, version: int) -> None:
        self._element = element
        self._order = order_of(str(element.tag), version=version)
        self._raw: dict[str, Any] = {"type": str(element.tag)}
        self._extensions: list[Extension] = []
        self._faults = Faults()

    def read(self) -> tuple[dict[str, Any], Faults]:
        """Return the event's fields by JSON-LD name, and what was wrong with its elements."""
        self._plain(self._element, ())
        self._container(self._element)
        self._raw[EXTENSIONS] = tuple(self._extensions)
        return self._raw, self._faults

    def _fault(self, code: str, path: Path, message: str) -> None:
        self._faults.add(code, path, message)

    def _plain(self, element: Element, path: Path, known: str = "") -> None:
        """Tell of attributes where the standard has none; those of XML Schema instances say nothing."""
        for key in element.attrib:
            namespace, name = split_name(str(key))
            if namespace != XSI and key != known:
                self._fault("FIELD_UNKNOWN", (*path, name), f"{name[:60]!r}: no such attribute here")

    def _text(self, element: Element, path: Path) -> str:
        if len(element):
            self._fault("FIELD_MALFORMED", path, "expected a text")
        return (element.text or "").strip()

    def _container(self, parent: Element) -> None:
        order = Order(self._order)
        for child in parent:
            namespace, name = name_of(child)
            if child.tag in WRAPPERS:
                self._container(child)
            elif namespace:
                self._extensions += self._extension(child, (name,))
            else:
                before = order.misplaced(name)
                if before is not None:
                    self._fault("FIELD_ORDER", (name,), f"stands after {before}; the schema puts it before")
                self._field(name, child)

    def _field(self, name: str, child: Element) -> None:
        self._plain(child, (name,))
        if name == "certificationInfo":
            found = self._raw.setdefault(name, [])
            found.append(self._text(child, (name, len(found))))
        elif name in self._raw:
            self._fault("FIELD_TWICE", (name,), "stands twice")
        elif name == "ilmd":
            self._raw[name] = self._ilmd(child)
        elif name in EVENT:
            self._raw[name] = self._value(name, child)
        else:
            self._fault("FIELD_UNKNOWN", (name,), "neither a field of the standard nor under a namespace")

    def _value(self, name: str, child: Element) -> object:
        known = EVENT[name]
        if name in _ITEMS:
            return self._list(name, child)
        if name == "persistentDisposition":
            return self._dispositions(child, (name,))
        if known.kind is Kind.OBJECT:
            return self._object(child, (name,))
        text = expand(child, self._text(child, (name,)))
        return text if text or name == "recordTime" else None

    def _dispositions(self, parent: Element, path: Path) -> dict[str, Any]:
        raw: dict[str, Any] = {"set": [], "unset": []}
        for child in parent:
            name = name_of(child)[1]
            if child.tag in raw:
                raw[name].append(expand(child, self._text(child, (*path, name, len(raw[name])))))
            else:
                self._fault("FIELD_UNKNOWN", (*path, name), "the standard knows set and unset here")
        return raw

    def _list(self, name: str, parent: Element) -> list[object]:
        found: list[object] = []
        for number, item in enumerate(children_of(parent)):
            path = (name, number)
            if item.tag != _ITEMS[name]:
                self._fault("FIELD_UNKNOWN", path, f"expected {_ITEMS[name]}, got {name_of(item)[1][:60]!r}")
            if _ITEMS[name] == "epc":
                found.append(self._text(item, path))
            elif _ITEMS[name] == "quantityElement":
                found.append(self._quantity(item, path))
            elif name == "sensorElementList":
                found.append(self._sensor(item, path))
            else:
                typed = {"type": expand(item, item.get("type", ""))} if "type" in item.attrib else {}
                self._plain(item, path, known="type")
                found.append({_ITEMS[name]: self._text(item, path), **typed})
        return found

    def _quantity(self, item: Element, path: Path) -> dict[str, Any]:
        raw: dict[str, Any] = {}
        order = Order(QUANTITY)
        for part in item:
            name = name_of(part)[1]
            before = order.misplaced(name)
            if before is not None:
                self._fault("FIELD_ORDER", (*path, name), f"stands after {before}; the schema puts it before")
            if name in raw:
                self._fault("FIELD_TWICE", (*path, name), "stands twice")
            raw.setdefault(name, self._text(part, (*path, name)))
        return raw

    def _object(self, parent: Element, path: Path) -> dict[str, Any]:
        """Return a place or an error declaration."""
        raw: dict[str, Any] = {}
        extensions: list[Extension] = []
        for child in children_of(parent):
            namespace, name = name_of(child)
            if namespace:
                extensions += self._extension(child, (*path, name))
            elif name in raw:
                self._fault("FIELD_TWICE", (*path, name), "stands twice")
            elif name in _ITEMS:
                raw[name] = self._events(child, (*path, name))
            else:
                raw[name] = expand(child, self._text(child, (*path, name))) or None
        raw[EXTENSIONS] = tuple(extensions)
        return raw

    def _events(self, parent: Element, path: Path) -> list[str]:
        found: list[str] = []
        for number, item in enumerate(parent):
            if item.tag != "correctiveEventID":
                self._fault("FIELD_UNKNOWN", (*path, number), "the standard knows correctiveEventID here")
            found.append(self._text(item, (*path, number)))
        return found

    def _sensor(self, parent: Element, path: Path) -> dict[str, Any]:
        raw: dict[str, Any] = {}
        extensions: list[Extension] = []
        for child in children_of(parent):
            namespace, name = name_of(child)
            if namespace:
                extensions += self._extension(child, (*path, name))
            elif name == "sensorReport":
                reports = raw.setdefault(name, [])
                reports.append(self._attributes(child, (*path, name, len(reports))))
            elif name in raw:
                self._fault("FIELD_TWICE", (*path, name), "stands twice")
            else:
                raw[name] = self._attributes(child, (*path, name))
        raw[EXTENSIONS] = tuple(extensions)
        return raw

    def _attributes(self, element: Element, path: Path) -> dict[str, Any]:
        raw: dict[str, Any] = {}
        extensions: list[Extension] = []
        for key, value in element.attrib.items():
            space, attribute = split_name(str(key))
            if space:
                extensions.append(Extension(space, attribute, str(value)))
            else:
                raw[attribute] = expand(element, str(value)) if key in _CURIES else str(value)
        for child in children_of(element):
            namespace, name = name_of(child)
            if namespace:
                extensions += self._extension(child, (*path, name))
            else:
                self._fault("FIELD_UNKNOWN", (*path, name), "neither a field of the standard nor under a namespace")
        raw[EXTENSIONS] = tuple(extensions)
        return raw

    def _ilmd(self, parent: Element) -> tuple[Extension, ...]:
        found: list[Extension] = []
        for child in children_of(parent):
            namespace, name = name_of(child)
            if not namespace:
                self._fault("NAMESPACE_MISSING", ("ilmd", name), "extensions need a namespace")
            else:
                found += self._extension(child, ("ilmd", name))
        return tuple(found)

    def _extension(self, element: Element, path: Path) -> list[Extension]:
        try:
            return [extension_of(element)]
        except MalformedError as error:
            self._fault(error.code, path, error.message)
            return []
