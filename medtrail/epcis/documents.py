"""Reading a document by its format."""

from medtrail.epcis.json_in import read_json
from medtrail.epcis.model import EpcisDocument
from medtrail.epcis.xml_in import read_xml
from medtrail.errors import MalformedError


def read_document(data: bytes, *, format: str) -> EpcisDocument:  # noqa: A002  # the word that callers expect
    """Read an EPCIS document.

    Args:
        data: The file's bytes, at most 16 MiB.
        format: ``json`` or ``xml``; file endings with or without the dot (``.jsonld``) mean their format.

    Raises:
        MalformedError: An unknown format, or not an EPCIS document of it.
    """
    ending = format.lower().lstrip(".")
    if ending in {"json", "jsonld"}:
        return read_json(data)
    if ending == "xml":
        return read_xml(data)
    message = f"expected json, jsonld or xml, got {format[:20]!r}"
    raise MalformedError(message, code="FORMAT_UNKNOWN")
