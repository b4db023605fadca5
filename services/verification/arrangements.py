"""What an organisation has arranged about verification requests, in words that a person edits (TOML).

::

    # Who may ask though no enrolled organisation: the caller is the name of its token at the portal.
    [[partner]]
    gln = "9521005000013"
    caller = "station-vrs"
    contexts = ["dscsaSaleableReturn"]
    expires = 2027-01-01

    # A lot whose expiry the FDA extended.
    [[extension]]
    gtin = "00300010123455"
    lot = "A123"
    expiry = 2028-09-30

    # What the maker answers by its own decision, whatever else is known.
    [[policy]]
    gtin = "00300010123455"
    lot = "A124"
    reason = "Not_for_re-distribution"
    info = "Illegitimate"

    # Who answers for products of others; without url, where its enrolment says. The token is sent to this one only.
    [[responder]]
    gln = "9521006000012"
    url = "https://vrs.maker.example"
    company_prefixes = ["0952"]
    token_file = "maker.token"
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from medtrail.errors import MalformedError, NotFoundError
from medtrail.gs1 import Gln, Gtin, Sgtin
from medtrail.runtime.files import read_file, read_secret
from medtrail.trust import Registry
from medtrail.vrs import AdditionalInfo, FailureReason, VrsAnswer, context_of

T = TypeVar("T")
W = TypeVar("W", bound=StrEnum)

_PREFIX = re.compile(r"[0-9]{4,12}")
_URL = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?")
_LOCAL = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]+)?(?:/.*)?")


@dataclass(frozen=True, slots=True)
class Partner:
    """Who may ask though it is no enrolled organisation, or under which conditions an enrolled one may.

    Attributes:
        caller: Name of the token by which it comes in; empty: any.
        contexts: Why it may ask; empty: for any reason.
        expires: Last day; None: no end.
    """

    gln: Gln
    caller: str = ""
    contexts: frozenset[str] = frozenset()
    expires: date | None = None


@dataclass(frozen=True, slots=True)
class Extension:
    """That the expiry of a lot was extended, and until when."""

    gtin: Gtin
    lot: str
    expiry: date


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """What is answered of goods by the maker's decision; an empty lot means every lot, no serials every serial."""

    gtin: Gtin
    answer: VrsAnswer
    lot: str = ""
    serials: frozenset[str] = frozenset()

    def covers(self, sgtin: Sgtin, lot: str) -> bool:
        """Tell whether it is about a pack."""
        named = not self.serials or sgtin.serial in self.serials
        return sgtin.gtin == self.gtin and named and self.lot in {"", lot}


@dataclass(frozen=True, slots=True)
class ResponderEntry:
    """Who answers for products of others; without url, where its enrolment says."""

    gln: Gln
    url: str = ""
    gtins: frozenset[Gtin] = frozenset()
    company_prefixes: tuple[str, ...] = ()
    token: str = ""

    def __repr__(self) -> str:
        """Show nothing of the token."""
        return f"ResponderEntry({self.gln}, {self.url!r})"


@dataclass(frozen=True, slots=True)
class Responder:
    """Whom to ask about a product.

    Attributes:
        url: Base URL, to which ``/verify/…`` is added.
        source: ``settings`` or ``enrolment``.
        token: Sent as bearer token; may be empty.
    """

    gln: Gln
    url: str
    source: str
    token: str = ""

    def __repr__(self) -> str:
        """Show nothing of the token."""
        return f"Responder({self.gln}, {self.url!r}, {self.source})"


@dataclass(frozen=True, slots=True)
class Arrangements:
    """All that the file says."""

    partners: Mapping[Gln, Partner]
    extensions: Mapping[tuple[Gtin, str], Extension]
    policies: tuple[AnswerPolicy, ...] = ()
    responders: tuple[ResponderEntry, ...] = ()

    def responder_of(self, gtin: Gtin, registry: Registry) -> Responder:
        """Return whom to ask about a product: the one that the file names for it, else for its prefix, else its owner.

        Raises:
            NotFoundError: Nobody is known to answer (RESPONDER_UNKNOWN).
        """
        owner = registry.owner_of(gtin)
        entry = self._entry(gtin, None if owner is None else owner.gln)
        if entry is not None:
            enrolled = registry.organisation_of_gln(entry.gln)
            url = entry.url or ("" if enrolled is None else enrolled.responder_url)
            if url:
                return Responder(entry.gln, url, "settings" if entry.url else "enrolment", entry.token)
        if owner is not None and owner.responder_url:
            return Responder(owner.gln, owner.responder_url, "enrolment")
        message = f"nobody is known to answer for GTIN {gtin}: name its responder in the verification file"
        raise NotFoundError(message, code="RESPONDER_UNKNOWN", field="gtin")

    def _entry(self, gtin: Gtin, owner: Gln | None) -> ResponderEntry | None:
        by_gtin = [item for item in self.responders if gtin in item.gtins]
        if by_gtin:
            return by_gtin[0]
        digits = str(gtin)[1:]
        matching = [
            (len(prefix), item)
            for item in self.responders
            for prefix in item.company_prefixes
            if digits.startswith(prefix)
        ]
        if matching:
            return max(matching, key=lambda found: found[0])[1]
        return next((item for item in self.responders if item.gln == owner), None)


NONE_MADE = Arrangements({}, {})


def read_arrangements(path: Path | None) -> Arrangements:
    """Return what a file says; nothing where there is none.

    Raises:
        MalformedError: It cannot be read (VERIFICATION_FILE); the field says where.
    """
    if path is None:
        return NONE_MADE
    try:
        document = tomllib.loads(read_file(path).decode("utf-8"))
    except ValueError as error:
        raise MalformedError(f"{path}: {error}", code="VERIFICATION_FILE", field=path.name) from error
    return _Reader(path).read(document)


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, document: dict[str, Any]) -> Arrangements:
        for key in document:
            if key not in {"partner", "extension", "policy", "responder"}:
                raise self._error(key, "unknown table; known are: partner, extension, policy, responder")
        partners = self._tables(document, "partner", self._partner)
        extensions = self._tables(document, "extension", self._extension)
        return Arrangements(
            partners={item.gln: item for item in partners},
            extensions={(item.gtin, item.lot): item for item in extensions},
            policies=tuple(self._tables(document, "policy", self._policy)),
            responders=tuple(self._tables(document, "responder", self._responder)),
        )

    def _partner(self, table: dict[str, Any], where: str) -> Partner:
        self._check_keys(table, where, {"gln", "caller", "contexts", "expires"})
        return Partner(
            gln=self._value(where, "gln", lambda: Gln(self._text(table, where, "gln"))),
            caller=self._text(table, where, "caller", default=""),
            contexts=frozenset(
                self._value(where, "contexts", lambda text=text: context_of(text))  # type: ignore[misc]
                for text in self._texts(table, where, "contexts")
            ),
            expires=self._day(table, where, "expires") if "expires" in table else None,
        )

    def _extension(self, table: dict[str, Any], where: str) -> Extension:
        self._check_keys(table, where, {"gtin", "lot", "expiry"})
        return Extension(self._gtin(table, where), self._text(table, where, "lot"), self._day(table, where, "expiry"))

    def _policy(self, table: dict[str, Any], where: str) -> AnswerPolicy:
        self._check_keys(table, where, {"gtin", "lot", "serials", "reason", "info"})
        reason = self._word(table, where, "reason", FailureReason)
        info = self._word(table, where, "info", AdditionalInfo)
        if reason is None and info is None:
            raise self._error(where, "name a reason, an info, or both")
        return AnswerPolicy(
            gtin=self._gtin(table, where),
            answer=VrsAnswer(reason is None, reason, info),
            lot=self._text(table, where, "lot", default=""),
            serials=frozenset(self._texts(table, where, "serials")),
        )

    def _responder(self, table: dict[str, Any], where: str) -> ResponderEntry:
        self._check_keys(table, where, {"gln", "url", "gtins", "company_prefixes", "token_file"})
        url = self._text(table, where, "url", default="")
        if url:
            self._value(where, "url", lambda: check_url(url))
        prefixes = self._texts(table, where, "company_prefixes")
        for prefix in prefixes:
            if _PREFIX.fullmatch(prefix) is None:
                raise self._error(f"{where}.company_prefixes", f"expected 4 to 12 digits, got {prefix[:40]!r}")
        name = self._text(table, where, "token_file", default="")
        return ResponderEntry(
            gln=self._value(where, "gln", lambda: Gln(self._text(table, where, "gln"))),
            url=url.rstrip("/"),
            gtins=frozenset(
                self._value(where, "gtins", lambda text=text: Gtin(text))  # type: ignore[misc]
                for text in self._texts(table, where, "gtins")
            ),
            company_prefixes=tuple(prefixes),
            token=read_secret(self._path.parent / name).decode("ascii", "replace").strip() if name else "",
        )

    def _tables(self, document: dict[str, Any], key: str, make: Callable[[dict[str, Any], str], T]) -> list[T]:
        found = document.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self._error(key, f"expected tables, each under [[{key}]]")
        return [make(item, f"{key}[{number}]") for number, item in enumerate(found)]

    def _check_keys(self, table: dict[str, Any], where: str, known: set[str]) -> None:
        for key in table:
            if key not in known:
                raise self._error(f"{where}.{key}", f"unknown key; known are: {', '.join(sorted(known))}")

    def _text(self, table: dict[str, Any], where: str, key: str, *, default: str | None = None) -> str:
        value = table.get(key, default)
        if not isinstance(value, str) or not (value or default == ""):
            raise self._error(f"{where}.{key}", "expected a text")
        return value

    def _texts(self, table: dict[str, Any], where: str, key: str) -> Sequence[str]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._error(f"{where}.{key}", "expected a list of texts")
        return value

    def _day(self, table: dict[str, Any], where: str, key: str) -> date:
        value = table.get(key)
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self._error(f"{where}.{key}", "expected a day, such as 2027-01-31")
        return value

    def _gtin(self, table: dict[str, Any], where: str) -> Gtin:
        return self._value(where, "gtin", lambda: Gtin(self._text(table, where, "gtin")))

    def _word(self, table: dict[str, Any], where: str, key: str, known: type[W]) -> W | None:
        text = self._text(table, where, key, default="")
        if not text:
            return None
        if text not in {item.value for item in known}:
            raise self._error(f"{where}.{key}", f"expected one of {', '.join(known)}; got {text[:40]!r}")
        return known(text)

    def _value(self, where: str, key: str, make: Callable[[], T]) -> T:
        try:
            return make()
        except MalformedError as error:
            if error.code == "VERIFICATION_FILE":
                raise
            raise self._error(f"{where}.{key}", error.message) from error

    def _error(self, field: str, message: str) -> MalformedError:
        return MalformedError(message, code="VERIFICATION_FILE", field=f"{self._path.name}: {field}")


def check_url(url: str) -> str:
    """Return a base URL to which questions and a token may be sent: https, or http on this machine.

    Raises:
        MalformedError: It is none (URL_MALFORMED).
    """
    if _URL.fullmatch(url) is None or (not url.startswith("https://") and _LOCAL.fullmatch(url) is None):
        message = f"expected https://…, or http:// on this machine; got {url[:80]!r}"
        raise MalformedError(message, code="URL_MALFORMED", field="url")
    return url
