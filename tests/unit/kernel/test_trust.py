"""Trust: which key speaks for which GLN at which index, and what it may say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from medtrail.claims import claims_of, commissioned
from medtrail.document import Document, DocumentKind
from medtrail.envelope import SigningKey
from medtrail.epcis.model import Action, EpcisEvent, ErrorDeclaration, EventType, QuantityElement
from medtrail.errors import AuthorizationError, MalformedError, MedtrailError, VerificationError
from medtrail.event import (
    Capture,
    Enrolment,
    ErasureConsent,
    ErasureOrder,
    Event,
    Genesis,
    Header,
    KeyAddition,
    KeyRetirement,
    KeyRevocation,
    PackLevel,
    Product,
    Recall,
    RecallScope,
    Refusal,
    Role,
    Statement,
    new_event_id,
    new_salt,
)
from medtrail.gs1 import Gln, Gtin
from medtrail.trust import Registry

NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
AUTHORITY = SigningKey.from_seed(b"a" * 32)
MAKER_KEY, SHOP_KEY, LEDGER_KEY, THIRD_KEY = (SigningKey.from_seed(bytes([n]) * 32) for n in range(1, 5))
MAKER, MAKER_DC = Gln("0300011111116"), Gln("0300011111215")
SHOP = Gln("9521002000016")
LEDGER = Gln("9521000000025")
STRANGER = Gln("9521003000015")
GTIN = Gtin("00300010123455")
FOREIGN_GTIN = Gtin("09521321000018")


def event(statement: Statement, *, actor: Gln = MAKER, capture: Capture = Capture.FIRST_HAND) -> Event:
    return Event(Header(new_salt(), actor, "main", 1, new_event_id(), capture), statement)


def enrolment(name: str, gln: Gln, key: SigningKey, *roles: Role, prefixes: tuple[str, ...] = ()) -> Enrolment:
    return Enrolment(name, name.title(), gln, (), prefixes, frozenset(roles), (key.key_id,), bytes(32), "U" + "A" * 55)


MAKER_ENROLMENT = replace(
    enrolment("maker", MAKER, MAKER_KEY, Role.MANUFACTURER, prefixes=("030001",)), locations=(MAKER_DC,)
)
SHOP_ENROLMENT = enrolment("shop", SHOP, SHOP_KEY, Role.PHARMACY)
LEDGER_ENROLMENT = enrolment("ledger", LEDGER, LEDGER_KEY, Role.LEDGER)


@pytest.fixture
def registry() -> Registry:
    found = Registry(authority_key_id=AUTHORITY.key_id)
    found.apply(0, AUTHORITY.key_id, event(Genesis("log.example/t", AUTHORITY.key_id, bytes(32))))
    for index, statement in enumerate((MAKER_ENROLMENT, SHOP_ENROLMENT, LEDGER_ENROLMENT), start=1):
        found.apply(index, AUTHORITY.key_id, event(statement))
    return found


def commissioning(*epcs: str, biz_step: str = "commissioning") -> EpcisEvent:
    return EpcisEvent(EventType.OBJECT, NOW, "+00:00", action=Action.ADD, epc_list=epcs, biz_step=biz_step)


def observed(biz_step: str) -> EpcisEvent:
    return EpcisEvent(
        EventType.OBJECT, NOW, "+00:00", action=Action.OBSERVE, epc_list=(f"https://id.gs1.org/01/{GTIN}/21/1",),
        biz_step=biz_step,
    )  # fmt: skip


OWN_PACK = f"https://id.gs1.org/01/{GTIN}/21/1"
FOREIGN_PACK = f"https://id.gs1.org/01/{FOREIGN_GTIN}/21/1"
PALLET = "urn:epc:id:sscc:030001.41234567890"
PRODUCT = Product(GTIN, PackLevel.PACK, "Epcistra")
RECALL = Recall("R-1", "retail", "why", "stop", NOW, (RecallScope(GTIN),))
ORDER, CONSENT = ErasureOrder(bytes(32), "why"), ErasureConsent(bytes(32), "why")
DOCUMENT = Document(DocumentKind.INVOICE, "I-1", SHOP, NOW)
REFUSAL = Refusal(bytes(32), "", "X", "", "", 1, NOW)


def judge(registry: Registry, found: Event, key: SigningKey) -> MedtrailError | None:
    try:
        registry.judge(claims_of(found), key_id=key.key_id, stream_time=NOW)
    except MedtrailError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("found", "key"),
    [
        (event(commissioning(OWN_PACK)), MAKER_KEY),
        (event(commissioning(OWN_PACK), actor=MAKER_DC), MAKER_KEY),
        (event(commissioning(PALLET), actor=SHOP), SHOP_KEY),
        (event(commissioning("urn:example:tote:7"), actor=SHOP), SHOP_KEY),
        (event(observed("dispensing"), actor=SHOP), SHOP_KEY),
        (event(observed("shipping"), actor=SHOP), SHOP_KEY),
        (event(replace(observed("shipping"), biz_step=None)), MAKER_KEY),
        (event(PRODUCT), MAKER_KEY),
        (event(RECALL), MAKER_KEY),
        (event(REFUSAL, actor=LEDGER), LEDGER_KEY),
        (event(ORDER, actor=SHOP), SHOP_KEY),
        (event(DOCUMENT), MAKER_KEY),
        (event(commissioning(FOREIGN_PACK), actor=STRANGER, capture=Capture.SECOND_HAND), SHOP_KEY),
        (event(observed("shipping"), actor=MAKER, capture=Capture.SECOND_HAND), SHOP_KEY),
    ],
)
def test_lets_an_organisation_say_what_is_its_own_to_say(registry: Registry, found: Event, key: SigningKey) -> None:
    signer = registry.judge(claims_of(found), key_id=key.key_id, stream_time=NOW)

    assert signer is not None
    assert key.key_id in signer.key_ids


@pytest.mark.parametrize(
    ("found", "key", "code"),
    [
        (event(commissioning(OWN_PACK)), THIRD_KEY, "KEY_UNKNOWN"),
        (event(commissioning(OWN_PACK)), SHOP_KEY, "ACTOR_NOT_SIGNER"),
        (event(commissioning(OWN_PACK), actor=STRANGER), MAKER_KEY, "ACTOR_NOT_SIGNER"),
        (event(commissioning(FOREIGN_PACK)), MAKER_KEY, "PREFIX_NOT_OWNED"),
        (event(commissioning(OWN_PACK), actor=SHOP), SHOP_KEY, "ROLE_FORBIDS"),
        (event(commissioning(OWN_PACK, biz_step="packing"), actor=SHOP), SHOP_KEY, "ROLE_FORBIDS"),
        (event(observed("dispensing")), MAKER_KEY, "ROLE_FORBIDS"),
        (event(observed("shipping"), actor=LEDGER), LEDGER_KEY, "ROLE_FORBIDS"),
        (event(PRODUCT, actor=SHOP), SHOP_KEY, "ROLE_FORBIDS"),
        (event(replace(PRODUCT, gtin=FOREIGN_GTIN)), MAKER_KEY, "PREFIX_NOT_OWNED"),
        (event(replace(RECALL, scopes=(RecallScope(FOREIGN_GTIN),))), MAKER_KEY, "PREFIX_NOT_OWNED"),
        (event(REFUSAL), MAKER_KEY, "ROLE_FORBIDS"),
        (event(KeyRetirement(SHOP_KEY.key_id)), MAKER_KEY, "NOT_AUTHORITY"),
        (event(CONSENT), MAKER_KEY, "NOT_AUTHORITY"),
        (event(ORDER), SHOP_KEY, "ACTOR_NOT_SIGNER"),
        (event(DOCUMENT), SHOP_KEY, "ACTOR_NOT_SIGNER"),
        (event(DOCUMENT, actor=LEDGER), LEDGER_KEY, "ROLE_FORBIDS"),
        (event(DOCUMENT, capture=Capture.SECOND_HAND), SHOP_KEY, "SECOND_HAND_FORBIDDEN"),
        (event(ORDER), AUTHORITY, "KEY_UNKNOWN"),
        (event(ORDER, capture=Capture.SECOND_HAND), SHOP_KEY, "SECOND_HAND_FORBIDDEN"),
        (event(observed("shipping"), capture=Capture.SECOND_HAND), MAKER_KEY, "SECOND_HAND_FORBIDDEN"),
        (event(PRODUCT, actor=MAKER, capture=Capture.SECOND_HAND), SHOP_KEY, "SECOND_HAND_FORBIDDEN"),
    ],
)
def test_refuses_what_is_not_the_signers_to_say(registry: Registry, found: Event, key: SigningKey, code: str) -> None:
    error = judge(registry, found, key)

    assert isinstance(error, AuthorizationError)
    assert error.code == code


@pytest.mark.parametrize("statement", [KeyRetirement(SHOP_KEY.key_id), CONSENT])
def test_lets_the_authority_speak_of_trust_and_consent(registry: Registry, statement: Statement) -> None:
    found = event(statement)

    assert registry.judge(claims_of(found), key_id=AUTHORITY.key_id, stream_time=NOW) is None


def test_lets_a_regulator_recall_under_any_prefix(registry: Registry) -> None:
    registry.apply(4, AUTHORITY.key_id, event(enrolment("agency", STRANGER, THIRD_KEY, Role.REGULATOR)))

    assert judge(registry, event(RECALL, actor=STRANGER), THIRD_KEY) is None


@pytest.mark.parametrize(("ahead_s", "refused"), [(300, False), (301, True)])
def test_refuses_events_dated_more_than_five_minutes_ahead(registry: Registry, ahead_s: int, refused: bool) -> None:
    later = NOW + timedelta(seconds=ahead_s)
    dated = replace(observed("shipping"), event_time=later)
    declared = replace(observed("shipping"), error_declaration=ErrorDeclaration(later))

    for statement in (dated, declared):
        error = judge(registry, event(statement), MAKER_KEY)
        assert (error is not None and error.code == "EVENT_IN_FUTURE") == refused


def test_transformation_needs_a_maker_and_the_outputs_prefix(registry: Registry) -> None:
    made = EpcisEvent(
        EventType.TRANSFORMATION,
        NOW,
        "+00:00",
        input_epc_list=(FOREIGN_PACK,),
        output_epc_list=(OWN_PACK,),
        output_quantity_list=(QuantityElement(f"https://id.gs1.org/01/{GTIN}/10/L1"),),
    )
    foreign = replace(made, output_quantity_list=(QuantityElement(f"https://id.gs1.org/01/{FOREIGN_GTIN}"),))

    assert judge(registry, event(made), MAKER_KEY) is None
    for statement, actor, key, code in (
        (foreign, MAKER, MAKER_KEY, "PREFIX_NOT_OWNED"),
        (made, SHOP, SHOP_KEY, "ROLE_FORBIDS"),
    ):
        error = judge(registry, event(statement, actor=actor), key)
        assert error is not None
        assert error.code == code


def test_commissioned_names_each_trade_item_once() -> None:
    assert commissioned(commissioning(OWN_PACK, OWN_PACK.replace("/1", "/2"), PALLET)) == (GTIN,)
    assert commissioned(observed("shipping")) == ()


def test_retired_key_speaks_no_more_and_stays_known(registry: Registry) -> None:
    registry.apply(9, AUTHORITY.key_id, event(KeyRetirement(MAKER_KEY.key_id)))

    error = judge(registry, event(PRODUCT), MAKER_KEY)
    record = registry.key(MAKER_KEY.key_id)
    organisation = registry.organisation_of_key(MAKER_KEY.key_id)

    assert error is not None
    assert error.code == "KEY_RETIRED"
    assert record is not None
    assert (record.added_index, record.end_index, record.suspect_time) == (1, 9, None)
    assert organisation is not None
    assert organisation.gln == MAKER


def test_revocation_after_retirement_keeps_the_end_and_adds_the_doubt(registry: Registry) -> None:
    registry.apply(9, AUTHORITY.key_id, event(KeyRetirement(MAKER_KEY.key_id)))
    registry.apply(12, AUTHORITY.key_id, event(KeyRevocation(MAKER_KEY.key_id, NOW)))

    error = judge(registry, event(PRODUCT), MAKER_KEY)
    record = registry.key(MAKER_KEY.key_id)

    assert error is not None
    assert error.code == "KEY_REVOKED"
    assert record is not None
    assert (record.end_index, record.suspect_time) == (9, NOW)


def test_rotation_adds_a_key_and_the_old_one_speaks_on(registry: Registry) -> None:
    registry.apply(5, AUTHORITY.key_id, event(KeyAddition(MAKER, THIRD_KEY.key_id)))

    assert judge(registry, event(PRODUCT), MAKER_KEY) is None
    assert judge(registry, event(PRODUCT), THIRD_KEY) is None


def test_further_keys_are_those_that_neither_an_enrolment_nor_a_station_names(registry: Registry) -> None:
    registry.apply(5, AUTHORITY.key_id, event(KeyAddition(MAKER, THIRD_KEY.key_id)))
    registry.apply(6, AUTHORITY.key_id, event(KeyAddition(MAKER, TILL_KEY.key_id, "bay")))

    assert [record.key_id for record in registry.further_keys(MAKER)] == [THIRD_KEY.key_id]
    assert registry.further_keys(SHOP) == ()


TILL_KEY = SigningKey.from_seed(bytes([77] * 32))


def at_the_till(found: Event, source: str = "till") -> Event:
    return replace(found, header=replace(found.header, source=source))


@pytest.fixture
def with_till(registry: Registry) -> Registry:
    registry.apply(5, AUTHORITY.key_id, event(KeyAddition(SHOP, TILL_KEY.key_id, "till")))
    return registry


def test_key_of_a_station_speaks_under_its_name(with_till: Registry) -> None:
    assert judge(with_till, at_the_till(event(observed("dispensing"), actor=SHOP)), TILL_KEY) is None
    record = with_till.key(TILL_KEY.key_id)
    assert record is not None
    assert record.station == "till"


@pytest.mark.parametrize(
    "found",
    [
        at_the_till(event(observed("dispensing"), actor=SHOP), "main"),
        at_the_till(event(observed("dispensing"), actor=SHOP), "bay"),
        at_the_till(event(observed("dispensing"), actor=MAKER, capture=Capture.SECOND_HAND)),
        at_the_till(event(ORDER, actor=SHOP)),
        at_the_till(event(DOCUMENT, actor=SHOP)),
        at_the_till(event(RECALL, actor=SHOP)),
        at_the_till(event(PRODUCT, actor=SHOP)),
        at_the_till(event(REFUSAL, actor=SHOP)),
    ],
)
def test_key_of_a_station_says_nothing_else(with_till: Registry, found: Event) -> None:
    error = judge(with_till, found, TILL_KEY)
    assert error is not None
    assert error.code == "STATION_FORBIDS"
    # Its end does not widen what it may say.
    with_till.apply(9, AUTHORITY.key_id, event(KeyRetirement(TILL_KEY.key_id)))
    with pytest.raises(AuthorizationError) as caught:
        with_till.judge_station(claims_of(found), key_id=TILL_KEY.key_id)
    assert caught.value.code == "STATION_FORBIDS"


def test_enrolment_does_not_make_more_of_a_stations_key(with_till: Registry) -> None:
    with_till.apply(9, AUTHORITY.key_id, event(replace(SHOP_ENROLMENT, signing_key_ids=(TILL_KEY.key_id,))))
    error = judge(with_till, event(ORDER, actor=SHOP), TILL_KEY)
    assert error is not None
    assert error.code == "STATION_FORBIDS"


def test_second_enrolment_replaces_the_record_and_keeps_the_keys(registry: Registry) -> None:
    again = replace(MAKER_ENROLMENT, locations=(STRANGER,), company_prefixes=("030002",), signing_key_ids=())
    registry.apply(6, AUTHORITY.key_id, event(again))

    maker = registry.organisation_of_gln(STRANGER)
    error = judge(registry, event(commissioning(OWN_PACK)), MAKER_KEY)

    assert maker is not None
    assert maker.key_ids == (MAKER_KEY.key_id,)
    assert maker.glns == {MAKER, STRANGER}
    assert registry.organisation_of_gln(MAKER_DC) is None
    assert registry.owner_of(GTIN) is None
    assert error is not None
    assert error.code == "PREFIX_NOT_OWNED"


def test_finds_owner_and_lists_organisations(registry: Registry) -> None:
    owner = registry.owner_of(GTIN)

    assert owner is not None
    assert owner.gln == MAKER
    assert registry.owner_of(FOREIGN_GTIN) is None
    assert registry.organisation_of_key("did:key:nobody") is None
    assert registry.key("did:key:nobody") is None
    assert [item.gln for item in registry.organisations()] == sorted([MAKER, SHOP, LEDGER])
    assert registry.authority_key_id == AUTHORITY.key_id
    assert registry.genesis is not None


def _changes() -> list[tuple[str, Statement, str]]:
    taken = replace(SHOP_ENROLMENT, gln=STRANGER, organisation="other", signing_key_ids=(THIRD_KEY.key_id,))
    return [
        ("second genesis", Genesis("log.example/t", AUTHORITY.key_id, bytes(32)), "GENESIS_MISPLACED"),
        ("location of another", replace(taken, locations=(MAKER_DC,)), "GLN_TAKEN"),
        ("prefix inside another's", replace(taken, company_prefixes=("0300012",)), "PREFIX_TAKEN"),
        ("prefix around another's", replace(taken, company_prefixes=("0300",)), "PREFIX_TAKEN"),
        ("name of another", replace(taken, organisation="maker"), "NAME_TAKEN"),
        ("key of another", replace(taken, signing_key_ids=(MAKER_KEY.key_id,)), "KEY_TAKEN"),
        ("the authority's key", replace(taken, signing_key_ids=(AUTHORITY.key_id,)), "KEY_TAKEN"),
        ("key for nobody", KeyAddition(STRANGER, THIRD_KEY.key_id), "ORGANISATION_UNKNOWN"),
        ("key given before", KeyAddition(MAKER, MAKER_KEY.key_id), "KEY_TAKEN"),
        ("end of an unknown key", KeyRetirement(THIRD_KEY.key_id), "KEY_UNKNOWN"),
        ("no trust statement", PRODUCT, "NOT_TRUST"),
    ]


@pytest.mark.parametrize(("statement", "code"), [case[1:] for case in _changes()], ids=[case[0] for case in _changes()])
def test_refuses_trust_entry_against_the_rules_and_stays_as_it_was(
    registry: Registry, statement: Statement, code: str
) -> None:
    before = registry.organisations()

    with pytest.raises(VerificationError) as caught:
        registry.apply(7, AUTHORITY.key_id, event(statement))

    assert caught.value.code == code
    assert registry.organisations() == before
    assert registry.next_index == 4


def test_accepts_enrolment_without_prefix_beside_taken_ones(registry: Registry) -> None:
    other = enrolment("other", STRANGER, THIRD_KEY, Role.PHARMACY, prefixes=("9521003",))
    registry.apply(4, AUTHORITY.key_id, event(other))

    organisation = registry.organisation_of_gln(STRANGER)

    assert organisation is not None
    assert organisation.company_prefixes == ("9521003",)


def test_refuses_weak_key_at_enrolment(registry: Registry) -> None:
    weak = replace(SHOP_ENROLMENT, gln=STRANGER, organisation="other", signing_key_ids=("did:key:z6Mk",))

    with pytest.raises(MalformedError):
        registry.apply(7, AUTHORITY.key_id, event(weak))


def _first_entries() -> list[tuple[int, SigningKey, Statement, str]]:
    return [
        (0, THIRD_KEY, Genesis("x", THIRD_KEY.key_id, bytes(32)), "NOT_AUTHORITY"),
        (0, AUTHORITY, Genesis("x", THIRD_KEY.key_id, bytes(32)), "AUTHORITY_MISMATCH"),
        (1, AUTHORITY, Genesis("x", AUTHORITY.key_id, bytes(32)), "GENESIS_MISPLACED"),
        (0, AUTHORITY, MAKER_ENROLMENT, "GENESIS_MISSING"),
    ]


@pytest.mark.parametrize(("index", "key", "statement", "code"), _first_entries())
def test_refuses_wrong_first_entry(index: int, key: SigningKey, statement: Statement, code: str) -> None:
    registry = Registry(authority_key_id=AUTHORITY.key_id)

    with pytest.raises(VerificationError) as caught:
        registry.apply(index, key.key_id, event(statement))
    assert caught.value.code == code


def test_refuses_trust_entries_out_of_order(registry: Registry) -> None:
    with pytest.raises(VerificationError) as caught:
        registry.apply(3, AUTHORITY.key_id, event(KeyRetirement(MAKER_KEY.key_id)))
    assert caught.value.code == "TRUST_ORDER"


def test_organisation_without_prefix_owns_nothing(registry: Registry) -> None:
    shop = registry.organisation_of_gln(SHOP)

    assert shop is not None
    assert not shop.owns(GTIN)
