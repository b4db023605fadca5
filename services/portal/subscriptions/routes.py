"""Subscriptions to a named query: made, told, deleted.

Source: EPCIS 2.0, section 12.7 and its OpenAPI.
"""

import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from medtrail.runtime.tokens import utc_now
from services.portal.access import by_itself
from services.portal.event_routes import EventAnswers
from services.portal.headers import wanted
from services.portal.queries import QueryStore
from services.portal.query.documents import JSON_ONLY
from services.portal.query.errors import SubscriptionControlsError
from services.portal.query.json_body import json_object
from services.portal.query.paging import NextPage, page_size
from services.portal.resources import link_next, resource, url_parameters
from services.portal.subscriptions.controls import NAMES, check_permitted, read_controls
from services.portal.subscriptions.feed import Feed
from services.portal.subscriptions.store import Progress, Subscription, SubscriptionStore
from services.portal.subscriptions.webhook import Webhooks
from services.portal.subscriptions.websocket import WebSockets

LONGEST_TOKEN: Final = 500
_MEMBERS: Final = NAMES | {"dest", "signatureToken", "@context"}


def subscription_routes(
    answers: EventAnswers, queries: QueryStore, store: SubscriptionStore, webhooks: Webhooks, sockets: WebSockets
) -> list[BaseRoute]:
    """Return the routes of subscriptions."""
    access = answers.parts.access
    path = "/queries/{name}/subscriptions"

    async def listen(socket: WebSocket) -> None:
        await sockets.serve(socket)

    return [
        WebSocketRoute("/queries/{name}/events", by_itself(listen)),
        *resource(
            access,
            path,
            {
                "GET": partial(_list, answers, queries, store),
                "POST": partial(_create, answers, queries, store, webhooks),
            },
        ),
        *resource(
            access, f"{path}/{{id}}", {"GET": partial(_get, queries, store), "DELETE": partial(_delete, queries, store)}
        ),
    ]


async def _create(
    answers: EventAnswers, queries: QueryStore, store: SubscriptionStore, webhooks: Webhooks, request: Request
) -> Response:
    asked = wanted(request, media_types=JSON_ONLY)
    named = await queries.get(request.path_params["name"])
    query = named.query()
    check_permitted(query)
    body = await json_object(request)
    unknown = sorted(set(body) - _MEMBERS)
    if unknown:
        message = f"a subscription has {', '.join(sorted(_MEMBERS))}"
        raise SubscriptionControlsError(message, field=unknown[0][:100])
    destination = await webhooks.check(body.get("dest"))
    controls = read_controls(body)
    subscription = Subscription(
        id=str(uuid.uuid4()),
        query_name=named.name,
        owner=request.state.caller.name,
        destination=destination,
        signature_token=_signature_token(body),
        epc_format=asked.epc_format,
        report_if_empty=controls.report_if_empty,
        schedule=controls.schedule,
        created_time=utc_now(),
    )
    await store.add(subscription, await Feed(answers.parts.repository, query).begin(controls.floor_us))
    name = quote(named.name, safe="")
    location = f"{answers.parts.settings.public_url}/queries/{name}/subscriptions/{subscription.id}"
    return _json(_members(subscription, None), {"Location": location}, status=201)


def _signature_token(body: Mapping[str, Any]) -> str:
    token = body.get("signatureToken", "")
    if not isinstance(token, str) or len(token) > LONGEST_TOKEN:
        # It is not repeated: it is a secret, well formed or not.
        message = f"expected a text of at most {LONGEST_TOKEN} characters"
        raise SubscriptionControlsError(message, field="signatureToken")
    return token


def _json(body: object, headers: Mapping[str, str], *, status: int = 200) -> Response:
    content = json.dumps(body, ensure_ascii=False)
    return Response(content, status_code=status, media_type="application/json", headers=headers)


def _told(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _members(subscription: Subscription, progress: Progress | None) -> dict[str, Any]:
    """Return what is told of a subscription: all but its secret."""
    found: dict[str, Any] = {
        "subscriptionID": subscription.id,
        "queryName": subscription.query_name,
        "dest": subscription.destination,
        "createdAt": _told(subscription.created_time),
        "reportIfEmpty": subscription.report_if_empty,
        **({"schedule": subscription.schedule} if subscription.schedule else {"stream": True}),
        "signed": bool(subscription.signature_token),
    }
    if progress is not None:
        found |= {
            "lastNotifiedAt": _told(progress.delivered_time),
            "failedAttempts": progress.attempts,
            "lastError": progress.last_error,
            "nextAttemptAt": _told(progress.due_time),
        }
    return found


async def _list(answers: EventAnswers, queries: QueryStore, store: SubscriptionStore, request: Request) -> Response:
    named = await queries.get(request.path_params["name"])
    size = page_size(url_parameters(request).paging.get("perPage"))
    found = await store.list(named.name, after=await answers.opened(request), limit=size + 1)
    headers: dict[str, str] = {}
    if len(found) > size:
        page = NextPage(None, found[size - 1].id)
        issued = await answers.tokens.issue(page, caller=request.state.caller.name, path=request.scope["path"])
        headers = link_next(request, issued, public_url=answers.parts.settings.public_url, size=size)
    return _json([_members(item, await store.progress(item.id)) for item in found[:size]], headers)


async def _get(queries: QueryStore, store: SubscriptionStore, request: Request) -> Response:
    named = await queries.get(request.path_params["name"])
    subscription = await store.get(named.name, request.path_params["id"])
    return _json(_members(subscription, await store.progress(subscription.id)), {})


async def _delete(queries: QueryStore, store: SubscriptionStore, request: Request) -> Response:
    named = await queries.get(request.path_params["name"])
    await store.delete(named.name, request.path_params["id"])
    return Response(status_code=204)
