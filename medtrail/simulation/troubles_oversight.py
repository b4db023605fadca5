"""Kinds of trouble that more than one look at: lots on hold, releases by two persons, talk about a case, samples."""

from functools import partial

from medtrail.simulation.acts import Verb
from medtrail.simulation.script import Script, Wave
from medtrail.simulation.troubles import put_on_shelf, take_loose, trouble


@trouble
def lot_held(script: Script) -> None:
    """A lot is put on hold: what is there, and what comes sealed later; every other one is released in the end."""
    goods, first = script.goods, script.goods.packs[:3]
    script.on(Wave.PICK).do(Verb.UNPACK, goods.distributor, first, parent=goods.case)
    script.on(Wave.DESPATCH).send(first)
    script.send(name="rest")
    script.on(Wave.RECEIVE).take_in(first)
    hold = partial(
        script.do, Verb.HOLD_LOT, goods.pharmacy, gtin=goods.pack_gtin, lot=goods.lot, code="QUALITY", reason="assay"
    )
    script.on(Wave.SHELVE)
    hold(name="lot")
    hold()
    script.do(Verb.DISPENSE, goods.pharmacy, first[:1])
    stays_sealed = bool(goods.number // 2 % 2)
    script.on(Wave.USE)
    if stays_sealed:
        script.deliver(of="rest")
    else:
        script.take_in()
        script.on(Wave.MEND).open_case()
    script.on(Wave.MEND).do(Verb.HOLD, goods.pharmacy, first[1:2], reason="torn", code="DAMAGED")
    script.do(Verb.DISPENSE, goods.pharmacy, goods.packs[3:4])
    if goods.number % 2:
        _passes(script, first, stays_sealed=stays_sealed)


def _passes(script: Script, first: tuple[str, ...], *, stays_sealed: bool) -> None:
    """The lot is released: nobody has seen by it what is sealed, and a pack of that is not there."""
    goods = script.goods
    script.on(Wave.SEND_BACK).do(Verb.RELEASE_LOT, goods.pharmacy, of="lot", reason="passed")
    script.do(Verb.RELEASE_LOT, goods.pharmacy, of="lot", reason="passed")
    if stays_sealed:
        script.do(Verb.REPORT_CONCEALED, goods.pharmacy, goods.packs[4:5], parent=goods.case, of="delivery")
    script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, (*first[:1], *goods.packs[3:4]))
    script.do(Verb.DISPENSE, goods.pharmacy, first[1:2])


@trouble
def released_by_two(script: Script) -> None:
    """What an authority ordered to be held is released by two persons, or not: one asks, another one decides."""
    goods, packs = script.goods, script.goods.packs[:3]
    put_on_shelf(script)
    request = partial(script.do, Verb.REQUEST_RELEASE, goods.pharmacy, code="AUTHORITY", reason="order withdrawn")
    approve = partial(script.do, Verb.APPROVE_RELEASE, goods.pharmacy, of="request")
    script.on(Wave.USE).do(
        Verb.HOLD, goods.pharmacy, packs, name="hold", code="AUTHORITY", reason="ordered by the authority"
    )
    script.do(Verb.HOLD, goods.pharmacy, packs[2:], reason="under test", code="QUALITY")
    script.do(Verb.RELEASE, goods.pharmacy, packs[:1], reason="order withdrawn")
    request(packs)
    request(goods.packs[3:4], person="anna")
    request(packs, name="request", person="anna")
    approve(person="anna")
    script.on(Wave.MEND).do(Verb.DECLARE_ERROR, goods.pharmacy, packs, of="hold")
    script.do(Verb.RELEASE, goods.pharmacy, packs[2:], reason="passed", code="QUALITY")
    if goods.number % 2:
        script.do(Verb.HOLD, goods.pharmacy, packs[1:2], reason="torn", code="DAMAGED")
        approve(person="ben")
    else:
        script.do(Verb.REJECT_RELEASE, goods.pharmacy, of="request", person="ben", reason="not in writing")
    approve(person="ben")
    script.on(Wave.AFTER).do(Verb.DISPENSE, goods.pharmacy, packs[:1])
    script.do(Verb.DISPENSE, goods.pharmacy, packs[1:2])


@trouble
def case_talked_over(script: Script) -> None:
    """Receiver and sender talk over what came too much, until its data come, or over what is missing."""
    loose = take_loose(script)
    if script.goods.number % 2:
        _missing_is_credited(script, loose)
    else:
        _data_are_sent(script, loose)


def _data_are_sent(script: Script, loose: tuple[str, ...]) -> None:
    """The sender agrees to send the data of a pack too many: the case ends by them, on both sides."""
    goods = script.goods
    extra, *advised = loose
    about = partial(script.do, units=(extra,), code="OVERAGE")
    script.on(Wave.DESPATCH).send(advised)
    late = script.at()
    script.on(Wave.RECEIVE).deliver(loose)
    script.on(Wave.SHELVE)
    about(Verb.SAY, goods.pharmacy, to=goods.distributor, name="talk")
    about(Verb.PROPOSE, goods.pharmacy, of="talk")
    script.on(Wave.USE)
    about(Verb.SAY, goods.distributor, of="talk", internal="yes")
    about(Verb.ANSWER, goods.distributor, of="talk", says="yes")
    script.on(Wave.MEND)
    about(Verb.RESOLVE_CASE, goods.pharmacy, reason="accepted")
    script.on(Wave.SEND_BACK).send((extra,), name="late", at=late)
    script.on(Wave.AFTER)
    about(Verb.SAY, goods.distributor, of="talk")


def _missing_is_credited(script: Script, loose: tuple[str, ...]) -> None:
    """The sender offers a credit for a missing pack instead; every other receiver asks for that, and ends the case."""
    goods = script.goods
    about = partial(script.do, units=loose[:1], code="SHORTAGE")
    script.on(Wave.DESPATCH).send(loose)
    script.on(Wave.RECEIVE).deliver(loose[1:])
    script.on(Wave.SHELVE)
    about(Verb.SAY, goods.pharmacy, to=goods.distributor, name="talk")
    script.on(Wave.USE)
    about(Verb.ANSWER, goods.distributor, of="talk", says="no")
    about(Verb.PROPOSE, goods.pharmacy, of="talk")
    script.on(Wave.MEND)
    about(Verb.ANSWER, goods.distributor, of="talk", says="no", offers="CREDIT_ACCOUNT")
    if goods.number // 2 % 2:
        script.on(Wave.SEND_BACK)
        about(Verb.PROPOSE, goods.pharmacy, of="talk", asks="CREDIT_ACCOUNT")
        script.on(Wave.RECALL)
        about(Verb.ANSWER, goods.distributor, of="talk", says="yes")
        script.on(Wave.AFTER)
        about(Verb.RESOLVE_CASE, goods.pharmacy, reason="accepted")


@trouble
def sampled(script: Script) -> None:
    """Of a sealed case some packs are to be scanned: they are, or one is not there, or one has another lot."""
    goods = script.goods
    share = ("0.25", "1", "0.25")[goods.number % 3]
    script.on(Wave.DESPATCH).send()
    script.on(Wave.RECEIVE).do(Verb.OPEN_DELIVERY, goods.pharmacy, of="ship", name="delivery", share=share)
    script.do(Verb.SCAN_DELIVERY, goods.pharmacy, (goods.case,), of="delivery", labelled=True)
    script.close()
    (_samples_are_there, _one_is_missing, _one_has_another_lot)[goods.number % 3](script)
    script.on(Wave.USE).do(Verb.DISPENSE, goods.pharmacy, goods.packs[1:2])


def _samples_are_there(script: Script) -> None:
    goods = script.goods
    script.do(Verb.SCAN_SAMPLES, goods.pharmacy, of="delivery", labelled=True)
    script.close()
    # Which were scanned is nobody's business but the pharmacy's: now all are.
    script.on(Wave.SHELVE).do(Verb.UNPACK, goods.pharmacy, goods.packs, parent=goods.case)


def _one_is_missing(script: Script) -> None:
    goods = script.goods
    script.do(Verb.SCAN_DELIVERY, goods.pharmacy, goods.packs[1:], of="delivery", labelled=True)
    script.close()
    script.do(Verb.CLOSE_DELIVERY, goods.pharmacy, of="delivery", samples="missing")


def _one_has_another_lot(script: Script) -> None:
    """The sample fails by it: what is not scanned of the case is missing."""
    goods = script.goods
    wrong, good = goods.packs[:1], goods.packs[1:-1]
    script.do(Verb.SCAN_DELIVERY, goods.pharmacy, wrong, of="delivery", lot="X1", expiry=goods.expiry)
    script.do(Verb.SCAN_DELIVERY, goods.pharmacy, good, of="delivery", labelled=True)
    script.close()
