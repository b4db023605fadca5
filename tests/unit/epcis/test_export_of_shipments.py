"""Events and master data of a shipment for a partner outside: cut, respelled, and otherwise as they were signed."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from medtrail.epcis import (
    Action,
    BizTransaction,
    EpcisEvent,
    EventType,
    PersistentDisposition,
    Place,
    QuantityElement,
    SensorElement,
    SourceDest,
    event_hash,
    read_xml,
    write_xml_events,
)
from medtrail.epcis.cbv import ilmd_lot_expiry
from medtrail.epcis.export import (
    LEGAL_NOTICE,
    Address,
    TradeItem,
    TradingParty,
    UrnSpeller,
    cut_event,
    describe_item,
    describe_party,
    identifiers_of,
    in_version_12,
    shipment_head,
    transaction_statement,
)
from medtrail.errors import MalformedError
from medtrail.event import NationalNumber, PackLevel, Product
from medtrail.gs1 import Gtin, PrefixLengths

NOW = datetime(2026, 5, 4, 10, tzinfo=UTC)
LINK = "https://id.gs1.org"
PACKS = tuple(f"{LINK}/01/00300010123455/21/{serial}" for serial in (11, 12, 13))
URNS = tuple(f"urn:epc:id:sgtin:030001.0012345.{serial}" for serial in (11, 12, 13))
EVENT = EpcisEvent(
    EventType.OBJECT,
    NOW,
    "+00:00",
    event_id="urn:uuid:6f1f1c2e-0000-4000-8000-000000000001",
    action=Action.ADD,
    epc_list=PACKS,
    biz_step="commissioning",
    disposition="active",
    read_point=Place(f"{LINK}/414/0300011111116"),
    ilmd=ilmd_lot_expiry("A123", datetime(2028, 3, 31, tzinfo=UTC).date()),
)
ITEM = TradeItem(
    Product(
        Gtin("00300010123455"),
        PackLevel.PACK,
        "Epcistra",
        (NationalNumber("NDC", "0001-0123-45"),),
        "100 mg",
        "PILL",
        "500 pills",
    ),
    "GS1 Pharma LLC",
)


def lengths(*prefixes: str) -> PrefixLengths:
    found = PrefixLengths()
    for prefix in prefixes:
        found.learn_prefix(prefix)
    return found


def names(attributes: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {name.rpartition("#")[2]: text for name, text in attributes}


# --- cutting ---


def test_event_of_shipped_goods_alone_comes_back_as_it_is() -> None:
    assert cut_event(EVENT, lambda _epc: True) is EVENT


def test_event_of_other_goods_too_is_cut_and_loses_its_id_and_counts() -> None:
    counted = replace(EVENT, quantity_list=(QuantityElement("urn:epc:class:lgtin:030001.0012345.A123", Decimal(3)),))
    cut = cut_event(counted, lambda epc: epc.endswith("/12"))
    assert cut == replace(EVENT, epc_list=PACKS[1:2], event_id=None)


def test_children_and_outputs_are_cut_like_objects() -> None:
    event = replace(EVENT, epc_list=(), child_epcs=PACKS[:2], output_epc_list=PACKS)
    cut = cut_event(event, lambda epc: not epc.endswith("/12"))
    assert cut is not None
    assert (cut.child_epcs, cut.output_epc_list) == (PACKS[:1], (PACKS[0], PACKS[2]))


def test_event_of_other_goods_only_is_none() -> None:
    assert cut_event(EVENT, lambda _epc: False) is None


# --- version 1.2 ---


def test_what_version_12_can_say_stays_as_it_is() -> None:
    assert in_version_12(EVENT) == (EVENT, ())


def test_fields_that_version_12_does_not_know_are_named_and_left_out() -> None:
    event = replace(
        EVENT,
        sensor_element_list=(SensorElement(),),
        persistent_disposition=PersistentDisposition(set=("completeness_verified",)),
        certification_info=("https://example.org/c",),
    )
    assert in_version_12(event) == (
        replace(EVENT, event_id=None),
        ("sensorElementList", "persistentDisposition", "certificationInfo"),
    )


def test_refuses_an_association_which_version_12_does_not_know() -> None:
    with pytest.raises(MalformedError) as caught:
        in_version_12(replace(EVENT, type=EventType.ASSOCIATION))
    assert caught.value.code == "NOT_IN_VERSION"


# --- spelling ---


def test_digital_links_become_urns_and_the_hash_sees_no_difference() -> None:
    event = replace(
        EVENT,
        biz_location=Place(f"{LINK}/414/0300011111208"),
        source_list=(SourceDest("owning_party", f"{LINK}/417/0300011111116"),),
        destination_list=(SourceDest("location", "urn:epc:id:sgln:039999.999999.0"),),
        biz_transaction_list=(BizTransaction("urn:epcglobal:cbv:bt:0300011111116:1", "po"),),
    )
    spelled = UrnSpeller(lengths("030001")).event(event)
    assert spelled.epc_list == URNS
    assert spelled.read_point == Place("urn:epc:id:sgln:030001.111111.0")
    assert spelled.source_list == (SourceDest("owning_party", "urn:epc:id:pgln:030001.111111"),)
    assert event_hash(spelled) == event_hash(event)


def test_every_list_of_an_event_is_spelled() -> None:
    amount = (QuantityElement(f"{LINK}/01/00300010123455/10/A1", Decimal(2)),)
    urn_amount = (QuantityElement("urn:epc:class:lgtin:030001.0012345.A1", Decimal(2)),)
    event = replace(
        EVENT,
        read_point=None,
        parent_id=f"{LINK}/00/003000100000000015",
        child_epcs=PACKS[:1],
        input_epc_list=PACKS[1:2],
        output_epc_list=PACKS[2:],
        quantity_list=amount,
        child_quantity_list=amount,
        input_quantity_list=amount,
        output_quantity_list=amount,
    )
    spelled = UrnSpeller(lengths("030001")).event(event)
    assert (spelled.parent_id, spelled.child_epcs) == ("urn:epc:id:sscc:030001.00000000001", URNS[:1])
    assert (spelled.input_epc_list, spelled.output_epc_list) == (URNS[1:2], URNS[2:])
    for name in ("quantity_list", "child_quantity_list", "input_quantity_list", "output_quantity_list"):
        assert getattr(spelled, name) == urn_amount


def test_identifier_of_an_unknown_prefix_stays_and_is_noted_once_a_product() -> None:
    speller = UrnSpeller(lengths("039999"))
    assert [speller.text(link) for link in PACKS] == list(PACKS)
    assert list(speller.unspelled) == ["/01/00300010123455"]


def test_identifier_that_is_no_gs1_key_stays() -> None:
    speller = UrnSpeller(lengths("030001"))
    assert speller.text("https://example.org/thing/7") == "https://example.org/thing/7"
    assert speller.unspelled == {}


def test_names_all_identifiers_of_things_and_places() -> None:
    event = replace(
        EVENT,
        biz_location=Place("place"),
        parent_id="parent",
        child_epcs=("child",),
        source_list=(SourceDest("location", "from"),),
        destination_list=(SourceDest("location", "to"),),
    )
    here = f"{LINK}/414/0300011111116"
    assert list(identifiers_of(event)) == [*PACKS, "child", "parent", here, "place", "from", "to"]
    assert list(identifiers_of(replace(EVENT, read_point=None))) == list(PACKS)


# --- master data ---


def test_product_is_described_in_the_words_of_the_vocabulary() -> None:
    element = describe_item("urn:epc:idpat:sgtin:030001.0012345.*", ITEM)
    assert names(element.attributes) == {
        "additionalTradeItemIdentification": "0001-0123-45",
        "additionalTradeItemIdentificationTypeCode": "US_FDA_NDC",
        "regulatedProductName": "Epcistra",
        "manufacturerOfTradeItemPartyName": "GS1 Pharma LLC",
        "dosageFormType": "PILL",
        "strengthDescription": "100 mg",
        "netContentDescription": "500 pills",
    }


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((), None),
        ((NationalNumber("PZN", "01234562"),), ("01234562", "PZN")),
        ((NationalNumber("PZN", "01234562"), NationalNumber("NDC", "00001012345")), ("00001012345", "FDA_NDC_11")),
    ],
    ids=["none", "german", "eleven-digits"],
)
def test_national_number_has_the_type_of_its_system(
    numbers: tuple[NationalNumber, ...], expected: tuple[str, str] | None
) -> None:
    found = names(describe_item("urn:x", TradeItem(replace(ITEM.product, national_numbers=numbers))).attributes)
    pair = found.get("additionalTradeItemIdentification"), found.get("additionalTradeItemIdentificationTypeCode")
    assert pair == (expected or (None, None))


def test_party_without_address_has_its_name_only() -> None:
    assert names(describe_party("urn:x", TradingParty("Elm Street")).attributes) == {"name": "Elm Street"}


def test_document_reads_back_as_it_was_meant() -> None:
    address = Address("1 Main St", "Louisville", "KY", "40218", "US", street_two="Suite 100")
    head = shipment_head(
        sender="urn:epc:id:sgln:030001.111111.0",
        receiver="urn:epc:id:sgln:039999.999999.0",
        instance_identifier="7",
        creation_date=NOW,
        items=(describe_item("urn:epc:idpat:sgtin:030001.0012345.*", ITEM),),
        parties=(describe_party("urn:epc:id:sgln:039999.999999.0", TradingParty("Warehouse", address)),),
        statement=transaction_statement(LEGAL_NOTICE),
    )
    data = b"".join(write_xml_events(head, [replace(EVENT, epc_list=URNS)], version="1.2"))
    document = read_xml(data)
    assert (document.sender, document.receiver, document.instance_identifier) == (
        head.sender,
        head.receiver,
        head.instance_identifier,
    )
    assert document.vocabularies == head.vocabularies
    assert document.header_extensions == head.header_extensions
    assert names(document.vocabularies[1].elements[0].attributes)["streetAddressTwo"] == "Suite 100"


def test_document_without_master_data_has_no_vocabularies() -> None:
    head = shipment_head(sender="", receiver="", instance_identifier="7", creation_date=NOW, items=(), parties=())
    assert (head.vocabularies, head.header_extensions) == ((), ())
