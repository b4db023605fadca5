"""Form FDA 3911 drawn as a filled document: a layout of our own, numbered like the form, the same bytes each time."""

import io
import json
from collections.abc import Sequence
from datetime import date
from typing import Any, Final
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.pagesizes import LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from medtrail.form3911 import (
    Classification,
    CompanyCategory,
    Form3911,
    Mechanism,
    ReportType,
    form_document,
    missing_fields,
)

_MARGIN: Final = 16 * mm
_WIDTH: Final = LETTER[0] - 2 * _MARGIN
_INK: Final = colors.HexColor("#1a2b3c")
_LINE: Final = colors.HexColor("#8a97a5")
_SHADE: Final = colors.HexColor("#e8edf2")
_EMPTY: Final = "\u2013"

_LABEL = ParagraphStyle("label", fontName="Helvetica", fontSize=6.8, leading=8.2, textColor=_INK)
_VALUE = ParagraphStyle("value", fontName="Helvetica", fontSize=9.2, leading=11.4, splitLongWords=True)
_STORY = ParagraphStyle("story", parent=_VALUE, leftIndent=6, rightIndent=6, spaceBefore=1, spaceAfter=4)
_TITLE = ParagraphStyle("title", fontName="Helvetica-Bold", fontSize=15, leading=18, textColor=_INK)
_UNDER = ParagraphStyle("under", fontName="Helvetica", fontSize=8, leading=10, textColor=_INK)
_SECTION = ParagraphStyle("section", fontName="Helvetica-Bold", fontSize=9.6, leading=12, textColor=colors.white)

_TYPES = {
    ReportType.INITIAL: "Initial Notification",
    ReportType.FOLLOW_UP: "Follow-up Notification",
    ReportType.TERMINATION: "Request for Termination",
}
_CLASSIFICATIONS = {
    Classification.COUNTERFEIT: "Counterfeit",
    Classification.DIVERTED: "Diverted",
    Classification.STOLEN: "Stolen",
    Classification.INTENTIONAL_ADULTERATION: "Intentional adulteration",
    Classification.UNFIT: "Unfit for distribution",
    Classification.FRAUDULENT_TRANSACTION: "Fraudulent transaction",
    Classification.HIGH_RISK: "High risk of illegitimacy",
}
_CATEGORIES = {
    CompanyCategory.MANUFACTURER: "Manufacturer",
    CompanyCategory.WHOLESALE_DISTRIBUTOR: "Wholesale distributor",
    CompanyCategory.DISPENSER: "Dispenser (pharmacy)",
    CompanyCategory.REPACKAGER: "Repackager",
}


def draw_form(form: Form3911, *, record: str = "") -> bytes:
    """Return the form as PDF, US letter; the same form gives the same bytes.

    Args:
        form: The form, filled as far as it is; fields that it still needs are named at its end.
        record: Name of the record behind it, such as a case's id, for the foot of each page.
    """
    out = io.BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=LETTER,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN + 4 * mm,
        title="Form FDA 3911 - Drug Notification",
        author=_plain(form.company_name),
        subject=_plain(record),
        creator="medtrail",
        invariant=1,
    )

    class Numbered(_NumberedCanvas):
        foot = _plain(f"Record {record}" if record else "")

    document.build(list(_flow(form)), canvasmaker=Numbered)
    return out.getvalue()


class _NumberedCanvas(Canvas):
    """Draws the foot of each page once it is known how many there are."""

    foot = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # reportlab's own form
        super().__init__(*arguments, **options)
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802  # reportlab's name
        """Keep a page until all are there."""
        self._pages.append(dict(self.__dict__))
        self._startPage()  # type: ignore[attr-defined]  # reportlab's own way

    def save(self) -> None:
        """Draw the feet, and write."""
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            self.setFont("Helvetica", 7)
            self.setFillColor(_INK)
            self.drawString(_MARGIN, 10 * mm, self.foot)
            right = f"Data of Form FDA 3911, page {number} of {len(self._pages)}"
            self.drawRightString(LETTER[0] - _MARGIN, 10 * mm, right)
            super().showPage()
        super().save()


def _flow(form: Form3911) -> Sequence[Flowable]:
    return [
        Paragraph("Drug Notification", _TITLE),
        Paragraph(
            "Data of Form FDA 3911, for the notification of the FDA under section 582 of the FD&amp;C Act. "
            "Items are numbered as on the form.",
            _UNDER,
        ),
        Spacer(1, 3 * mm),
        *_report(form),
        *_product(form),
        *_event(form),
        *_company(form),
        *_missing(form),
        *_unprinted(form),
    ]


def _report(form: Form3911) -> list[Flowable]:
    chosen = None if form.classification is None else form.classification
    return [
        _section("Report"),
        _rows([[("1. Type of report", _boxes(_TYPES, (form.report_type,)))]]),
        _rows(
            [
                [
                    ("2. Incident number (assigned by FDA)", form.incident_number),
                    ("3. Date of initial notification", _day(form.initial_date)),
                    ("4. Date company determined product was illegitimate", _day(form.determine_date)),
                ]
            ]
        ),
        _rows([[("5. Classification of notification", _boxes(_CLASSIFICATIONS, () if chosen is None else (chosen,)))]]),
        _rows([[("Geographic location of incident", form.incident_location)]]),
    ]


def _product(form: Form3911) -> list[Flowable]:
    return [
        Spacer(1, 2.5 * mm),
        _section("Description of product"),
        _rows(
            [
                [("6. Name of product as it appears on label", form.product_name)],
                [("7. Primary ingredient(s), if known", form.ingredients)],
            ]
        ),
        _rows(
            [
                [("8. Drug use", form.drug_use), ("9. Drug description", form.drug_description)],
                [("10. Strength of drug", form.strength), ("11. Dosage form", form.dosage_form)],
                [("12. Quantity of drug (number and unit)", form.quantity), ("13. NDC number", form.ndc)],
            ]
        ),
        *_story("14. Serial number(s)", ", ".join(form.serials)),
        *_story("15. Lot number(s)", ", ".join(form.lots)),
        *_story("16. Expiration date(s)", ", ".join(form.expiries)),
    ]


def _event(form: Form3911) -> list[Flowable]:
    other = f"Other: {form.other_mechanism}" if form.other_mechanism else "Other"
    mechanisms = {item: other if item is Mechanism.OTHER else item.value for item in Mechanism}
    return [
        Spacer(1, 2.5 * mm),
        _section("Event"),
        *_story("17. For notification: description of event or issue", form.event_description),
        *_story(
            "18. For request for termination: why the notification is no longer necessary", form.termination_reason
        ),
        _rows(
            [
                [
                    (
                        "19. Information submitted to FDA through an alternative mechanism",
                        _boxes(mechanisms, form.mechanisms),
                    )
                ]
            ]
        ),
    ]


def _company(form: Form3911) -> list[Flowable]:
    town = " ".join(part for part in (form.city, form.state, form.postal_code) if part)
    address = "\n".join(part for part in (form.street, form.street_two, town, form.country) if part)
    category = "" if form.company_category is None else _CATEGORIES[form.company_category]
    return [
        Spacer(1, 2.5 * mm),
        _section("Company and facility"),
        _rows(
            [
                [("20. Company name", form.company_name), ("20. Address", address)],
                [("21. Company category", category), ("22. Unique facility identifier", form.facility_identifier)],
            ]
        ),
        _rows(
            [
                [
                    ("23. Contact: name", form.contact_name),
                    ("23. Telephone", form.contact_phone),
                    ("23. E-mail address", form.contact_email),
                ]
            ]
        ),
    ]


def _missing(form: Form3911) -> list[Flowable]:
    names = missing_fields(form)
    if not names:
        return []
    text = "Not complete. Still needed: " + ", ".join(name.replace("_", " ") for name in names) + "."
    return [Spacer(1, 3 * mm), Paragraph(_markup(text), ParagraphStyle("missing", parent=_UNDER, textColor=colors.red))]


def _unprinted(form: Form3911) -> list[Flowable]:
    text = json.dumps(form_document(form), ensure_ascii=False)
    if _plain(text) == text:
        return []
    told = "Letters that this print has no font for are shown as ?. The JSON document of the form has them."
    return [Spacer(1, 3 * mm), Paragraph(told, _UNDER)]


def _section(title: str) -> Table:
    made = Table([[Paragraph(title, _SECTION)]], colWidths=[_WIDTH])
    made.setStyle(TableStyle([("BACKGROUND", (0, 0), (-1, -1), _INK), ("TOPPADDING", (0, 0), (-1, -1), 1.5)]))
    return made


def _rows(rows: Sequence[Sequence[tuple[str, str]]]) -> Table:
    """Return cells of a label and a value each, side by side."""
    cells = [
        [[Paragraph(_markup(label), _LABEL), Paragraph(_shown(value), _VALUE)] for label, value in row] for row in rows
    ]
    made = Table(cells, colWidths=[_WIDTH / len(rows[0])] * len(rows[0]))
    made.setStyle(
        TableStyle(
            [
                ("GRID", (0, 0), (-1, -1), 0.5, _LINE),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3.5),
            ]
        )
    )
    return made


def _story(label: str, text: str) -> list[Flowable]:
    """Return a label and a text that may be longer than a page."""
    head = Table([[Paragraph(_markup(label), _LABEL)]], colWidths=[_WIDTH])
    head.setStyle(TableStyle([("BACKGROUND", (0, 0), (-1, -1), _SHADE), ("TOPPADDING", (0, 0), (-1, -1), 1.5)]))
    return [head, *(Paragraph(_shown(part), _STORY) for part in (text.splitlines() or [""]))]


def _boxes(words: dict[Any, str], chosen: Sequence[object]) -> str:
    return "     ".join(f"[{'X' if item in chosen else '  '}] {text}" for item, text in words.items())


def _day(day: date | None) -> str:
    return "" if day is None else f"{day:%m/%d/%Y}"


def _plain(text: str) -> str:
    # The fonts that every reader has know Western letters only; the JSON of the form has all of them.
    return text.encode("cp1252", "replace").decode("cp1252")


def _markup(text: str) -> str:
    return escape(_plain(text)).replace("\n", "<br/>")


def _shown(text: str) -> str:
    # Spaces between boxes stay; a text that is empty shows that nothing was forgotten in print.
    return _markup(text).replace("     ", "&nbsp;" * 4 + " ") or _EMPTY
