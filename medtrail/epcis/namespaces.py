"""Namespace prefixes of JSON-LD documents."""

from dataclasses import dataclass, field

# Prefixes that the EPCIS 2.0 JSON-LD context declares itself.
BUILT_IN: dict[str, str] = {
    "cbv": "https://ref.gs1.org/cbv/",
    "cbvmda": "urn:epcglobal:cbv:mda",
    "epcis": "https://ref.gs1.org/epcis/",
    "gs1": "https://gs1.org/voc/",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "dcterms": "http://purl.org/dc/terms/",
    "owl": "http://www.w3.org/2002/07/owl#",
}

# Prefixes that writers give to namespaces which are not of EPCIS and often come with it.
USUAL: dict[str, str] = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "sbdh": "http://www.unece.org/cefact/namespaces/StandardBusinessDocumentHeader",
    "xml": "http://www.w3.org/XML/1998/namespace",
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
}

AGAIN = "--"
"""Between a prefix and a number: a second name of its namespace, for keys that would stand twice in one object."""

_VOCABULARIES = frozenset({BUILT_IN["cbv"], BUILT_IN["gs1"]})


def is_reserved(namespace: str) -> bool:
    """Return whether names of a namespace are fields of the standard, in XML or in JSON-LD, and so no extensions.

    An extension there would be a second spelling of a field: other readers take it for the field itself.
    """
    return namespace.startswith("urn:epcglobal:epcis") or namespace == BUILT_IN["epcis"]


def goes_without_saying(prefix: str, uri: str) -> bool:
    """Return whether writers declare a prefix by themselves, where it is needed."""
    return uri in {BUILT_IN.get(prefix), USUAL.get(prefix)}


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Prefixes in force at one place of a document."""

    declared: dict[str, str] = field(default_factory=dict)

    def with_prefix(self, prefix: str, uri: str) -> "Prefixes":
        """Return these prefixes and one more, which hides an earlier one of its name."""
        return Prefixes({**self.declared, prefix: uri})

    def custom(self) -> tuple[tuple[str, str], ...]:
        """Return the declared prefixes as (prefix, URI).

        The standard's own go without saying, and second names that a writer made up say nothing.
        """
        return tuple(
            (prefix, uri)
            for prefix, uri in self.declared.items()
            if not goes_without_saying(prefix, uri)
            and not (AGAIN in prefix and self.uri_of(prefix.split(AGAIN)[0]) == uri)
        )

    def uri_of(self, prefix: str) -> str | None:
        """Return the namespace of a prefix, or None."""
        return self.declared.get(prefix) or BUILT_IN.get(prefix)

    def split(self, key: str) -> tuple[str, str]:
        """Return (namespace, local name) of a key: ``ext:name``, a whole URI, or a bare name (empty namespace)."""
        prefix, colon, name = key.partition(":")
        if not colon:
            return "", key
        uri = self.uri_of(prefix)
        if uri is not None:
            return uri, name
        position = max(key.rfind("#"), key.rfind("/"), key.rfind(":"))
        return key[: position + 1], key[position + 1 :]

    def expand_value(self, text: str) -> str:
        """Return a CURIE of a standard vocabulary (``cbv:BizStep-shipping``) as URI; other text as it is.

        Other prefixes are left alone: what they mean depends on where in a document they stand, and the value itself
        says so nowhere.
        """
        prefix, colon, name = text.partition(":")
        uri = self.uri_of(prefix) if colon else None
        return text if uri not in _VOCABULARIES else uri + name
