"""Which key speaks for which GLN, at which log index, and what its organisation may say.

:class:`Registry` is a state machine over the log's trust entries in log order. It takes every decision of trust and
does no I/O; whoever feeds it the same entries in the same order reaches the same decisions.

Rules:

* Entry 0 is the genesis, signed by the authority key that it names; the reader pins that key.
* Every other trust entry is signed by the authority key.
* An enrolment adds keys and replaces the rest of the organisation's record. A GLN, a company prefix, a key and a name
  belong to one organisation at most.
* An added key speaks from its index on; a retired key speaks for nothing later; a revoked key is refused from its index
  on, and what it said from the suspect time on is flagged, not removed.
* An organisation signs for its own GLNs. With ``Capture.SECOND_HAND`` it witnesses what another did.
* An organisation orders the erasure of events; whether one is its own is told when the order is carried out. To an
  erasure before the retention period ends, the authority consents.
* Business documents are issued by those who trade, each for itself.
* What partners say to each other about exceptions is no matter of the log.
* A station's key says, first-hand, what was done at the station, under the station's name as source; nothing else.
* Roles say which business steps are open first-hand; only the owner of a GS1 company prefix commissions, describes and
  recalls trade items under it.

Source: ARCHITECTURE, sections 3, 6 and 7.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from medtrail.claims import Claims, check_moments
from medtrail.envelope import public_key_of
from medtrail.errors import AuthorizationError, VerificationError
from medtrail.event import (
    Capture,
    Enrolment,
    Event,
    Genesis,
    KeyAddition,
    KeyRetirement,
    KeyRevocation,
    Licence,
    PayloadType,
    Role,
)
from medtrail.gs1 import Gln, Gtin

TRADING_ROLES = frozenset({Role.MANUFACTURER, Role.DISTRIBUTOR, Role.PHARMACY, Role.REPACKAGER})
MAKING_ROLES = frozenset({Role.MANUFACTURER, Role.REPACKAGER})

# Business steps that not every trading role may take first-hand. Steps that are not named are open to all of them.
ROLES_OF_STEP: dict[str, frozenset[Role]] = {
    "commissioning": MAKING_ROLES,
    "creating_class_instance": MAKING_ROLES,
    "encoding": MAKING_ROLES,
    "repackaging": MAKING_ROLES,
    "dispensing": frozenset({Role.PHARMACY}),
    "retail_selling": frozenset({Role.PHARMACY}),
}


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A signing key's life, in log indices: it speaks for entries in [added_index, end_index).

    Attributes:
        station: The only source under which it speaks; empty: it speaks for the organisation in everything.
    """

    key_id: str
    gln: Gln
    added_index: int
    end_index: int | None = None
    suspect_time: datetime | None = None
    station: str = ""


@dataclass(frozen=True, slots=True)
class Organisation:
    """An enrolled organisation as of the registry's last entry."""

    name: str
    display_name: str
    gln: Gln
    locations: tuple[Gln, ...]
    company_prefixes: tuple[str, ...]
    roles: frozenset[Role]
    sealing_key: bytes
    nats_user_key: str
    licences: tuple[Licence, ...]
    key_ids: tuple[str, ...]
    responder_url: str = ""

    @property
    def glns(self) -> frozenset[Gln]:
        """All GLNs for which its keys speak: the party's and its locations'."""
        return frozenset({self.gln, *self.locations})

    def owns(self, gtin: Gtin) -> bool:
        """Tell whether the trade item lies under one of its company prefixes.

        The prefix starts behind the indicator digit (GS1 General Specifications, section 2.1.1).
        """
        return str(gtin)[1:].startswith(self.company_prefixes) if self.company_prefixes else False


class Registry:
    """The state of trust after the trust entries applied so far."""

    def __init__(self, *, authority_key_id: str) -> None:
        """Start before entry 0, with the authority key pinned (did:key)."""
        self._authority_key_id = authority_key_id
        self._organisations: dict[Gln, Organisation] = {}
        self._party_of: dict[Gln, Gln] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._owner_of_prefix: dict[str, Gln] = {}
        self._enrolled_keys: set[str] = set()
        self.genesis: Genesis | None = None
        self.next_index = 0

    @property
    def authority_key_id(self) -> str:
        """The pinned authority key, did:key."""
        return self._authority_key_id

    def organisations(self) -> tuple[Organisation, ...]:
        """Return all organisations in order of their GLNs."""
        return tuple(self._organisations[gln] for gln in sorted(self._organisations))

    def organisation_of_gln(self, gln: Gln) -> Organisation | None:
        """Return the organisation that owns a GLN, as party or location, or None."""
        party = self._party_of.get(gln)
        return None if party is None else self._organisations[party]

    def organisation_of_key(self, key_id: str) -> Organisation | None:
        """Return the organisation to which a key was ever given, or None."""
        record = self._keys.get(key_id)
        return None if record is None else self._organisations[record.gln]

    def owner_of(self, gtin: Gtin) -> Organisation | None:
        """Return the organisation under whose company prefix a trade item lies, or None."""
        digits = str(gtin)[1:]
        for length in range(12, 3, -1):
            party = self._owner_of_prefix.get(digits[:length])
            if party is not None:
                return self._organisations[party]
        return None

    def key(self, key_id: str) -> KeyRecord | None:
        """Return a key's record, or None when nobody was ever given it."""
        return self._keys.get(key_id)

    def station_keys(self, gln: Gln, station: str) -> tuple[KeyRecord, ...]:
        """Return the keys that were ever given to a station of an organisation, the newest last."""
        return tuple(record for record in self._keys.values() if (record.gln, record.station) == (gln, station))

    def further_keys(self, gln: Gln) -> tuple[KeyRecord, ...]:
        """Return the keys that were added to an organisation and are named by no enrolment of it, nor by a station.

        Each speaks for the organisation in everything: a key that was rotated in, or one of a station that was added
        before keys named theirs. The newest stands last.
        """
        return tuple(record for record in self.station_keys(gln, "") if record.key_id not in self._enrolled_keys)

    def signer(self, key_id: str) -> Organisation:
        """Return the organisation for which a key speaks now.

        Raises:
            AuthorizationError: KEY_UNKNOWN, KEY_RETIRED or KEY_REVOKED.
        """
        record = self._keys.get(key_id)
        if record is None:
            message = f"no organisation has the key {key_id}"
            raise AuthorizationError(message, code="KEY_UNKNOWN", field="signatures[0].key_id")
        if record.end_index is not None:
            end, code = ("retired", "KEY_RETIRED") if record.suspect_time is None else ("revoked", "KEY_REVOKED")
            message = f"the key {key_id} was {end} by entry {record.end_index}"
            raise AuthorizationError(message, code=code, field="signatures[0].key_id")
        return self._organisations[record.gln]

    # --- judging ---

    def judge(self, claims: Claims, *, key_id: str, stream_time: datetime) -> Organisation | None:
        """Check that a key may say what an event says, after the entries applied so far.

        Args:
            claims: Of the event in the bytes that the key signed.
            key_id: did:key of the verified signature.
            stream_time: When the exchange stored the message that carried it; aware UTC.

        Returns:
            The signing organisation; None for the authority.

        Raises:
            AuthorizationError: The key or its organisation may not say this.
            VerificationError: The event is dated more than five minutes after its message.
        """
        check_moments(claims.moments, stream_time)
        if claims.by_authority:
            self._judge_authority(key_id)
            return None
        organisation = self.signer(key_id)
        self.judge_station(claims, key_id=key_id)
        _judge_actor(claims, organisation)
        if claims.payload_type is PayloadType.EPCIS:
            if claims.capture is Capture.FIRST_HAND:
                _judge_role(claims, organisation)
        elif claims.payload_type is PayloadType.PRODUCT:
            _judge_maker(organisation, claims.gtins, what="describe")
        elif claims.payload_type is PayloadType.RECALL:
            if Role.REGULATOR not in organisation.roles:
                _judge_maker(organisation, claims.gtins, what="recall")
        elif claims.payload_type is PayloadType.DOCUMENT:
            _judge_trader(organisation)
        elif claims.payload_type is PayloadType.EXCEPTION:
            message = "letters about exceptions go from partner to partner, not into the log"
            raise AuthorizationError(message, code="PAYLOAD_NOT_FOR_LOG", field="payload_type")
        elif claims.payload_type is not PayloadType.ERASURE and Role.LEDGER not in organisation.roles:
            message = "only a ledger refuses events"
            raise AuthorizationError(message, code="ROLE_FORBIDS")
        return organisation

    def judge_station(self, claims: Claims, *, key_id: str) -> None:
        """Check that a station's key, ended or not, says no more than a station may; other keys are not looked at.

        Raises:
            AuthorizationError: STATION_FORBIDS.
        """
        record = self._keys.get(key_id)
        if record is None or not record.station:
            return
        if claims.payload_type is not PayloadType.EPCIS or claims.capture is not Capture.FIRST_HAND:
            message = f"the key of the station {record.station} signs first-hand EPCIS events and nothing else"
            raise AuthorizationError(message, code="STATION_FORBIDS", field="payload_type")
        if claims.source != record.station:
            message = f"the key of the station {record.station} signed under the source {claims.source[:40]!r}"
            raise AuthorizationError(message, code="STATION_FORBIDS", field="header.source")

    def _judge_authority(self, key_id: str) -> None:
        if key_id != self._authority_key_id:
            message = "trust statements and consents are signed by the network's authority only"
            raise AuthorizationError(message, code="NOT_AUTHORITY", field="signatures[0].key_id")

    # --- applying ---

    def apply(self, leaf_index: int, key_id: str, event: Event) -> None:
        """Take in a trust entry of the log.

        Args:
            leaf_index: Its index; greater than that of every trust entry before.
            key_id: did:key of its verified signature.
            event: Its event.

        Raises:
            AuthorizationError: Not signed by the authority.
            VerificationError: Out of order, or against the rules of the registry; nothing has changed then.
        """
        if leaf_index < self.next_index:
            message = f"expected a trust entry at or after {self.next_index}, got {leaf_index}"
            raise VerificationError(message, code="TRUST_ORDER")
        self._judge_authority(key_id)
        statement = event.statement
        if isinstance(statement, Genesis):
            self._apply_genesis(leaf_index, statement)
        elif self.genesis is None:
            message = "the first trust entry is the genesis"
            raise VerificationError(message, code="GENESIS_MISSING")
        elif isinstance(statement, Enrolment):
            self._apply_enrolment(leaf_index, statement)
        elif isinstance(statement, KeyAddition):
            self._apply_addition(leaf_index, statement)
        elif isinstance(statement, KeyRetirement):
            self._end_key(leaf_index, statement.key_id, None)
        elif isinstance(statement, KeyRevocation):
            self._end_key(leaf_index, statement.key_id, statement.suspect_time)
        else:
            message = f"{event.payload_type} is no trust statement"
            raise VerificationError(message, code="NOT_TRUST")
        self.next_index = leaf_index + 1

    def _apply_genesis(self, leaf_index: int, genesis: Genesis) -> None:
        if leaf_index != 0 or self.genesis is not None:
            message = f"the genesis is entry 0 and stands once, got it at {leaf_index}"
            raise VerificationError(message, code="GENESIS_MISPLACED")
        if genesis.authority_key_id != self._authority_key_id:
            message = "the genesis names another authority key than the pinned one"
            raise VerificationError(message, code="AUTHORITY_MISMATCH")
        self.genesis = genesis

    def _apply_enrolment(self, leaf_index: int, enrolment: Enrolment) -> None:
        self._check_claims(enrolment)
        before = self._organisations.get(enrolment.gln)
        if before is not None:
            self._forget_claims(before)
        kept = () if before is None else before.key_ids
        added = tuple(key for key in enrolment.signing_key_ids if key not in kept)
        self._enrolled_keys.update(enrolment.signing_key_ids)
        for key_id in added:
            self._keys[key_id] = KeyRecord(key_id, enrolment.gln, leaf_index)
        self._organisations[enrolment.gln] = Organisation(
            name=enrolment.organisation,
            display_name=enrolment.display_name,
            gln=enrolment.gln,
            locations=enrolment.locations,
            company_prefixes=enrolment.company_prefixes,
            roles=enrolment.roles,
            sealing_key=enrolment.sealing_key,
            nats_user_key=enrolment.nats_user_key,
            licences=enrolment.licences,
            key_ids=kept + added,
            responder_url=enrolment.responder_url,
        )
        for gln in (enrolment.gln, *enrolment.locations):
            self._party_of[gln] = enrolment.gln
        for prefix in enrolment.company_prefixes:
            self._owner_of_prefix[prefix] = enrolment.gln

    def _forget_claims(self, before: Organisation) -> None:
        for gln in before.locations:
            self._party_of.pop(gln, None)
        for prefix in before.company_prefixes:
            self._owner_of_prefix.pop(prefix, None)

    def _check_claims(self, enrolment: Enrolment) -> None:
        for gln in (enrolment.gln, *enrolment.locations):
            if self._party_of.get(gln, enrolment.gln) != enrolment.gln:
                message = f"GLN {gln} belongs to {self._party_of[gln]}"
                raise VerificationError(message, code="GLN_TAKEN", field="gln")
        for prefix in enrolment.company_prefixes:
            for taken, owner in self._owner_of_prefix.items():
                # A prefix inside another's would give one trade item two owners.
                if owner != enrolment.gln and (taken.startswith(prefix) or prefix.startswith(taken)):
                    message = f"company prefix {prefix} overlaps {taken} of {owner}"
                    raise VerificationError(message, code="PREFIX_TAKEN", field="company_prefixes")
        for other in self._organisations.values():
            if other.name == enrolment.organisation and other.gln != enrolment.gln:
                message = f"the name {other.name} belongs to {other.gln}"
                raise VerificationError(message, code="NAME_TAKEN", field="organisation")
        for key_id in enrolment.signing_key_ids:
            self._check_key_is_free(key_id, enrolment.gln)

    def _check_key_is_free(self, key_id: str, gln: Gln) -> None:
        public_key_of(key_id)
        record = self._keys.get(key_id)
        if key_id == self._authority_key_id or (record is not None and record.gln != gln):
            message = f"the key {key_id} belongs to somebody else"
            raise VerificationError(message, code="KEY_TAKEN", field="signing_key_ids")

    def _apply_addition(self, leaf_index: int, addition: KeyAddition) -> None:
        organisation = self._organisations.get(addition.gln)
        if organisation is None:
            message = f"no organisation is enrolled under GLN {addition.gln}"
            raise VerificationError(message, code="ORGANISATION_UNKNOWN", field="gln")
        self._check_key_is_free(addition.key_id, addition.gln)
        if addition.key_id in self._keys:
            message = f"the key {addition.key_id} was given before; an ended key does not come back"
            raise VerificationError(message, code="KEY_TAKEN", field="key_id")
        self._keys[addition.key_id] = KeyRecord(addition.key_id, addition.gln, leaf_index, station=addition.station)
        self._organisations[addition.gln] = replace(organisation, key_ids=(*organisation.key_ids, addition.key_id))

    def _end_key(self, leaf_index: int, key_id: str, suspect_time: datetime | None) -> None:
        record = self._keys.get(key_id)
        if record is None:
            message = f"no organisation has the key {key_id}"
            raise VerificationError(message, code="KEY_UNKNOWN", field="key_id")
        # A retired key may still be revoked, when doubt comes later; the earlier end stays.
        end_index = leaf_index if record.end_index is None else record.end_index
        self._keys[key_id] = replace(record, end_index=end_index, suspect_time=suspect_time or record.suspect_time)


def _judge_actor(claims: Claims, organisation: Organisation) -> None:
    own = claims.actor == organisation.gln or claims.actor in organisation.locations
    if claims.capture is Capture.FIRST_HAND and not own:
        message = f"{organisation.gln} signed first-hand for GLN {claims.actor}, which is not its own"
        raise AuthorizationError(message, code="ACTOR_NOT_SIGNER", field="header.actor")
    if claims.capture is Capture.SECOND_HAND and (own or claims.payload_type is not PayloadType.EPCIS):
        message = "second-hand capture passes on EPCIS events of another party"
        raise AuthorizationError(message, code="SECOND_HAND_FORBIDDEN", field="header.capture")


def _judge_role(claims: Claims, organisation: Organisation) -> None:
    allowed = ROLES_OF_STEP.get(claims.step, TRADING_ROLES)
    if claims.step == "commissioning" and not claims.gtins:
        # Whoever packs gives life to logistic units; only trade items need a maker.
        allowed = TRADING_ROLES
    if claims.gtins or claims.is_transformation:
        allowed = MAKING_ROLES
    if organisation.roles.isdisjoint(allowed):
        wanted = ", ".join(sorted(allowed))
        has = ", ".join(sorted(organisation.roles)) or "none"
        message = f"{claims.step} is open to: {wanted}; {organisation.gln} has: {has}"
        raise AuthorizationError(message, code="ROLE_FORBIDS", field="event.biz_step")
    if claims.gtins:
        _judge_maker(organisation, claims.gtins, what="commission")


def _judge_trader(organisation: Organisation) -> None:
    if organisation.roles.isdisjoint(TRADING_ROLES):
        message = f"business documents are issued by those who trade; {organisation.gln} does not"
        raise AuthorizationError(message, code="ROLE_FORBIDS")


def _judge_maker(organisation: Organisation, gtins: tuple[Gtin, ...], *, what: str) -> None:
    if not organisation.roles & MAKING_ROLES:
        message = f"only manufacturers and repackagers {what} trade items"
        raise AuthorizationError(message, code="ROLE_FORBIDS")
    for gtin in gtins:
        if not organisation.owns(gtin):
            message = f"GTIN {gtin} lies under no company prefix of {organisation.gln}"
            raise AuthorizationError(message, code="PREFIX_NOT_OWNED", field="gtin")
