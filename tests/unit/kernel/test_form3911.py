"""Form FDA 3911 as a document: what is missing, what is refused, and the same PDF each time."""

import json
import re
from dataclasses import replace
from datetime import date

import pytest
from reportlab.platypus import Paragraph

from medtrail import form3911_pdf
from medtrail.errors import MalformedError, TooLargeError
from medtrail.form3911 import (
    Classification,
    CompanyCategory,
    Form3911,
    Mechanism,
    ReportType,
    decode_form,
    encode_form,
    missing_fields,
    with_details,
)
from medtrail.form3911_pdf import draw_form

FULL = Form3911(
    report_type=ReportType.FOLLOW_UP,
    incident_number="2026-17",
    initial_date=date(2026, 3, 2),
    determine_date=date(2026, 3, 1),
    incident_location="New York",
    classification=Classification.COUNTERFEIT,
    product_name="Epcistra <100> & more",
    ingredients="epcistrine",
    strength="100 mg",
    dosage_form="tablet",
    quantity="12 packages",
    ndc="0001-0123-45",
    serials=("1", "2"),
    lots=("A123",),
    expiries=("2028-03-31",),
    event_description="Seal broken.\n\u03a9 on the label.",
    termination_reason="none yet",
    mechanisms=(Mechanism.FAR, Mechanism.OTHER),
    other_mechanism="by telephone",
    company_name="Pharmacy",
    street="1 High Street",
    street_two="Back door",
    city="New York",
    state="NY",
    postal_code="10003",
    country="US",
    company_category=CompanyCategory.DISPENSER,
    facility_identifier="123456789",
    contact_name="Kim",
    contact_phone="1",
    contact_email="kim@pharmacy.example",
)


def test_every_field_comes_back_from_the_document() -> None:
    assert decode_form(encode_form(FULL)) == FULL
    assert decode_form(b"") == Form3911()


def test_full_form_misses_nothing_and_an_empty_one_says_what_it_needs() -> None:
    assert missing_fields(FULL) == ()
    missing = missing_fields(Form3911())
    assert missing[0] == "determine_date"
    assert "event_description" in missing
    assert "incident_number" not in missing
    assert "contact_email" in missing


@pytest.mark.parametrize(
    ("report_type", "wanted", "unwanted"),
    [
        (ReportType.INITIAL, {"event_description"}, {"incident_number", "initial_date", "termination_reason"}),
        (ReportType.FOLLOW_UP, {"event_description", "incident_number", "initial_date"}, {"termination_reason"}),
        (ReportType.TERMINATION, {"termination_reason", "incident_number", "initial_date"}, {"event_description"}),
    ],
)
def test_what_is_needed_depends_on_the_type_of_report(
    report_type: ReportType, wanted: set[str], unwanted: set[str]
) -> None:
    missing = set(missing_fields(Form3911(report_type=report_type)))
    assert wanted <= missing
    assert not unwanted & missing


def test_mechanism_is_chosen_and_other_says_which() -> None:
    assert "mechanisms" in missing_fields(replace(FULL, mechanisms=()))
    assert "other_mechanism" in missing_fields(replace(FULL, other_mechanism=""))


def test_details_go_before_what_the_form_has() -> None:
    changed = with_details(FULL, json.dumps({"contact_name": "Lee", "classification": None}).encode())
    assert (changed.contact_name, changed.classification, changed.city) == ("Lee", None, "New York")


@pytest.mark.parametrize(
    ("details", "code"),
    [
        ({"colour": "red"}, "FORM_FIELD_UNKNOWN"),
        ({"determine_date": "03/01/2026"}, "FORM_FIELD_MALFORMED"),
        ({"determine_date": 1}, "FORM_FIELD_MALFORMED"),
        ({"classification": "odd"}, "FORM_FIELD_MALFORMED"),
        ({"report_type": None}, "FORM_FIELD_MALFORMED"),
        ({"serials": "1"}, "FORM_FIELD_MALFORMED"),
        ({"serials": ["1"] * 5001}, "FORM_FIELD_MALFORMED"),
        ({"lots": [1]}, "FORM_FIELD_MALFORMED"),
        ({"city": "x" * 301}, "FORM_FIELD_MALFORMED"),
        ({"city": "a\x00"}, "FORM_FIELD_MALFORMED"),
        ({"mechanisms": ["None", "FAR"]}, "FORM_MECHANISMS"),
        ({"initial_date": "2026-02-28"}, "FORM_DATES"),
        ({"classification": "high_risk_of_illegitimacy"}, "FORM_CLASSIFICATION"),
        ([], "FORM_MALFORMED"),
    ],
)
def test_wrong_detail_is_refused(details: object, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        with_details(FULL, json.dumps(details).encode())
    assert caught.value.code == code


def test_high_risk_is_for_manufacturers_to_say() -> None:
    details = {"classification": "high_risk_of_illegitimacy", "company_category": "manufacturer"}
    changed = with_details(FULL, json.dumps(details).encode())
    assert changed.classification is Classification.HIGH_RISK


def test_details_are_bounded_json() -> None:
    with pytest.raises(TooLargeError):
        with_details(FULL, b" " * (64 * 1024 + 1))
    with pytest.raises(MalformedError):
        with_details(FULL, b"{")


def test_pdf_has_the_same_bytes_each_time_and_pages_with_numbers() -> None:
    long = replace(FULL, serials=tuple(f"SN{number:08d}" for number in range(600)))
    first = draw_form(long, record="case-1")
    assert first.startswith(b"%PDF-")
    assert first == draw_form(long, record="case-1")
    assert first != draw_form(FULL, record="case-1")
    pages = re.findall(rb"/Type /Page\b", first)
    assert len(pages) >= 2


def test_pdf_of_any_text_is_drawn() -> None:
    assert draw_form(Form3911())
    assert draw_form(Form3911(product_name="W" * 300, event_description="W" * 8000))
    assert draw_form(Form3911(event_description="\n" * 3000, company_name="<b>&nbsp;</para>"))


@pytest.mark.parametrize(("name", "told"), [("Ω-Pharma", True), ("Apothèque “Zürich” 2 €", False)])
def test_pdf_says_where_its_font_lacks_letters(name: str, told: bool) -> None:
    texts = [item.text for item in form3911_pdf._flow(Form3911(company_name=name)) if isinstance(item, Paragraph)]
    assert any("shown as ?" in text for text in texts) is told
