"""Trust statements of the authority: genesis, enrolments, and the keys that come and go."""

import re

from medtrail.api.event.v1 import payload_pb2
from medtrail.codec.scalars import (
    MAX_NAME_LENGTH,
    matching_text,
    optional_time,
    required_hash,
    required_text,
    required_time,
    to_gln,
    to_timestamp,
)
from medtrail.envelope import public_key_of
from medtrail.errors import MalformedError
from medtrail.event import (
    Enrolment,
    Genesis,
    KeyAddition,
    KeyRetirement,
    KeyRevocation,
    Licence,
    Role,
    TrustStatement,
    is_station_name,
)

# Empty, or http(s) with a host and no credentials, query or fragment: paths are added to it.
RESPONDER_URL = re.compile(r"(?:https?://[A-Za-z0-9.\-\[\]:]{1,253}(?:/[A-Za-z0-9._~/-]{0,200})?)?\Z")
_ORGANISATION = re.compile(r"[a-z0-9-]{1,64}\Z")
_PREFIX = re.compile(r"[0-9]{4,12}\Z")


def trust_to_message(statement: TrustStatement, header: payload_pb2.Header) -> payload_pb2.TrustPayload:
    """Return the payload of a trust statement under its header."""
    message = payload_pb2.TrustPayload(header=header)
    if isinstance(statement, Genesis):
        message.genesis.origin = statement.origin
        message.genesis.authority_key_id = statement.authority_key_id
        message.genesis.map_salt_sha256 = statement.map_salt_sha256
    elif isinstance(statement, Enrolment):
        message.enrolment.CopyFrom(_enrolment_to_message(statement))
    elif isinstance(statement, KeyAddition):
        message.key_addition.gln = str(statement.gln)
        message.key_addition.key_id = statement.key_id
        message.key_addition.station = statement.station
    elif isinstance(statement, KeyRetirement):
        message.key_retirement.key_id = statement.key_id
    else:
        message.key_revocation.key_id = statement.key_id
        message.key_revocation.suspect_time.CopyFrom(to_timestamp(statement.suspect_time))
    return message


def _enrolment_to_message(enrolment: Enrolment) -> payload_pb2.Enrolment:
    message = payload_pb2.Enrolment(
        organisation=enrolment.organisation,
        display_name=enrolment.display_name,
        gln=str(enrolment.gln),
        locations=[str(gln) for gln in enrolment.locations],
        company_prefixes=enrolment.company_prefixes,
        roles=sorted(enrolment.roles),
        signing_key_ids=enrolment.signing_key_ids,
        sealing_key=enrolment.sealing_key,
        nats_user_key=enrolment.nats_user_key,
        responder_url=enrolment.responder_url,
    )
    for licence in enrolment.licences:
        added = message.licences.add(authority=licence.authority, number=licence.number)
        if licence.expire_time is not None:
            added.expire_time.CopyFrom(to_timestamp(licence.expire_time))
    return message


def trust_from_message(message: payload_pb2.TrustPayload) -> TrustStatement:
    """Return the trust statement of a payload.

    Raises:
        MalformedError: A field is missing or of wrong form.
    """
    kind = message.WhichOneof("statement")
    if kind == "genesis":
        found = message.genesis
        public_key_of(found.authority_key_id)
        return Genesis(
            origin=required_text(found.origin, field="genesis.origin", most=MAX_NAME_LENGTH),
            authority_key_id=found.authority_key_id,
            map_salt_sha256=required_hash(found.map_salt_sha256, field="genesis.map_salt_sha256"),
        )
    if kind == "enrolment":
        return _enrolment_from_message(message.enrolment)
    if kind == "key_addition":
        return _addition_from_message(message.key_addition)
    if kind == "key_retirement":
        return KeyRetirement(message.key_retirement.key_id)
    if kind == "key_revocation":
        suspect = required_time(message.key_revocation, "suspect_time", field="key_revocation.suspect_time")
        return KeyRevocation(message.key_revocation.key_id, suspect)
    text = "a trust payload makes one statement"
    raise MalformedError(text, code="FIELD_MISSING", field="statement")


def _addition_from_message(message: payload_pb2.KeyAddition) -> KeyAddition:
    public_key_of(message.key_id)
    if message.station and not is_station_name(message.station):
        text = f"no station may be called {message.station[:40]!r}"
        raise MalformedError(text, code="STATION_NAME", field="key_addition.station")
    return KeyAddition(to_gln(message.gln, field="key_addition.gln"), message.key_id, message.station)


def _enrolment_from_message(message: payload_pb2.Enrolment) -> Enrolment:
    known = {role.value for role in Role}
    for role in message.roles:
        if role not in known:
            text = f"unknown role {role[:40]!r}"
            raise MalformedError(text, code="ROLE_UNKNOWN", field="enrolment.roles")
    for key_id in message.signing_key_ids:
        public_key_of(key_id)
    return Enrolment(
        organisation=matching_text(_ORGANISATION, message.organisation, field="enrolment.organisation"),
        display_name=required_text(message.display_name, field="enrolment.display_name", most=MAX_NAME_LENGTH),
        gln=to_gln(message.gln, field="enrolment.gln"),
        locations=tuple(
            to_gln(gln, field=f"enrolment.locations[{number}]") for number, gln in enumerate(message.locations)
        ),
        company_prefixes=tuple(
            matching_text(_PREFIX, prefix, field=f"enrolment.company_prefixes[{number}]")
            for number, prefix in enumerate(message.company_prefixes)
        ),
        roles=frozenset(Role(role) for role in message.roles),
        signing_key_ids=tuple(message.signing_key_ids),
        sealing_key=required_hash(message.sealing_key, field="enrolment.sealing_key"),
        nats_user_key=required_text(message.nats_user_key, field="enrolment.nats_user_key", most=64),
        licences=tuple(
            Licence(
                required_text(item.authority, field=f"enrolment.licences[{number}].authority", most=MAX_NAME_LENGTH),
                required_text(item.number, field=f"enrolment.licences[{number}].number", most=MAX_NAME_LENGTH),
                optional_time(item, "expire_time", field=f"enrolment.licences[{number}].expire_time"),
            )
            for number, item in enumerate(message.licences)
        ),
        responder_url=matching_text(RESPONDER_URL, message.responder_url, field="enrolment.responder_url"),
    )
