"""The kinds of delivery: what goes right, and each kind of trouble. One function each, in the words of acts.

Every trouble happens to goods of its own, so that deliveries can be worked on side by side. What the network must
answer to it is nobody's business here: the truth model tells.
"""

from collections.abc import Callable

from medtrail.simulation.acts import Verb
from medtrail.simulation.script import Script, Wave

Trouble = Callable[[Script], None]

PLAIN = "plain"
TROUBLES: dict[str, Trouble] = {}


def trouble(write: Trouble) -> Trouble:
    """Enter a kind of trouble."""
    TROUBLES[write.__name__] = write
    return write


def plain(script: Script) -> None:
    """Nothing goes wrong: received, shelved, dispensed in part."""
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).take_in()
    script.on(Wave.SHELVE).open_case()
    third = len(script.goods.packs) // 3
    script.on(Wave.USE).do(Verb.DISPENSE, script.goods.pharmacy, script.goods.packs[:third])


@trouble
def overage(script: Script) -> None:
    """A pack more than was advised lies in the tote; its despatch is posted days later."""
    goods = script.goods
    extra, *advised = goods.packs
    script.on(Wave.PICK).fill_tote(advised)
    script.on(Wave.DESPATCH).send((goods.tote,))
    late = script.at(Wave.DESPATCH)
    script.on(Wave.RECEIVE).take_in((goods.tote, extra))
    if goods.number % 2:
        script.on(Wave.MEND).send((extra,), name="late", at=late)


@trouble
def shortage(script: Script) -> None:
    """A pack that was advised has not come."""
    goods = script.goods
    script.on(Wave.PICK).fill_tote()
    script.on(Wave.DESPATCH).send((goods.tote,))
    script.on(Wave.RECEIVE).take_in(goods.packs[1:])


@trouble
def arrival_before_data(script: Script) -> None:
    """The goods are there before the despatch is posted; nothing has to be scanned again."""
    goods = script.goods
    late = script.at(Wave.DESPATCH)
    script.on(Wave.RECEIVE).take_in()
    script.on(Wave.MEND).send(at=late)
    script.on(Wave.AFTER).open_case()
    script.do(Verb.DISPENSE, goods.pharmacy, goods.packs[:2])


@trouble
def broken_aggregation(script: Script) -> None:
    """A pack is sent by itself though nobody said that its case was opened."""
    goods = script.goods
    alone, *rest = goods.packs
    script.on(Wave.DESPATCH).send((alone,), to=goods.neighbour, name="alone")
    script.send()
    script.on(Wave.RECEIVE).take_in((alone,), who=goods.neighbour)
    script.take_in()
    script.on(Wave.SHELVE).open_case()
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, rest[:2])


@trouble
def already_received(script: Script) -> None:
    """What was received is scanned as a delivery again: refused."""
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).take_in()
    script.on(Wave.SHELVE).take_in()
    script.on(Wave.USE).open_case()


@trouble
def hold_release(script: Script) -> None:
    """Packs are held, may not be dispensed, and are released; some stay on hold."""
    goods = script.goods
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).take_in()
    script.on(Wave.SHELVE).open_case()
    script.do(Verb.HOLD, goods.pharmacy, goods.packs[:4], reason="carton crushed")
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:2])
    script.on(Wave.MEND).do(Verb.RELEASE, goods.pharmacy, goods.packs[:2], reason="carton only")
    script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:2])


@trouble
def lost_and_destroyed(script: Script) -> None:
    """Packs end otherwise than with a patient, and nothing may be done with them any more."""
    goods = script.goods
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).take_in()
    script.on(Wave.SHELVE).open_case()
    script.on(Wave.USE).do(Verb.END, goods.pharmacy, goods.packs[:1], reason="stolen")
    script.do(Verb.END, goods.pharmacy, goods.packs[1:2], reason="destroyed")
    script.do(Verb.END, goods.pharmacy, goods.packs[2:3], reason="damaged")
    script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1])


@trouble
def partial_dispense(script: Script) -> None:
    """Packs are opened; an opened one may neither be sent on nor sent back."""
    goods = script.goods
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).take_in()
    script.on(Wave.SHELVE).open_case()
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:2], part="yes")
    script.on(Wave.MEND).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1])


@trouble
def opened_returned(script: Script) -> None:
    """A customer's opened pack is offered for return: refused."""
    goods = script.goods
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).take_in()
    script.on(Wave.SHELVE).open_case()
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1], part="yes")
    script.on(Wave.SEND_BACK).do(
        Verb.SEND_BACK, goods.pharmacy, goods.packs[:1], to=goods.distributor, reason="not wanted"
    )
