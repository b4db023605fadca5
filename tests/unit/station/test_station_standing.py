"""A station's key: when it signs nothing more."""

import copy

import pytest

from medtrail.envelope import SigningKey
from medtrail.errors import AuthorizationError
from medtrail.event import Event, Header, KeyAddition, KeyRetirement, new_event_id, new_salt
from medtrail.gs1 import Gln
from medtrail.trust import Registry
from services.station.books import CopyState
from services.station.standing import check_key

KEY = SigningKey.from_seed(bytes([9] * 32)).key_id
OTHER = SigningKey.from_seed(bytes([8] * 32)).key_id


def refusal(registry: Registry, state: CopyState) -> str:
    try:
        check_key(state, registry, key_id=KEY, station="till")
    except AuthorizationError as error:
        return error.code
    return ""


@pytest.fixture
def told(registry: Registry) -> Registry:
    """A registry of this test's own."""
    return copy.deepcopy(registry)


def say(registry: Registry, statement: KeyAddition | KeyRetirement) -> None:
    header = Header(new_salt(), gln_of(registry), "authority", 1, new_event_id())
    registry.apply(registry.next_index, registry.authority_key_id, Event(header, statement))


def gln_of(registry: Registry) -> Gln:
    return registry.organisations()[0].gln


def test_signs_with_a_key_that_is_its_own_or_not_known_yet(told: Registry) -> None:
    assert refusal(told, CopyState()) == ""
    say(told, KeyAddition(gln_of(told), KEY, "till"))
    assert refusal(told, CopyState()) == ""
    # That of the station before it has ended: this one is another.
    assert refusal(told, CopyState(ended_key_id=OTHER, ended_code="KEY_RETIRED")) == ""


def test_signs_nothing_once_the_service_or_the_log_said_that_its_key_has_ended(told: Registry) -> None:
    assert refusal(told, CopyState(ended_key_id=KEY, ended_code="KEY_REVOKED")) == "KEY_REVOKED"
    say(told, KeyAddition(gln_of(told), KEY, "till"))
    say(told, KeyRetirement(KEY))
    assert refusal(told, CopyState()) == "KEY_RETIRED"


@pytest.mark.parametrize("name", ["", "bay"])
def test_signs_nothing_with_a_key_that_is_not_the_stations(told: Registry, name: str) -> None:
    say(told, KeyAddition(gln_of(told), KEY, name))
    assert refusal(told, CopyState()) == "STATION_KEY"
