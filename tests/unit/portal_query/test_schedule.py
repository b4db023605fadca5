"""A schedule is due at the moments that its fields name, and at no others."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.portal.query.errors import SubscriptionControlsError
from services.portal.subscriptions.controls import from_url, read_controls
from services.portal.subscriptions.schedule import FIELDS, read_schedule

NOW = datetime(2026, 3, 1, 8, 30, 15, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({"second": "0"}, "2026-03-01T08:31:00"),
        ({"second": "16"}, "2026-03-01T08:30:16"),
        ({"second": "15"}, "2026-03-01T08:31:15"),
        ({"minute": "0,30"}, "2026-03-01T09:00:00"),
        ({"minute": "30", "second": "20"}, "2026-03-01T08:30:20"),
        ({"hour": "7"}, "2026-03-02T07:00:00"),
        ({"hour": "[9-17]", "minute": "5"}, "2026-03-01T09:05:00"),
        ({"hour": "1", "minute": "5"}, "2026-03-02T01:05:00"),
        ({"dayOfWeek": "1"}, "2026-03-02T00:00:00"),
        ({"dayOfWeek": "7", "hour": "23"}, "2026-03-01T23:00:00"),
        ({"dayOfMonth": "31"}, "2026-03-31T00:00:00"),
        ({"dayOfMonth": "30,[15-16]", "month": "2,4"}, "2026-04-15T00:00:00"),
        ({"dayOfMonth": "29", "month": "2"}, "2028-02-29T00:00:00"),
        ({"dayOfMonth": "29", "month": "2", "dayOfWeek": "1"}, "2044-02-29T00:00:00"),
        ({"month": "3", "dayOfMonth": "1", "hour": "8", "minute": "30", "second": "15"}, "2027-03-01T08:30:15"),
        ({"second": "", "minute": "45"}, "2026-03-01T08:45:00"),
        ({"second": "0/30"}, "2026-03-01T08:30:30"),
        ({"second": "10/15"}, "2026-03-01T08:30:25"),
        ({"minute": "*/20"}, "2026-03-01T08:40:00"),
        ({"hour": "9-17/4", "minute": "*"}, "2026-03-01T09:00:00"),
        ({"hour": "*"}, "2026-03-01T09:00:00"),
    ],
    ids=str,
)
def test_is_due_at_the_next_moment_that_fits(fields: dict[str, str], due: str) -> None:
    assert read_schedule(fields).after(NOW) == datetime.fromisoformat(due).replace(tzinfo=UTC)


@given(st.data())
def test_nothing_between_two_due_moments_fits(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(["second", "minute", "hour", "dayOfWeek"]), min_size=1, unique=True))
    fields = {name: str(data.draw(st.integers(*FIELDS[name]))) for name in names}
    schedule = read_schedule(fields)
    first = schedule.after(NOW)
    assert first > NOW
    assert schedule.after(first - timedelta(seconds=1)) == first
    back = data.draw(st.integers(1, 100_000))
    assert schedule.after(max(NOW, first - timedelta(seconds=back))) == first


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"year": "2026"},
        {"second": "60"},
        {"dayOfMonth": "0"},
        {"dayOfWeek": "8"},
        {"hour": "[5-3]"},
        {"hour": "6-5"},
        {"hour": "*/0"},
        {"hour": "/5"},
        {"hour": "5-"},
        {"second": "50-61/3"},
        {"hour": "x"},
        {"hour": "1," * 200 + "1"},
        {"dayOfMonth": "31", "month": "2,4"},
        {"dayOfMonth": "30", "month": "2"},
    ],
    ids=str,
)
def test_refuses_what_is_no_schedule_or_never_comes(fields: dict[str, str]) -> None:
    with pytest.raises(SubscriptionControlsError):
        read_schedule(fields)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "stream"),
        ({"stream": False}, "stream"),
        ({"stream": True, "schedule": {"second": "0"}}, "stream"),
        ({"stream": "yes"}, "stream"),
        ({"schedule": "daily"}, "schedule"),
        ({"schedule": {"hour": True}}, "schedule.hour"),
        ({"schedule": {"hour": "99"}}, "schedule.hour"),
        ({"stream": True, "reportIfEmpty": 1}, "reportIfEmpty"),
        ({"stream": True, "initialRecordTime": "yesterday"}, "initialRecordTime"),
    ],
    ids=str,
)
def test_refuses_controls_of_the_wrong_form_and_names_them(values: dict[str, Any], field: str) -> None:
    with pytest.raises(SubscriptionControlsError) as caught:
        read_controls(values)
    assert caught.value.field == field


def test_controls_in_a_url_are_those_of_a_body() -> None:
    since = "2026-03-01T00:00:00Z"
    url = {"hour": ["[1-2]", "5"], "minute": ["0"], "reportIfEmpty": ["true"], "initialRecordTime": [since]}
    body = {
        "schedule": {"hour": "[1-2],5", "minute": "0"},
        "reportIfEmpty": True,
        "initialRecordTime": since,
    }
    assert read_controls(from_url(url)) == read_controls(body)
    assert read_controls(from_url({"stream": ["true"]})).schedule == {}
    with pytest.raises(SubscriptionControlsError):
        from_url({"EQ_bizStep": ["x"]})
