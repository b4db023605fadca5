import asyncio
import hashlib
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ledger.bootstrap import Ledger
from ledger.commands import main
from ledger.log_reader import LogReader
from ledger.progress import progress
from medtrail.envelope import SigningKey
from medtrail.errors import MedtrailError, UnavailableError, VerificationError
from medtrail.event import Genesis
from medtrail.runtime.folder import Profile, create_authority

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Network
    from tests.integration.ledger.conftest import CheckLog, Events, NewLog, OfflineLog

ORIGIN = "ledger.example/test"


@pytest.fixture
def database_url() -> str:
    """Starts and commands on files; those that take a database have tests of their own elsewhere."""
    return ""


def test_rebuild_fills_the_projection_anew(log: "OfflineLog", capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["rebuild", "--dir", str(log.home.root)]) == 0
        assert capsys.readouterr().out.endswith("rebuilt the projection from 11 entries\n")
    with closing(sqlite3.connect(log.home.root / "projection.db")) as connection:
        assert connection.execute("SELECT count(*) FROM event_fact").fetchone() == (11,)


@pytest.mark.parametrize("arguments", [[], ["fsck"], ["nothing"], ["rebuild"]])
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_commands_without_a_log_say_what_is_missing(tmp_path: "Path", capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rebuild", "--dir", str(tmp_path)]) == 2
    assert main(["rebuild", "--dir", str(tmp_path / "nowhere")]) == 2
    assert main(["fsck", "--dir", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("FILE_MISSING") == 3


def test_fsck_takes_a_shared_file_by_its_url(log: "OfflineLog", tmp_path: "Path") -> None:
    shared = tmp_path / "shared.db"
    log.copy_database(shared)
    url = f"sqlite:////{shared.relative_to('/')}"
    assert main(["fsck", "--dir", str(log.home.root), "--database", url]) == 0
    assert main(["fsck", "--dir", str(log.home.root), "--database", f"{url}x"]) == 2


def test_fsck_without_any_key_is_wrong_use(log: "OfflineLog", capsys: pytest.CaptureFixture[str]) -> None:
    (log.home.root / "org").rename(log.home.root / "elsewhere")
    assert main(["fsck", "--dir", str(log.home.root)]) == 2
    assert "KEY_MISSING" in capsys.readouterr().err
    vkey = log.home.__class__(log.home.root, type(log.home.folder)(log.home.root / "elsewhere"), "", "").vkey
    assert main(["fsck", "--dir", str(log.home.root), "--vkey", vkey]) == 0


def test_serve_with_wrong_settings_exits_with_2(log: "OfflineLog") -> None:
    for wrong, code in (
        ({"MEDTRAIL_CHECKPOINT_INTERVAL_S": "0"}, "SETTING_INVALID"),
        ({"MEDTRAIL_LOG_ORIGIN": "ledger.example/other"}, "LOG_KEY_MISMATCH"),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "ledger", "serve"],
            env=log.home.environment() | wrong,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 2
        assert json.loads(ended.stderr)["code"] == code
        assert ended.stdout == ""


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"log_origin": "ledger.example/other", "log_vkey": ""}, "ORIGIN_MISMATCH"),
        ({"authority_key_id": SigningKey.from_seed(bytes(32)).key_id}, "NOT_AUTHORITY"),
        ({"log_origin": "ledger.example/other"}, "LOG_KEY_MISMATCH"),
    ],
)
def test_ledger_of_another_log_does_not_start(changes: dict[str, str], code: str, log: "OfflineLog") -> None:
    with pytest.raises(MedtrailError) as caught:
        Ledger(log.home.settings(**changes))
    assert caught.value.code == code


def test_log_is_not_created_from_a_wrong_genesis(new_log: "NewLog", network: "Network", tmp_path: "Path") -> None:
    log = new_log()
    genesis = log.home.folder.path / "genesis.bin"
    stranger = create_authority(tmp_path / "stranger", Profile("stranger", "Stranger", network.authority.gln))
    salt_hash = hashlib.sha256(log.salt).digest()
    wrong = {
        "NOT_AUTHORITY": stranger.sign(Genesis(ORIGIN, log.home.authority_key_id, salt_hash)),
        "MAP_SALT_MISMATCH": network.authority.sign(Genesis(ORIGIN, log.home.authority_key_id, bytes(32))),
        "MESSAGE_MALFORMED": b"\xff\xff",
        "AUTHORITY_MISMATCH": network.authority.sign(Genesis(ORIGIN, stranger.signing_key().key_id, salt_hash)),
    }
    for code, data in wrong.items():
        genesis.write_bytes(data)
        with pytest.raises(MedtrailError) as caught:
            Ledger(log.home.settings(data_dir=tmp_path / code))
        assert caught.value.code == code


@pytest.mark.parametrize(("policy", "code"), [(None, "FILE_MISSING"), ("witness", "POLICY_MALFORMED")])
def test_ledger_with_a_wrong_policy_leaves_no_database_open(
    policy: str | None, code: str, log: "OfflineLog", tmp_path: "Path"
) -> None:
    rules, home = tmp_path / "policy.txt", tmp_path / "new"
    if policy is not None:
        rules.write_text(policy)
    with pytest.raises(MedtrailError) as caught:
        Ledger(log.home.settings(data_dir=home, policy_file=rules))
    assert caught.value.code == code
    # Whoever closes a database last takes its write-ahead log away.
    assert sorted(path.name for path in home.iterdir()) == ["ledger.db", "projection.db"]


def test_fsck_of_a_database_without_a_log_says_so(new_log: "NewLog") -> None:
    log = new_log()
    log.change("DELETE FROM log_state")
    with pytest.raises(MedtrailError) as caught:
        log.fsck()
    assert caught.value.code == "LOG_MISSING"


def test_proof_is_not_made_from_damaged_tiles(log: "OfflineLog") -> None:
    reader = LogReader(log.database, log.files, log.feed, map_salt=log.salt)
    tile = log.home.root / "public" / "tile" / "0" / "000.p" / "11"
    content = tile.read_bytes()
    tile.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))

    async def prove() -> None:
        entry = await reader.entry(3, reader.checkpoint)
        await reader.prove([entry], reader.checkpoint)

    with pytest.raises(VerificationError):
        asyncio.run(prove())


def test_signer_that_must_not_sign_says_why_and_stops(log: "OfflineLog", events: "Events") -> None:
    log.commission(events, [50])
    log.change("UPDATE signed_event SET data = zeroblob(9) WHERE leaf_index = 11")
    signer = log.signer()
    asyncio.run(signer.run(log.fence))
    assert signer.error is not None
    assert signer.error.code == "ENTRY_CORRUPT"


def test_published_checkpoint_of_another_history_stops_the_mirror(log: "OfflineLog") -> None:
    log.change("UPDATE checkpoint SET root_hash = zeroblob(32) WHERE tree_size = 11")
    mirror = log.mirror()
    asyncio.run(mirror.run())
    assert mirror.error is not None
    assert mirror.error.code == "LOG_FORKED"


def test_listening_where_somebody_listens_is_told(log: "OfflineLog") -> None:
    import socket

    from ledger.public_files import PublicServer

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UnavailableError) as caught:
        PublicServer(log.files.folder, listen=f"127.0.0.1:{taken.getsockname()[1]}")
    assert caught.value.code == "LISTEN_FAILED"


@pytest.mark.parametrize("taken", ["listen", "http_listen"])
def test_ledger_that_cannot_listen_leaves_nothing_open(log: "OfflineLog", taken: str) -> None:
    import socket

    async def scenario() -> None:
        stop = asyncio.Event().wait()
        with socket.create_server(("127.0.0.1", 0)) as other:
            ledger = Ledger(log.home.settings(**{taken: f"127.0.0.1:{other.getsockname()[1]}"}))
            with pytest.raises(UnavailableError) as caught:
                await ledger.run(stop)
        stop.close()
        assert caught.value.code == "LISTEN_FAILED"

    asyncio.run(scenario())


def test_progress_shows_a_bar_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], check_log: "CheckLog"
) -> None:
    with progress("checking") as tell:
        tell(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress("checking") as tell:
        tell(1, 2)
    assert "checking" in capsys.readouterr().err
