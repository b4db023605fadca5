"""The folders of an embedded network: made whole, kept, refused when network.toml says otherwise."""

import hashlib
import stat
import typing
from dataclasses import replace
from pathlib import Path

import pytest

from medtrail import codec
from medtrail.cli import setup
from medtrail.cli.network_file import SAMPLE, NetworkDescription
from medtrail.cli.output import ExitCode
from medtrail.cli.setup import NetworkFolders, ensure_description, ensure_folders
from medtrail.envelope import verify_signatures
from medtrail.errors import ConflictError, MalformedError
from medtrail.event import Enrolment, Event, Genesis, Role
from medtrail.gs1 import Gln
from medtrail.note import parse_vkey
from medtrail.runtime.folder import OrganisationFolder, create_organisation

if typing.TYPE_CHECKING:
    from tests.unit.cli.conftest import Medtrail

NAMES = ["gs1-pharma", "elm-street-pharmacy"]


def _content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _statement(signed_event: bytes) -> tuple[str, Event]:
    signed = codec.decode_signed_event(signed_event)
    return verify_signatures(signed), codec.decode_payload(signed.payload_type, signed.payload)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "net"


@pytest.fixture
def description(root: Path) -> NetworkDescription:
    found = ensure_description(root)
    return replace(found, organisations=tuple(found.organisation(name) for name in NAMES))


@pytest.fixture
def folders(root: Path, description: NetworkDescription) -> NetworkFolders:
    return ensure_folders(root, description)


def test_sample_is_written_where_nothing_is(root: Path) -> None:
    ensure_description(root)
    assert (root / "network.toml").read_text(encoding="utf-8") == SAMPLE
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_description_that_is_there_is_kept(root: Path) -> None:
    root.mkdir()
    text = SAMPLE.replace("log.medtrail.example/sample", "log.example")
    (root / "network.toml").write_text(text, encoding="utf-8")
    assert ensure_description(root).origin == "log.example"
    assert (root / "network.toml").read_text(encoding="utf-8") == text


def test_refuses_a_broken_description(root: Path) -> None:
    root.mkdir()
    (root / "network.toml").write_text("[", encoding="utf-8")
    with pytest.raises(MalformedError):
        ensure_description(root)


def test_every_party_gets_its_folder(folders: NetworkFolders, description: NetworkDescription, root: Path) -> None:
    assert list(folders.organisations) == NAMES
    assert folders.authority.gln == description.authority_gln
    assert (folders.ledger.gln, folders.ledger.profile.roles) == (description.ledger_gln, frozenset({Role.LEDGER}))
    for name, folder in folders.organisations.items():
        assert folder.path == root / "orgs" / name
        key_id, enrolment = _statement(folder.enrolment_bytes())
        assert key_id == folders.authority_key_id
        assert isinstance(enrolment.statement, Enrolment)
        assert enrolment.statement.gln == description.organisation(name).gln
    assert parse_vkey(folders.log_vkey).name == description.origin


def test_genesis_binds_origin_authority_and_map_salt(folders: NetworkFolders, description: NetworkDescription) -> None:
    key_id, genesis = _statement((folders.ledger.path / setup.GENESIS_FILE).read_bytes())
    assert key_id == folders.authority_key_id
    salt = folders.authority.map_salt()
    assert genesis.statement == Genesis(description.origin, key_id, hashlib.sha256(salt).digest())
    assert folders.ledger.map_salt() == salt


def test_second_run_changes_nothing(folders: NetworkFolders, description: NetworkDescription, root: Path) -> None:
    before = _content(root)
    again = ensure_folders(root, description)
    assert _content(root) == before
    assert again.log_vkey == folders.log_vkey
    assert again.authority_key_id == folders.authority_key_id


def test_party_named_later_is_added(folders: NetworkFolders, root: Path) -> None:
    before = _content(root)
    later = ensure_folders(root, ensure_description(root))
    assert "riverside-wholesale" in later.organisations
    assert _content(root).items() >= {name: data for name, data in before.items() if "source_seq" not in name}.items()


@pytest.mark.parametrize("name", ["authority", "ledger/org", "orgs/gs1-pharma"])
def test_interrupted_run_is_taken_up_again(root: Path, description: NetworkDescription, name: str) -> None:
    begun = root / name
    begun = begun.with_name(f".{begun.name}.new")
    begun.mkdir(parents=True)
    (begun / "signing.key").write_text("half", encoding="utf-8")

    found = ensure_folders(root, description)
    assert not list(root.rglob(".*"))
    assert (root / name / "signing.key").read_text(encoding="utf-8") != "half"
    assert found.organisations["gs1-pharma"].signing_key().key_id


def test_interruption_leaves_no_part_in_its_place(
    root: Path, description: NetworkDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(path: Path, *arguments: typing.Any, **options: typing.Any) -> OrganisationFolder:
        if "elm" in path.name:
            path.mkdir(parents=True)
            (path / "signing.key").write_text("half", encoding="utf-8")
            raise KeyboardInterrupt
        return create_organisation(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(setup, "create_organisation", stopped)
        with pytest.raises(KeyboardInterrupt):
            ensure_folders(root, description)
    kept = _content(root / "orgs" / "gs1-pharma")
    assert not (root / "orgs" / "elm-street-pharmacy").exists()

    ensure_folders(root, description)
    assert _content(root / "orgs" / "gs1-pharma") == kept
    assert OrganisationFolder(root / "orgs" / "elm-street-pharmacy").signing_key().key_id


def test_interrupted_genesis_is_written_whole(folders: NetworkFolders, description: NetworkDescription) -> None:
    path = folders.ledger.path / setup.GENESIS_FILE
    path.rename(path.with_suffix(".tmp"))
    path.with_suffix(".tmp").write_bytes(b"half")
    ensure_folders(folders.root, description)
    assert isinstance(_statement(path.read_bytes())[1].statement, Genesis)
    assert not path.with_suffix(".tmp").exists()


def test_refuses_parties_that_changed(folders: NetworkFolders, description: NetworkDescription) -> None:
    before = _content(folders.root)
    maker, pharmacy = description.organisations
    other_gln = Gln("9521001000017")
    for changed, field in (
        (replace(description, organisations=(replace(maker, gln=other_gln), pharmacy)), "gs1-pharma"),
        (replace(description, organisations=(replace(maker, company_prefixes=()), pharmacy)), "gs1-pharma"),
        (replace(description, organisations=(maker, replace(pharmacy, role=Role.DISTRIBUTOR))), "elm-street-pharmacy"),
        (replace(description, ledger_gln=other_gln), "ledger"),
        (replace(description, authority_gln=other_gln), "authority"),
        (replace(description, origin="log.example/other"), "network.origin"),
    ):
        with pytest.raises(ConflictError) as caught:
            ensure_folders(folders.root, changed)
        assert (caught.value.code, caught.value.field) == ("NETWORK_CHANGED", field)
    assert _content(folders.root) == before


def test_refuses_a_genesis_that_is_none(folders: NetworkFolders, description: NetworkDescription) -> None:
    path = folders.ledger.path / setup.GENESIS_FILE
    path.write_bytes(folders.ledger.enrolment_bytes())
    with pytest.raises(ConflictError):
        ensure_folders(folders.root, description)


# --- keygen ---

KEYGEN = ("keygen", "new-pharmacy", "--gln", "9521009000019", "--role", "pharmacy")


def test_keygen_makes_a_folder_that_the_authority_enrolled(medtrail: "Medtrail", folders: NetworkFolders) -> None:
    run = medtrail(*KEYGEN, "--display-name", "New Pharmacy", "--dir", folders.root, "--json")
    assert (run.code, run.errors) == (0, "")
    folder = OrganisationFolder(folders.root / "orgs" / "new-pharmacy")
    assert run.document == {
        "folder": str(folder.path),
        "gln": "9521009000019",
        "signing_key": folder.signing_key().key_id,
        "sealing_key": bytes(folder.sealing_key().public_key).hex(),
        "nats_user_key": folder.nats_user_key(),
    }
    assert folder.profile.display_name == "New Pharmacy"
    key_id, enrolment = _statement(folder.enrolment_bytes())
    assert key_id == folders.authority_key_id
    assert isinstance(enrolment.statement, Enrolment)
    assert enrolment.statement.signing_key_ids == (folder.signing_key().key_id,)


def test_keygen_prints_public_keys_only(medtrail: "Medtrail", folders: NetworkFolders, tmp_path: Path) -> None:
    run = medtrail(*KEYGEN, "--out", tmp_path / "out", "--dir", folders.root)
    folder = OrganisationFolder(tmp_path / "out")
    assert run.code == 0
    assert folder.profile.display_name == "new-pharmacy"
    assert folder.signing_key().key_id in run.out
    for name in ("signing.key", "sealing.key", "nats.key"):
        assert (folder.path / name).read_text(encoding="utf-8").strip() not in run.out
        assert stat.S_IMODE((folder.path / name).stat().st_mode) == 0o600


def test_keygen_never_overwrites_keys(medtrail: "Medtrail", folders: NetworkFolders) -> None:
    assert medtrail(*KEYGEN, "--dir", folders.root).code == 0
    before = _content(folders.root)
    run = medtrail(*KEYGEN, "--dir", folders.root, "--json")
    assert (run.code, run.error["code"], run.error["field"]) == (ExitCode.REFUSED, "FOLDER_EXISTS", "--out")
    assert _content(folders.root) == before


def test_keygen_needs_an_authority(medtrail: "Medtrail") -> None:
    run = medtrail(*KEYGEN, "--dir", "nowhere", "--json")
    assert (run.code, run.error["code"], run.error["field"]) == (ExitCode.REFUSED, "AUTHORITY_MISSING", "--dir")


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("pharmacy", "wizard", "--role"),
        ("9521009000019", "9521009000018", "--gln"),
        ("new-pharmacy", "../../elsewhere", "NAME"),
        ("new-pharmacy", "ledger", "NAME"),
        ("new-pharmacy", "New Pharmacy", "NAME"),
    ],
)
def test_keygen_refuses_wrong_facts_and_leaves_nothing(
    medtrail: "Medtrail", folders: NetworkFolders, *, old: str, new: str, field: str
) -> None:
    outside = folders.root.parent
    before = _content(outside)
    arguments = [new if item == old else item for item in KEYGEN]
    run = medtrail(*arguments, "--dir", folders.root, "--json")
    assert (run.code, run.error["field"]) == (ExitCode.WRONG_USE, field)
    assert _content(outside) == before
