"""Kinds of delivery in trade: made into other goods, taken back before they left, invoiced, told afterwards."""

from dataclasses import replace

from medtrail.simulation.acts import Verb
from medtrail.simulation.network import MANUFACTURERS, members
from medtrail.simulation.script import Goods, Script, Wave
from medtrail.simulation.troubles import take_loose, trouble

OUTPUTS = 4


def _outputs(script: Script, repackager: str) -> Goods:
    """Return what a repackager makes of a delivery's packs: packs of its own, with a lot of their own."""
    goods, gtin = script.goods, members()[repackager].pack_gtin
    made = replace(
        goods,
        maker=repackager,
        pack_gtin=gtin,
        lot=f"R{goods.number:07d}",
        packs=tuple(f"/01/{gtin}/21/R{goods.number:07d}{number}" for number in range(OUTPUTS)),
    )
    script.made.append(made)
    return made


def _repackage(script: Script, who: str, inputs: tuple[str, ...], made: Goods, outputs: tuple[str, ...]) -> None:
    named = " ".join(outputs)
    script.do(Verb.REPACKAGE, who, inputs, lot=made.lot, expiry=made.expiry, outputs=named)


@trouble
def repackaged(script: Script) -> None:
    """Packs are used up, and others are made of them; what is used up is used again, and turns up once more."""
    goods, loose = script.goods, take_loose(script)
    repackager = next(name for name in MANUFACTURERS if name != goods.maker)
    made = _outputs(script, repackager)
    _repackage(script, goods.distributor, loose[:1], made, made.packs[:1])
    script.on(Wave.EARLY).send(loose, to=repackager, name="supply")
    script.on(Wave.DESPATCH).take_in(loose, who=repackager)
    script.do(Verb.HOLD, repackager, loose[4:5], reason="carton crushed", code="QUALITY")
    _repackage(script, repackager, loose[:5], made, made.packs[:3])
    _repackage(script, repackager, loose[:4], made, made.packs[:3])
    script.do(Verb.SHIP, repackager, made.packs[:2], to=goods.pharmacy, name="ship")
    script.on(Wave.RECEIVE).do(Verb.OPEN_DELIVERY, goods.pharmacy, of="ship", name="delivery")
    script.do(Verb.SCAN_DELIVERY, goods.pharmacy, made.packs[:2], of="delivery", lot=made.lot, expiry=made.expiry)
    script.close()
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, made.packs[:1])
    _repackage(script, repackager, loose[1:2], made, made.packs[3:])
    script.do(Verb.SHIP, repackager, loose[:1], to=goods.pharmacy, name="again")
    if goods.number % 2:
        script.do(
            Verb.REPACKAGE,
            repackager,
            loose[1:2],
            lot=made.lot,
            expiry=made.expiry,
            outputs=made.packs[3],
            happened="yes",
        )
    script.on(Wave.MEND).deliver(loose[2:3], of="", name="odd")


@trouble
def voided(script: Script) -> None:
    """Goods are despatched on paper, and stay: voided, or declared an error; a neighbour gets them instead.

    Of others it is said so after they were received.
    """
    goods, loose = script.goods, take_loose(script)
    script.do(Verb.PACK, goods.distributor, loose[:3], parent=goods.sscc)
    script.do(Verb.VOID, goods.distributor, (goods.sscc,), to=goods.pharmacy)
    script.on(Wave.EARLY).send((goods.sscc,))
    script.send(loose[3:5], name="gone")
    script.on(Wave.DESPATCH)
    if goods.number % 2:
        script.do(Verb.DECLARE_ERROR, goods.distributor, (goods.sscc,), of="ship")
    else:
        script.do(Verb.VOID, goods.distributor, (goods.sscc,), to=goods.pharmacy)
    script.do(Verb.VOID, goods.distributor, (goods.sscc,), to=goods.pharmacy)
    script.send((goods.sscc,), to=goods.neighbour, name="instead")
    script.do(Verb.RECEIVE, goods.pharmacy, loose[3:5])
    script.on(Wave.RECEIVE).deliver((goods.sscc,), who=goods.neighbour, of="instead")
    script.do(Verb.VOID, goods.distributor, loose[3:4], to=goods.pharmacy)
    script.on(Wave.SHELVE).do(Verb.UNPACK, goods.neighbour, parent=goods.sscc)
    script.on(Wave.USE).do(Verb.DISPENSE, goods.neighbour, loose[:1])
    script.do(Verb.DISPENSE, goods.pharmacy, loose[3:4])


# --- orders ---


@trouble
def invoiced(script: Script) -> None:
    """What was shipped is invoiced, and never more; of every other order a part of that did not leave after all."""
    goods, loose = script.goods, take_loose(script)
    buyer, seller = goods.pharmacy, goods.distributor
    script.order(len(loose))
    script.on(Wave.EARLY).do(Verb.CONFIRM_ORDER, seller, to=buyer, of="order")
    script.on(Wave.DESPATCH).send(loose[:4], order="order")
    script.send(loose[4:], name="rest", order="order")
    script.on(Wave.RECEIVE).deliver(loose[:4])
    script.on(Wave.SHELVE)
    for name, quantity in (("too-much", len(loose) + 1), ("part", 2)):
        script.do(Verb.INVOICE, seller, to=buyer, of="order", name=name, gtin=goods.pack_gtin, quantity=str(quantity))
    script.on(Wave.USE).do(Verb.INVOICE, seller, to=buyer, of="order", name="invoice")
    script.do(Verb.INVOICE, seller, to=buyer, of="order", name="nothing-left")
    script.on(Wave.MEND)
    if goods.number % 2:
        script.do(Verb.DECLARE_ERROR, seller, loose[4:], of="rest")
    else:
        script.deliver(loose[4:], of="rest", name="second")


# --- what has happened already ---


@trouble
def told_afterwards(script: Script) -> None:
    """A system's file says what has happened, whether it should have or not: sold on hold, handed out twice.

    Of every other pack that was handed out on hold its release is told in the end.
    """
    goods, loose = script.goods, take_loose(script)
    script.on(Wave.EARLY).do(Verb.HOLD, goods.distributor, loose[:2], reason="carton crushed", code="QUALITY")
    script.do(Verb.SHIP, goods.distributor, loose[:2], to=goods.pharmacy, name="refused")
    script.on(Wave.DESPATCH).do(Verb.TELL_SHIPPED, goods.distributor, loose[:2], to=goods.pharmacy, name="told")
    script.send(loose[2:])
    script.on(Wave.RECEIVE).deliver(loose, of="told ship")
    script.on(Wave.USE).do(Verb.HOLD, goods.pharmacy, loose[2:3], reason="stock check", code="QUALITY")
    script.do(Verb.DISPENSE, goods.pharmacy, loose[2:3])
    late = script.at()
    script.do(Verb.DISPENSE, goods.pharmacy, loose[3:4])
    script.on(Wave.MEND).do(Verb.DISPENSE, goods.pharmacy, loose[:1])
    script.do(Verb.TELL_DISPENSED, goods.pharmacy, loose[2:4])
    script.do(Verb.TELL_DISPENSED, goods.neighbour, loose[4:5])
    if goods.number % 2:
        script.on(Wave.AFTER).do(Verb.TELL_RELEASED, goods.pharmacy, loose[2:3], at=late)
