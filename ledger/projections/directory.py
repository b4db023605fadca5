"""Who GLNs and keys belong to, as of one tree size: the registry in the words of belief."""

from datetime import datetime
from functools import cache

from ledger.projections.facts import EventFact
from medtrail.errors import MalformedError
from medtrail.event import Role
from medtrail.gs1 import Gln
from medtrail.trust import Organisation, Registry


class Directory:
    """Read-only view of a registry that is not changed any more; answers are kept."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.party = cache(self._party)
        self.organisation_of_signer = cache(self._organisation_of_signer)

    def _organisation(self, gln: str) -> Organisation | None:
        try:
            return self._registry.organisation_of_gln(Gln(gln))
        except MalformedError:
            return None

    def _party(self, gln: str) -> tuple[str, bool]:
        organisation = self._organisation(gln)
        return (gln, False) if organisation is None else (str(organisation.gln), True)

    def party_gln(self, gln: str) -> str:
        """Return the GLN of the organisation that owns a GLN, or the text itself where nobody enrolled does."""
        return self.party(gln)[0]

    def is_enrolled(self, gln: str) -> bool:
        """Tell whether an enrolled organisation owns a GLN."""
        return self.party(gln)[1]

    def _organisation_of_signer(self, key_id: str) -> str:
        organisation = self._registry.organisation_of_key(key_id)
        return key_id if organisation is None else str(organisation.gln)

    def signer(self, fact: EventFact) -> str:
        """Return the party GLN of the organisation that signed, or the key where nobody was given it."""
        return self.organisation_of_signer(fact.key_id)

    def actor(self, fact: EventFact) -> str:
        """Return the party GLN of the organisation that did it, or its GLN where it is not enrolled."""
        return self.party_gln(fact.actor)

    def is_regulator(self, fact: EventFact) -> bool:
        """Tell whether the signer is enrolled as a regulator."""
        organisation = self._registry.organisation_of_key(fact.key_id)
        return organisation is not None and Role.REGULATOR in organisation.roles

    def suspect_time(self, key_id: str) -> datetime | None:
        """Return from when on a key's events are flagged, or None."""
        record = self._registry.key(key_id)
        return None if record is None else record.suspect_time
