"""Named queries: kept, told, asked, and deleted with all that subscribes to them.

Source: EPCIS 2.0, section 12.4 (queries) and its OpenAPI.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, delete, func, insert, select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from medtrail.epcis.namespaces import Prefixes
from medtrail.errors import MalformedError, UnavailableError
from medtrail.runtime.database import Database
from medtrail.runtime.tokens import Clock, utc_now
from services.custody.changes import ChangeBell
from services.portal.event_routes import EventAnswers
from services.portal.normal import microseconds
from services.portal.query.documents import SIMPLE_EVENT_QUERY
from services.portal.query.errors import DuplicateNameError, NoSuchNameError, QueryParameterError
from services.portal.query.json_body import context_prefixes, json_object, parse_object
from services.portal.query.paging import NextPage, page_size
from services.portal.query.parameters import read_query
from services.portal.query.tree import Query
from services.portal.query_tables import QUERY_METADATA, NamedQueryRow, SubscriptionRow
from services.portal.resources import declared_prefixes, link_next, resource, url_parameters

MOST_QUERIES: Final = 10_000
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f/?#%]{1,200}")
_TABLE: Any = NamedQueryRow.__table__  # type: ignore[attr-defined]
_SUBSCRIPTION: Any = SubscriptionRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A question that has a name.

    Attributes:
        owner: Name of the token that made it.
        parameters: As given, numbers as texts; ``@context`` among them.
        prefixes: Namespaces of the prefixes in parameter names.
    """

    name: str
    owner: str
    parameters: Mapping[str, Any]
    prefixes: Prefixes

    def query(self) -> Query:
        """Return the question."""
        return read_query(self.parameters, self.prefixes)


class QueryStore:
    """Named queries in the portal's database."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        """Name the database; its tables are made by :meth:`prepare`."""
        self.database = database
        self.bell = ChangeBell()
        """Rung when a query or a subscription comes or goes."""
        self._clock = clock

    def prepare(self) -> None:
        """Make the tables. Blocks: for the start of a process."""
        self.database.create_tables(QUERY_METADATA)

    async def add(self, named: NamedQuery) -> None:
        """Keep a query.

        Raises:
            DuplicateNameError: Another has its name.
            UnavailableError: There are 10,000 already (QUERIES_FULL).
        """
        now_us = microseconds(self._clock())

        def write(connection: Connection) -> None:
            if connection.execute(select(func.count()).select_from(_TABLE)).scalar_one() >= MOST_QUERIES:
                message = f"there are {MOST_QUERIES} queries already: delete one first"
                raise UnavailableError(message, code="QUERIES_FULL")
            if named.name == SIMPLE_EVENT_QUERY or _by_name(connection, named.name) is not None:
                message = f"there is a query {named.name} already"
                raise DuplicateNameError(message, field="name")
            connection.execute(
                insert(_TABLE).values(
                    name=named.name,
                    owner=named.owner,
                    parameters=json.dumps(dict(named.parameters), default=json_number),
                    prefixes=json.dumps(named.prefixes.declared),
                    created_us=now_us,
                )
            )

        await self.database.write(write)

    async def get(self, name: str) -> NamedQuery:
        """Return a query.

        Raises:
            NoSuchNameError: There is none of this name.
        """
        found = await self.database.read(partial(_by_name, name=name))
        if found is None:
            raise _unknown(name)
        return found

    async def list(self, *, after: str, limit: int) -> list[NamedQuery]:
        """Return queries in order of their names, those after one."""

        def look(connection: Connection) -> list[NamedQuery]:
            rows = connection.execute(
                select(_TABLE).where(_TABLE.c.name > after).order_by(_TABLE.c.name).limit(limit)
            ).mappings()
            return [_from_row(row) for row in rows]

        return await self.database.read(look)

    async def delete(self, name: str) -> None:
        """Forget a query and its subscriptions.

        Raises:
            NoSuchNameError: There is none of this name.
        """

        def write(connection: Connection) -> int:
            connection.execute(delete(_SUBSCRIPTION).where(_SUBSCRIPTION.c.query_name == name))
            return connection.execute(delete(_TABLE).where(_TABLE.c.name == name)).rowcount

        if not await self.database.write(write):
            raise _unknown(name)
        self.bell.ring()


def json_number(value: object) -> int | float:
    """Return an exact number as JSON writes it."""
    assert isinstance(value, Decimal)  # noqa: S101  # nothing else comes out of JSON
    return int(value) if value == value.to_integral_value() else float(value)


def _unknown(name: str) -> NoSuchNameError:
    message = f"there is no query {name[:200]}"
    return NoSuchNameError(message, field="queryName")


def _by_name(connection: Connection, name: str) -> NamedQuery | None:
    row = connection.execute(select(_TABLE).where(_TABLE.c.name == name)).mappings().first()
    return None if row is None else _from_row(row)


def _from_row(row: Any) -> NamedQuery:  # noqa: ANN401  # a row of named_query
    parameters = parse_object(row["parameters"].encode())
    return NamedQuery(row["name"], row["owner"], parameters, Prefixes(json.loads(row["prefixes"])))


def read_definition(body: Mapping[str, Any], *, owner: str, prefixes: Prefixes) -> NamedQuery:
    """Return the query that a body defines: its ``name`` and its ``query``.

    Raises:
        MalformedError: The name or the query is missing or none (QUERY_DEFINITION).
        QueryParameterError: A parameter of the query is wrong.
    """
    name, query = body.get("name"), body.get("query")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None or name in {".", ".."}:
        message = "expected a name of 1 to 200 characters without / ? # % and control characters"
        raise MalformedError(message, code="QUERY_DEFINITION", field="name")
    if not isinstance(query, dict):
        message = "expected an object of parameters"
        raise MalformedError(message, code="QUERY_DEFINITION", field="query")
    if set(body) - {"name", "query", "@context"}:
        message = "expected name and query, nothing else"
        raise MalformedError(message, code="QUERY_DEFINITION", field=min(set(body) - {"name", "query", "@context"}))
    found = NamedQuery(name, owner, query, context_prefixes(query, context_prefixes(body, prefixes)))
    found.query()
    return found


def query_routes(answers: EventAnswers, store: QueryStore) -> list[BaseRoute]:
    """Return the routes of named queries, without those of their subscriptions."""
    access = answers.parts.access
    return [
        *resource(
            access, "/queries", {"GET": partial(_list, answers, store), "POST": partial(_create, answers, store)}
        ),
        *resource(access, "/queries/{name}", {"GET": partial(_get, store), "DELETE": partial(_delete, store)}),
        *resource(access, "/queries/{name}/events", {"GET": partial(_events, answers, store)}),
    ]


async def _create(answers: EventAnswers, store: QueryStore, request: Request) -> Response:
    body = await json_object(request)
    named = read_definition(body, owner=request.state.caller.name, prefixes=declared_prefixes(request))
    await store.add(named)
    location = f"{answers.parts.settings.public_url}/queries/{quote(named.name, safe='')}"
    return Response(status_code=201, headers={"Location": location})


def _definition(named: NamedQuery) -> dict[str, Any]:
    return {"name": named.name, "query": dict(named.parameters)}


def _json(body: object, headers: Mapping[str, str]) -> Response:
    return Response(
        json.dumps(body, ensure_ascii=False, default=json_number), media_type="application/json", headers=headers
    )


async def _list(answers: EventAnswers, store: QueryStore, request: Request) -> Response:
    size = page_size(url_parameters(request).paging.get("perPage"))
    found = await store.list(after=await answers.opened(request), limit=size + 1)
    headers: dict[str, str] = {}
    if len(found) > size:
        page = NextPage(None, found[size - 1].name)
        issued = await answers.tokens.issue(page, caller=request.state.caller.name, path=request.scope["path"])
        headers = link_next(request, issued, public_url=answers.parts.settings.public_url, size=size)
    return _json([_definition(named) for named in found[:size]], headers)


async def _get(store: QueryStore, request: Request) -> Response:
    return _json(_definition(await store.get(request.path_params["name"])), {})


async def _delete(store: QueryStore, request: Request) -> Response:
    await store.delete(request.path_params["name"])
    return Response(status_code=204)


async def _events(answers: EventAnswers, store: QueryStore, request: Request) -> Response:
    named = await store.get(request.path_params["name"])
    given = url_parameters(request).values
    if given:
        message = "a named query has its parameters already"
        raise QueryParameterError(message, field=min(given))
    return await answers.page(request, dict(named.parameters), prefixes=named.prefixes, name=named.name, fixed=True)
