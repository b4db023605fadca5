"""What callers ask, read from their messages: units, lots, times, and the page at which an answer goes on."""

from datetime import date, datetime

from google.protobuf.message import Message

from medtrail.codec import from_timestamp
from medtrail.errors import MalformedError
from medtrail.gs1 import Gln, Gtin, Lgtin, Sgtin, parse_epc
from medtrail.runtime.guard import Context
from medtrail.runtime.paging import PageTokens
from medtrail.runtime.server import caller_of

LARGEST_START = 2**63 - 1


class Pages:
    """Page tokens of one call."""

    def __init__(self, tokens: PageTokens, context: Context, method: str, request: Message) -> None:
        """Hold what each token is bound to: the caller, the method, the request."""
        self._tokens = tokens
        self._caller: Gln = caller_of(context).organisation.gln
        self._method = method
        self._request = request

    def open(self, token: str) -> tuple[int | str, ...] | None:
        """Return the position that a token holds, or None for an empty one: the answer begins.

        Raises:
            MalformedError: PAGE_TOKEN_INVALID.
        """
        return self._tokens.open(token, caller=self._caller, method=self._method, request=self._request)

    def start(self, token: str, first: int) -> int:
        """Return the index from which to read on."""
        position = self.open(token)
        # What lies behind the largest index is none, in every database's numbers.
        return min(first, LARGEST_START) if position is None else int(position[0])

    def snapshot(self, token: str, known_size: int) -> tuple[int, int]:
        """Return the tree size of the first page, and how much of the answer was given."""
        position = self.open(token)
        return (known_size, 0) if position is None else (int(position[0]), int(position[1]))

    def issue(self, *position: int | str) -> str:
        """Return the token of the next page."""
        return self._tokens.issue(position, caller=self._caller, method=self._method, request=self._request)


def optional_time(request: Message, name: str) -> datetime | None:
    """Return a time of a request, aware UTC; None: it names none."""
    if not request.HasField(name):
        return None
    return from_timestamp(getattr(request, name), field=name)


def expiry_of(text: str) -> date | None:
    """Return a day as it stands on a pack, YYYY-MM-DD; None: it is not told.

    Raises:
        MalformedError: DATE_WRONG.
    """
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise MalformedError("expected YYYY-MM-DD", code="DATE_WRONG", field="expiry") from error


def unit_path_of(text: str) -> str:
    """Return the path of a unit; of one that no GS1 scheme names, its URI.

    Raises:
        MalformedError: It is malformed, or empty.
    """
    try:
        return parse_epc(text).path
    except MalformedError as error:
        if error.code == "EPC_NOT_GS1" and text:
            # Units of other schemes are known under their URI as it stands.
            return text
        raise MalformedError(error.message, code=error.code, field="epc") from error


def pack_of(text: str) -> Sgtin:
    """Return the pack that is named.

    Raises:
        MalformedError: EPC_NOT_PACK: it names something else.
    """
    try:
        key = parse_epc(text)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="epc") from error
    if not isinstance(key, Sgtin):
        raise MalformedError("expected one pack: GTIN (01) and serial (21)", code="EPC_NOT_PACK", field="epc")
    return key


def gln_of(text: str, *, field: str) -> Gln:
    """Return a party or place.

    Raises:
        MalformedError: It is no GLN.
    """
    try:
        return Gln(text)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field=field) from error


def lot_of(gtin: str, lot: str) -> Lgtin:
    """Return a lot of a trade item.

    Raises:
        MalformedError: There is no such GTIN, or lot.
    """
    try:
        number = Gtin(gtin)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="gtin") from error
    try:
        return Lgtin(number, lot)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="lot") from error
