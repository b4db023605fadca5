"""One parameter of a question: its name, its value, and readings of it."""

import re
from dataclasses import dataclass
from decimal import Decimal

from medtrail.epcis import cbv
from medtrail.epcis.build import parse_number
from medtrail.epcis.namespaces import Prefixes
from medtrail.errors import MalformedError
from services.portal.normal import time_of, word
from services.portal.query.errors import QueryParameterError

MAX_TEXT = 2048


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its name, its value, and the namespaces of the prefixes in its name."""

    name: str
    value: object
    prefixes: Prefixes

    def fail(self, wanted: str) -> QueryParameterError:
        """Return the error that the value is not what is wanted."""
        shown = "nothing" if self.value is None else repr(self.value)[:80]
        return QueryParameterError(f"expected {wanted}, got {shown}", field=self.name)

    def texts(self) -> tuple[str, ...]:
        """Return a list of texts; one text is a list of one."""
        found = self.value if isinstance(self.value, list) else [self.value]
        texts = tuple(
            str(item) for item in found if isinstance(item, str | Decimal | int) and not isinstance(item, bool)
        )
        if not texts or len(texts) != len(found) or not all(0 < len(text) <= MAX_TEXT for text in texts):
            raise self.fail(f"a list of texts of 1 to {MAX_TEXT} characters")
        return texts

    def text(self) -> str:
        """Return one text."""
        texts = self.texts()
        if len(texts) != 1:
            raise self.fail("one value")
        return texts[0]

    def words(self, words: cbv.WordList) -> tuple[str, ...]:
        """Return CBV words, bare, and URIs of other vocabularies."""
        found = tuple(word(words, text) for text in self.texts())
        if words.words and any(":" not in text and text not in words.words for text in found):
            raise self.fail("words of the CBV, or URIs of another vocabulary")
        return found

    def numbers(self) -> tuple[Decimal, ...]:
        """Return numbers."""
        found = self.value if isinstance(self.value, list) else [self.value]
        try:
            return tuple(parse_number(item, field=self.name) for item in found)
        except MalformedError as error:
            raise self.fail("a number of up to 64 digits") from error

    def moment(self) -> str:
        """Return a moment as a text that sorts."""
        # In a URL a plus sign that is not encoded is a blank.
        found = time_of(re.sub(r" (?=[0-9]{2}:[0-9]{2}\Z)", "+", self.text()))
        if found is None:
            raise self.fail("a date-time with offset such as 2026-05-04T10:00:00Z")
        return found

    def count(self) -> int:
        """Return a whole number from 1."""
        text = str(self.value[0]) if isinstance(self.value, list) and len(self.value) == 1 else str(self.value)
        if isinstance(self.value, bool) or re.fullmatch(r"[0-9]{1,15}", text) is None or int(text) < 1:
            raise self.fail("a whole number from 1")
        return int(text)

    def truth(self) -> str:
        """Return ``true`` or ``false``."""
        text = str(self.value).lower() if isinstance(self.value, bool) else self.text()
        if text not in {"true", "false"}:
            raise self.fail("true or false")
        return text
