"""parties.toml: what it may say, and what is refused with its place."""

from pathlib import Path

import pytest

from medtrail.epcis.export import LEGAL_NOTICE, Address, TradingParty
from medtrail.errors import MalformedError
from medtrail.event import NationalNumber
from medtrail.gs1 import Gln, Gtin
from services.custody import parties_file
from services.custody.parties_file import PartiesFile, read_parties

GLN = "0399999999991"
ADDRESS = 'street = "1 Main St"\ncity = "Louisville"\nstate = "KY"\npostal_code = "40218"\ncountry = "US"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / parties_file.FILE_NAME
    path.write_text(text, encoding="utf-8")
    return path


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_parties(None) == read_parties(tmp_path / "parties.toml") == PartiesFile()


def test_parties_products_prefixes_and_words(tmp_path: Path) -> None:
    found = read_parties(
        write(
            tmp_path,
            f"""
            legal_notice = "We comply."
            [[party]]
            gln = "{GLN}"
            name = "Wholesaler"
            company_prefix = "039999"
            street_two = "Suite 100"
            {ADDRESS}
            [[party]]
            gln = "0300011111116"
            name = "Maker"
            [[product]]
            gtin = "00300010123455"
            name = "Epcistra"
            ndc = "0001-0123-45"
            manufacturer = "GS1 Pharma LLC"
            company_prefix = "030001"
            [[product]]
            gtin = "10300010123452"
            """,
        )
    )
    assert found.legal_notice == "We comply."
    assert found.parties == {
        Gln(GLN): TradingParty("Wholesaler", Address("1 Main St", "Louisville", "KY", "40218", "US", "Suite 100")),
        Gln("0300011111116"): TradingParty("Maker"),
    }
    assert found.company_prefixes == ("039999", "030001")
    item = found.items[Gtin("00300010123455")]
    assert item.manufacturer == "GS1 Pharma LLC"
    assert item.product.national_numbers == (NationalNumber("NDC", "0001-0123-45"),)
    assert found.items[Gtin("10300010123452")].product.national_numbers == ()


def test_words_of_the_statement_have_a_default(tmp_path: Path) -> None:
    assert read_parties(write(tmp_path, "")).legal_notice == LEGAL_NOTICE


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[[party]", "parties.toml"),
        ("[[partie]]", "parties.toml: partie"),
        ("party = 1", "parties.toml: party"),
        ("[[party]]", "parties.toml: party[0].gln"),
        (f'[[party]]\ngln = "{GLN}"\nphone = "1"', "parties.toml: party[0].phone"),
        (f'[[party]]\ngln = "{GLN}"\n[[party]]\ngln = "{GLN}"', "parties.toml: party[1].gln"),
        (f'[[party]]\ngln = "{GLN}"\ncity = "Louisville"', "parties.toml: party[0].street"),
        (f'[[party]]\ngln = "{GLN}"\n{ADDRESS.replace("US", "usa")}', "parties.toml: party[0].country"),
        (f'[[party]]\ngln = "{GLN}"\ncompany_prefix = "03999x"', "parties.toml: party[0].company_prefix"),
        (f'[[party]]\ngln = "{GLN}"\nname = "a\\nb"', "parties.toml: party[0].name"),
        (f'[[party]]\ngln = "{GLN}"\nname = "{"a" * 501}"', "parties.toml: party[0].name"),
        ('[[product]]\ngtin = "1"', "parties.toml: product[0].gtin"),
        (
            '[[product]]\ngtin = "00300010123455"\n[[product]]\ngtin = "00300010123455"',
            "parties.toml: product[1].gtin",
        ),
    ],
    ids=[
        "not-toml", "unknown-table", "no-tables", "no-gln", "unknown-key", "party-twice", "address-in-part", "country",
        "prefix", "control-character", "too-long", "gtin", "product-twice",
    ],
)  # fmt: skip
def test_refuses_what_is_wrong_with_its_place(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_parties(write(tmp_path, text))
    assert (caught.value.code, caught.value.field) == ("PARTIES_FILE", field)


def test_refuses_a_huge_file_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parties_file, "MAX_FILE_BYTES", 10)
    with pytest.raises(MalformedError, match="at most 10 bytes"):
        read_parties(write(tmp_path, "# a comment of more than ten bytes"))
