"""Orders against a simple model: letters and goods late, twice, in any order, lost and sent again.

The model is told what was said and shipped, never by whom it was heard; both houses must agree with it once everything
has reached them, and must not contradict themselves before.
"""

import random
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtrail.errors import ConflictError
from medtrail.subjects import MessageKind
from medtrail.terms import LineStatus, TermsLine
from services.custody import events
from services.custody.orders import advices, book, commands
from services.custody.orders.commands import Heading
from services.custody.orders.view import OrderView
from tests.unit.custody.conftest import GTIN, Clock, House, packs

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from medtrail.trust import Registry
    from tests.conftest import Network

EXPECTED = {"ORDER_UNKNOWN", "ORDER_ENDED", "ORDER_SHIPPED", "NOTHING_TO_INVOICE", "NOTHING_RECEIVED"}
STEPS = (
    "accept",
    "change",
    "back_order",
    "reject",
    "ship",
    "advise",
    "receive",
    "invoice",
    "cancel",
    "close",
    "deliver",
)


@dataclass
class Model:
    """What is true of an order of one line, from what was done, whoever knows of it."""

    ordered: int
    agreed: int
    answered: bool = False
    shipped: int = 0
    received: int = 0
    invoiced: int = 0
    cancelled: bool = False
    closed: bool = False
    despatches: list[str] = field(default_factory=list)

    def state(self) -> str:
        due = min(self.agreed, self.shipped) if self.cancelled or self.closed else self.agreed
        if self.closed:
            return "closed"
        if not self.shipped and (self.cancelled or not self.agreed):
            return "cancelled"
        if self.received:
            if self.received < due:
                return "partly_received"
            return "invoiced" if self.invoiced >= min(self.received, due) else "received"
        if self.shipped:
            return "shipped" if self.shipped >= due else "partly_shipped"
        return "confirmed" if self.answered else "placed"


class Story:
    """A buyer and a seller who do things at random, and a post that does what it wants."""

    def __init__(self, buyer: House, seller: House, *, ordered: int, seed: int) -> None:
        self.buyer, self.seller = buyer, seller
        self.model = Model(ordered, ordered)
        self.random = random.Random(seed)
        self.number = 0
        self.serial = 0
        line = TermsLine(1, GTIN, Decimal(ordered))
        buyer.write(lambda s: commands.place(s, self.heading(buyer), [line], seller=seller.gln))
        self.name = book.order_name(buyer.gln, "1")

    def heading(self, house: House) -> Heading:
        self.number += 1
        return Heading(str(self.number), house.clock())

    def view(self, house: House) -> OrderView | None:
        return house.read(lambda c: book.view_order(c, self.name))

    # --- the post ---

    def mail(self) -> list[tuple[House, House, MessageKind, bytes]]:
        return [
            (sender, receiver, kind, data)
            for sender, receiver in ((self.buyer, self.seller), (self.seller, self.buyer))
            for to, kind, data in sender.messages()
            if to == receiver.gln
        ]

    def hand_over(self, sender: House, receiver: House, kind: MessageKind, data: bytes) -> None:
        if kind is MessageKind.NOTICE:
            receiver.hear_letter(data, sender=sender.gln)
        else:
            receiver.hear(data, sender=sender.gln)

    def deliver(self) -> None:
        """Deliver some of all that was ever sent: what is left out is late or lost, what came before comes again."""
        mail = self.mail()
        for item in self.random.sample(mail, self.random.randint(0, len(mail))):
            self.hand_over(*item)

    def deliver_all(self) -> None:
        mail = self.mail()
        self.random.shuffle(mail)
        for item in (*mail, *mail):
            self.hand_over(*item)

    # --- what the parties do ---

    def answer(self, status: LineStatus, quantity: int) -> None:
        line = TermsLine(1, GTIN, Decimal(quantity), status=status)
        if status is LineStatus.BACK_ORDERED:
            line = replace(line, confirmed_date=self.seller.clock().date())
        self.seller.write(lambda s: commands.confirm(s, self.heading(self.seller), self.name, [line]))
        self.model.answered = True
        self.model.agreed = {LineStatus.CHANGED: quantity, LineStatus.REJECTED: 0}.get(status, self.model.ordered)

    def accept(self) -> None:
        self.answer(LineStatus.ACCEPTED, self.model.ordered)

    def change(self) -> None:
        self.answer(LineStatus.CHANGED, self.random.randint(1, self.model.ordered + 2))

    def back_order(self) -> None:
        self.answer(LineStatus.BACK_ORDERED, self.random.randint(0, self.model.ordered - 1))

    def reject(self) -> None:
        self.answer(LineStatus.REJECTED, 0)

    def ship(self) -> None:
        count = self.random.randint(1, 3)
        units = packs(*range(self.serial, self.serial + count))
        self.serial += count
        self.seller.commission(units)
        (made,) = self.seller.ship(units, self.buyer.gln, [events.document("po", "1", issuer=self.buyer.gln)])
        self.model.shipped += count
        self.model.despatches.append(made.event_id)

    def advise(self) -> None:
        if self.model.despatches:
            event_ids = self.random.sample(self.model.despatches, self.random.randint(1, len(self.model.despatches)))
            self.seller.write(lambda s: advices.advise_despatch(s, self.heading(self.seller), None, event_ids, ()))

    def receive(self) -> None:
        inbound = [item for item in self.buyer.all_holdings().values() if item.state.value == "inbound"]
        if inbound:
            despatch_id = inbound[0].despatch_id
            units = [item.unit for item in inbound if item.despatch_id == despatch_id]
            chosen = self.random.sample(units, self.random.randint(1, len(units)))
            self.buyer.receive(chosen)
            self.buyer.write(lambda s: advices.advise_received(s, self.heading(self.buyer), despatch_id=despatch_id))
            self.model.received += len(chosen)

    def invoice(self) -> None:
        self.seller.write(lambda s: commands.invoice(s, self.heading(self.seller), self.name, ()))
        self.model.invoiced = self.model.shipped

    def cancel(self) -> None:
        self.buyer.write(lambda s: commands.cancel(s, Heading("1", self.buyer.clock())))
        self.model.cancelled = True

    def close(self) -> None:
        self.buyer.write(lambda s: commands.close(s, Heading("1", self.buyer.clock())))
        self.model.closed = True

    def do(self, step: str) -> None:
        try:
            getattr(self, step)()
        except ConflictError as error:
            # The order has not come, has ended, or nothing is there to be said: nothing was said.
            if error.code not in EXPECTED:
                raise

    def check(self, house: House) -> None:
        view = self.view(house)
        assert view is not None
        (line,) = view.lines
        found = (*(int(n) for n in (line.agreed, line.shipped, line.received, line.invoiced)), view.state.value)
        model = self.model
        assert found == (model.agreed, model.shipped, model.received, model.invoiced, model.state())
        row = house.read(lambda c: book.find_order(c, self.name))
        assert row is not None
        assert (row.state, row.open, row.mismatch_count) == (view.state, view.open, len(view.mismatches))
        assert line.open == max(0, line.due - line.shipped)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    ordered=st.integers(1, 6),
    steps=st.lists(st.sampled_from(STEPS), min_size=3, max_size=14),
    seed=st.integers(0, 2**32),
)
def test_both_sides_agree_with_the_model_whatever_the_post_does(  # noqa: PLR0917
    network: "Network",
    registry: "Registry",
    tmp_path_factory: "pytest.TempPathFactory",
    ordered: int,
    steps: list[str],
    seed: int,
) -> None:
    folder: Path = tmp_path_factory.mktemp("orders")
    clock = Clock()
    buyer = House("pharmacy", network, registry, folder, clock)
    seller = House("maker", network, registry, folder, clock)
    try:
        story = Story(buyer, seller, ordered=ordered, seed=seed)
        for step in steps:
            story.do(step)
        story.deliver_all()
        for house in (buyer, seller):
            story.check(house)
        one, other = story.view(buyer), story.view(seller)
        assert one is not None
        assert other is not None
        assert one.mismatches == other.mismatches
    finally:
        buyer.close()
        seller.close()
