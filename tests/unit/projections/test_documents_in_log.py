"""Business documents in the log: told to both parties, found under what they name, no matter of packs."""

from datetime import UTC, datetime

from ledger.notifier import named_parties
from ledger.projections.facts import Part, fact_from_json, fact_to_json
from medtrail.codec import encode_payload, encode_signed_event
from medtrail.document import Document, DocumentKind, DocumentReference
from medtrail.envelope import sign
from medtrail.gs1 import Gln
from tests.unit.projections.story import KEYS, MAKER, PHARMACY, Story, pack

MOMENT = datetime(2026, 3, 1, 8, tzinfo=UTC)
ORDER = DocumentReference(DocumentKind.ORDER, "P-1", Gln(PHARMACY))
INVOICE = Document(DocumentKind.INVOICE, "I-1", Gln(PHARMACY), MOMENT, references=(ORDER,))


def test_a_document_is_of_both_its_parties_and_of_the_documents_that_it_names(story: Story) -> None:
    story.sign(MAKER, INVOICE, event_id=INVOICE.event_id(Gln(MAKER)))
    ((fact, refs),) = story.entries()
    assert (fact.parties, fact.time) == ((MAKER, PHARMACY), MOMENT)
    assert fact_from_json(fact_to_json(fact)) == fact
    assert {(ref.unit, ref.part) for ref in refs} == {
        (f"urn:epcglobal:cbv:bt:{MAKER}:I-1", Part.SUBJECT),
        (f"urn:epcglobal:cbv:bt:{PHARMACY}:P-1", Part.SUBJECT),
    }


def test_a_refused_document_is_told_to_whom_it_was_made(story: Story) -> None:
    event = story.sign(MAKER, INVOICE, event_id=INVOICE.event_id(Gln(MAKER)))
    signed = encode_signed_event(sign(event.payload_type, encode_payload(event), KEYS[MAKER]))
    assert named_parties(signed) == (PHARMACY,)


def test_a_document_changes_nothing_that_is_believed_of_packs(story: Story) -> None:
    story.commission(pack("1"))
    before = story.belief(pack("1"))
    story.sign(MAKER, INVOICE, event_id=INVOICE.event_id(Gln(MAKER)))
    assert story.belief(pack("1")) == before
