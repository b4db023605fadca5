import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.errors import AuthorizationError, MalformedError, NotFoundError, TooLargeError
from medtrail.event import Enrolment, Genesis
from medtrail.runtime import ca
from medtrail.runtime.files import read_file, read_secret, write_file, write_secret
from medtrail.runtime.folder import OrganisationFolder, create_organisation, nats_public_key, new_nats_seed

if TYPE_CHECKING:
    from tests.conftest import Network

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRETS = ("signing.key", "sealing.key", "nats.key", "tls.key")


def test_secret_files_are_readable_by_their_owner_only(network: "Network") -> None:
    for folder in network.organisations.values():
        for name in SECRETS:
            assert (folder.path / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610])
def test_refuses_secret_open_to_others(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "signing.key"
    write_secret(path, b"secret")
    path.chmod(mode)
    with pytest.raises(AuthorizationError) as caught:
        read_secret(path)
    assert caught.value.code == "KEY_FILE_EXPOSED"
    assert caught.value.field == "signing.key"


def test_never_overwrites_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    write_secret(path, b"first")
    with pytest.raises(FileExistsError):
        write_secret(path, b"second")
    assert read_secret(path) == b"first"
    assert [each.name for each in tmp_path.iterdir()] == ["signing.key"]


def test_replaces_public_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "tls.crt"
    write_file(path, b"first")
    write_file(path, b"second")
    assert read_file(path) == b"second"
    assert [each.name for each in tmp_path.iterdir()] == ["tls.crt"]


def test_missing_and_oversized_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as missing:
        read_file(tmp_path / "absent")
    assert missing.value.code == "FILE_MISSING"
    write_file(tmp_path / "large", bytes((1 << 20) + 1))
    with pytest.raises(TooLargeError):
        read_file(tmp_path / "large")


def test_folder_gives_back_what_it_was_made_of(network: "Network") -> None:
    maker = OrganisationFolder(network["maker"].path)
    assert maker.profile == network["maker"].profile
    assert maker.nats_user_key().startswith("U")
    assert len(bytes(maker.sealing_key())) == 32
    assert str(maker.path) in repr(maker)


def test_enrolment_names_the_folders_keys_under_the_authoritys_signature(network: "Network") -> None:
    maker = network["maker"]
    signed = maker.enrolment()
    assert verify_signatures(signed) == network.authority.signing_key().key_id
    event = decode_payload(signed.payload_type, signed.payload)
    assert event.header.actor == network.authority.gln
    enrolment = event.statement
    assert isinstance(enrolment, Enrolment)
    assert enrolment.signing_key_ids == (maker.signing_key().key_id,)
    assert enrolment.sealing_key == bytes(maker.sealing_key().public_key)
    assert enrolment.nats_user_key == maker.nats_user_key()
    assert enrolment.roles == maker.profile.roles


def test_authority_numbers_its_statements_without_gaps(network: "Network") -> None:
    authority = network.authority
    genesis = Genesis("log.example", authority.signing_key().key_id, bytes(32))
    numbers = []
    for _ in range(3):
        signed = decode_signed_event(authority.sign(genesis))
        numbers.append(decode_payload(signed.payload_type, signed.payload).header.source_seq)
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]


def test_ledger_folder_has_log_key_and_the_authoritys_map_salt(network: "Network") -> None:
    assert len(network["ledger"].log_seed()) == 32
    assert network["ledger"].map_salt() == network.authority.map_salt()
    with pytest.raises(NotFoundError):
        network["maker"].log_seed()


def test_creation_refuses_a_folder_with_keys(network: "Network", tmp_path: Path) -> None:
    path = tmp_path / "org"
    create_organisation(path, network["maker"].profile, authority=network.authority)
    with pytest.raises(FileExistsError):
        create_organisation(path, network["maker"].profile, authority=network.authority)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (b"{", "organisation.json"),
        (b"[]", "organisation.json"),
        (b"{}", "name"),
        (b'{"name": "x", "display_name": "X", "gln": "0300011111116", "locations": [1]}', "locations"),
        (b'{"name": "x", "display_name": "X", "gln": "0300011111116", "roles": ["king"]}', "roles"),
    ],
)
def test_refuses_broken_profile(tmp_path: Path, document: bytes, field: str) -> None:
    write_file(tmp_path / "organisation.json", document)
    with pytest.raises(MalformedError) as caught:
        OrganisationFolder(tmp_path)
    assert caught.value.code == "PROFILE_MALFORMED"
    assert caught.value.field == field


def test_refuses_profile_with_wrong_check_digit(tmp_path: Path) -> None:
    document = {"name": "x", "display_name": "X", "gln": "0300011111117"}
    write_file(tmp_path / "organisation.json", json.dumps(document).encode())
    with pytest.raises(MalformedError) as caught:
        OrganisationFolder(tmp_path)
    assert caught.value.code == "CHECK_DIGIT_WRONG"


@pytest.mark.parametrize("content", [b"zz", b"00", b"\xff"])
def test_broken_key_is_refused_without_being_quoted(network: "Network", tmp_path: Path, content: bytes) -> None:
    write_file(tmp_path / "organisation.json", read_file(network["maker"].path / "organisation.json"))
    write_secret(tmp_path / "signing.key", content)
    with pytest.raises(MalformedError) as caught:
        OrganisationFolder(tmp_path).signing_key()
    assert caught.value.code == "KEY_MALFORMED"
    assert caught.value.__cause__ is None


def test_refuses_what_is_no_nats_seed() -> None:
    with pytest.raises(MalformedError):
        nats_public_key(b"SUNOTASEED")
    assert nats_public_key(new_nats_seed()).startswith("U")


def test_secrets_do_not_show_in_reprs(network: "Network") -> None:
    maker = network["maker"]
    tls = maker.tls()
    assert "PRIVATE" not in repr(tls)
    assert maker.signing_key().seed.hex() not in repr(maker.signing_key())


def test_certificate_is_p256_for_the_organisations_name() -> None:
    root = ca.create_ca("test", now=NOW)
    leaf = x509.load_pem_x509_certificate(
        ca.issue(root, "maker", now=NOW, hosts=("10.0.0.1", "maker.test")).certificate
    )
    authority = x509.load_pem_x509_certificate(root.certificate)
    leaf.verify_directly_issued_by(authority)
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "maker.medtrail.internal", "maker.test"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "10.0.0.1"]
    assert leaf.not_valid_before_utc < NOW < leaf.not_valid_after_utc <= NOW + timedelta(days=398)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca
    assert constraints.path_length == 0


def test_refuses_to_issue_under_what_is_no_ca() -> None:
    with pytest.raises(MalformedError):
        ca.issue(ca.Credentials(b"x", b"y"), "maker", now=NOW)
