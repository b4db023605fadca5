"""Form FDA 3911 (Drug Notification) as a document: every field, what is missing, and its JSON.

Trading partners send it to the FDA within 24 hours after they determined that product is illegitimate, later to follow
up, and to ask that the notification be terminated. Fields are numbered as on the form (edition 8/15); where the form
has a list to choose from whose words change with its editions, the field is a text.

Source: Form FDA 3911 and its instructions, and FDA's style sheet for structured product labeling, which prints the same
form, for items 20 to 23; FD&C Act, section 582.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from enum import StrEnum
from typing import Any

from medtrail.errors import MalformedError, TooLargeError

MAX_DOCUMENT_BYTES = 64 * 1024
MAX_TEXT = 300
MAX_STORY = 8000
MAX_LIST = 5000


class ReportType(StrEnum):
    """Item 1."""

    INITIAL = "initial_notification"
    FOLLOW_UP = "follow_up_notification"
    TERMINATION = "request_for_termination"


class Classification(StrEnum):
    """Item 5: what makes the product illegitimate; high risk is for manufacturers to say."""

    COUNTERFEIT = "counterfeit"
    DIVERTED = "diverted"
    STOLEN = "stolen"
    INTENTIONAL_ADULTERATION = "intentional_adulteration"
    UNFIT = "unfit_for_distribution"
    FRAUDULENT_TRANSACTION = "fraudulent_transaction"
    HIGH_RISK = "high_risk_of_illegitimacy"


class Mechanism(StrEnum):
    """Item 19: other ways by which the FDA was told."""

    BPDR = "BPDR"
    FAR = "FAR"
    MEDWATCH_3500 = "MedWatch 3500"
    MEDWATCH_3500A = "MedWatch 3500A"
    NONE = "None"
    OTHER = "Other"


class CompanyCategory(StrEnum):
    """Item 21."""

    MANUFACTURER = "manufacturer"
    WHOLESALE_DISTRIBUTOR = "wholesale_distributor"
    DISPENSER = "dispenser"
    REPACKAGER = "repackager"


@dataclass(frozen=True, slots=True)
class Form3911:
    """The form; empty means not filled.

    Attributes:
        incident_number: Item 2, given by the FDA; for all but the initial notification.
        initial_date: Item 3, of the initial notification.
        determine_date: Item 4, when the company determined that the product is illegitimate.
        incident_location: Where it happened, as later editions of the form ask.
        other_mechanism: Item 19, where it says Other.
        facility_identifier: Item 22, unique facility identifier, such as DUNS.
    """

    report_type: ReportType = ReportType.INITIAL
    incident_number: str = ""
    initial_date: date | None = None
    determine_date: date | None = None
    incident_location: str = ""
    classification: Classification | None = None
    product_name: str = ""
    ingredients: str = ""
    drug_use: str = "Human use"
    drug_description: str = "Finished prescription drug"
    strength: str = ""
    dosage_form: str = ""
    quantity: str = ""
    ndc: str = ""
    serials: tuple[str, ...] = ()
    lots: tuple[str, ...] = ()
    expiries: tuple[str, ...] = ()
    event_description: str = ""
    termination_reason: str = ""
    mechanisms: tuple[Mechanism, ...] = (Mechanism.NONE,)
    other_mechanism: str = ""
    company_name: str = ""
    street: str = ""
    street_two: str = ""
    city: str = ""
    state: str = ""
    postal_code: str = ""
    country: str = ""
    company_category: CompanyCategory | None = None
    facility_identifier: str = ""
    contact_name: str = ""
    contact_phone: str = ""
    contact_email: str = ""


_DATES = frozenset({"initial_date", "determine_date"})
_STORIES = frozenset({"event_description", "termination_reason"})
_LISTS = frozenset({"serials", "lots", "expiries"})
_ENUMS: dict[str, type[StrEnum]] = {
    "report_type": ReportType,
    "classification": Classification,
    "company_category": CompanyCategory,
}
_NAMES = tuple(item.name for item in fields(Form3911))
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

_ALWAYS = (
    "determine_date",
    "classification",
    "product_name",
    "drug_use",
    "drug_description",
    "quantity",
    "company_name",
    "street",
    "city",
    "country",
    "company_category",
    "contact_name",
    "contact_phone",
    "contact_email",
)
_BY_TYPE: dict[ReportType, tuple[str, ...]] = {
    ReportType.INITIAL: ("event_description",),
    ReportType.FOLLOW_UP: ("incident_number", "initial_date", "event_description"),
    ReportType.TERMINATION: ("incident_number", "initial_date", "termination_reason"),
}


def missing_fields(form: Form3911) -> tuple[str, ...]:
    """Return the fields that the form still needs before it can be sent, in their order on the form."""
    wanted = {*_ALWAYS, *_BY_TYPE[form.report_type]}
    if Mechanism.OTHER in form.mechanisms:
        wanted.add("other_mechanism")
    if not form.mechanisms:
        wanted.add("mechanisms")
    return tuple(name for name in _NAMES if name in wanted and not getattr(form, name))


def check_form(form: Form3911) -> None:
    """Check that what the form says agrees with itself.

    Raises:
        MalformedError: High risk is said by no manufacturer (FORM_CLASSIFICATION), the notification was before the
            determination (FORM_DATES), or None stands beside another mechanism (FORM_MECHANISMS).
    """
    makers = {None, CompanyCategory.MANUFACTURER, CompanyCategory.REPACKAGER}
    if form.classification is Classification.HIGH_RISK and form.company_category not in makers:
        message = f"high risk of illegitimacy is for manufacturers to say, not for a {form.company_category}"
        raise MalformedError(message, code="FORM_CLASSIFICATION", field="classification")
    if form.initial_date and form.determine_date and form.initial_date < form.determine_date:
        message = f"notified on {form.initial_date}, before it was determined on {form.determine_date}"
        raise MalformedError(message, code="FORM_DATES", field="initial_date")
    if Mechanism.NONE in form.mechanisms and len(form.mechanisms) > 1:
        message = "None stands beside another mechanism"
        raise MalformedError(message, code="FORM_MECHANISMS", field="mechanisms")


def encode_form(form: Form3911) -> bytes:
    """Return the form as a JSON document, its fields in the order of the form."""
    return json.dumps(form_document(form), ensure_ascii=False, indent=2).encode()


def form_document(form: Form3911) -> dict[str, Any]:
    """Return the form as JSON's values; days as YYYY-MM-DD, what is not filled as null or empty."""

    def shown(value: Any) -> Any:  # noqa: ANN401  # any field's value
        return value.isoformat() if isinstance(value, date) else list(value) if isinstance(value, tuple) else value

    return {name: shown(getattr(form, name)) for name in _NAMES}


def with_details(form: Form3911, data: bytes) -> Form3911:
    """Return a form with fields that a JSON object says; the others stay.

    Args:
        form: The form.
        data: A JSON object of at most 64 KiB; may be empty.

    Raises:
        TooLargeError: More than 64 KiB.
        MalformedError: It is no JSON object, a field is unknown (FORM_FIELD_UNKNOWN) or of wrong form
            (FORM_FIELD_MALFORMED), or the form does not agree with itself (:func:`check_form`).
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        message = f"expected at most {MAX_DOCUMENT_BYTES} bytes, got {len(data)}"
        raise TooLargeError(message, code="FORM_TOO_LARGE", field="details")
    if not data:
        return form
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        message = f"expected a JSON object: {error}"
        raise MalformedError(message[:MAX_TEXT], code="FORM_MALFORMED", field="details") from error
    if not isinstance(document, dict):
        raise MalformedError("expected a JSON object", code="FORM_MALFORMED", field="details")
    changed = replace(form, **dict(_read(document)))
    check_form(changed)
    return changed


def decode_form(data: bytes) -> Form3911:
    """Return the form of a JSON document.

    Raises:
        MalformedError: As :func:`with_details`.
    """
    return with_details(Form3911(), data)


def _read(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if name not in _NAMES:
            message = f"the form has no field {name[:40]!r}; it has {', '.join(_NAMES)}"
            raise MalformedError(message, code="FORM_FIELD_UNKNOWN", field=f"details.{name[:40]}")
        yield name, _field(name, value)


def _field(name: str, value: Any) -> Any:  # noqa: ANN401  # any JSON in, any field's value out
    if name in _DATES:
        return None if value is None else _day(name, value)
    if name in _ENUMS:
        if value is None and name != "report_type":
            return None
        return _word(name, value, _ENUMS[name])
    if name == "mechanisms":
        return tuple(_word(name, item, Mechanism) for item in _list(name, value, len(Mechanism)))
    if name in _LISTS:
        return tuple(_text(name, item, MAX_TEXT) for item in _list(name, value, MAX_LIST))
    return _text(name, value, MAX_STORY if name in _STORIES else MAX_TEXT)


def _wrong(name: str, wanted: str, value: object) -> MalformedError:
    message = f"expected {wanted}, got {str(value)[:50]!r}"
    return MalformedError(message, code="FORM_FIELD_MALFORMED", field=f"details.{name}")


def _day(name: str, value: object) -> date:
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        day = None
    if day is None or day.isoformat() != value:
        raise _wrong(name, "a day, YYYY-MM-DD", value)
    return day


def _word(name: str, value: object, words: type[StrEnum]) -> StrEnum:
    try:
        return words(str(value))
    except ValueError:
        raise _wrong(name, f"one of {', '.join(words)}", value) from None


def _list(name: str, value: object, most: int) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise _wrong(name, f"a list of at most {most}", value)
    return value


def _text(name: str, value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most or _CONTROL.search(value):
        raise _wrong(name, f"a text of at most {most} characters", value)
    return value
