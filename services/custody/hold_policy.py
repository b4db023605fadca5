"""holds.toml: an organisation's own rules for holds, releases, expiry and returns.

The file stands in the organisation's folder and is read when its process starts.

::

    four_eyes = ["TEMPERATURE_EXCURSION", "SUSPECT"]  # released by two persons; ["*"]: every hold
    expiring_days = 90           # packs that expire within so many days are counted in the status
    return_margin_days = 180     # a returned pack is restocked only if it can be used for so long
    require_authorisation = true # a return names one of our return authorisations

    [persons]                    # who may ask for and approve releases; absent: whoever a call names
    anna = ""
    ben = "did:key:z6Mk…"        # only in calls signed with this key
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtrail.errors import AuthorizationError, ConflictError, MalformedError
from medtrail.runtime.tokens import PERSON
from services.custody.holds import HoldCode, code_of

FILE_NAME = "holds.toml"
MAX_FILE_BYTES = 1024 * 1024
MAX_DAYS = 36_500
_KEY = re.compile(r"(?:did:key:z[1-9A-HJ-NP-Za-km-z]{1,100})?")
_FIELDS = frozenset({"four_eyes", "expiring_days", "return_margin_days", "require_authorisation", "persons"})


@dataclass(frozen=True, slots=True)
class HoldPolicy:
    """An organisation's rules.

    Attributes:
        four_eyes: Reasons whose release needs two persons.
        expiring_days: Packs that expire within so many days are told of.
        return_margin_days: Days for which a returned pack must still be usable to be restocked.
        require_authorisation: Whether a return must name an authorisation of ours.
        persons: Who may ask for and approve releases, each with the key (did:key) that must sign the call, or empty;
            None: whoever a call names.
    """

    four_eyes: frozenset[HoldCode] = frozenset()
    expiring_days: int = 90
    return_margin_days: int = 0
    require_authorisation: bool = False
    persons: Mapping[str, str] | None = field(default=None, hash=False)

    def needs_two(self, reasons: Iterable[str]) -> bool:
        """Tell whether any of some hold reasons is released by two persons only."""
        return any(code_of(reason) in self.four_eyes for reason in reasons)

    def require_one(self, reasons: Iterable[str], *, field: str) -> None:
        """Refuse a release by one person where two are needed.

        Raises:
            ConflictError: FOUR_EYES_REQUIRED.
        """
        for reason in reasons:
            if code_of(reason) in self.four_eyes:
                message = f"the hold {reason!r} is released by two persons: request its release, another one approves"
                raise ConflictError(message, code="FOUR_EYES_REQUIRED", field=field, hold=code_of(reason))

    def require_person(self, person: str, *, key_id: str) -> str:
        """Return the person that a call names, if it may speak of releases.

        Raises:
            AuthorizationError: The call names none (PERSON_MISSING), one that is not listed (PERSON_UNKNOWN), or it is
                not signed with that person's key (PERSON_KEY).
        """
        if not person:
            message = "a release by two persons needs to know who asks: the call's token names nobody"
            raise AuthorizationError(message, code="PERSON_MISSING", field="person")
        if self.persons is None:
            return person
        if person not in self.persons:
            message = f"{person} is not among those who may release"
            raise AuthorizationError(message, code="PERSON_UNKNOWN", field="person")
        if self.persons[person] not in {"", key_id}:
            message = f"{person} calls with another key than {self.persons[person]}"
            raise AuthorizationError(message, code="PERSON_KEY", field="person")
        return person


NO_POLICY = HoldPolicy()
"""That of an organisation that says nothing."""


def read_hold_policy(path: Path) -> HoldPolicy:
    """Return the rules of a file; the defaults where there is none.

    Raises:
        MalformedError: The file is wrong (HOLDS_FILE).
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return NO_POLICY
    except OSError as error:
        raise _wrong(f"cannot be read: {error.strerror}", "") from error
    if len(content) > MAX_FILE_BYTES:
        raise _wrong(f"is larger than {MAX_FILE_BYTES} bytes", "")
    try:
        return parse_hold_policy(tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(f"is no TOML: {error}", "") from error


def parse_hold_policy(content: Mapping[str, Any]) -> HoldPolicy:
    """Return the rules that a file says.

    Raises:
        MalformedError: HOLDS_FILE.
    """
    for name in content.keys() - _FIELDS:
        raise _wrong(f"expected {', '.join(sorted(_FIELDS))}", name)
    return HoldPolicy(
        four_eyes=_codes(content.get("four_eyes", [])),
        expiring_days=_days(content, "expiring_days", 90),
        return_margin_days=_days(content, "return_margin_days", 0),
        require_authorisation=_flag(content, "require_authorisation", default=False),
        persons=_persons(content["persons"]) if "persons" in content else None,
    )


def _codes(value: Any) -> frozenset[HoldCode]:  # noqa: ANN401  # whatever TOML holds
    if value == ["*"]:
        return frozenset(HoldCode)
    try:
        return frozenset(map(HoldCode, value))
    except (TypeError, ValueError):
        raise _wrong(f'expected a list of {", ".join(HoldCode)}, or ["*"]', "four_eyes") from None


def _flag(content: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = content.get(name, default)
    if not isinstance(value, bool):
        raise _wrong("expected true or false", name)
    return value


def _days(content: Mapping[str, Any], name: str, default: int) -> int:
    value = content.get(name, default)
    if type(value) is not int or not 0 <= value <= MAX_DAYS:
        raise _wrong(f"expected a number of days, 0 to {MAX_DAYS}", name)
    return value


def _persons(value: Any) -> Mapping[str, str]:  # noqa: ANN401  # whatever TOML holds
    if not isinstance(value, dict) or not all(
        PERSON.fullmatch(name) and isinstance(key, str) and _KEY.fullmatch(key) for name, key in value.items()
    ):
        raise _wrong("expected names, each with a did:key or an empty text", "persons")
    return dict(value)


def _wrong(text: str, name: str) -> MalformedError:
    return MalformedError(f"{FILE_NAME}: {text}", code="HOLDS_FILE", field=name or FILE_NAME)
