"""Exception codes: docs, contract and values agree, and each code has its tests by trigger and near miss."""

import re
from pathlib import Path

import pytest

from medtrail.api.exceptions.v1 import exceptions_pb2
from medtrail.pdg import Resolution
from services.custody.exceptions import alarms, store
from services.custody.exceptions.case import CaseResolution, CaseStatus, MessageKind
from services.custody.exceptions.codes import RULES, Category, ExceptionCode
from services.custody.exceptions.effects import HOLD_OF_CODE
from services.custody.holding import HoldingState
from tests.unit.custody.conftest import House, packs, sscc
from tests.unit.custody.test_exception_effects import open_case, resolve

REPOSITORY = Path(__file__).resolve().parents[3]
TEXT = (REPOSITORY / "docs" / "exceptions.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `([A-Z_]+)` \| ([^|]+) \| (\d+) days? \| .* \| ([^|]+) \|$", re.MULTILINE)
ROWS = {row[0]: row[1:] for row in _ROW.findall(TEXT)}
"""By code: category, days, what to do."""


def test_docs_tell_of_every_code_what_the_code_says() -> None:
    assert set(ROWS) == set(ExceptionCode)
    for code, rule in RULES.items():
        category, days, instruction = ROWS[code]
        assert category.strip() == rule.category.replace("_", " ")
        assert int(days) == rule.due.days
        assert instruction.strip() == rule.instruction


def test_every_code_has_a_rule_and_every_category_codes() -> None:
    assert set(RULES) == set(ExceptionCode)
    assert {rule.category for rule in RULES.values()} == set(Category)
    assert set(HOLD_OF_CODE) <= set(ExceptionCode)


@pytest.mark.parametrize("name", [alarms.EXCEPTION_OVERDUE, alarms.NOTIFICATION_OVERDUE])
def test_docs_tell_of_every_alarm(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_docs_tell_of_every_resolution_and_status() -> None:
    for word in (*CaseResolution, *CaseStatus):
        assert f"`{word}`" in TEXT


@pytest.mark.parametrize(
    ("enum", "prefix", "values"),
    [
        (exceptions_pb2.ExceptionCode, "EXCEPTION_CODE", ExceptionCode),
        (exceptions_pb2.ExceptionCategory, "EXCEPTION_CATEGORY", Category),
        (exceptions_pb2.CaseStatus, "CASE_STATUS", CaseStatus),
        (exceptions_pb2.CaseResolution, "CASE_RESOLUTION", CaseResolution),
        (exceptions_pb2.MessageKind, "MESSAGE_KIND", MessageKind),
        (exceptions_pb2.ResolutionRequest, "RESOLUTION_REQUEST", Resolution),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contract_has_the_same_words(enum: object, prefix: str, values: type) -> None:
    names = {name.removeprefix(f"{prefix}_") for name in enum.keys()}  # type: ignore[attr-defined]  # noqa: SIM118  # a generated enum
    assert names - {"UNSPECIFIED"} == {value.name for value in values}  # type: ignore[attr-defined]


# --- codes that people raise ---


def test_aggregation_broken_is_opened_by_a_person_for_a_container(maker: House, distributor: House) -> None:
    units, container = packs(1, 2), sscc(1)
    maker.commission(units)
    maker.pack(container, units)
    maker.ship((container,), distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive((container,))
    case = open_case(distributor, ExceptionCode.AGGREGATION_BROKEN, (container,))
    assert (case.partner, case.unit_count, case.category) == (maker.gln, 1, Category.DATA_ISSUE)
    # The pallet is not held back by it: what is inside is scanned and sold pack by pack.
    assert distributor.held(units[0]).state is HoldingState.ON_HAND
    assert resolve(distributor, case, CaseResolution.ACCEPTED)[1] == []


def test_no_aggregation_broken_when_a_pack_is_used_alone(maker: House, pharmacy: House) -> None:
    units, container = packs(1, 2), sscc(1)
    maker.commission(units)
    maker.pack(container, units)
    maker.ship((container,), pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive((container,))
    pharmacy.dispense(units[:1])
    assert pharmacy.read(lambda c: store.list_cases(c, store.CaseQuery(include_resolved=True), limit=1))[1] == 0
