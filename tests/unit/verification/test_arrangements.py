"""The file of arrangements, and whom it names for a product."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.errors import AuthorizationError, MalformedError, NotFoundError
from medtrail.event import Enrolment, Genesis
from medtrail.gs1 import Gln, Gtin, Sgtin
from medtrail.runtime.files import write_secret
from medtrail.trust import Registry
from medtrail.vrs import AdditionalInfo, FailureReason, VrsAnswer
from services.verification.arrangements import NONE_MADE, Arrangements, check_url, read_arrangements

if TYPE_CHECKING:
    from tests.conftest import Network

GTIN = Gtin("00300010123455")
MAKER = Gln("0300011111116")
OTHER = Gln("9521006000012")


def read(tmp_path: Path, content: str) -> Arrangements:
    path = tmp_path / "verification.toml"
    path.write_text(content, encoding="utf-8")
    return read_arrangements(path)


def test_no_file_arranges_nothing() -> None:
    assert read_arrangements(None) is NONE_MADE


def test_reads_all_that_can_be_arranged(tmp_path: Path) -> None:
    write_secret(tmp_path / "maker.token", b"secret-token\n")
    found = read(
        tmp_path,
        f"""
[[partner]]
gln = "{OTHER}"
caller = "vrs"
contexts = ["dscsaSaleableReturn"]
expires = 2027-01-01

[[extension]]
gtin = "{GTIN}"
lot = "A1"
expiry = 2028-09-30

[[policy]]
gtin = "{GTIN}"
lot = "A2"
serials = ["7"]
reason = "Not_for_re-distribution"
info = "Illegitimate"

[[policy]]
gtin = "{GTIN}"
info = "Suspect"

[[responder]]
gln = "{OTHER}"
url = "https://vrs.example/base/"
gtins = ["{GTIN}"]
company_prefixes = ["0952"]
token_file = "maker.token"
""",
    )
    partner = found.partners[OTHER]
    assert (partner.caller, partner.expires) == ("vrs", date(2027, 1, 1))
    assert partner.contexts == frozenset({"dscsaSaleableReturn"})
    assert found.extensions[GTIN, "A1"].expiry == date(2028, 9, 30)
    first, second = found.policies
    assert first.answer == VrsAnswer(
        verified=False, reason=FailureReason.NOT_FOR_REDISTRIBUTION, info=AdditionalInfo.ILLEGITIMATE
    )
    assert second.answer == VrsAnswer(verified=True, info=AdditionalInfo.SUSPECT)
    pack, another = Sgtin(GTIN, "7"), Sgtin(GTIN, "8")
    assert [first.covers(pack, "A2"), first.covers(another, "A2"), first.covers(pack, "A1")] == [True, False, False]
    assert second.covers(another, "any")
    (entry,) = found.responders
    assert (entry.url, entry.token) == ("https://vrs.example/base", "secret-token")
    assert "secret-token" not in repr(found)
    responder = found.responder_of(GTIN, Registry(authority_key_id="did:key:z"))
    assert (responder.gln, responder.source, responder.token) == (OTHER, "settings", "secret-token")
    assert "secret-token" not in repr(responder)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("x = [", ""),
        ("partners = []", "partners"),
        ("partner = 1", "partner"),
        ('[[partner]]\ngln = "1"', "partner[0].gln"),
        ('[[partner]]\ncaller = "a"', "partner[0].gln"),
        (f'[[partner]]\ngln = "{OTHER}"\nname = "a"', "partner[0].name"),
        (f'[[partner]]\ngln = "{OTHER}"\ncontexts = ["a b"]', "partner[0].contexts"),
        (f'[[partner]]\ngln = "{OTHER}"\ncontexts = "a"', "partner[0].contexts"),
        (f'[[partner]]\ngln = "{OTHER}"\nexpires = "soon"', "partner[0].expires"),
        (f'[[partner]]\ngln = "{OTHER}"\nexpires = 2027-01-01T00:00:00Z', "partner[0].expires"),
        (f'[[extension]]\ngtin = "{GTIN}"\nlot = "A"', "extension[0].expiry"),
        ('[[extension]]\ngtin = "1"\nlot = "A"\nexpiry = 2027-01-01', "extension[0].gtin"),
        (f'[[policy]]\ngtin = "{GTIN}"', "policy[0]"),
        (f'[[policy]]\ngtin = "{GTIN}"\nreason = "Because"', "policy[0].reason"),
        (f'[[policy]]\ngtin = "{GTIN}"\ninfo = 1', "policy[0].info"),
        (f'[[responder]]\ngln = "{OTHER}"\nurl = "http://vrs.example"', "responder[0].url"),
        (f'[[responder]]\ngln = "{OTHER}"\nurl = "https://a@vrs.example"', "responder[0].url"),
        (f'[[responder]]\ngln = "{OTHER}"\ncompany_prefixes = ["1"]', "responder[0].company_prefixes"),
        (f'[[responder]]\ngln = "{OTHER}"\ngtins = ["1"]', "responder[0].gtins"),
    ],
)
def test_says_where_the_file_is_wrong(tmp_path: Path, content: str, field: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read(tmp_path, content)
    assert caught.value.code == "VERIFICATION_FILE"
    assert (caught.value.field or "").endswith(field)


def test_refuses_a_token_that_others_may_read(tmp_path: Path) -> None:
    (tmp_path / "maker.token").write_text("secret-token")
    (tmp_path / "maker.token").chmod(0o644)
    with pytest.raises(AuthorizationError):
        read(tmp_path, f'[[responder]]\ngln = "{OTHER}"\ntoken_file = "maker.token"')


def test_the_nearest_entry_answers(tmp_path: Path, registry: Registry) -> None:
    def url(name: str) -> str:
        return f"https://{name}.example"

    found = read(
        tmp_path,
        f"""
[[responder]]
gln = "{OTHER}"
url = "{url("wide")}"
company_prefixes = ["0300"]

[[responder]]
gln = "{OTHER}"
url = "{url("near")}"
company_prefixes = ["030001"]

[[responder]]
gln = "{OTHER}"
url = "{url("one")}"
gtins = ["{GTIN}"]
""",
    )
    assert found.responder_of(GTIN, registry).url == url("one")
    assert found.responder_of(Gtin("00300010543215"), registry).url == url("near")
    assert found.responder_of(Gtin("00300021234560"), registry).url == url("wide")
    with pytest.raises(NotFoundError) as caught:
        found.responder_of(Gtin("00614141123452"), registry)
    assert caught.value.code == "RESPONDER_UNKNOWN"


def test_an_enrolment_answers_and_the_file_adds_its_token(
    tmp_path: Path, network: "Network", registry: Registry
) -> None:
    authority = network.authority
    key = authority.signing_key().key_id
    enrolled = Registry(authority_key_id=key)
    signed = decode_signed_event(network["maker"].enrolment_bytes())
    enrolment = decode_payload(signed.payload_type, signed.payload).statement
    assert isinstance(enrolment, Enrolment)
    signed_entries = (
        authority.sign(Genesis("log.example", key, bytes(32))),
        authority.sign(replace(enrolment, responder_url="https://maker.example")),
    )
    for index, data in enumerate(signed_entries):
        entry = decode_signed_event(data)
        enrolled.apply(index, verify_signatures(entry), decode_payload(entry.payload_type, entry.payload))
    bare = NONE_MADE.responder_of(GTIN, enrolled)
    assert (bare.url, bare.gln, bare.source, bare.token) == ("https://maker.example", MAKER, "enrolment", "")
    write_secret(tmp_path / "maker.token", b"secret-token")
    arranged = read(tmp_path, f'[[responder]]\ngln = "{MAKER}"\ntoken_file = "maker.token"')
    found = arranged.responder_of(GTIN, enrolled)
    assert (found.url, found.source, found.token) == ("https://maker.example", "enrolment", "secret-token")
    # Without an address in either, nobody answers.
    with pytest.raises(NotFoundError):
        arranged.responder_of(GTIN, registry)


@pytest.mark.parametrize(
    "url", ["https://vrs.example", "http://127.0.0.1:8080", "http://localhost/a", "http://[::1]:1"]
)
def test_questions_travel_over_tls_or_stay_on_this_machine(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url", ["http://vrs.example", "http://127.0.0.1.example", "https://", "file:///etc/passwd", ""]
)
def test_refuses_to_send_a_token_in_the_clear(url: str) -> None:
    with pytest.raises(MalformedError) as caught:
        check_url(url)
    assert caught.value.code == "URL_MALFORMED"
