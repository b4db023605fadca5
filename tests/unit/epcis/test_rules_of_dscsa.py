"""Every rule of the DSCSA profile: a file that keeps them all, and what breaks each, and what comes near."""

import copy
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from medtrail.epcis import read_json
from medtrail.epcis.rules import RULES, Finding, Profile, Severity, check_document, severity_of
from medtrail.epcis.rules.dscsa import Dscsa, Spot

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SELLER, BUYER = "urn:epc:id:sgln:030001.111111.0", "urn:epc:id:sgln:039999.999999.0"
SELLER_DC, BUYER_DC = "urn:epc:id:sgln:030001.111121.0", "urn:epc:id:sgln:039999.345678.0"
PACK, OTHER_PACK = "urn:epc:id:sgtin:030001.0012345.11", "urn:epc:id:sgtin:030001.0012346.11"
CASE = "urn:epc:id:sscc:030001.41234567890"
LGTIN = "urn:epc:class:lgtin:030001.0012345.A123"
MDA = "urn:epcglobal:cbv:mda#"
PRODUCT = {
    "additionalTradeItemIdentification": "0001-0123-45",
    "additionalTradeItemIdentificationTypeCode": "US_FDA_NDC",
    "regulatedProductName": "Epcistra",
    "manufacturerOfTradeItemPartyName": "GS1 Pharma LLC",
    "dosageFormType": "PILL",
    "strengthDescription": "100mg",
    "netContentDescription": "500 pills",
}
PARTY = {
    "name": "GS1 Pharma",
    "streetAddressOne": "1 Biopharm Ct",
    "city": "Thousand Oaks",
    "state": "CA",
    "postalCode": "91320",
    "countryCode": "US",
}


def _master_data(kind: str, elements: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {
        "type": f"urn:epcglobal:epcis:vtype:{kind}",
        "vocabularyElementList": [
            {"id": name, "attributes": [{"id": MDA + key, "attribute": text} for key, text in found.items()]}
            for name, found in elements.items()
        ],
    }


def _event(step: str, hour: int, **fields: object) -> dict[str, Any]:
    place = {"id": SELLER}
    return {
        "type": "ObjectEvent",
        "eventTime": f"2026-05-04T{hour:02}:00:00Z",
        "eventTimeZoneOffset": "-05:00",
        "action": "OBSERVE",
        "bizStep": step,
        "readPoint": place,
        "bizLocation": place,
        **fields,
    }


def _file() -> dict[str, Any]:
    sides = {
        "sourceList": [{"type": "owning_party", "source": SELLER}, {"type": "location", "source": SELLER_DC}],
        "destinationList": [
            {"type": "owning_party", "destination": BUYER},
            {"type": "location", "destination": BUYER_DC},
        ],
    }
    orders = [
        {"type": "po", "bizTransaction": "urn:epcglobal:cbv:bt:0399999999991:XYZPO189"},
        {"type": "desadv", "bizTransaction": "urn:epcglobal:cbv:bt:0300011111215:DEL100"},
    ]
    ilmd = {"cbvmda:lotNumber": "A123", "cbvmda:itemExpirationDate": "2028-03-27"}
    parties = dict.fromkeys((SELLER, SELLER_DC, BUYER, BUYER_DC), PARTY)
    lists = [
        _master_data("EPCClass", {"urn:epc:idpat:sgtin:030001.0012345.*": PRODUCT}),
        _master_data("Location", parties),
    ]
    packing = _event("packing", 2, action="ADD", disposition="in_progress", parentID=CASE, childEPCs=[PACK])
    return {
        "@context": ["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld",
                     {"gs1ushc": "http://epcis.gs1us.org/hc/ns/"}],
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-05-05T10:00:00Z",
        "sender": SELLER,
        "receiver": BUYER,
        "epcisHeader": {
            "epcisMasterData": {"vocabularyList": lists},
            "gs1ushc:guidelineVersion": "GS1 US DSCSA R1.3",
            "gs1ushc:dscsaTransactionStatement": {
                "gs1ushc:affirmTransactionStatement": "true",
                "gs1ushc:legalNotice": "Seller has complied with each subsection of FDCA Sec. 581(27)(A)-(G).",
            },
        },
        "epcisBody": {
            "eventList": [
                _event("commissioning", 1, action="ADD", disposition="active", epcList=[PACK], ilmd=ilmd),
                {**packing, "type": "AggregationEvent"},
                {**_event("shipping", 3, disposition="in_transit", epcList=[CASE], bizTransactionList=orders, **sides),
                 "gs1ushc:dropShipment": "false", "gs1ushc:transactionDate": "2026-05-04"},
                _event("receiving", 4, disposition="in_progress", epcList=[CASE], **sides),
                _event("inspecting", 5, epcList=[LGTIN]),
            ]
        },
    }  # fmt: skip


def findings(change: Callable[[dict[str, Any]], object] = lambda _: None) -> list[Finding]:
    document = _file()
    change(document)
    data = io.BytesIO(json.dumps(document).encode())
    return [
        finding
        for finding in check_document(data, format="json", now=NOW, profiles=[Profile.DSCSA])
        if finding.code.startswith("DSCSA_") or severity_of(finding) is Severity.ERROR
    ]


def at(document: dict[str, Any], *path: str | int) -> Any:
    found: Any = document
    for step in path:
        found = found[step]
    return found


def put(value: object, *path: str | int) -> Callable[[dict[str, Any]], None]:
    """Return a change that puts a value at a path; None takes it away."""

    def change(document: dict[str, Any]) -> None:
        parent = at(document, *path[:-1])
        if value is None:
            del parent[path[-1]]
        else:
            parent[path[-1]] = value

    return change


def of_event(number: int, name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return put(value, "epcisBody", "eventList", number, name)


def attribute(kind: int, name: str, value: str | None) -> Callable[[dict[str, Any]], None]:
    """Return a change of one attribute in the master data of products (0) or parties (1); None takes it away."""

    def change(document: dict[str, Any]) -> None:
        elements = at(document, "epcisHeader", "epcisMasterData", "vocabularyList", kind, "vocabularyElementList")
        for element in elements:
            others = [item for item in element["attributes"] if item["id"] != MDA + name]
            element["attributes"] = others + ([] if value is None else [{"id": MDA + name, "attribute": value}])

    return change


def without(kind: int, name: str) -> Callable[[dict[str, Any]], None]:
    """Return a change that takes one product or party out of the master data."""

    def change(document: dict[str, Any]) -> None:
        vocabulary = at(document, "epcisHeader", "epcisMasterData", "vocabularyList", kind)
        vocabulary["vocabularyElementList"] = [
            item for item in vocabulary["vocabularyElementList"] if item["id"] != name
        ]

    return change


COMMISSION, PACKING, SHIPPING, RECEIVING, INSPECTING = range(5)
STATEMENT = ("epcisHeader", "gs1ushc:dscsaTransactionStatement")
SELLER_ONLY = [{"type": "owning_party", "source": SELLER}]
BUYER_ONLY = [{"type": "owning_party", "destination": BUYER}]
SELLER_PLACE = [{"type": "location", "source": SELLER_DC}]
BUYER_PLACE = [{"type": "location", "destination": BUYER_DC}]
PO = [{"type": "po", "bizTransaction": "urn:x:1"}]
INVOICE = [{"type": "inv", "bizTransaction": "urn:x:2"}]
LOT_ONLY = {"cbvmda:lotNumber": "A123"}
FULL = {"cbvmda:lotNumber": "A123", "cbvmda:itemExpirationDate": "2028-02-29"}


def _expiring(text: str) -> dict[str, str]:
    return {**FULL, "cbvmda:itemExpirationDate": text}


# Code, a change that breaks the rule, and a change that comes near.
CASES: list[tuple[str, Callable[[dict[str, Any]], None], Callable[[dict[str, Any]], None]]] = [
    ("DSCSA_EVENT_KIND_WRONG", of_event(SHIPPING, "action", "ADD"), of_event(INSPECTING, "action", "ADD")),
    ("DSCSA_DISPOSITION_WRONG", of_event(PACKING, "disposition", None), of_event(INSPECTING, "disposition", "damaged")),
    ("DSCSA_READ_POINT_MISSING", of_event(RECEIVING, "readPoint", None), of_event(INSPECTING, "readPoint", None)),
    ("DSCSA_BIZ_LOCATION_MISSING", of_event(PACKING, "bizLocation", None), of_event(SHIPPING, "bizLocation", None)),
    ("DSCSA_NOT_SERIALISED", of_event(SHIPPING, "epcList", [CASE, LGTIN]), of_event(SHIPPING, "epcList", [CASE, PACK])),
    ("DSCSA_NOT_SERIALISED", of_event(PACKING, "childQuantityList", [{"epcClass": LGTIN, "quantity": 3}]),
     of_event(INSPECTING, "quantityList", [{"epcClass": LGTIN, "quantity": 3}])),
    ("DSCSA_PRODUCTS_MIXED", of_event(COMMISSION, "epcList", [PACK, OTHER_PACK]),
     of_event(COMMISSION, "epcList", [PACK, PACK + "1"])),
    ("DSCSA_LOT_MISSING", of_event(COMMISSION, "ilmd", {"cbvmda:itemExpirationDate": "2028-03-27"}),
     of_event(COMMISSION, "ilmd", FULL)),
    ("DSCSA_EXPIRY_MISSING", of_event(COMMISSION, "ilmd", LOT_ONLY), of_event(COMMISSION, "ilmd", FULL)),
    ("DSCSA_EXPIRY_MALFORMED", of_event(COMMISSION, "ilmd", _expiring("2027-02-29")),
     of_event(COMMISSION, "ilmd", _expiring("2028-02-29T00:00:00Z"))),
    ("DSCSA_EXPIRY_MALFORMED", of_event(COMMISSION, "ilmd", _expiring("270228")),
     of_event(COMMISSION, "ilmd", _expiring("2027-02-28"))),
    ("DSCSA_PARENT_WRONG", of_event(PACKING, "parentID", "urn:epc:id:grai:030001.000001.1"),
     of_event(PACKING, "parentID", PACK + "0")),
    ("DSCSA_SOURCE_OWNER_MISSING", of_event(SHIPPING, "sourceList", SELLER_PLACE),
     of_event(SHIPPING, "sourceList", SELLER_ONLY)),
    ("DSCSA_SOURCE_LOCATION_MISSING", of_event(SHIPPING, "sourceList", SELLER_ONLY),
     of_event(SHIPPING, "sourceList", SELLER_PLACE)),
    ("DSCSA_DESTINATION_OWNER_MISSING", of_event(SHIPPING, "destinationList", BUYER_PLACE),
     of_event(SHIPPING, "destinationList", BUYER_ONLY)),
    ("DSCSA_DESTINATION_LOCATION_MISSING", of_event(SHIPPING, "destinationList", BUYER_ONLY),
     of_event(SHIPPING, "destinationList", BUYER_PLACE)),
    ("DSCSA_ORDER_MISSING", of_event(SHIPPING, "bizTransactionList", INVOICE),
     of_event(SHIPPING, "bizTransactionList", PO)),
    ("DSCSA_ADVICE_MISSING", of_event(SHIPPING, "bizTransactionList", PO),
     of_event(SHIPPING, "bizTransactionList", INVOICE)),
    ("DSCSA_TRANSACTION_DATE_WRONG", of_event(SHIPPING, "gs1ushc:transactionDate", "2026-05-05"),
     of_event(SHIPPING, "gs1ushc:transactionDate", "2026-05-03")),
    ("DSCSA_DROP_SHIPMENT_MALFORMED", of_event(SHIPPING, "gs1ushc:dropShipment", "no"),
     of_event(SHIPPING, "gs1ushc:dropShipment", True)),
    ("DSCSA_CONTENTS_UNKNOWN", of_event(SHIPPING, "epcList", [CASE, PACK + "1"]),
     of_event(SHIPPING, "epcList", ["https://id.gs1.org/00/403000112345678901"])),
    ("DSCSA_RECEIPT_PARTIES_MISSING", of_event(RECEIVING, "sourceList", None),
     of_event(RECEIVING, "destinationList", BUYER_ONLY)),
    ("DSCSA_GUIDELINE_UNNAMED", put("R1.2", "epcisHeader", "gs1ushc:guidelineVersion"),
     put("GS1 US DSCSA R1.3", "epcisHeader", "gs1ushc:guidelineVersion")),
    ("DSCSA_SENDER_MISSING", put(None, "sender"), put("urn:epc:id:sgln:030001.111121.0", "sender")),
    ("DSCSA_RECEIVER_MISSING", put("urn:x:1", "receiver"), put("https://id.gs1.org/414/0399999999991", "receiver")),
    ("DSCSA_STATEMENT_MISSING", put(None, *STATEMENT), put(None, "epcisHeader", "gs1ushc:guidelineVersion")),
    ("DSCSA_STATEMENT_NOT_AFFIRMED", put("false", *STATEMENT, "gs1ushc:affirmTransactionStatement"),
     put(True, *STATEMENT, "gs1ushc:affirmTransactionStatement")),
    ("DSCSA_STATEMENT_NOT_AFFIRMED", put("yes", *STATEMENT),
     put("1", *STATEMENT, "gs1ushc:affirmTransactionStatement")),
    ("DSCSA_LEGAL_NOTICE_MISSING", put(" ", *STATEMENT, "gs1ushc:legalNotice"),
     put("The seller complies.", *STATEMENT, "gs1ushc:legalNotice")),
    ("DSCSA_PRODUCT_MISSING", without(0, "urn:epc:idpat:sgtin:030001.0012345.*"), without(0, "urn:x:1")),
    ("DSCSA_PRODUCT_NAME_MISSING", attribute(0, "regulatedProductName", None), attribute(0, "functionalName", None)),
    ("DSCSA_STRENGTH_MISSING", attribute(0, "strengthDescription", " "), attribute(0, "strengthDescription", "1 g")),
    ("DSCSA_DOSAGE_FORM_MISSING", attribute(0, "dosageFormType", None), attribute(0, "dosageFormType", "TABLET")),
    ("DSCSA_NDC_MISSING", attribute(0, "additionalTradeItemIdentification", None),
     attribute(0, "additionalTradeItemIdentification", "00001012345")),
    ("DSCSA_NDC_MISSING", attribute(0, "additionalTradeItemIdentificationTypeCode", None),
     attribute(0, "additionalTradeItemIdentificationTypeCode", "FDA_NDC_11")),
    ("DSCSA_NDC_DIFFERS", attribute(0, "additionalTradeItemIdentification", "0001-0123-46"),
     attribute(0, "additionalTradeItemIdentification", "0001012345")),
    ("DSCSA_NDC_DIFFERS", attribute(0, "additionalTradeItemIdentification", "none"),
     attribute(0, "additionalTradeItemIdentification", "0001-0123-45")),
    ("DSCSA_CONTAINER_SIZE_MISSING", attribute(0, "netContentDescription", None),
     attribute(0, "netContentDescription", "30 pills")),
    ("DSCSA_MANUFACTURER_MISSING", attribute(0, "manufacturerOfTradeItemPartyName", None),
     attribute(0, "manufacturerOfTradeItemPartyName", "Maker")),
    ("DSCSA_PARTY_MISSING", without(1, BUYER), without(1, "urn:x:1")),
    ("DSCSA_PARTY_NAME_MISSING", attribute(1, "name", None), attribute(1, "streetAddressTwo", None)),
    ("DSCSA_PARTY_ADDRESS_MISSING", attribute(1, "postalCode", None), attribute(1, "postalCode", "1")),
]  # fmt: skip


def test_a_file_that_keeps_every_rule_has_no_findings() -> None:
    assert findings() == []


@pytest.mark.parametrize(("code", "broken", "near"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_rule_of_the_profile_is_broken_and_nearly_so(
    code: str, broken: Callable[[dict[str, Any]], None], near: Callable[[dict[str, Any]], None]
) -> None:
    assert code in {finding.code for finding in findings(broken)}
    assert code not in {finding.code for finding in findings(near)}


def test_every_rule_of_the_profile_has_its_case() -> None:
    expected = {rule.code for rule in RULES if rule.profile is Profile.DSCSA}

    assert {case[0] for case in CASES} | {"DSCSA_NOT_DECIDED"} == expected


def test_without_the_profile_its_rules_do_not_hold() -> None:
    document = _file()
    del document["epcisHeader"]
    found = check_document(io.BytesIO(json.dumps(document).encode()), format="jsonld", now=NOW)

    assert [finding for finding in found if finding.code.startswith("DSCSA")] == []


def test_master_data_of_an_event_are_asked_for_where_it_stands() -> None:
    found = findings(without(1, BUYER_DC))

    assert [(finding.code, finding.event_index, finding.place) for finding in found] == [
        ("DSCSA_PARTY_MISSING", SHIPPING, "/epcisBody/eventList/2")
    ]


def test_a_file_without_shipment_needs_no_statement() -> None:
    def change(document: dict[str, Any]) -> None:
        put(None, *STATEMENT)(document)
        document["epcisBody"]["eventList"] = document["epcisBody"]["eventList"][:2]

    assert findings(change) == []


def test_packing_without_parent_is_no_matter_of_the_profile() -> None:
    codes = {finding.code for finding in findings(of_event(PACKING, "parentID", None))}

    assert codes == {"FIELD_MISSING", "DSCSA_CONTENTS_UNKNOWN"}


def test_a_pallet_is_commissioned_without_lot() -> None:
    def change(document: dict[str, Any]) -> None:
        event = copy.deepcopy(at(document, "epcisBody", "eventList", COMMISSION))
        del event["ilmd"]
        document["epcisBody"]["eventList"].append({**event, "epcList": [CASE]})

    assert findings(change) == []


def test_parties_and_products_are_known_in_every_spelling() -> None:
    def change(document: dict[str, Any]) -> None:
        products, parties = at(document, "epcisHeader", "epcisMasterData", "vocabularyList")
        products["vocabularyElementList"][0]["id"] = "https://id.gs1.org/01/00300010123455"
        for element, name in zip(parties["vocabularyElementList"], (
            "urn:epc:id:pgln:030001.111111", "https://id.gs1.org/414/0300011111215", "urn:epc:id:pgln:039999.999999",
            BUYER_DC), strict=True):  # fmt: skip
            element["id"] = name

    assert findings(change) == []


def test_a_pharmacys_own_place_within_a_place_is_a_party_of_its_own() -> None:
    def change(document: dict[str, Any]) -> None:
        places = [
            {"type": "owning_party", "destination": BUYER},
            {"type": "location", "destination": BUYER_DC[:-1] + "7"},
        ]
        of_event(SHIPPING, "destinationList", places)(document)

    assert [finding.code for finding in findings(change)] == ["DSCSA_PARTY_MISSING"]


def test_more_things_than_are_kept_leave_the_question_open() -> None:
    document = read_json(json.dumps(_file()).encode())
    judged = Dscsa(max_kept=1)
    for number, event in enumerate(document.events):
        list(judged.event(event, Spot(number, "", None)))

    assert [fault.code for _, fault in judged.end(document)] == ["DSCSA_NOT_DECIDED"]
