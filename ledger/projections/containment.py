"""What is in what, while a history is replayed.

ADD puts in, DELETE takes out what it names, or all where it names nothing; OBSERVE changes nothing. That a unit is
missing takes it out, too, and changes nothing else. An event on a unit
alone takes it, with what is inside of it, out of its container, when what it says cannot be so inside: with an alert,
for an unpacking may be missing. The table is in docs/custody-rules.md.
"""

from collections.abc import Callable, Iterable, Mapping

from ledger.projections.acts import Act, destination_of
from ledger.projections.belief import AlertCode
from ledger.projections.classes import attach, detach
from ledger.projections.directory import Directory
from ledger.projections.facts import EventFact
from ledger.projections.unit_state import AWAY, Phase, UnitState

Moment = tuple[int, str, str]
Answers = Callable[[EventFact, EventFact], bool]
# Reusable assets: what is packed between two changes of custody is one filling.
_ASSET = "/8003/"
# What nobody does to a unit that stays in its container.
_OPENS_THE_CONTAINER = frozenset({Act.END, Act.OPEN})


class Containment:
    """Puts units into containers and takes them out.

    Args:
        states: By path.
        directory: Who is who.
        moments: Returns at which moments events that count name a state (:meth:`moment`).
    """

    def __init__(
        self,
        states: Mapping[str, UnitState],
        directory: Directory,
        moments: Callable[[UnitState], frozenset[Moment]],
    ) -> None:
        self._states = states
        self._directory = directory
        self._moments = moments

    def moment(self, fact: EventFact) -> Moment:
        """Return what events have in common that tell of one doing: time, actor and step."""
        return (fact.time_us, self._directory.actor(fact), fact.biz_step)

    # --- alone ---

    def leave_alone(self, fact: EventFact, act: Act, state: UnitState, *, moment: Moment) -> None:
        """Take a unit out of its container if an event tells of it alone.

        Args:
            fact: The event, at its effective time.
            act: What it does.
            state: The unit.
            moment: Of the event as it was told.
        """
        container = state.parent
        if container is None or not self._is_alone(fact, act, state, container):
            return
        if any(fact.leaf_index in above.standings for above in state.above()):
            return
        if any(moment in self._moments(above) for above in state.above()):
            # One doing told in several events: the container went along.
            if act in _OPENS_THE_CONTAINER:
                detach(state)
            return
        self._take_out(fact, state, f"{fact.biz_step or 'told of'} by itself while believed in {container.path}")

    def _is_alone(self, fact: EventFact, act: Act, state: UnitState, container: UnitState) -> bool:
        """Tell whether what is said of a unit cannot be so inside its container."""
        if state.phase is Phase.ENDED or act in {Act.COMMISSION, Act.PASS, Act.MISS}:
            return False
        if act in _OPENS_THE_CONTAINER:
            return True
        actor = self._directory.actor(fact)
        if act is Act.DESPATCH:
            target = destination_of(fact)
            destination = self._directory.party_gln(target) if target else ""
            went = container.phase in {Phase.TRANSIT, Phase.LEFT}
            return not (went and (container.holder, container.destination) == (actor, destination))
        if act is Act.VOID:
            return state.phase in AWAY and state.holder == actor
        return _is_elsewhere(fact, act, state, container, actor=actor)

    def _take_out(self, fact: EventFact, state: UnitState, message: str) -> None:
        container = state.parent
        state.alert(AlertCode.PARENT_NOT_UNPACKED, fact, f"{message}: an unpacking may be missing")
        detach(state)
        if container is not None:
            # Its container's despatch, should it come within a day, still tells how it came where it was found.
            container.strays[id(state)] = state

    # --- aggregations ---

    def contain(self, fact: EventFact, state: UnitState) -> None:
        """Put a unit into the container that an aggregation names, or take it out."""
        container = self._states.get(fact.parent)
        if container is None or state.phase is Phase.ENDED:
            return
        if fact.action == "DELETE":
            self._unpack(fact, state, container)
        elif fact.action == "ADD" and state.parent is not container:
            self._pack(fact, state, container)

    def _unpack(self, fact: EventFact, state: UnitState, container: UnitState) -> None:
        if state.parent is container:
            detach(state)
        elif any(above is container for above in state.above()):
            nearest = "" if state.parent is None else state.parent.path
            self._take_out(fact, state, f"unpacked from {container.path} while believed in {nearest} inside")

    def _pack(self, fact: EventFact, state: UnitState, container: UnitState) -> None:
        if state is container or any(above is state for above in container.above()):
            state.alert(AlertCode.CONTAINER_CYCLE, fact, f"packed into {fact.parent}, which is inside it")
            return
        if state.parent is not None:
            message = f"packed into {fact.parent} while believed in {state.parent.path}: an unpacking may be missing"
            state.alert(AlertCode.DOUBLE_CONTAINER, fact, message)
            detach(state)
        attach(state, container)

    def refill(self, fact: EventFact, state: UnitState) -> bool:
        """Let a packing into a reusable asset begin a new filling, if it changed hands since the last one.

        Returns:
            Whether something was still inside.
        """
        if not state.path.startswith(_ASSET):
            return False
        left = list(state.contents.values()) if state.filled != state.tours else []
        for content in left:
            self._take_out(fact, content, f"{state.path} was filled anew")
        state.filled = state.tours
        return bool(left)

    @staticmethod
    def strays_of(fact: EventFact, destination: str, state: UnitState, answers: Answers) -> Iterable[UnitState]:
        """Yield what was taken out of a container by being found where a despatch now sends the container."""
        for stray in state.strays.values():
            found = stray.early.get(destination)
            if found is not None and fact.leaf_index not in stray.standings and answers(found, fact):
                yield stray


def _is_elsewhere(fact: EventFact, act: Act, state: UnitState, container: UnitState, *, actor: str) -> bool:
    """Tell whether who has a unit in hand has not its container: seen inside, it stays there."""
    if container.phase in {Phase.NONE, Phase.ENDED}:
        return False
    if act is Act.ARRIVE:
        return actor not in {container.holder, container.destination}
    if fact.second_hand and state.phase in {Phase.TRANSIT, Phase.ARRIVED} and state.holder != actor:
        # Only the receiver's own word makes it holder.
        return False
    return not (container.phase is Phase.HELD and container.holder == actor)
