"""The kinds of delivery: what goes right, and each kind of trouble. One function each, in the words of acts.

Every trouble happens to goods of its own, so that deliveries can be worked on side by side. What the network must
answer to it is nobody's business here: the truth model tells.
"""

from collections.abc import Callable

from medtrail.simulation.acts import Verb
from medtrail.simulation.network import OUTSIDER
from medtrail.simulation.script import Script, Wave

Trouble = Callable[[Script], None]

PLAIN = "plain"
LOOSE = 6
"""Packs that go loose where each is scanned at the door."""
TROUBLES: dict[str, Trouble] = {}


def trouble(write: Trouble) -> Trouble:
    """Enter a kind of trouble."""
    TROUBLES[write.__name__] = write
    return write


def plain(script: Script) -> None:
    """Nothing goes wrong: received, by delivery or at once, shelved, and a third of it dispensed."""
    goods = script.goods
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE)
    if goods.number % 2:
        script.deliver()
    else:
        script.take_in()
    script.on(Wave.SHELVE).open_case()
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, goods.packs[: len(goods.packs) // 3])


def put_on_shelf(script: Script) -> None:
    """Begin with goods that are received and on the shelf, pack by pack."""
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).take_in()
    script.on(Wave.SHELVE).open_case()


def take_loose(script: Script) -> tuple[str, ...]:
    """Let the distributor take some packs out of the case; the others stay in it, and with the distributor."""
    goods = script.goods
    loose = goods.packs[:LOOSE]
    script.on(Wave.PICK).do(Verb.UNPACK, goods.distributor, loose, parent=goods.case)
    return loose


# --- at the door ---


@trouble
def overage(script: Script) -> None:
    """A pack more than was advised is there; for every other one its despatch is posted days later."""
    goods, loose = script.goods, take_loose(script)
    extra, *advised = loose
    script.on(Wave.DESPATCH).send(advised)
    late = script.at()
    script.on(Wave.RECEIVE).deliver(loose)
    if goods.number % 2:
        script.on(Wave.MEND).send((extra,), name="late", at=late)


@trouble
def shortage(script: Script) -> None:
    """A pack that was advised has not come; of every other delivery the others came out of an opened case."""
    goods = script.goods
    if goods.number % 2:
        script.on(Wave.DESPATCH).send()
        script.on(Wave.RECEIVE).deliver(goods.packs[1:])
        return
    loose = take_loose(script)
    script.on(Wave.DESPATCH).send(loose)
    script.on(Wave.RECEIVE).deliver(loose[1:])


@trouble
def wrong_lot(script: Script) -> None:
    """The lot on a pack is not the one that its maker gave."""
    goods, loose = script.goods, take_loose(script)
    script.on(Wave.DESPATCH).send(loose)
    script.on(Wave.RECEIVE).deliver(loose[1:], close=False)
    script.do(Verb.SCAN_DELIVERY, goods.pharmacy, loose[:1], of="delivery", lot="X1", expiry=goods.expiry)
    script.close()


@trouble
def wrong_expiry(script: Script) -> None:
    """The expiry on a pack is not the one that its maker gave; the receiver keeps every other one in the end."""
    goods, loose = script.goods, take_loose(script)
    script.on(Wave.DESPATCH).send(loose)
    script.on(Wave.RECEIVE).deliver(loose[1:], close=False)
    script.do(Verb.SCAN_DELIVERY, goods.pharmacy, loose[:1], of="delivery", lot=goods.lot, expiry="2031-01-31")
    script.close()


@trouble
def unknown_serial(script: Script) -> None:
    """A pack of which nobody has heard lies in the box."""
    goods = script.goods
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).deliver((goods.case, f"{goods.packs[0]}F"))
    script.on(Wave.SHELVE).open_case()


@trouble
def not_for_us(script: Script) -> None:
    """A pack that was advised to a neighbour lies in the box."""
    goods, loose = script.goods, take_loose(script)
    stray, *advised = loose
    script.on(Wave.EARLY).send((stray,), to=goods.neighbour, name="stray")
    script.on(Wave.DESPATCH).send(advised)
    script.on(Wave.RECEIVE).deliver(loose)


@trouble
def already_received(script: Script) -> None:
    """A pack of an earlier delivery is scanned with the next one."""
    loose = take_loose(script)
    half = len(loose) // 2
    script.on(Wave.DESPATCH).send(loose[:half])
    script.send(loose[half:], name="second")
    script.on(Wave.RECEIVE).deliver(loose[:half])
    script.on(Wave.SHELVE).deliver((loose[0], *loose[half:]), of="second", name="later")


@trouble
def other_tote(script: Script) -> None:
    """A pack lies in another tote of the same delivery: noted, and no exception."""
    goods, loose = script.goods, take_loose(script)
    half = len(loose) // 2
    script.do(Verb.PACK, goods.distributor, loose[:half], parent=goods.tote)
    script.do(Verb.PACK, goods.distributor, loose[half:], parent=goods.sscc)
    script.on(Wave.DESPATCH).send((goods.tote, goods.sscc))
    script.on(Wave.RECEIVE).deliver((goods.tote, goods.sscc), close=False)
    script.do(Verb.SCAN_DELIVERY, goods.pharmacy, loose[:1], of="delivery", parent=goods.sscc, labelled=True)
    script.close()


@trouble
def arrival_before_data(script: Script) -> None:
    """The goods are there before the despatch is posted; nothing has to be scanned again."""
    goods = script.goods
    late = script.at(Wave.DESPATCH)
    script.on(Wave.RECEIVE)
    if goods.number % 2:
        script.deliver(of="")
    else:
        script.take_in()
    script.on(Wave.MEND).send(at=late)


@trouble
def concealed_shortage(script: Script) -> None:
    """A sealed case was received by its label; opened, it holds a pack less."""
    goods = script.goods
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).deliver()
    script.on(Wave.SHELVE).do(Verb.REPORT_CONCEALED, goods.pharmacy, goods.packs[:1], parent=goods.case, of="delivery")
    script.open_case()
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, goods.packs[1:3])


@trouble
def concealed_overage(script: Script) -> None:
    """A sealed case holds a pack more than its data say."""
    goods, loose = script.goods, take_loose(script)
    extra, *inside = loose
    script.do(Verb.PACK, goods.distributor, inside, parent=goods.sscc)
    script.on(Wave.DESPATCH).send((goods.sscc,))
    script.on(Wave.RECEIVE).deliver((goods.sscc,))
    script.on(Wave.SHELVE).do(Verb.REPORT_CONCEALED, goods.pharmacy, of="delivery", labelled=True, over=extra)


@trouble
def child_moved_alone(script: Script) -> None:
    """A pack goes back by itself though nobody said that its case was opened."""
    goods = script.goods
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).take_in()
    script.on(Wave.SEND_BACK).do(
        Verb.SEND_BACK, goods.pharmacy, goods.packs[:1], to=goods.distributor, reason="ordered too much"
    )


@trouble
def sent_apart(script: Script) -> None:
    """A pack goes to a neighbour alone, out of a case that nobody said was opened; then the case goes its way."""
    goods = script.goods
    script.on(Wave.EARLY).send(goods.packs[:1], to=goods.neighbour, name="alone")
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).take_in(goods.packs[:1], who=goods.neighbour)
    script.deliver()
    script.on(Wave.SHELVE).open_case()
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, goods.packs[1:2])


@trouble
def broken_aggregation(script: Script) -> None:
    """What a case holds is not what its data say: the receiver opens a case of another kind."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.USE).do(Verb.OPEN_CASE, goods.pharmacy, (goods.case,), reason="AGGREGATION_BROKEN", name="case")
    if goods.number % 2:
        script.on(Wave.MEND).do(
            Verb.RESOLVE_CASE, goods.pharmacy, (goods.case,), reason="withdrawn", code="AGGREGATION_BROKEN"
        )


@trouble
def damaged(script: Script) -> None:
    """A carton is crushed: held at the door, then destroyed or kept."""
    goods, loose = script.goods, take_loose(script)
    script.on(Wave.DESPATCH).send(loose)
    script.on(Wave.RECEIVE).deliver(loose[1:], close=False)
    script.do(Verb.SCAN_DELIVERY, goods.pharmacy, loose[:1], of="delivery", labelled=True, condition="damaged")
    script.close()
    ending = ("accepted", "destroyed", "")[goods.number % 3]
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, loose[:1])
    if ending:
        script.on(Wave.MEND).do(Verb.RESOLVE_CASE, goods.pharmacy, loose[:1], reason=ending, code="DAMAGED")


@trouble
def expired(script: Script) -> None:
    """Goods are received on the day after their last, by the clock of the place: held, and destroyed in the end."""
    goods, loose = script.goods, take_loose(script)
    script.on(Wave.DESPATCH).send(loose)
    script.on(Wave.AFTER).deliver(loose, close=False)
    script.close(at=goods.now, offset="+14:00")
    script.do(Verb.DISPENSE, goods.pharmacy, loose[:1], at=goods.now + 1)
    script.do(Verb.END, goods.pharmacy, loose[:2], at=goods.now + 2, reason="destroyed")


@trouble
def recalled(script: Script) -> None:
    """A recall of a lot comes while its packs are on the shelf: not sold, sent back."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.RECALL).do(
        Verb.RECALL, goods.maker, goods.packs[1:], reason=f"R-{goods.number}", lot=goods.lot, gtin=goods.pack_gtin
    )
    script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1])
    script.do(Verb.DISPENSE, goods.pharmacy, goods.packs[1:2])
    script.do(Verb.SEND_BACK, goods.pharmacy, goods.packs[2:4], to=goods.distributor, reason="recall")


@trouble
def suspect(script: Script) -> None:
    """A pharmacist suspects packs: quarantined, verified, and cleared in every other case."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.USE).do(
        Verb.MARK_SUSPECT, goods.pharmacy, goods.packs[:3], reason="print looks wrong", name="suspect"
    )
    script.on(Wave.MEND).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1])
    if goods.number % 2:
        script.do(Verb.CLEAR_SUSPECT, goods.pharmacy, goods.packs[:3], reason="verified", of="suspect")
        script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1])


@trouble
def temperature_excursion(script: Script) -> None:
    """A logger reads 31 degrees beside packs: held; beside others 20 degrees: nothing."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.USE).do(Verb.SENSE, goods.pharmacy, goods.packs[:2], celsius="31.0")
    script.do(Verb.SENSE, goods.pharmacy, goods.packs[2:4], celsius="20.0")
    script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1])
    script.do(Verb.DISPENSE, goods.pharmacy, goods.packs[2:3])


# --- at the pharmacy ---


@trouble
def hold_release(script: Script) -> None:
    """Packs are held, may not be dispensed, and are released; some stay on hold."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.USE).do(Verb.HOLD, goods.pharmacy, goods.packs[:4], reason="carton crushed", code="QUALITY")
    script.do(Verb.HOLD, goods.pharmacy, goods.packs[:1], reason="carton crushed", code="QUALITY")
    script.do(Verb.DISPENSE, goods.pharmacy, goods.packs[:2])
    script.on(Wave.MEND).do(Verb.RELEASE, goods.pharmacy, goods.packs[:2], reason="carton only")
    script.do(Verb.RELEASE, goods.pharmacy, goods.packs[4:5], reason="was never held")
    script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:2])


@trouble
def lost_and_destroyed(script: Script) -> None:
    """Packs end otherwise than with a patient, and nothing may be done with them any more."""
    goods = script.goods
    put_on_shelf(script)
    for number, how in enumerate(("stolen", "destroyed", "damaged", "lost")):
        script.on(Wave.USE).do(Verb.END, goods.pharmacy, goods.packs[number : number + 1], reason=how)
    script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1])


@trouble
def partial_dispense(script: Script) -> None:
    """Packs are opened; tablet by tablet, never more than is left."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:2], quantity="10", of_whole="30")
    script.do(Verb.DISPENSE, goods.pharmacy, goods.packs[:2], quantity="15")
    script.do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1], quantity="6")
    script.on(Wave.MEND).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1], quantity="5")
    script.do(Verb.DISPENSE, goods.pharmacy, goods.packs[2:3], part="yes")


@trouble
def opened_returned(script: Script) -> None:
    """An opened pack is to go back as saleable: refused."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1], part="yes")
    script.on(Wave.SEND_BACK).do(
        Verb.SEND_BACK, goods.pharmacy, goods.packs[:1], to=goods.distributor, reason="not wanted"
    )


@trouble
def undo_in_time(script: Script) -> None:
    """What was dispensed by mistake is taken back within ten days; what was stolen is not."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.RECALL).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:2], name="sold")
    script.do(Verb.END, goods.pharmacy, goods.packs[2:3], reason="stolen", name="stolen")
    script.on(Wave.AFTER).do(Verb.UNDO, goods.pharmacy, goods.packs[:1], of="sold", reason="not handed out")
    script.do(Verb.UNDO, goods.pharmacy, goods.packs[2:3], of="stolen", reason="found again")


@trouble
def undo_too_late(script: Script) -> None:
    """What was dispensed more than ten days ago stays dispensed."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.SHELVE).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:2], name="sold")
    script.on(Wave.AFTER).do(Verb.UNDO, goods.pharmacy, goods.packs[:1], of="sold", reason="not handed out")


@trouble
def error_declaration(script: Script) -> None:
    """A hold was said of the wrong packs: declared an error, and they are free again."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.USE).do(
        Verb.HOLD, goods.pharmacy, goods.packs[:2], reason="water in the store", code="QUALITY", name="hold"
    )
    script.on(Wave.MEND).do(Verb.DECLARE_ERROR, goods.pharmacy, goods.packs[:2], of="hold")
    script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, goods.packs[:1])


@trouble
def offline_conflict(script: Script) -> None:
    """Bay and till are cut off, and hand out the same pack; another is handed out at the till alone."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.ALONE).do(Verb.DISPENSE_ALONE, goods.pharmacy, goods.packs[:1], station="bay")
    script.do(Verb.DISPENSE_ALONE, goods.pharmacy, goods.packs[:2], station="till")
    script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, goods.packs[1:2])


# --- backwards ---


@trouble
def saleable_return(script: Script) -> None:
    """Whole packs come back to the distributor, are verified, and may be sold again."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.SEND_BACK).do(
        Verb.SEND_BACK, goods.pharmacy, goods.packs[:2], to=goods.distributor, reason="ordered too much", name="back"
    )
    script.on(Wave.TAKE_BACK).do(
        Verb.ACCEPT_RETURN, goods.distributor, goods.packs[:1], to=goods.pharmacy, labelled=True, good="yes"
    )


@trouble
def unsaleable_return(script: Script) -> None:
    """A pack comes back whose label is not its maker's: held, never sold again."""
    goods = script.goods
    put_on_shelf(script)
    script.on(Wave.SEND_BACK).do(
        Verb.SEND_BACK, goods.pharmacy, goods.packs[:1], to=goods.distributor, reason="ordered too much", name="back"
    )
    script.on(Wave.TAKE_BACK).do(
        Verb.ACCEPT_RETURN,
        goods.distributor,
        goods.packs[:1],
        to=goods.pharmacy,
        lot="X1",
        expiry=goods.expiry,
        good="no",
    )


@trouble
def return_to_maker(script: Script) -> None:
    """A distributor sends a case back to its maker, who has it again and holds it."""
    goods = script.goods
    script.on(Wave.DESPATCH).do(
        Verb.SEND_BACK, goods.distributor, (goods.case,), to=goods.maker, reason="slow mover", name="back"
    )
    script.on(Wave.RECEIVE).take_in(who=goods.maker)


# --- data that are odd ---


@trouble
def duplicate_serial(script: Script) -> None:
    """A copy of a pack turns up at another pharmacy; then the first has its own in hand again."""
    goods = script.goods
    pack = goods.packs[:1]
    put_on_shelf(script)
    script.on(Wave.SHELVE).do(Verb.HOLD, goods.pharmacy, pack, reason="stock check", code="QUALITY")
    script.do(Verb.RELEASE, goods.pharmacy, pack, reason="counted")
    script.on(Wave.USE).deliver(pack, who=goods.neighbour, of="", name="copy")
    if goods.number % 2:
        script.on(Wave.MEND).do(Verb.HOLD, goods.pharmacy, pack, reason="told of a copy", code="AUTHORITY")


@trouble
def second_hand_import(script: Script) -> None:
    """Goods come by a trader outside the network: the pharmacy imports the trader's file, and receives them.

    Every other file repeats what the maker said of the packs.
    """
    goods, loose = script.goods, take_loose(script)
    script.on(Wave.EARLY).send(loose, to=OUTSIDER, name="out")
    file = "makers" if goods.number % 2 else "traders"
    script.on(Wave.DESPATCH).do(
        Verb.WITNESS, goods.pharmacy, loose, to=OUTSIDER, labelled=True, name="ship", file=file, maker=goods.maker
    )
    script.on(Wave.RECEIVE).take_in(loose)
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, loose[:1])


# --- orders ---


@trouble
def back_ordered(script: Script) -> None:
    """Half of what is ordered comes now, the rest, for every other order, later."""
    goods, loose = script.goods, take_loose(script)
    half = len(loose) // 2
    script.order(len(loose))
    script.on(Wave.EARLY).do(Verb.CONFIRM_ORDER, goods.distributor, to=goods.pharmacy, of="order", quantity=str(half))
    script.on(Wave.DESPATCH).send(loose[:half], order="order")
    script.on(Wave.RECEIVE).deliver(loose[:half])
    if goods.number % 2:
        script.on(Wave.MEND).send(loose[half:], name="rest", order="order")
        script.on(Wave.SEND_BACK).deliver(loose[half:], of="rest", name="second")


@trouble
def over_shipped(script: Script) -> None:
    """Two packs more come than were ordered: received, since they were advised, and told as a mismatch."""
    goods, loose = script.goods, take_loose(script)
    script.order(len(loose) - 2)
    script.on(Wave.EARLY).do(Verb.CONFIRM_ORDER, goods.distributor, to=goods.pharmacy, of="order")
    script.on(Wave.DESPATCH).send(loose, order="order")
    script.on(Wave.RECEIVE).deliver(loose)
