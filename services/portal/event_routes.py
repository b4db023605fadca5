"""GET /events and the resources that browse events by what they say.

Source: EPCIS 2.0, section 12.4 and its OpenAPI.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from medtrail.epcis import cbv
from medtrail.epcis.model import EventType
from medtrail.epcis.namespaces import Prefixes
from medtrail.errors import NotFoundError
from medtrail.gs1.keys import RESOLVER
from services.portal.headers import EpcFormat, Wanted, wanted
from services.portal.normal import word
from services.portal.parts import PortalParts
from services.portal.query.documents import (
    DOCUMENTS,
    JSON_ONLY,
    SIMPLE_EVENT_QUERY,
    collection,
    event_document,
    query_document,
)
from services.portal.query.errors import QueryParameterError
from services.portal.query.paging import NextPage, PageTokens, page_size
from services.portal.query.parameters import read_query, recorded_from
from services.portal.query.spelling import speller
from services.portal.query.sql import Position
from services.portal.repository import Page
from services.portal.resources import declared_prefixes, link_next, resource, url_parameters

RECORDED_FROM: Final = "GS1-Query-Min-Record-Time"


@dataclass(frozen=True, slots=True)
class Browsed:
    """A resource by which events are browsed.

    Attributes:
        path: Its name in the URL.
        fields: Whose values it lists.
        parameter: Of the query for events with one of them.
        words: Its vocabulary; None for identifiers.
    """

    path: str
    fields: tuple[str, ...]
    parameter: str
    words: cbv.WordList | None = None


BROWSED: Final = (
    Browsed("epcs", ("epcList", "childEPCs", "parentID", "inputEPCList", "outputEPCList"), "MATCH_anyEPC"),
    Browsed("bizSteps", ("bizStep",), "EQ_bizStep", cbv.BIZ_STEPS),
    Browsed("bizLocations", ("bizLocation",), "EQ_bizLocation"),
    Browsed("readPoints", ("readPoint",), "EQ_readPoint"),
    Browsed("dispositions", ("disposition",), "EQ_disposition", cbv.DISPOSITIONS),
)


class EventAnswers:
    """Answers about events, by page; what all resources with events share."""

    def __init__(self, parts: PortalParts, tokens: PageTokens) -> None:
        """Hold the parts, and where tokens of next pages are kept."""
        self.parts = parts
        self.tokens = tokens

    async def page(
        self, request: Request, parameters: dict[str, Any], *, prefixes: Prefixes, name: str, fixed: bool = False
    ) -> Response:
        """Answer a question, or go on with an answer.

        Args:
            request: With paging in its URL.
            parameters: The question's; with a token, those asked at first.
            prefixes: Namespaces of prefixes in parameter names.
            name: Of the query.
            fixed: The resource itself is the question: parameters are not repeated with the token.

        Raises:
            QueryParameterError: A parameter is wrong, or a token.
            QueryTooLargeError: More events answer than maxEventCount allows.
        """
        asked = wanted(request, media_types=DOCUMENTS)
        paging = url_parameters(request).paging
        size = page_size(paging.get("perPage"))
        caller, path = request.state.caller.name, request.scope["path"]
        since = request.headers.get(RECORDED_FROM)
        question: dict[str, Any] = {"parameters": parameters, "prefixes": prefixes.declared, "since": since}
        position = None
        if "nextPageToken" in paging:
            following = await self.tokens.open(paging["nextPageToken"], caller=caller, path=path)
            if parameters and not fixed and parameters != following.question["parameters"]:
                message = "the token goes on with another question than the one beside it"
                raise QueryParameterError(message, code="PAGE_TOKEN_INVALID", field="nextPageToken")
            question, position = following.question, self._position(following)
        query = read_query(question["parameters"], Prefixes(question["prefixes"]))
        if question["since"] is not None:
            query = query.also(recorded_from(question["since"], name=RECORDED_FROM))
        page = await self.parts.repository.page(query, size=size, position=position)
        headers = await self._next(request, page, question, size=size)
        events = [found.event for found in page.events]
        # Writing thousands of identifiers takes long, and others ask meanwhile.
        body = await asyncio.to_thread(
            query_document, events, asked, prefixes=self.parts.repository.prefixes, name=name
        )
        return Response(body, media_type=asked.media_type.value, headers={**headers, **format_header(asked)})

    def _position(self, following: NextPage) -> Position:
        generation, *place = following.position
        if generation != self.parts.repository.cursor.generation:
            message = "the index was made anew meanwhile: ask again"
            raise QueryParameterError(message, code="PAGE_TOKEN_INVALID", field="nextPageToken")
        return Position(*place)

    async def _next(self, request: Request, page: Page, question: dict[str, Any], *, size: int) -> dict[str, str]:
        at = page.following
        if at is None:
            return {}
        issued = await self.tokens.issue(
            NextPage(question, [self.parts.repository.cursor.generation, at.newest, at.left, at.key, at.number]),
            caller=request.state.caller.name,
            path=request.scope["path"],
        )
        return link_next(request, issued, public_url=self.parts.settings.public_url, size=size)

    async def members(self, request: Request, found: Sequence[str], *, size: int) -> Response:
        """Answer with a page of a list of texts; one more than a page holds tells that there are more.

        Args:
            request: As it came.
            found: Sorted, up to one more than ``size``.
            size: Of the page.
        """
        headers: dict[str, str] = {}
        if len(found) > size:
            issued = await self.tokens.issue(
                NextPage(None, found[size - 1]), caller=request.state.caller.name, path=request.scope["path"]
            )
            headers = link_next(request, issued, public_url=self.parts.settings.public_url, size=size)
        asked = wanted(request, media_types=JSON_ONLY)
        spell = speller(asked.epc_format, self.parts.repository.prefixes)
        members = [_member(text) if spell is None else spell(_member(text)) for text in found[:size]]
        return Response(collection(members), media_type=asked.media_type.value, headers=headers)

    async def opened(self, request: Request) -> str:
        """Return after which member the page begins: empty for the first."""
        token = url_parameters(request).paging.get("nextPageToken")
        if token is None:
            return ""
        page = await self.tokens.open(token, caller=request.state.caller.name, path=request.scope["path"])
        return str(page.position)


def _member(text: str) -> str:
    # Keys are kept as the path of their link.
    return RESOLVER + text if text.startswith("/") else text


def format_header(asked: Wanted) -> dict[str, str]:
    """Return the header that tells the spelling of an answer's identifiers."""
    return {} if asked.epc_format is EpcFormat.NO_PREFERENCE else {"GS1-EPC-Format": asked.epc_format.value}


def event_routes(answers: EventAnswers) -> list[BaseRoute]:
    """Return the routes of events and of what they are browsed by."""
    parts = answers.parts
    found: list[BaseRoute] = [
        *resource(parts.access, "/events", {"GET": partial(_events, answers)}),
        *resource(parts.access, "/events/{event_id:path}", {"GET": partial(_event, answers)}),
        *resource(parts.access, "/eventTypes", {"GET": partial(_event_types, answers)}),
        *resource(parts.access, "/eventTypes/{value}", {"GET": partial(_event_type, answers)}),
        *resource(parts.access, "/eventTypes/{value}/events", {"GET": partial(_events_of_type, answers)}),
        *resource(parts.access, "/nextPageToken/{token}", {"DELETE": partial(_withdraw, answers)}),
    ]
    for browsed in BROWSED:
        path = f"/{browsed.path}"
        found += [
            *resource(parts.access, path, {"GET": partial(_values, answers, browsed)}),
            *resource(parts.access, f"{path}/{{value:path}}/events", {"GET": partial(_events_of, answers, browsed)}),
            *resource(parts.access, f"{path}/{{value:path}}", {"GET": partial(_value, answers, browsed)}),
        ]
    return found


async def _events(answers: EventAnswers, request: Request) -> Response:
    return await _with_parameters(answers, request, {})


async def _with_parameters(answers: EventAnswers, request: Request, own: dict[str, list[str]]) -> Response:
    """Answer with the events of a URL's parameters and of the resource's own."""
    given = url_parameters(request).values
    for name in own:
        if name in given:
            message = f"the resource says it already: {request.scope['path'][:200]}"
            raise QueryParameterError(message, field=name)
    return await answers.page(
        request,
        {**given, **own},
        prefixes=declared_prefixes(request),
        name=SIMPLE_EVENT_QUERY,
        fixed=not given,
    )


async def _event(answers: EventAnswers, request: Request) -> Response:
    asked = wanted(request, media_types=DOCUMENTS)
    event_id: str = request.path_params["event_id"]
    if request.url.query.startswith("ver="):
        # An id by hash ends in ?ver=CBV2.0, and not everybody encodes the question mark.
        event_id = f"{event_id}?{request.url.query}"
    found = await answers.parts.repository.get(event_id)
    body = event_document(found.event, asked, prefixes=answers.parts.repository.prefixes)
    return Response(body, media_type=asked.media_type.value, headers=format_header(asked))


async def _event_types(answers: EventAnswers, request: Request) -> Response:
    size = page_size(url_parameters(request).paging.get("perPage"))
    after = await answers.opened(request)
    kinds = sorted(kind.value for kind in EventType if kind.value > after)
    return await answers.members(request, kinds[: size + 1], size=size)


async def _event_type(answers: EventAnswers, request: Request) -> Response:
    _known_type(request)
    return await answers.members(request, ["events"], size=1)


async def _events_of_type(answers: EventAnswers, request: Request) -> Response:
    return await _with_parameters(answers, request, {"eventType": [_known_type(request)]})


def _known_type(request: Request) -> str:
    kind: str = request.path_params["value"]
    if kind not in set(EventType):
        message = f"there is no event type {kind[:100]}"
        raise NotFoundError(message, code="EVENT_TYPE_UNKNOWN", field="eventType")
    return kind


async def _values(answers: EventAnswers, browsed: Browsed, request: Request) -> Response:
    size = page_size(url_parameters(request).paging.get("perPage"))
    after = await answers.opened(request)
    found = await answers.parts.repository.values(browsed.fields, after=after, limit=size + 1)
    return await answers.members(request, found, size=size)


def _own_parameter(browsed: Browsed, request: Request) -> dict[str, list[str]]:
    value: str = request.path_params["value"]
    if browsed.words is not None:
        bare = word(browsed.words, value)
        if ":" not in bare and bare not in browsed.words.words:
            message = f"{value[:100]} is no word of the CBV"
            raise NotFoundError(message, code="WORD_UNKNOWN", field=browsed.path)
    return {browsed.parameter: [value]}


async def _value(answers: EventAnswers, browsed: Browsed, request: Request) -> Response:
    own = _own_parameter(browsed, request)
    page = await answers.parts.repository.page(read_query(own, Prefixes()), size=1)
    if not page.events:
        message = f"no event here says {request.path_params['value'][:200]}"
        raise NotFoundError(message, code="VALUE_UNKNOWN", field=browsed.path)
    return await answers.members(request, ["events"], size=1)


async def _events_of(answers: EventAnswers, browsed: Browsed, request: Request) -> Response:
    return await _with_parameters(answers, request, _own_parameter(browsed, request))


async def _withdraw(answers: EventAnswers, request: Request) -> Response:
    await answers.tokens.withdraw(request.path_params["token"], caller=request.state.caller.name)
    return Response(status_code=204)
