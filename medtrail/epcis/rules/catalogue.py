"""The rules, one code each.

Codes that readers and the check at capture raise stand here under the same names: what they refuse has a rule, and a
rule's text says what they want.
"""

from typing import Final

from medtrail.epcis.rules.finding import Profile, Rule, Severity

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
_EPCIS, _CBV, _GS1, _DSCSA = Profile.EPCIS, Profile.CBV, Profile.GS1, Profile.DSCSA

_DOCUMENT: Final = (
    Rule("DOCUMENT_MALFORMED", _ERROR, _EPCIS, "The root is an EPCISDocument, an EPCISQueryDocument or one event.",
         "EPCIS 2.0, sections 9.4 and 10.1"),
    Rule("DOCUMENT_TRUNCATED", _ERROR, _EPCIS, "The file does not end before its document does.",
         "XML 1.0, section 2.1; RFC 8259, section 2"),
    Rule("DOCUMENT_IS_QUERY", _WARNING, _EPCIS, "The document holds events; a query only asks for some.",
         "EPCIS 2.0, section 8.2"),
    Rule("QUERY_PARAMETER_UNKNOWN", _ERROR, _EPCIS, "A parameter of a query is one of SimpleEventQuery's.",
         "EPCIS 2.0, section 8.2.7.1"),
    Rule("QUERY_VALUE_WRONG", _ERROR, _EPCIS, "A parameter of a query has a value of its kind.",
         "EPCIS 2.0, section 8.2.7.1"),
    Rule("XML_MALFORMED", _ERROR, _EPCIS, "XML is well-formed.", "XML 1.0, section 2.1"),
    Rule("XML_ENTITY_REFUSED", _ERROR, _EPCIS, "XML has no document type and no entities: the text stands written out.",
         "medtrail: what stands outside a file, or grows inside it, is not its content"),
    Rule("JSON_MALFORMED", _ERROR, _EPCIS, "JSON is well-formed: numbers are finite, texts are Unicode.",
         "RFC 8259, sections 2 to 8"),
    Rule("ENCODING_WRONG", _ERROR, _EPCIS, "The bytes are in the encoding that the file declares; JSON is UTF-8.",
         "RFC 8259, section 8.1; XML 1.0, section 4.3.3"),
    Rule("CHARACTER_FORBIDDEN", _ERROR, _EPCIS, "Texts have no control characters, which XML cannot carry.",
         "XML 1.0, section 2.2"),
    Rule("NESTING_TOO_DEEP", _ERROR, _EPCIS, "Nothing nests deeper than 128 in JSON or 255 in XML.",
         "medtrail: memory stays bounded"),
    Rule("EVENT_TOO_LARGE", _ERROR, _EPCIS, "An event has at most 4 MiB.",
         "medtrail: memory stays bounded"),
    Rule("HEADER_TOO_LARGE", _ERROR, _EPCIS, "A document has at most 16 MiB besides its events.",
         "medtrail: memory stays bounded"),
    Rule("FAULTS_COUNTED", _ERROR, _EPCIS, "An event's syntax has at most 10,000 faults; of more, only the number "
         "is told.", "medtrail: memory stays bounded"),
    Rule("CONTEXT_MISSING", _ERROR, _EPCIS, "A JSON-LD document has an @context.", "EPCIS 2.0, section 10.3"),
    Rule("CONTEXT_MALFORMED", _ERROR, _EPCIS, "An @context holds URIs and maps from prefixes to namespace URIs.",
         "EPCIS 2.0, section 10.3"),
    Rule("SCHEMA_VERSION_UNKNOWN", _WARNING, _EPCIS, "schemaVersion is 1.0, 1.1, 1.2 or 2.0.",
         "EPCIS 2.0, sections 9.3 and 10.2"),
)  # fmt: skip
_FIELDS: Final = (
    Rule("FIELD_MISSING", _ERROR, _EPCIS, "Every required field of a document, an event and its parts is there.",
         "EPCIS 2.0, section 7.4, by event type"),
    Rule("FIELD_UNKNOWN", _ERROR, _EPCIS, "A field is one of the standard's, or stands under a namespace where "
         "extensions may stand.", "EPCIS 2.0, sections 7.1 and 9.1"),
    Rule("FIELD_FORBIDDEN", _ERROR, _EPCIS, "An event has only fields of its type.", "EPCIS 2.0, section 7.4"),
    Rule("FIELD_TWICE", _ERROR, _EPCIS, "A field stands once; a name stands once in a JSON object.",
         "EPCIS 2.0, section 9.5; RFC 8259, section 4"),
    Rule("FIELD_MALFORMED", _ERROR, _EPCIS,
         "A field holds what its type says: a text, a truth value, a list, an object.",
         "EPCIS 2.0, sections 9.5 and 10.2"),
    Rule("FIELD_ORDER", _ERROR, _EPCIS, "In XML, the elements of an event stand in the order of the schema.",
         "EPCIS 2.0, section 9.5; EPCIS 1.2, section 9.5"),
    Rule("LIST_EMPTY", _WARNING, _EPCIS, "A list of transactions, parties or sensor elements that is there holds one.",
         "EPCIS 2.0, section 9.5"),
    Rule("EVENT_MALFORMED", _ERROR, _EPCIS, "An item of the event list is an object.", "EPCIS 2.0, section 10.2"),
    Rule("EVENT_TYPE_UNKNOWN", _ERROR, _EPCIS, "An event is of one of the five event types.", "EPCIS 2.0, section 7.4"),
    Rule("ACTION_UNKNOWN", _ERROR, _EPCIS, "An action is ADD, OBSERVE or DELETE.", "EPCIS 2.0, section 7.3.2"),
    Rule("TIME_MALFORMED", _ERROR, _EPCIS, "A time is a date-time with its offset from UTC.",
         "EPCIS 2.0, section 7.3.1; XML Schema 1.1, dateTimeStamp"),
    Rule("OFFSET_MALFORMED", _ERROR, _EPCIS, "An offset is +hh:mm or -hh:mm, up to 14:00.",
         "EPCIS 2.0, section 7.4.1"),
    Rule("NUMBER_MALFORMED", _ERROR, _EPCIS, "A number is a decimal of at most 64 digits and powers of ten.",
         "XML Schema 1.1, decimal and double; medtrail: memory stays bounded"),
    Rule("URI_MALFORMED", _ERROR, _EPCIS, "An identifier is a URI.", "EPCIS 2.0, section 6.4; RFC 3986"),
    Rule("EXTENSION_DEPTH", _ERROR, _EPCIS, "Extensions nest at most 32 deep in JSON and 64 in XML.",
         "medtrail: memory stays bounded"),
    Rule("NAMESPACE_MISSING", _ERROR, _EPCIS, "What extends an event, and all master data of ILMD, has a namespace.",
         "EPCIS 2.0, sections 7.1 and 7.3.6"),
    Rule("NAMESPACE_RESERVED", _ERROR, _EPCIS, "Extensions do not use the standard's own namespaces.",
         "EPCIS 2.0, section 7.1"),
)  # fmt: skip
_MEANING: Final = (
    Rule("ILMD_FORBIDDEN", _ERROR, _EPCIS, "Only an object event with action ADD and a transformation have ILMD.",
         "EPCIS 2.0, sections 7.4.2 and 7.4.5"),
    Rule("EVENT_TIME_FUTURE", _ERROR, _EPCIS, "An event has happened: it is dated at most 5 minutes ahead.",
         "EPCIS 2.0, section 7.4.1"),
    Rule("EVENT_AFTER_RECORD", _ERROR, _EPCIS, "An event is recorded when it has happened, give or take 5 minutes.",
         "EPCIS 2.0, section 7.4.1"),
    Rule("DECLARATION_BEFORE_EVENT", _WARNING, _EPCIS, "An error is declared after the event.",
         "EPCIS 2.0, section 7.4.1.2"),
    Rule("EVENT_HASH_WRONG", _WARNING, _CBV, "An eventID that says it is the event's hash is that.",
         "CBV 2.0, section 8.9"),
    Rule("EPC_TWICE", _ERROR, _EPCIS, "A thing stands once in a list, whatever its spelling.",
         "EPCIS 2.0, sections 7.4.2 and 10.2"),
    Rule("EPC_IS_CLASS", _WARNING, _EPCIS, "A list of EPCs names things; classes and lots stand in quantity lists.",
         "EPCIS 2.0, section 7.3.3"),
    Rule("CLASS_IS_INSTANCE", _WARNING, _EPCIS, "A quantity list names classes and lots, not single things.",
         "EPCIS 2.0, section 7.3.3.3"),
    Rule("PARENT_AMONG_CHILDREN", _ERROR, _EPCIS, "Nothing contains itself.", "EPCIS 2.0, section 7.4.3"),
    Rule("QUANTITY_NOT_POSITIVE", _ERROR, _EPCIS, "A quantity is more than nothing.", "EPCIS 2.0, section 7.3.3.3"),
    Rule("QUANTITY_NOT_WHOLE", _WARNING, _EPCIS, "A quantity without a unit is a count, and whole.",
         "EPCIS 2.0, section 7.3.3.3"),
    Rule("UOM_MALFORMED", _ERROR, _CBV, "A unit is a code of UN/ECE Recommendation 20.",
         "EPCIS 2.0, section 7.3.3.3"),
    Rule("BIZ_STEP_UNKNOWN", _ERROR, _CBV, "A business step is a word of the vocabulary or a URI of another.",
         "CBV 2.0, section 7.1"),
    Rule("DISPOSITION_UNKNOWN", _ERROR, _CBV, "A disposition is a word of the vocabulary or a URI of another.",
         "CBV 2.0, section 7.2"),
    Rule("BIZ_TRANSACTION_TYPE_UNKNOWN", _ERROR, _CBV,
         "A type of business transaction is a word of the vocabulary or a URI of another.", "CBV 2.0, section 7.3"),
    Rule("SOURCE_DEST_TYPE_UNKNOWN", _ERROR, _CBV,
         "A type of source or destination is a word of the vocabulary or a URI of another.", "CBV 2.0, section 7.4"),
    Rule("ERROR_REASON_UNKNOWN", _ERROR, _CBV, "A reason is a word of the vocabulary or a URI of another.",
         "CBV 2.0, section 7.5"),
    Rule("DISPOSITION_UNUSUAL", _WARNING, _CBV, "A disposition goes with a step that brings it about.",
         "CBV 2.0, section 7.2"),
    Rule("DISPOSITION_SET_AND_UNSET", _ERROR, _EPCIS, "One event does not set and unset one persistent disposition.",
         "EPCIS 2.0, section 7.3.5.6"),
    Rule("SENSOR_TYPE_MISSING", _WARNING, _CBV, "A sensor report has a type or an exception.",
         "EPCIS 2.0, section 7.3.7.4"),
    Rule("SENSOR_TYPE_UNKNOWN", _WARNING, _CBV, "A type of sensor report is a measurement of the GS1 web vocabulary, "
         "or a URI.", "CBV 2.0, section 7.7"),
    Rule("SENSOR_EXCEPTION_UNKNOWN", _WARNING, _CBV, "An exception is ALARM_CONDITION, ERROR_CONDITION or a URI.",
         "CBV 2.0, section 7.8"),
    Rule("SENSOR_COMPONENT_UNKNOWN", _WARNING, _CBV, "A component is a word of the vocabulary or a URI of another.",
         "CBV 2.0, section 7.6"),
    Rule("SENSOR_UOM_MALFORMED", _WARNING, _CBV, "A sensor's unit is a code of UN/ECE Recommendation 20.",
         "EPCIS 2.0, section 7.3.7.4"),
    Rule("SENSOR_UOM_MISSING", _WARNING, _CBV, "A measured value that is no bare count or ratio has a unit.",
         "EPCIS 2.0, section 7.3.7.4"),
    Rule("SENSOR_RANGE_WRONG", _WARNING, _EPCIS, "A smallest value is no more than the largest.",
         "EPCIS 2.0, section 7.3.7.4"),
)  # fmt: skip
_IDENTIFIERS: Final = (
    Rule("CHECK_DIGIT_WRONG", _ERROR, _GS1, "A GTIN, SSCC or GLN ends in its check digit.",
         "GS1 General Specifications, section 7.9"),
    Rule("EPC_MALFORMED", _ERROR, _GS1, "An EPC URN or GS1 Digital Link has the form of its scheme: its components and "
         "their digits.", "EPC Tag Data Standard 2.1, section 6; GS1 Digital Link, section 4"),
    Rule("EPC_PATTERN", _ERROR, _GS1, "A pattern names one class: a star stands for the serial number only.",
         "EPC Tag Data Standard 2.1, section 8"),
    Rule("EPC_NOT_GS1", _ERROR, _GS1, "A link that looks like a GS1 Digital Link has a GS1 key in its path.",
         "GS1 Digital Link, section 4"),
    Rule("SERIAL_MALFORMED", _ERROR, _GS1, "A serial number is 1 to 20 characters of GS1's set 82.",
         "GS1 General Specifications, sections 3.5 and 7.11"),
    Rule("LOT_MALFORMED", _ERROR, _GS1, "A lot is 1 to 20 characters of GS1's set 82.",
         "GS1 General Specifications, sections 3.4 and 7.11"),
    Rule("EXTENSION_MALFORMED", _ERROR, _GS1, "A GLN's extension is 1 to 20 characters of GS1's set 82.",
         "GS1 General Specifications, sections 3.7 and 7.11"),
    Rule("AI_VALUE_MALFORMED", _ERROR, _GS1, "The value of an application identifier has its length and characters.",
         "GS1 General Specifications, section 3"),
    Rule("AI_VALUE_TOO_LONG", _ERROR, _GS1, "The value of an application identifier is not longer than it may be.",
         "GS1 General Specifications, section 3"),
    Rule("DATE_WRONG", _ERROR, _GS1, "A date in an identifier is a day that there is.",
         "GS1 General Specifications, section 3.4"),
    Rule("KEY_DOUBTFUL", _WARNING, _GS1, "Any other GS1 key has its form and check digit: assets, documents, the GLN "
         "in a transaction's URN, identifiers of sensors.",
         "EPC Tag Data Standard 2.1, section 6; CBV 2.0, section 8.5"),
    Rule("TOO_LARGE", _ERROR, _GS1, "An identifier has at most 8,192 characters.", "medtrail: memory stays bounded"),
)  # fmt: skip

_TI = "FD&C Act, section 581(26)"
_TS = "FD&C Act, section 581(27)"
_GUIDE = "GS1 US guideline for DSCSA, R1.3"
_PACKS: Final = (
    Rule("DSCSA_EVENT_KIND_WRONG", _ERROR, _DSCSA, "Commissioning is an object event with action ADD, packing an "
         "aggregation event with action ADD, shipping and receiving are object events with action OBSERVE.",
         f"{_GUIDE}, event specifications"),
    Rule("DSCSA_DISPOSITION_WRONG", _ERROR, _DSCSA,
         "After commissioning things are active, after packing and receiving "
         "in_progress, after shipping in_transit.", f"{_GUIDE}, event specifications"),
    Rule("DSCSA_READ_POINT_MISSING", _ERROR, _DSCSA, "Each of these events names its read point.",
         f"{_GUIDE}, event specifications"),
    Rule("DSCSA_BIZ_LOCATION_MISSING", _ERROR, _DSCSA,
         "Commissioning, packing and receiving name the business location.",
         f"{_GUIDE}, event specifications"),
    Rule("DSCSA_NOT_SERIALISED", _ERROR, _DSCSA, "Packs and cases are SGTINs, other containers SSCCs; nothing goes by "
         "class and count.", f"FD&C Act, section 582(a)(9); {_GUIDE}, serialized items"),
    Rule("DSCSA_PRODUCTS_MIXED", _WARNING, _DSCSA, "A commissioning event with a lot names packs of one product.",
         f"{_GUIDE}, commissioning"),
    Rule("DSCSA_LOT_MISSING", _ERROR, _DSCSA, "Packs are commissioned with their lot: cbvmda:lotNumber in ILMD.",
         f"{_TI}(F); {_GUIDE}, commissioning"),
    Rule("DSCSA_EXPIRY_MISSING", _ERROR, _DSCSA, "Packs are commissioned with their expiry: cbvmda:itemExpirationDate "
         "in ILMD.", f"FD&C Act, section 581(14); {_GUIDE}, commissioning"),
    Rule("DSCSA_EXPIRY_MALFORMED", _ERROR, _DSCSA, "An expiry is a day, yyyy-mm-dd.", f"{_GUIDE}, commissioning"),
    Rule("DSCSA_PARENT_WRONG", _ERROR, _DSCSA, "A case or pallet that is packed is an SSCC or an SGTIN.",
         f"{_GUIDE}, packing"),
)  # fmt: skip
_SHIPMENT: Final = (
    Rule("DSCSA_SOURCE_OWNER_MISSING", _ERROR, _DSCSA, "A shipment names who sells: a source of type owning_party.",
         f"{_TI}(I); {_GUIDE}, shipping"),
    Rule("DSCSA_SOURCE_LOCATION_MISSING", _ERROR, _DSCSA,
         "A shipment names where it leaves: a source of type location.",
         f"{_GUIDE}, shipping"),
    Rule("DSCSA_DESTINATION_OWNER_MISSING", _ERROR, _DSCSA,
         "A shipment names who buys: a destination of type owning_party.", f"{_TI}(J); {_GUIDE}, shipping"),
    Rule("DSCSA_DESTINATION_LOCATION_MISSING", _ERROR, _DSCSA,
         "A shipment names where it goes: a destination of type location.", f"{_GUIDE}, shipping"),
    Rule("DSCSA_ORDER_MISSING", _ERROR, _DSCSA, "A shipment names the purchase order: a transaction of type po.",
         f"{_GUIDE}, shipping"),
    Rule("DSCSA_ADVICE_MISSING", _WARNING, _DSCSA, "A shipment names its despatch advice, invoice or bill of lading.",
         f"{_GUIDE}, shipping"),
    Rule("DSCSA_TRANSACTION_DATE_WRONG", _ERROR, _DSCSA, "A transaction date that is given is a day up to the "
         "shipment's; where none is, the shipment's is meant.", f"{_TI}(G) and (H)"),
    Rule("DSCSA_DROP_SHIPMENT_MALFORMED", _ERROR, _DSCSA, "dropShipment is true or false.",
         f"FD&C Act, section 582(d)(1)(C); {_GUIDE}, shipping"),
    Rule("DSCSA_CONTENTS_UNKNOWN", _ERROR, _DSCSA,
         "What is shipped was commissioned or packed in the same document, so "
         "that its containers can be counted and their lots told.", f"{_TI}(E) and (F); {_GUIDE}, shipping"),
    Rule("DSCSA_NOT_DECIDED", _WARNING, _DSCSA, "A document names at most 250,000 things; of more, whether all that is "
         "shipped is known is not decided.", "medtrail: memory stays bounded"),
    Rule("DSCSA_RECEIPT_PARTIES_MISSING", _WARNING, _DSCSA, "A receipt names both owning parties.",
         f"{_GUIDE}, receiving"),
)  # fmt: skip
_HEADER: Final = (
    Rule("DSCSA_GUIDELINE_UNNAMED", _WARNING, _DSCSA, "The header names the guideline: GS1 US DSCSA R1.3.",
         f"{_GUIDE}, EPCIS header"),
    Rule("DSCSA_SENDER_MISSING", _ERROR, _DSCSA, "The header names the sender by its GLN.", f"{_GUIDE}, EPCIS header"),
    Rule("DSCSA_RECEIVER_MISSING", _ERROR, _DSCSA, "The header names the receiver by its GLN.",
         f"{_GUIDE}, EPCIS header"),
    Rule("DSCSA_STATEMENT_MISSING", _ERROR, _DSCSA, "The header of a shipment holds the transaction statement: "
         "dscsaTransactionStatement.", f"{_TS}; {_GUIDE}, EPCIS header"),
    Rule("DSCSA_STATEMENT_NOT_AFFIRMED", _ERROR, _DSCSA,
         "The statement is affirmed: affirmTransactionStatement is true.",
         f"{_TS}; {_GUIDE}, EPCIS header"),
    Rule("DSCSA_LEGAL_NOTICE_MISSING", _ERROR, _DSCSA, "The statement carries its words: legalNotice.",
         f"{_TS}; {_GUIDE}, EPCIS header"),
    Rule("DSCSA_PRODUCT_MISSING", _ERROR, _DSCSA, "Master data in the header describe every product.",
         f"{_TI}; {_GUIDE}, master data"),
    Rule("DSCSA_PRODUCT_NAME_MISSING", _ERROR, _DSCSA, "A product has its name: regulatedProductName.", f"{_TI}(A)"),
    Rule("DSCSA_STRENGTH_MISSING", _ERROR, _DSCSA, "A product has its strength: strengthDescription.", f"{_TI}(B)"),
    Rule("DSCSA_DOSAGE_FORM_MISSING", _ERROR, _DSCSA, "A product has its dosage form: dosageFormType.", f"{_TI}(B)"),
    Rule("DSCSA_NDC_MISSING", _ERROR, _DSCSA, "A product has its NDC: additionalTradeItemIdentification of type "
         "US_FDA_NDC or FDA_NDC_11.", f"{_TI}(C)"),
    Rule("DSCSA_NDC_DIFFERS", _ERROR, _DSCSA, "A product's NDC is well formed and the one inside its GTIN.",
         "21 CFR 207.33; GS1 US guideline for DSCSA, R1.3, relationship between NDC and GTIN"),
    Rule("DSCSA_CONTAINER_SIZE_MISSING", _ERROR, _DSCSA, "A product has its container size: netContentDescription.",
         f"{_TI}(D)"),
    Rule("DSCSA_MANUFACTURER_MISSING", _WARNING, _DSCSA, "A product has its maker: manufacturerOfTradeItemPartyName.",
         f"{_GUIDE}, master data"),
    Rule("DSCSA_PARTY_MISSING", _ERROR, _DSCSA,
         "Master data in the header describe every party and place of a shipment.",
         f"{_TI}(I) and (J); {_GUIDE}, master data"),
    Rule("DSCSA_PARTY_NAME_MISSING", _ERROR, _DSCSA, "A party has its name.", f"{_TI}(I) and (J)"),
    Rule("DSCSA_PARTY_ADDRESS_MISSING", _ERROR, _DSCSA, "A party has its address: street, city, state, postal code and "
         "country.", f"{_TI}(I) and (J)"),
)  # fmt: skip

RULES: Final[tuple[Rule, ...]] = (*_DOCUMENT, *_FIELDS, *_MEANING, *_IDENTIFIERS, *_PACKS, *_SHIPMENT, *_HEADER)
"""All rules, in the order in which documentation lists them."""

RULE_OF: Final[dict[str, Rule]] = {rule.code: rule for rule in RULES}
"""Rules by code."""
