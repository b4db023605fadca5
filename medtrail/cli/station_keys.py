"""``medtrail station keys``, ``retire`` and ``revoke``: the keys that were added, and the word that ends one."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from medtrail.cli.authority import open_authority, publish_statement, read_registry
from medtrail.cli.main import Globals
from medtrail.cli.network_file import check_station_name
from medtrail.cli.render import format_time, parse_time
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError, NotFoundError
from medtrail.event import KeyRetirement, KeyRevocation
from medtrail.gs1 import Gln
from medtrail.trust import KeyRecord, Registry

KEY_PREFIX = "did:key:"


# --- which there are ---


def added_keys(registry: Registry, gln: Gln) -> list[KeyRecord]:
    """Return the keys of an organisation's stations and its further ones that name no station, as they were added."""
    further = {record.key_id for record in registry.further_keys(gln)}
    organisation = registry.organisation_of_gln(gln)
    records = [registry.key(key_id) for key_id in (() if organisation is None else organisation.key_ids)]
    return [record for record in records if record is not None and (record.station or record.key_id in further)]


def nameless_keys(registry: Registry, gln: Gln) -> list[KeyRecord]:
    """Return the further keys that name no station and speak for the whole organisation now."""
    return [record for record in registry.further_keys(gln) if record.end_index is None]


def run_keys(found: Globals) -> None:
    """Show the keys that were added for stations, or without naming one."""

    async def work(session: Session) -> list[KeyRecord]:
        return added_keys(await read_registry(session), Gln(session.organisation.gln))

    records = run_session(found, work)

    def draw(console: Console) -> None:
        for record in records:
            name = record.station or "names no station"
            text = f"{name:<20} {record.key_id}  {_state(record)}"
            warned = not record.station and record.end_index is None
            style = "yellow" if warned else None
            console.print(text, markup=False, soft_wrap=True, style=style)
            if warned:
                console.print("  it speaks for the whole organisation; end it if it is a station's", style="yellow")

    found.output.answer({"keys": [_key_document(record) for record in records]}, draw)


def _key_document(record: KeyRecord) -> dict[str, Any]:
    return {
        "key_id": record.key_id,
        "station": record.station or None,
        "state": _state(record),
        "added_index": record.added_index,
        "end_index": record.end_index,
        "suspect_time": None if record.suspect_time is None else format_time(record.suspect_time),
    }


def _state(record: KeyRecord) -> str:
    if record.end_index is None:
        return "speaks"
    return "retired" if record.suspect_time is None else "revoked"


# --- their end ---


def run_retire(found: Globals, name: str) -> None:
    """End a station's key in good order; what it has signed and nobody has taken in yet stays untaken.

    Raises:
        MalformedError: No organisation is named, or no name of a station.
        ConflictError: --dir holds no authority (AUTHORITY_MISSING).
        NotFoundError: No key of that station speaks, or it is none that was added (STATION_KEY_UNKNOWN).
        UnavailableError: The log does not hold the word in time (KEY_END_NOT_LOGGED); it stands all the same.
    """
    _run_end(found, name, since=None)


def run_revoke(found: Globals, name: str, *, since: str) -> None:
    """End a station's key that may be in wrong hands, and doubt what it signed from a moment on.

    A key that was retired already may still be revoked.

    Raises:
        MalformedError: As for :func:`run_retire`, or no moment.
        ConflictError: AUTHORITY_MISSING.
        NotFoundError: No key of that station is left to revoke (STATION_KEY_UNKNOWN).
        UnavailableError: KEY_END_NOT_LOGGED.
    """
    _run_end(found, name, since=since)


def _run_end(found: Globals, name: str, *, since: str | None) -> None:
    by_id = name.startswith(KEY_PREFIX)
    if not by_id:
        check_station_name(name, field="NAME")
    if found.organisation is None:
        message = "say whose station it is"
        raise MalformedError(message, code="ORGANISATION_MISSING", field="--as")
    moment = None if since is None else parse_time(since, field="--since")
    authority = open_authority(found)

    async def work(session: Session) -> list[dict[str, Any]]:
        registry, gln = await read_registry(session), Gln(session.organisation.gln)
        # By its id, too, only what was added ends here: an organisation without its own key could say nothing.
        records = [record for record in added_keys(registry, gln) if name in {record.station, record.key_id}]
        ended = []
        for key_id in _keys_to_end(records, name, revoke=moment is not None):
            statement = KeyRetirement(key_id) if moment is None else KeyRevocation(key_id, moment)
            index = await publish_statement(session, authority, statement, unlogged="KEY_END_NOT_LOGGED")
            ended.append({"key_id": key_id, "leaf_index": index})
        return ended

    keys = run_session(found, work)
    document = {
        "station": None if by_id else name,
        "organisation": found.organisation,
        "ended": "retired" if moment is None else "revoked",
        "suspect_time": None if moment is None else format_time(moment),
        "keys": keys,
    }

    def draw(console: Console) -> None:
        doubt = "" if moment is None else f", in doubt from {document['suspect_time']}"
        for key in keys:
            whose = "" if by_id else f"{name}: "
            text = f"{whose}{key['key_id']} is {document['ended']} by entry {key['leaf_index']}{doubt}"
            console.print(text, markup=False, soft_wrap=True)

    found.output.answer(document, draw)


def _keys_to_end(records: Sequence[KeyRecord], name: str, *, revoke: bool) -> list[str]:
    """Return the keys that speak; for a revocation, where none does, the newest of which nothing is in doubt yet."""
    speaking = [record.key_id for record in records if record.end_index is None]
    retired = [record.key_id for record in records if record.suspect_time is None]
    wanted = speaking or (retired[-1:] if revoke else [])
    if not wanted:
        message = f"the log knows no added key of {name} that could be ended"
        raise NotFoundError(message, code="STATION_KEY_UNKNOWN", field="NAME")
    return wanted
