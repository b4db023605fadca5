"""Named queries and their subscriptions are made, told, asked and deleted."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.epcis.model import EpcisEvent, Extension
from services.portal.query.errors import NoSuchNameError
from tests.unit.portal_query.conftest import EXT, START, object_event

if TYPE_CHECKING:
    from tests.unit.portal_query.conftest import Rest

SHIPPED = {"name": "shipped goods", "query": {"EQ_bizStep": ["shipping"], "GE_quantity": 1.5}}
HOOK = "https://8.8.8.8/hook"


def at(second: int, **fields: Any) -> EpcisEvent:
    return object_event(event_time=START + timedelta(seconds=second), **fields)


def exception(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("epcisException:")


def test_a_query_is_kept_told_and_deleted(rest: "Rest") -> None:
    made = rest.post("/queries", SHIPPED)
    assert (made.status_code, made.headers["Location"]) == (201, "/queries/shipped%20goods")
    assert rest.get(made.headers["Location"]).json() == SHIPPED
    assert exception(rest.post("/queries", SHIPPED)) == (409, "ResourceAlreadyExistsException")
    assert rest.get("/queries").json() == [SHIPPED]
    assert rest.ask("DELETE", "/queries/shipped goods").status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/subscriptions")):
        answer = rest.ask(method, f"/queries/shipped goods{path}")
        assert exception(answer) == (404, "NoSuchNameException")


def test_queries_come_by_page(rest: "Rest") -> None:
    for number in range(3):
        rest.post("/queries", {"name": f"q{number}", "query": {}})
    first = rest.get("/queries?perPage=2")
    rest_of_them = rest.get(first.links["next"]["url"])
    assert [item["name"] for item in (*first.json(), *rest_of_them.json())] == ["q0", "q1", "q2"]
    assert "next" not in rest_of_them.links


def test_a_named_query_is_asked_by_page(rest: "Rest") -> None:
    rest.shelf.add(*(at(second, extensions=(Extension(EXT, "n", str(second)),)) for second in range(4)))
    query = {
        "@context": ["https://x.example/", {"my": EXT}],
        "GE_my:n": 1,
        "orderBy": "eventTime",
        "orderDirection": "ASC",
    }
    assert rest.post("/queries", {"name": "numbered", "query": query}).status_code == 201
    answer = rest.get("/queries/numbered/events?perPage=2")
    assert answer.json()["epcisBody"]["queryResults"]["queryName"] == "numbered"
    assert len(rest.events("/queries/numbered/events?perPage=2")) == 2
    assert rest.events(answer.links["next"]["url"]) == ["2026-03-01T08:00:03Z"]
    assert exception(rest.get("/queries/numbered/events?EQ_action=ADD")) == (400, "QueryParameterException")


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"query": {}}, (400, "ValidationException")),
        ({"name": "a/b", "query": {}}, (400, "ValidationException")),
        ({"name": "..", "query": {}}, (400, "ValidationException")),
        ({"name": "x"}, (400, "ValidationException")),
        ({"name": "x", "query": {}, "owner": "me"}, (400, "ValidationException")),
        ({"name": "SimpleEventQuery", "query": {}}, (409, "ResourceAlreadyExistsException")),
        ({"name": "x", "query": {"EQ_bizStp": ["a"]}}, (400, "QueryParameterException")),
        ({"name": "x", "query": {"@context": {"a": 1}}}, (400, "QueryParameterException")),
        ({"name": "x", "query": {"@context": [1]}}, (400, "QueryParameterException")),
        ([], (400, "ValidationException")),
    ],
    ids=str,
)
def test_wrong_definitions_are_refused(rest: "Rest", body: object, wanted: tuple[int, str]) -> None:
    assert exception(rest.post("/queries", body)) == wanted


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"name": "a", "name": "b"}', b'{"a": NaN}', b'{"a": 1e99999}', b"[" * 100_000, b'{"a": "\\ud800"}'],
    ids=["empty", "cut", "twice", "nan", "huge-number", "deep", "half-a-character"],
)
def test_a_body_that_is_no_json_is_refused(rest: "Rest", data: bytes) -> None:
    answer = rest.ask("POST", "/queries", content=data, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "JSON_MALFORMED")


def test_a_body_too_large_or_of_another_kind_is_refused(rest: "Rest") -> None:
    large = rest.ask("POST", "/queries", content=b" " * 1_100_000, headers={"Content-Type": "application/json"})
    assert large.status_code == 413
    xml = rest.ask("POST", "/queries", content=b"<x/>", headers={"Content-Type": "application/xml"})
    assert xml.status_code == 415


def test_queries_are_bounded_in_number(rest: "Rest", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.portal.queries.MOST_QUERIES", 1)
    assert rest.post("/queries", {"name": "a", "query": {}}).status_code == 201
    assert rest.post("/queries", {"name": "b", "query": {}}).status_code == 503


def test_a_subscription_is_kept_told_without_its_secret_and_deleted(rest: "Rest") -> None:
    rest.post("/queries", SHIPPED)
    path = "/queries/shipped goods/subscriptions"
    made = rest.post(path, {"dest": HOOK, "signatureToken": "s3cret", "stream": True})
    ident = made.json()["subscriptionID"]
    assert (made.status_code, made.headers["Location"]) == (201, f"/queries/shipped%20goods/subscriptions/{ident}")
    assert "s3cret" not in made.text
    told = rest.get(f"{path}/{ident}")
    assert (told.json()["dest"], told.json()["stream"], told.json()["signed"]) == (HOOK, True, True)
    assert "s3cret" not in told.text
    hourly = rest.post(path, {"dest": HOOK, "schedule": {"hour": "[8-17]", "minute": 0}, "reportIfEmpty": True})
    assert hourly.status_code == 201
    first = rest.get(f"{path}?perPage=1")
    both = [*first.json(), *rest.get(first.links["next"]["url"]).json()]
    assert [item["subscriptionID"] for item in both] == sorted([ident, hourly.json()["subscriptionID"]])
    assert {str(item.get("schedule")) for item in both} == {"None", "{'hour': '[8-17]', 'minute': '0'}"}
    assert rest.ask("DELETE", f"{path}/{ident}").status_code == 204
    assert exception(rest.get(f"{path}/{ident}")) == (404, "NoSuchResourceException")
    assert exception(rest.ask("DELETE", f"{path}/{ident}")) == (404, "NoSuchResourceException")


def test_subscriptions_go_with_their_query(rest: "Rest") -> None:
    rest.post("/queries", SHIPPED)
    rest.post("/queries/shipped goods/subscriptions", {"dest": HOOK, "stream": True})
    rest.ask("DELETE", "/queries/shipped goods")
    rest.post("/queries", SHIPPED)
    assert rest.get("/queries/shipped goods/subscriptions").json() == []


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"stream": True}, (400, "InvalidURIException")),
        ({"dest": "http://8.8.8.8/", "stream": True}, (400, "InvalidURIException")),
        ({"dest": "https://127.0.0.1/", "stream": True}, (400, "InvalidURIException")),
        ({"dest": "https://localhost/", "stream": True}, (400, "InvalidURIException")),
        ({"dest": HOOK}, (400, "SubscriptionControlsException")),
        ({"dest": HOOK, "stream": True, "schedule": {"hour": "1"}}, (400, "SubscriptionControlsException")),
        ({"dest": HOOK, "schedule": {"hour": "25"}}, (400, "SubscriptionControlsException")),
        ({"dest": HOOK, "stream": True, "trigger": "x"}, (400, "SubscriptionControlsException")),
        ({"dest": HOOK, "stream": True, "signatureToken": "x" * 501}, (400, "SubscriptionControlsException")),
        ({"dest": HOOK, "stream": True, "signatureToken": 5}, (400, "SubscriptionControlsException")),
    ],
    ids=str,
)
def test_wrong_subscriptions_are_refused(rest: "Rest", body: object, wanted: tuple[int, str]) -> None:
    rest.post("/queries", SHIPPED)
    assert exception(rest.post("/queries/shipped goods/subscriptions", body)) == wanted


def test_a_subscription_to_a_query_that_has_just_gone_is_refused(rest: "Rest") -> None:
    rest.post("/queries", SHIPPED)
    hook = {"dest": "https://no.such.name.invalid/", "stream": True, "signatureToken": "s3cret"}
    assert rest.post("/queries/shipped goods/subscriptions", hook).status_code == 201
    store = rest.standing.subscriptions
    (subscription,) = asyncio.run(store.list(None, after="", limit=9))
    progress = asyncio.run(store.progress(subscription.id))
    assert progress is not None
    rest.ask("DELETE", "/queries/shipped goods")
    assert asyncio.run(store.progress(subscription.id)) is None
    with pytest.raises(NoSuchNameError):
        asyncio.run(store.add(subscription, progress))
    assert "s3cret" not in repr(subscription)


def test_a_query_with_a_limit_is_not_for_subscribing(rest: "Rest") -> None:
    rest.post("/queries", {"name": "some", "query": {"eventCountLimit": 5}})
    answer = rest.post("/queries/some/subscriptions", {"dest": HOOK, "stream": True})
    assert exception(answer) == (400, "SubscribeNotPermittedException")


def test_subscriptions_are_bounded_in_number(rest: "Rest", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.portal.subscriptions.store.MOST_SUBSCRIPTIONS", 1)
    rest.post("/queries", SHIPPED)
    path = "/queries/shipped goods/subscriptions"
    answers = [rest.post(path, {"dest": HOOK, "stream": True}).status_code for _ in range(2)]
    assert answers == [201, 503]
