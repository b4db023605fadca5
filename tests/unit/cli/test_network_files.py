"""network.toml and network.json."""

import dataclasses
import json
from pathlib import Path

import pytest

from medtrail.cli.network import OrganisationAddress, RunningNetwork, read_network, write_network
from medtrail.cli.network_file import FILE_NAME, SAMPLE, NetworkDescription, read_network_file
from medtrail.errors import MalformedError, UnavailableError
from medtrail.event import NationalNumber, PackLevel, Product, ProductContent, Role
from medtrail.gs1 import Gln, Gtin

SMALL = """\
[network]
origin = "log.example"
[authority]
gln = "9521000000018"
[ledger]
gln = "9521000000025"
[[organisation]]
name = "maker"
role = "manufacturer"
gln = "0300011111116"
[[product]]
owner = "maker"
gtin = "00300010123455"
level = "pack"
name = "Epcistra"
"""
ORGANISATION = 'role = "manufacturer"\n'
PRODUCT = 'level = "pack"\n'


def _read(folder: Path, text: str) -> NetworkDescription:
    path = folder / FILE_NAME
    path.write_text(text, encoding="utf-8")
    return read_network_file(path)


def test_sample_is_valid(tmp_path: Path) -> None:
    found = _read(tmp_path, SAMPLE)
    assert found.origin == "log.medtrail.example/sample"
    assert [(item.name, item.role) for item in found.organisations] == [
        ("gs1-pharma", Role.MANUFACTURER),
        ("gs1-drug-distributor", Role.DISTRIBUTOR),
        ("riverside-wholesale", Role.DISTRIBUTOR),
        ("elm-street-pharmacy", Role.PHARMACY),
        ("harbour-pharmacy", Role.PHARMACY),
        ("hilltop-pharmacy", Role.PHARMACY),
        ("station-pharmacy", Role.PHARMACY),
    ]
    maker = found.organisation("gs1-pharma")
    assert (maker.display_name, maker.gln, maker.locations, maker.company_prefixes) == (
        "GS1 Pharma",
        Gln("0300011111116"),
        (Gln("0300011111215"),),
        ("030001",),
    )
    assert [(item.owner, item.product.content) for item in found.products] == [
        ("gs1-pharma", None),
        ("gs1-pharma", ProductContent(Gtin("00300010123455"), 4)),
    ]
    assert found.products[0].product.national_numbers == (NationalNumber("NDC", "0001-0123-45"),)


def test_what_may_be_left_out_is_empty_or_named_after_the_rest(tmp_path: Path) -> None:
    found = _read(tmp_path, SMALL)
    (maker,) = found.organisations
    assert (maker.display_name, maker.locations, maker.company_prefixes) == ("maker", (), ())
    assert found.products[0].product == Product(Gtin("00300010123455"), PackLevel.PACK, "Epcistra")
    assert _read(tmp_path, SMALL[: SMALL.index("[[product]]")]).products == ()


def test_party_may_stand_at_a_location_of_its_own_gln(tmp_path: Path) -> None:
    text = SMALL.replace(ORGANISATION, ORGANISATION + 'locations = ["0300011111116"]\n')
    assert _read(tmp_path, text).organisations[0].locations == (Gln("0300011111116"),)


def test_unknown_organisation_is_answered_with_the_known(tmp_path: Path) -> None:
    with pytest.raises(MalformedError) as caught:
        _read(tmp_path, SAMPLE).organisation("nobody")
    assert caught.value.code == "ORGANISATION_UNKNOWN"
    assert "gs1-pharma, gs1-drug-distributor" in caught.value.message


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("surprise", SMALL, "surprise = 1\n" + SMALL),
        ("network", '[network]\norigin = "log.example"\n', 'network = "log.example"\n'),
        ("network.origin", 'origin = "log.example"\n', ""),
        ("network.origin", '"log.example"', '""'),
        ("network.origin", '"log.example"', "5"),
        ("network.origin", '"log.example"', '"log example"'),
        ("network.name", "[network]\n", '[network]\nname = "x"\n'),
        ("authority.gln", 'gln = "9521000000018"', ""),
        ("authority.gln", "9521000000018", "9521000000019"),
        ("authority.name", "[authority]\n", '[authority]\nname = "x"\n'),
        ("ledger.gln", "9521000000025", "952100000002"),
        ("ledger.port", "[ledger]\n", "[ledger]\nport = 1\n"),
        ("organisation", SMALL[SMALL.index("[[organisation]]") :], ""),
        ("organisation", SMALL[SMALL.index("[[organisation]]") :], "[organisation]\n"),
        ("organisation", SMALL, 'organisation = ["maker"]\n'),
        ("organisation[0].glm", ORGANISATION, ORGANISATION + 'glm = "0300011111116"\n'),
        ("organisation[0].name", 'name = "maker"\n', ""),
        ("organisation[0].name", '"maker"\nrole', '"Maker"\nrole'),
        ("organisation[0].name", '"maker"\nrole', '"../maker"\nrole'),
        ("organisation[0].name", '"maker"\nrole', f'"{"m" * 65}"\nrole'),
        ("organisation[0].name", '"maker"\nrole', '"ledger"\nrole'),
        ("organisation[0].name", '"maker"\nrole', '"authority"\nrole'),
        ("organisation[0].name", '"maker"\nrole', '"nats"\nrole'),
        ("organisation[0].display_name", ORGANISATION, ORGANISATION + "display_name = 5\n"),
        ("organisation[0].display_name", ORGANISATION, ORGANISATION + 'display_name = ""\n'),
        ("organisation[0].role", ORGANISATION, ""),
        ("organisation[0].role", '"manufacturer"', '"regulator"'),
        ("organisation[0].role", '"manufacturer"', '["manufacturer"]'),
        ("organisation[0].gln", 'gln = "0300011111116"\n', ""),
        ("organisation[0].gln", "0300011111116", "0300011111117"),
        ("organisation[0].locations", ORGANISATION, ORGANISATION + 'locations = "0300011111215"\n'),
        ("organisation[0].locations[1]", ORGANISATION, ORGANISATION + 'locations = ["0300011111215", "1"]\n'),
        ("organisation[0].locations[0]", ORGANISATION, ORGANISATION + "locations = [300011111215]\n"),
        ("organisation[0].company_prefixes", ORGANISATION, ORGANISATION + 'company_prefixes = "030001"\n'),
        ("organisation[0].company_prefixes[0]", ORGANISATION, ORGANISATION + 'company_prefixes = [""]\n'),
        ("organisation[0].company_prefixes[0]", ORGANISATION, ORGANISATION + 'company_prefixes = ["030"]\n'),
        ("organisation[0].company_prefixes[0]", ORGANISATION, ORGANISATION + "company_prefixes = [30001]\n"),
        ("organisation", ORGANISATION, ORGANISATION + 'locations = ["9521000000018"]\n'),
        ("organisation", 'gln = "9521000000018"', 'gln = "9521000000025"'),
        ("product", SMALL, "product = 5\n" + SMALL[: SMALL.index("[[product]]")]),
        ("product[0].price", PRODUCT, PRODUCT + "price = 1\n"),
        ("product[0].owner", 'owner = "maker"', 'owner = "nobody"'),
        ("product[0].owner", 'owner = "maker"\n', ""),
        ("product[0].gtin", "00300010123455", "00300010123456"),
        ("product[0].gtin", 'gtin = "00300010123455"\n', ""),
        ("product[0].level", '"pack"', '"barrel"'),
        ("product[0].name", 'name = "Epcistra"\n', ""),
        ("product[0].ndc", PRODUCT, PRODUCT + "ndc = 1012345\n"),
        ("product[0].strength", PRODUCT, PRODUCT + "strength = 100\n"),
        ("product[0].dosage_form", PRODUCT, PRODUCT + "dosage_form = []\n"),
        ("product[0].net_content", PRODUCT, PRODUCT + "net_content = 1\n"),
        ("product[0].contains", PRODUCT, PRODUCT + "contains = 4\n"),
        ("product[0].contains.size", PRODUCT, PRODUCT + 'contains = { gtin = "00300010123455", size = 4 }\n'),
        ("product[0].contains.count", PRODUCT, PRODUCT + 'contains = { gtin = "00300010123455" }\n'),
        ("product[0].contains.count", PRODUCT, PRODUCT + 'contains = { gtin = "00300010123455", count = 0 }\n'),
        ("product[0].contains.count", PRODUCT, PRODUCT + 'contains = { gtin = "00300010123455", count = "4" }\n'),
        ("product[0].contains.count", PRODUCT, PRODUCT + 'contains = { gtin = "00300010123455", count = true }\n'),
        ("product[0].contains.gtin", PRODUCT, PRODUCT + "contains = { count = 4 }\n"),
    ],
    ids=range(58),
)
def test_mistake_is_named_by_its_key(tmp_path: Path, field: str, old: str, new: str) -> None:
    assert old in SMALL
    with pytest.raises(MalformedError) as caught:
        _read(tmp_path, SMALL.replace(old, new, 1))
    assert (caught.value.code, caught.value.field) == ("NETWORK_FILE", f"{FILE_NAME}: {field}")


def test_name_and_gln_stand_once(tmp_path: Path) -> None:
    second = '[[organisation]]\nname = "NAME"\nrole = "pharmacy"\ngln = "GLN"\n'
    for name, gln, twice in (("maker", "9521002000016", "name maker"), ("other", "0300011111116", "GLN 0300011111116")):
        with pytest.raises(MalformedError, match=f"the {twice} stands twice"):
            _read(tmp_path, SMALL + second.replace("NAME", name).replace("GLN", gln))


@pytest.mark.parametrize("content", [b"[network", b"\xff\xfe", b"a = 1\na = 2\n"], ids=["broken", "binary", "twice"])
def test_refuses_what_is_no_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(MalformedError) as caught:
        read_network_file(tmp_path / FILE_NAME)
    assert caught.value.code == "NETWORK_FILE"
    assert caught.value.message.startswith(f"{FILE_NAME}: ")


def test_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="No such file"):
        read_network_file(tmp_path / FILE_NAME)


# --- network.json ---

RUNNING = RunningNetwork(
    origin="log.example",
    ledger_address="127.0.0.1:1",
    ledger_gln="9521000000025",
    nats_url="nats://127.0.0.1:2",
    log_url="http://127.0.0.1:3",
    verifier_keys=("log.example+00000000+AAAA",),
    policy="/net/policy.txt",
    authority_key_id="did:key:z",
    ca_certificate="/x/ca.crt",
    organisations=(OrganisationAddress("maker", "Mäker", "manufacturer", "0300011111116", "127.0.0.1:4", "/x/maker"),),
    pids={"nats": 1, "ledger": 2, "maker": 3},
)


def test_network_reads_as_it_was_written(tmp_path: Path) -> None:
    write_network(tmp_path, RUNNING)
    assert read_network(tmp_path) == RUNNING
    later = dataclasses.replace(RUNNING, pids={"nats": 9})
    write_network(tmp_path, later)
    assert read_network(tmp_path) == later
    assert [path.name for path in tmp_path.iterdir()] == ["network.json"]


def test_organisation_is_found_by_name_and_gln() -> None:
    (maker,) = RUNNING.organisations
    assert RUNNING.organisation("maker") is RUNNING.organisation("0300011111116") is maker
    with pytest.raises(MalformedError, match="known are: maker") as caught:
        RUNNING.organisation("nobody")
    assert (caught.value.code, caught.value.field) == ("ORGANISATION_UNKNOWN", "--as")


def test_folder_without_the_file_has_no_running_network(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        read_network(tmp_path)
    assert caught.value.code == "NETWORK_DOWN"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1}',
        json.dumps({**RUNNING.to_document(), "surprise": 1}),
        json.dumps({**RUNNING.to_document(), "organisations": [{"name": "maker"}]}),
        json.dumps({**RUNNING.to_document(), "organisations": 5}),
    ],
    ids=range(9),
)
def test_refuses_another_format(tmp_path: Path, text: str) -> None:
    (tmp_path / "network.json").write_text(text, encoding="utf-8")
    with pytest.raises(MalformedError) as caught:
        read_network(tmp_path)
    assert caught.value.code == "NETWORK_FILE"
