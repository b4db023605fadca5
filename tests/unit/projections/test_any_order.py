"""Whatever the order of arrival, the same is believed."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from medtrail.epcis.model import Action, EpcisEvent
from tests.unit.projections.story import (
    CASE,
    MAKER,
    OTHER,
    OUTSIDE,
    PALLET,
    PHARMACY,
    WHOLESALER,
    Story,
    pack,
    path,
)

PARTIES = (MAKER, WHOLESALER, PHARMACY, OTHER)
UNITS = (pack("1"), pack("2"), CASE, PALLET)

_STEPS = {"destroy": "destroying", "arrive": "arriving", "void": "void_shipping"}

_units = st.lists(st.sampled_from(UNITS), min_size=1, max_size=2, unique=True)
_deed = st.tuples(
    st.sampled_from(
        [
            "commission",
            "put",
            "take_out",
            "miss",
            "empty",
            "ship",
            "receive",
            "dispense",
            "destroy",
            "arrive",
            "void",
            "declare",
            "hold",
            "release",
            "open",
            "sense",
            "recall",
        ]
    ),
    _units,
    st.sampled_from(PARTIES),
    st.sampled_from(PARTIES),
    st.integers(1, 200),
)


def _tell(story: Story, deed: tuple[str, list[str], str, str, int]) -> None:
    kind, units, actor, other, at = deed
    signer = other if at % 7 == 0 and other != actor else None
    how: dict[str, Any] = {"actor": actor, "signer": signer, "at": at}
    if kind == "declare":
        _declare(story, at)
    elif kind == "recall":
        story.recall(at=at, signer=MAKER)
    elif kind in {"put", "take_out", "miss", "empty"}:
        _contain(story, kind, units, how)
    elif kind == "ship":
        story.ship(*units, to=OUTSIDE if at % 11 == 0 else other, **how)
    elif kind == "sense":
        story.sense(*units, degrees="9", **how)
    elif kind == "open":
        story.open(*units, taken="20", left=str(at % 30), **how)
    elif kind in _STEPS:
        action = Action.DELETE if kind == "destroy" else Action.OBSERVE
        story.tell(actor, signer=signer, at=at, action=action, epc_list=tuple(units), biz_step=_STEPS[kind])
    else:
        getattr(story, kind)(*units, **how)


def _contain(story: Story, kind: str, units: list[str], how: dict[str, Any]) -> None:
    inside = [unit for unit in units if unit != PALLET and kind != "empty"]
    parent = PALLET if CASE in inside else CASE
    if kind == "miss":
        story.miss(parent, *inside, **how)
    elif kind != "put":
        story.take_out(parent, *inside, **how)
    elif inside:
        story.put(parent, *inside, **how)


def _declare(story: Story, at: int) -> None:
    declared = {event.header.event_id for event, _ in story.told if event.is_declaration}
    told = [event for event, _ in story.told if isinstance(event.statement, EpcisEvent)]
    sound = [event for event in told if event.header.event_id not in declared]
    if sound:
        story.declare(sound[at % len(sound)])


def _believed(story: Story, order: list[int]) -> list[Any]:
    replay = story.replay(order)
    ids = [story.told[number][0].header for number in order]
    found: list[Any] = []
    for unit in UNITS:
        belief = replay.belief(path(unit))
        if belief is None:
            found.append(None)
            continue
        # Indices are the order of arrival itself: the events that they name are what must be the same.
        evidence = (ids[belief.evidence_index].event_id, ids[belief.evidence_index].source_seq)
        alerts = sorted((alert.code, alert.message, ids[alert.leaf_index].source_seq) for alert in belief.alerts)
        fields = {name: getattr(belief, name) for name in belief.__dataclass_fields__}
        hold = None if belief.hold_index is None else ids[belief.hold_index].source_seq
        fields.update(evidence_index=evidence, alerts=alerts, hold_index=hold)
        found.append(fields)
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(_deed, min_size=1, max_size=14), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_belief_and_alerts(deeds: list[Any], random: Any) -> None:
    story = Story()
    story.limit("8")
    for deed in deeds:
        _tell(story, deed)
    order = list(range(len(story.told)))
    expected = _believed(story, order)
    random.shuffle(order)
    assert _believed(story, order) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(_deed, min_size=1, max_size=14))
def test_units_replayed_together_are_believed_as_if_replayed_alone(deeds: list[Any]) -> None:
    story = Story()
    for deed in deeds:
        _tell(story, deed)
    together = story.replay()
    for unit in UNITS:
        alone = story.replay(traced=path(unit))
        assert together.belief(path(unit)) == alone.belief(path(unit))
        steps = alone.steps(path(unit))
        assert len({(step.fact.leaf_index, step.via) for step in steps}) == len(steps)


@settings(max_examples=100, deadline=None)
@given(st.lists(_deed, min_size=1, max_size=14))
def test_every_unit_is_in_exactly_one_group(deeds: list[Any]) -> None:
    story = Story()
    for deed in deeds:
        _tell(story, deed)
    replay = story.replay()
    paths = [path(unit) for unit in UNITS if replay.belief(path(unit)) is not None]
    grouped = [unit for group in replay.groups(paths) for unit in group.units]
    assert sorted(grouped) == sorted(paths)
