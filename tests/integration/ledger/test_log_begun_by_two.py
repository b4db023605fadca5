"""Two instances that share a database begin its log at the same moment."""

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import Connection

from ledger.bootstrap import Ledger
from ledger.creation import ensure_log
from ledger.storage import log_store
from ledger.storage.migrate import migrate
from ledger.storage.open import open_storage
from tests.integration.ledger.conftest import NOW, ORIGIN, make_home

if TYPE_CHECKING:
    from tests.conftest import Network


def test_instance_that_comes_second_takes_the_log_that_the_first_has_begun(
    tmp_path: Path, network: "Network", postgres_url: str
) -> None:
    home = make_home(tmp_path / "ledger", network, database_url=postgres_url)
    first = open_storage(home.root, postgres_url)
    salt = home.folder.map_salt()
    migrate(first, map_salt=salt)
    ensure = partial(
        ensure_log,
        folder=home.folder.path,
        origin=ORIGIN,
        authority_key_id=home.authority_key_id,
        map_salt=salt,
        now=NOW,
    )
    started: list[Ledger] = []
    second = threading.Thread(target=lambda: started.append(Ledger(home.settings())))

    def begin(connection: Connection) -> None:
        ensure(connection)
        second.start()
        # Not yet committed: the second waits for what becomes of it.
        with psycopg.connect(postgres_url, autocommit=True) as watching:
            waits = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            while second.is_alive() and watching.execute(waits).fetchone() == (0,):
                pass

    first.write_now(begin)
    second.join()
    (ledger,) = started
    assert ledger.database.read_now(log_store.require_state).tree.size == 1
    ledger.close()
    first.close()
