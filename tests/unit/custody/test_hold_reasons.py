import re
from pathlib import Path

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.errors import AuthorizationError, ConflictError, MalformedError
from services.custody import holds
from services.custody.hold_policy import FILE_NAME, HoldPolicy, read_hold_policy
from services.custody.holds import HoldCode


@pytest.mark.parametrize("code", [code for code in HoldCode if code is not HoldCode.OTHER])
def test_every_code_makes_a_line_that_tells_it(code: HoldCode) -> None:
    for text in ("", "why: because"):
        reason = holds.line(code, text)

        assert (holds.code_of(reason), holds.text_of(reason)) == (code, text)


def test_a_text_alone_is_a_reason_of_its_own() -> None:
    assert holds.line(HoldCode.OTHER, " leaking \n badly") == "leaking badly"
    assert holds.code_of("leaking badly") is HoldCode.OTHER
    assert holds.text_of("leaking badly") == "leaking badly"
    assert holds.code_of("DAMAGED badly") is HoldCode.OTHER
    assert holds.code_of(holds.RETURN_UNVERIFIED) is HoldCode.RETURN_UNVERIFIED


@pytest.mark.parametrize(("code", "text"), [(HoldCode.OTHER, " "), (HoldCode.DAMAGED, "x" * 501)])
def test_refuses_a_reason_that_says_nothing_or_too_much(code: HoldCode, text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        holds.line(code, text)

    assert caught.value.code == "TEXT_LENGTH"


def test_reasons_come_and_go_each_by_itself() -> None:
    reasons = holds.added(holds.added("", "leaking"), "DAMAGED: torn")

    assert holds.lines_of(reasons) == ("leaking", "DAMAGED: torn")
    assert holds.added(reasons, "leaking") == "DAMAGED: torn\nleaking"
    assert holds.codes_of(reasons) == {HoldCode.OTHER, HoldCode.DAMAGED}
    assert holds.of_codes(reasons, {HoldCode.DAMAGED}) == ("DAMAGED: torn",)
    assert holds.of_codes(reasons, ()) == ("leaking", "DAMAGED: torn")
    assert holds.without(reasons, ("leaking",)) == "DAMAGED: torn"
    assert holds.without(reasons, ()) == ""


@pytest.mark.parametrize("reason", ["RECALLED: lot A", "RETURN_UNVERIFIED: torn", "RETURNED_TO_MAKER", "leaking"])
def test_what_a_return_waits_for_gives_way_to_its_verification_and_to_nothing_else(reason: str) -> None:
    waiting = f"{holds.RETURN_UNVERIFIED}\nDAMAGED"

    assert holds.lines_of(holds.added(waiting, reason)) == (holds.RETURN_UNVERIFIED, "DAMAGED", reason)
    assert holds.lines_of(holds.verified(waiting, reason)) == ("DAMAGED", reason)


# --- holds.toml ---

KEY = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"


def read(tmp_path: Path, text: str) -> HoldPolicy:
    path = tmp_path / FILE_NAME
    path.write_text(text)
    return read_hold_policy(path)


def test_without_a_file_nothing_needs_two_persons(tmp_path: Path) -> None:
    policy = read_hold_policy(tmp_path / FILE_NAME)

    assert policy == HoldPolicy()
    assert not policy.needs_two(["SUSPECT"])
    policy.require_one(["SUSPECT"], field="epcs")


def test_the_file_says_which_holds_two_persons_release(tmp_path: Path) -> None:
    policy = read(tmp_path, 'four_eyes = ["SUSPECT", "OTHER"]\nexpiring_days = 30\nreturn_margin_days = 180\n')

    assert (policy.expiring_days, policy.return_margin_days, policy.persons) == (30, 180, None)
    assert policy.needs_two(["DAMAGED", "leaking"])
    assert not policy.needs_two(["DAMAGED: x"])
    with pytest.raises(ConflictError) as caught:
        policy.require_one(["DAMAGED", "SUSPECT: x"], field="epcs[0]")
    assert (caught.value.code, caught.value.field) == ("FOUR_EYES_REQUIRED", "epcs[0]")
    assert read(tmp_path, 'four_eyes = ["*"]').four_eyes == frozenset(HoldCode)


def test_persons_may_be_bound_to_a_key(tmp_path: Path) -> None:
    policy = read(tmp_path, f'[persons]\nanna = ""\nben = "{KEY}"\n')

    assert policy.require_person("anna", key_id="x") == "anna"
    assert policy.require_person("ben", key_id=KEY) == "ben"
    for person, key_id, code in (
        ("", "x", "PERSON_MISSING"),
        ("carl", "x", "PERSON_UNKNOWN"),
        ("ben", "x", "PERSON_KEY"),
    ):
        with pytest.raises(AuthorizationError) as caught:
            policy.require_person(person, key_id=key_id)
        assert caught.value.code == code
    assert HoldPolicy().require_person("whoever", key_id="x") == "whoever"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("x = ", FILE_NAME),
        ("unknown = 1", "unknown"),
        ('four_eyes = ["NONE"]', "four_eyes"),
        ("four_eyes = 1", "four_eyes"),
        ("expiring_days = -1", "expiring_days"),
        ("expiring_days = true", "expiring_days"),
        ('return_margin_days = "90"', "return_margin_days"),
        ("require_authorisation = 1", "require_authorisation"),
        ("persons = 1", "persons"),
        ('[persons]\n"two words" = ""', "persons"),
        ('[persons]\nanna = "key"', "persons"),
    ],
)
def test_refuses_a_file_that_is_wrong(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read(tmp_path, text)

    assert (caught.value.code, caught.value.field) == ("HOLDS_FILE", field)


def test_refuses_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MalformedError) as caught:
        read_hold_policy(tmp_path)

    assert caught.value.code == "HOLDS_FILE"
    with pytest.raises(MalformedError):
        read(tmp_path, "#" * (1024 * 1024 + 1))


def test_every_hold_code_has_its_line_in_the_docs_and_its_number_in_the_contract() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "holds.md").read_text()

    assert set(re.findall(r"^\| `([A-Z_]+)` \|", docs, flags=re.MULTILINE)) == {code.value for code in HoldCode}
    assert {name.removeprefix("HOLD_CODE_") for name in custody_pb2.HoldCode.keys()} == {  # noqa: SIM118  # no mapping
        *(code.value for code in HoldCode),
        "UNSPECIFIED",
    }
