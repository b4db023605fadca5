"""The calls of trade: orders and invoices, and what is captured beyond the everyday."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial

from medtrail.api.event.v1 import document_pb2
from medtrail.api.orders.v1 import orders_pb2
from medtrail.simulation import captures
from medtrail.simulation.acts import Act, Verb
from medtrail.simulation.calls import Answer, Call, Calls, Stubs, order_number


def trade_calls(calls: Calls) -> Mapping[Verb, Call]:
    """Return how each verb of trade is called."""
    return {
        Verb.ORDER: partial(_order, calls),
        Verb.CONFIRM_ORDER: partial(_confirm_order, calls),
        Verb.REPACKAGE: partial(_repackage, calls),
        Verb.VOID: partial(_void, calls),
        Verb.INVOICE: partial(_invoice, calls),
        Verb.TELL_SHIPPED: partial(_tell_shipped, calls),
        Verb.TELL_DISPENSED: partial(_tell_dispensed, calls),
        Verb.TELL_RELEASED: partial(_tell_released, calls),
    }


async def _order(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    request = orders_pb2.PlaceOrderRequest(
        request_id=request_id,
        number=order_number(act.name),
        seller=calls.members[act.to].gln,
        lines=[document_pb2.TermsLine(line_number=1, gtin=act.details["gtin"], quantity=act.details["quantity"])],
    )
    await stubs.orders.PlaceOrder(request)
    return Answer()


async def _confirm_order(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    number = order_number(act.of)
    request = orders_pb2.ConfirmOrderRequest(
        request_id=request_id, number=f"C-{number}", buyer=calls.members[act.to].gln, order_number=number
    )
    quantity = act.details.get("quantity")
    if quantity:
        request.lines.add(
            line_number=1,
            quantity=quantity,
            status=document_pb2.LINE_STATUS_BACK_ORDERED,
            confirmed_date=(calls.moment(act.at) + timedelta(days=30)).date().isoformat(),
        )
    await stubs.orders.ConfirmOrder(request)
    return Answer()


async def _repackage(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    event = captures.repackaged(
        act.units,
        act.details["outputs"].split(),
        calls.moment(act.at),
        lot=act.lot,
        expiry=act.expiry,
        place=calls.members[act.who].location,
    )
    return await calls.capture(stubs, [event], request_id, happened=act.details.get("happened") == "yes")


async def _void(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    sender, receiver = calls.members[act.who].gln, calls.members[act.to].gln
    event = captures.shipped(act.units, calls.moment(act.at), sender=sender, receiver=receiver, voided=True)
    return await calls.capture(stubs, [event], request_id)


async def _tell_shipped(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    sender, receiver = calls.members[act.who].gln, calls.members[act.to].gln
    event = captures.shipped(act.units, calls.moment(act.at), sender=sender, receiver=receiver)
    return await calls.capture(stubs, [event], request_id, happened=True)


async def _tell_dispensed(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    event = captures.dispensed(act.units, calls.moment(act.at), place=calls.members[act.who].location)
    return await calls.capture(stubs, [event], request_id, happened=True)


async def _tell_released(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    event = captures.released(act.units, calls.moment(act.at), place=calls.members[act.who].location)
    return await calls.capture(stubs, [event], request_id, happened=True)


async def _invoice(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    request = orders_pb2.IssueInvoiceRequest(
        request_id=request_id,
        number=order_number(act.name),
        buyer=calls.members[act.to].gln,
        order_number=order_number(act.of),
    )
    if "quantity" in act.details:
        line = document_pb2.TermsLine(line_number=1, gtin=act.details["gtin"], quantity=act.details["quantity"])
        request.lines.append(line)
    await stubs.orders.IssueInvoice(request)
    return Answer()
