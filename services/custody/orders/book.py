"""Documents and orders in the database: storing, finding, and keeping orders in step with what is known of them."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, select, update
from sqlalchemy.dialects.sqlite import insert

from medtrail.codec import decode_payload, decode_signed_event, decode_terms
from medtrail.document import Document, DocumentFunction, DocumentKind, DocumentReference
from medtrail.gs1 import Gln
from medtrail.terms import SaltedTerms
from services.custody.exceptions.case import CaseResolution, NewCase
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.store import close_case, find_case, open_case
from services.custody.holdings_store import chunks, to_us
from services.custody.orders import links
from services.custody.orders.goods import tally_from
from services.custody.orders.state import view_of
from services.custody.orders.tables import DocumentRow, EventLink, GoodsRow, OrderRow
from services.custody.orders.view import Filed, Mismatch, Movement, OrderState, OrderView
from services.custody.tables import KnownEvent

_DOCUMENT = DocumentRow.__table__  # type: ignore[attr-defined]
_EVENT = KnownEvent.__table__  # type: ignore[attr-defined]
_ORDER = OrderRow.__table__  # type: ignore[attr-defined]
_GOODS = GoodsRow.__table__  # type: ignore[attr-defined]
_LINK = EventLink.__table__  # type: ignore[attr-defined]

_DECLARED = _EVENT.alias("declared")
_COUNTS = and_(
    _EVENT.c.refusal == "",
    ~select(_DECLARED.c.number)
    .where(
        _DECLARED.c.signer == _EVENT.c.signer,
        _DECLARED.c.event_id == _EVENT.c.event_id,
        _DECLARED.c.declaration.is_(True),
        _DECLARED.c.refusal == "",
    )
    .exists(),
)

_DOCUMENTS = select(
    _DOCUMENT,
    _EVENT.c.signed_event,
    _EVENT.c.signed_event_sha256,
    _EVENT.c.event_id,
    _EVENT.c.refusal,
    _EVENT.c.source_seq,
).join(_EVENT, _EVENT.c.number == _DOCUMENT.c.event_number)


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """A document as kept here.

    Attributes:
        event_number: Number of its signed event here.
        salted: Its terms as hashed, with their salt.
        refusal: Code of the ledger's refusal; empty when there is none.
    """

    event_number: int
    filed: Filed
    salted: SaltedTerms
    own: bool
    event_id: str
    sha256: bytes
    signed_event: bytes
    source_seq: int
    refusal: str


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """An order as listed; ``number`` in order of arrival here."""

    number: int
    name: DocumentReference
    seller: Gln
    issue_us: int
    state: OrderState
    open: bool
    mismatch_count: int
    case_id: str


# --- documents ---


def _document(row: Any) -> KnownDocument:  # noqa: ANN401  # a row of document and known_event
    signed = decode_signed_event(row["signed_event"])
    statement = decode_payload(signed.payload_type, signed.payload).statement
    assert isinstance(statement, Document)  # noqa: S101  # nothing else has a row there
    salted = SaltedTerms(row["salt"], row["terms"])
    return KnownDocument(
        event_number=row["event_number"],
        filed=Filed(Gln(row["issuer"]), statement, decode_terms(salted.data)),
        salted=salted,
        own=bool(row["own"]),
        event_id=row["event_id"],
        sha256=row["signed_event_sha256"],
        signed_event=row["signed_event"],
        source_seq=row["source_seq"],
        refusal=row["refusal"],
    )


def insert_document(
    connection: Connection, event_number: int, filed: Filed, salted: SaltedTerms, *, partner: Gln, own: bool
) -> None:
    """Keep a document whose signed event was stored under a number."""
    document = filed.document
    connection.execute(
        insert(DocumentRow).values(
            event_number=event_number,
            issuer=str(filed.issuer),
            kind=document.kind.value,
            number=document.number,
            function=document.function.value,
            partner=str(partner),
            own=own,
            issue_us=to_us(document.issue_time),
            salt=salted.salt,
            terms=salted.data,
        )
    )


def find_document(
    connection: Connection, name: DocumentReference, function: DocumentFunction = DocumentFunction.ORIGINAL
) -> KnownDocument | None:
    """Return a document by its name, or None."""
    query = _DOCUMENTS.where(
        _DOCUMENT.c.issuer == str(name.issuer),
        _DOCUMENT.c.kind == name.kind.value,
        _DOCUMENT.c.number == name.number,
        _DOCUMENT.c.function == function.value,
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else _document(row)


def document_of_event(connection: Connection, event_number: int) -> KnownDocument | None:
    """Return the document that a signed event states, or None."""
    row = connection.execute(_DOCUMENTS.where(_DOCUMENT.c.event_number == event_number)).mappings().first()
    return None if row is None else _document(row)


@dataclass(frozen=True, slots=True)
class DocumentQuery:
    """Which documents are wanted; what is empty does not narrow."""

    kind: DocumentKind | None = None
    partner: Gln | None = None
    number: str = ""
    event_id: str = ""


def list_documents(
    connection: Connection, wanted: DocumentQuery, *, before: int | None, limit: int
) -> list[KnownDocument]:
    """Return documents, the last that came here first."""
    query = _DOCUMENTS.order_by(_DOCUMENT.c.event_number.desc()).limit(limit)
    if before is not None:
        query = query.where(_DOCUMENT.c.event_number < before)
    if wanted.kind is not None:
        query = query.where(_DOCUMENT.c.kind == wanted.kind.value)
    if wanted.partner is not None:
        query = query.where(_DOCUMENT.c.partner == str(wanted.partner))
    if wanted.number:
        query = query.where(_DOCUMENT.c.number == wanted.number)
    if wanted.event_id:
        naming = select(_LINK.c.event_number).where(_LINK.c.target == links.event_target(wanted.event_id))
        query = query.where(_DOCUMENT.c.event_number.in_(naming))
    return [_document(row) for row in connection.execute(query).mappings()]


# --- orders ---


def order_name(buyer: Gln, number: str) -> DocumentReference:
    """Return the name of an order."""
    return DocumentReference(DocumentKind.ORDER, number, buyer)


def view_order(connection: Connection, name: DocumentReference) -> OrderView | None:
    """Return an order as it stands, or None where its own document is not known, or was refused by the ledger."""
    order = find_document(connection, name)
    if order is None or order.refusal:
        return None
    numbers = links.members(connection, name)
    documents = [item.filed for item in _documents_of(connection, numbers) if not item.refusal]
    movements = movements_of(connection, numbers)
    return view_of(order.filed, documents, movements, _withdrawn_of(connection, numbers))


def documents_of_order(connection: Connection, name: DocumentReference) -> list[KnownDocument]:
    """Return all documents that belong to an order, its own first, then by when they were issued."""
    order = find_document(connection, name)
    others = sorted(_documents_of(connection, links.members(connection, name)), key=lambda item: item.filed.order)
    return others if order is None else [order, *others]


def _documents_of(connection: Connection, numbers: Iterable[int]) -> list[KnownDocument]:
    return [_document(row) for row in _rows_of(connection, _DOCUMENTS, _DOCUMENT.c.event_number, numbers)]


def _rows_of(connection: Connection, query: Select[Any], column: Any, numbers: Iterable[int]) -> list[Any]:  # noqa: ANN401  # rows, and a column
    found: list[Any] = []
    for part in chunks([str(number) for number in sorted(numbers)]):
        found += connection.execute(query.where(column.in_([int(number) for number in part]))).mappings()
    return found


def movements_of(connection: Connection, numbers: Iterable[int]) -> list[Movement]:
    """Return the despatches and receivings among events, without those refused or declared an error."""
    query = select(_GOODS, _EVENT.c.event_id).join(_EVENT, _EVENT.c.number == _GOODS.c.event_number).where(_COUNTS)
    rows = _rows_of(connection, query, _GOODS.c.event_number, numbers)
    targets = links.targets_of_events(connection, {row["event_number"] for row in rows})
    return [_movement(row, targets[row["event_number"]]) for row in rows]


def _withdrawn_of(connection: Connection, numbers: Iterable[int]) -> frozenset[str]:
    """Return the ids of the despatches among events that were refused or declared an error."""
    query = select(_EVENT.c.event_id).join(_GOODS, _EVENT.c.number == _GOODS.c.event_number)
    query = query.where(~_COUNTS, _GOODS.c.receiving.is_(False))
    return frozenset(row["event_id"] for row in _rows_of(connection, query, _GOODS.c.event_number, numbers))


def _movement(row: Any, targets: Sequence[str]) -> Movement:  # noqa: ANN401  # a row of goods
    advices = [target for target in targets if target.startswith(f"{DocumentKind.DESPATCH_ADVICE}:")]
    return Movement(
        event_id=row["event_id"],
        despatch_id=row["despatch_id"],
        receiving=bool(row["receiving"]),
        party=Gln(row["party"]),
        tally=tally_from(row["tally"]),
        shared=sum(target.startswith(f"{DocumentKind.ORDER}:") for target in targets) > 1,
        advices=frozenset(links.name_of(target).uri for target in advices),
    )


def _order(row: Any) -> KnownOrder:  # noqa: ANN401  # a row of purchase_order
    return KnownOrder(
        number=row["number"],
        name=order_name(Gln(row["buyer"]), row["order_number"]),
        seller=Gln(row["seller"]),
        issue_us=row["issue_us"],
        state=OrderState(row["state"]),
        open=bool(row["open"]),
        mismatch_count=row["mismatch_count"],
        case_id=row["case_id"],
    )


def find_order(connection: Connection, name: DocumentReference) -> KnownOrder | None:
    """Return an order as listed, or None."""
    query = select(_ORDER).where(_ORDER.c.buyer == str(name.issuer), _ORDER.c.order_number == name.number)
    row = connection.execute(query).mappings().first()
    return None if row is None else _order(row)


@dataclass(frozen=True, slots=True)
class OrderQuery:
    """Which orders are wanted; what is empty does not narrow."""

    states: frozenset[OrderState] = frozenset()
    partner: Gln | None = None
    event_id: str = ""
    open: bool = False


def list_orders(connection: Connection, wanted: OrderQuery, *, before: int | None, limit: int) -> list[KnownOrder]:
    """Return orders, the last that came here first."""
    query = select(_ORDER).order_by(_ORDER.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(_ORDER.c.number < before)
    if wanted.states:
        query = query.where(_ORDER.c.state.in_([state.value for state in wanted.states]))
    if wanted.partner is not None:
        query = query.where((_ORDER.c.buyer == str(wanted.partner)) | (_ORDER.c.seller == str(wanted.partner)))
    if wanted.open:
        query = query.where(_ORDER.c.open.is_(True))
    if wanted.event_id:
        numbers = connection.execute(select(_EVENT.c.number).where(_EVENT.c.event_id == wanted.event_id)).scalars()
        names = {name for number in numbers.all() for name in links.orders_of(connection, number)}
        found = [known.number for name in names if (known := find_order(connection, name)) is not None]
        query = query.where(_ORDER.c.number.in_(found))
    return [_order(row) for row in connection.execute(query).mappings()]


def settle_event(connection: Connection, event_number: int, *, gln: Gln, now: datetime) -> None:
    """Bring the orders up to date to which an event or a document belongs.

    Args:
        connection: In the write transaction that stored it, or noted what became of it.
        event_number: Its number here.
        gln: Party GLN of this organisation.
        now: Aware UTC.
    """
    for name in sorted(links.orders_of(connection, event_number), key=lambda item: item.uri):
        settle(connection, name, gln=gln, now=now)


def settle(connection: Connection, name: DocumentReference, *, gln: Gln, now: datetime) -> None:
    """Bring one order up to date, and open or close the case about its mismatches."""
    view = view_order(connection, name)
    known = find_order(connection, name)
    if view is None:
        if known is not None:
            # The ledger refused it, or it was erased: there is no such order, and nothing to agree on.
            note = "there is no such order any more"
            close_case(connection, known.case_id, CaseResolution.CORRECTED_DATA, note=note, now=now)
            connection.execute(_ORDER.delete().where(_ORDER.c.number == known.number))
        return
    order = find_document(connection, name)
    assert order is not None  # noqa: S101  # there is a view of it
    values = {
        "seller": str(view.seller),
        "event_number": order.event_number,
        "issue_us": to_us(order.filed.document.issue_time),
        "state": view.state.value,
        "open": view.open,
        "mismatch_count": len(view.mismatches),
        "case_id": _case(connection, view, known, gln=gln, now=now),
    }
    if known is None:
        connection.execute(insert(OrderRow).values(buyer=str(name.issuer), order_number=name.number, **values))
    else:
        connection.execute(update(_ORDER).where(_ORDER.c.number == known.number).values(**values))


def _case(connection: Connection, view: OrderView, known: KnownOrder | None, *, gln: Gln, now: datetime) -> str:
    """Open a case when mismatches are new, close it when there are none any more; return its id."""
    case_id = "" if known is None else known.case_id
    case = find_case(connection, case_id) if case_id else None
    if not view.mismatches:
        if case is not None and case.resolve_time is None:
            close_case(
                connection, case_id, CaseResolution.CORRECTED_DATA, note="documents and goods agree again", now=now
            )
        return case_id
    worse = known is None or len(view.mismatches) > known.mismatch_count
    if case is not None and (case.resolve_time is None or not worse):
        return case_id
    partner = view.seller if gln == view.order.issuer else view.order.issuer
    new = NewCase(
        ExceptionCode.ORDER_MISMATCH,
        "; ".join(describe(item) for item in view.mismatches[:20]),
        partner=partner,
        purchase_order=view.order.document.number,
        case_id=str(uuid.uuid4()),
    )
    return open_case(connection, gln, new, now=now)


def describe(item: Mismatch) -> str:
    """Return a mismatch in words, without prices: what a case tells may be read by more people than an invoice."""
    parts = [item.kind.value]
    if item.line_number:
        parts.append(f"line {item.line_number}")
    if item.gtin is not None:
        parts.append(f"GTIN {item.gtin}")
    if item.kind.value != "PRICE_DIFFERS":
        parts += [
            f"{word} {number}"
            for word, number in (("wanted", item.wanted), ("found", item.found))
            if number is not None
        ]
    return ", ".join(parts)
