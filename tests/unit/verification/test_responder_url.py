"""An organisation's word on where it answers verification requests: enrolled, replicated, and kept in its folder."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medtrail.cli.network_file import read_network_file
from medtrail.cli.setup import ensure_folders
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.errors import MalformedError
from medtrail.event import Enrolment, Genesis, Role
from medtrail.gs1 import Gln
from medtrail.runtime.folder import OrganisationFolder, Profile, create_authority, create_organisation
from medtrail.trust import Registry

if TYPE_CHECKING:
    from medtrail.event import Event

URL = "https://vrs.maker.example/base"
PROFILE = Profile("maker", "Maker AG", Gln("0300011111116"), roles=frozenset({Role.MANUFACTURER}), responder_url=URL)


def decoded(data: bytes) -> "Event":
    signed = decode_signed_event(data)
    return decode_payload(signed.payload_type, signed.payload)


def test_enrolment_brings_the_url_into_the_registry_and_a_later_one_replaces_it(tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "authority", Profile("authority", "Authority", Gln("4012345000993")))
    folder = create_organisation(tmp_path / "maker", PROFILE, authority=authority)
    assert OrganisationFolder(folder.path).profile == PROFILE
    enrolment = decoded(folder.enrolment_bytes()).statement
    assert isinstance(enrolment, Enrolment)
    assert enrolment.responder_url == URL
    key = authority.signing_key().key_id
    registry = Registry(authority_key_id=key)
    entries = [authority.sign(Genesis("log.example", key, bytes(32))), folder.enrolment_bytes()]
    entries.append(authority.sign(replace(enrolment, responder_url="", signing_key_ids=())))
    urls = []
    for index, data in enumerate(entries):
        registry.apply(index, verify_signatures(decode_signed_event(data)), decoded(data))
        organisation = registry.organisation_of_gln(PROFILE.gln)
        urls.append(None if organisation is None else organisation.responder_url)
    assert urls == [None, URL, ""]


NETWORK = """\
[network]
origin = "log.medtrail.example/test"

[authority]
gln = "9521000000018"

[ledger]
gln = "9521000000025"

[[organisation]]
name = "maker"
role = "manufacturer"
gln = "0300011111116"
"""


def test_network_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "network.toml"
    path.write_text(NETWORK + f'responder_url = "{URL}"\n', encoding="utf-8")
    description = read_network_file(path)
    assert description.organisations[0].responder_url == URL
    assert ensure_folders(tmp_path, description).organisations["maker"].profile.responder_url == URL
    path.write_text(NETWORK + 'responder_url = "maker.example"\n', encoding="utf-8")
    with pytest.raises(MalformedError) as caught:
        read_network_file(path)
    assert (caught.value.field or "").endswith("organisation[0].responder_url")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://vrs.example",
        "https://",
        "https://user:secret@vrs.example",
        "https://vrs.example/?a=1",
        "https://vrs.example/#a",
        "https://vrs.example/a b",
        "vrs.example",
        "https://" + "a" * 300,
    ],
)
def test_refuses_a_url_to_which_no_path_can_be_added(url: str, tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "authority", Profile("authority", "Authority", Gln("4012345000993")))
    folder = create_organisation(tmp_path / "maker", replace(PROFILE, responder_url=""), authority=authority)
    enrolment = decoded(folder.enrolment_bytes()).statement
    assert isinstance(enrolment, Enrolment)
    with pytest.raises(MalformedError) as caught:
        decoded(authority.sign(replace(enrolment, responder_url=url)))
    assert caught.value.field == "enrolment.responder_url"
