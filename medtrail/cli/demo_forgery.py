"""A forged event, as somebody with a key of the network could make it."""

from datetime import UTC, datetime

from medtrail import codec
from medtrail.envelope import sign
from medtrail.epcis import Action, EpcisEvent, EventType, event_hash
from medtrail.event import Event, Header, PayloadType, new_salt
from medtrail.gs1 import Gln
from medtrail.runtime.folder import OrganisationFolder


def forged_commissioning(folder: OrganisationFolder, *, actor: Gln, epc: str) -> bytes:
    """Return a commissioning in another's name, signed with an enrolled key of somebody else."""
    event = EpcisEvent(
        type=EventType.OBJECT,
        event_time=datetime.now(UTC),
        event_time_zone_offset="+00:00",
        action=Action.ADD,
        epc_list=(epc,),
        biz_step="commissioning",
        disposition="active",
    )
    header = Header(new_salt(), actor, "forger", 1, event_hash(event))
    payload = codec.encode_payload(Event(header, event))
    return codec.encode_signed_event(sign(PayloadType.EPCIS, payload, folder.signing_key()))
