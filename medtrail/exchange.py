"""What organisations and the ledger send each other, as values (messages of ``exchange.proto``)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advice:
    """A part of what a shipment holds, down to every pack; at most 512 KiB.

    Attributes:
        despatch_event_id: event_id of the despatch.
        part: From 0, less than part_count.
        part_count: 1 or more.
        signed_events: SignedEvent messages in an order that can be replayed.
        absent_epcs: Units that the events put into containers of the shipment and that are in them no more.
    """

    despatch_event_id: str
    part: int
    part_count: int
    signed_events: tuple[bytes, ...]
    absent_epcs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiptItem:
    """One event in a receipt: its id, SHA-256 of the SignedEvent sent, its (first) index, and whether a resend."""

    event_id: str
    signed_event_sha256: bytes
    leaf_index: int
    resend: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a signed checkpoint covers of one producer's events; at most 2,000 items."""

    checkpoint: bytes
    epoch: int
    items: tuple[ReceiptItem, ...]


@dataclass(frozen=True, slots=True)
class Letter:
    """A signed statement to a partner, at most 512 KiB in all.

    Attributes:
        signed_event: SignedEvent message; its payload type says what it is.
        sealed_terms: Commercial terms in a sealed box for the receiver; may be empty.
    """

    signed_event: bytes
    sealed_terms: bytes = b""
