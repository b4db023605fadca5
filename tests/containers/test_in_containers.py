import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.storage import log_store
from ledger.storage.migrate import migrate
from medtrail.errors import UnavailableError
from medtrail.runtime.postgres import PostgresDatabase

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

    from tests.containers.conftest import PostgresContainer

ROOT = Path(__file__).resolve().parents[2]
SUITE = ("tests/integration/ledger", "tests/integration/runtime/test_exchange.py")
CHOICE = "postgres or test_exchange"
NATS_IMAGE = "localhost/medtrail/nats"
SUITE_TIMEOUT_S = 1800


@pytest.mark.timeout(SUITE_TIMEOUT_S)
def test_suite_of_the_ledger_on_postgresql_and_nats_in_containers(
    postgres_container: "PostgresContainer", tmp_path: Path
) -> None:
    # Lines that are covered here are covered on the machine's own servers as well: that need not be measured twice.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *SUITE, "-k", CHOICE, "-q", "--no-cov"),
            *("-p", "no:cacheprovider", "--basetemp", tmp_path / "suite"),
        ],
        cwd=ROOT,
        env=environment | {"MEDTRAIL_TEST_POSTGRES": postgres_container.url, "MEDTRAIL_TEST_NATS_IMAGE": NATS_IMAGE},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.rstrip().rpartition("\n")[2]
    assert done.returncode == 0, done.stdout[-20_000:]
    passed = re.search(r"(\d+) passed", last)
    assert passed is not None
    assert int(passed[1]) > 50, last
    assert "skipped" not in last


def test_container_killed_outright_loses_nothing_committed(postgres_container: "PostgresContainer") -> None:
    database = PostgresDatabase(postgres_container.url)
    migrate(database, map_salt=bytes(32))
    for round_number in range(1, 3):
        database.write_now(partial(log_store.move_follower, name="one", position=round_number))
        postgres_container.kill()
        postgres_container.start()
        # The pool's connections are dead; the call that finds them so may say it, the next one works.
        try:
            found = database.read_now(partial(log_store.follower_position, name="one"))
        except UnavailableError:
            found = database.read_now(partial(log_store.follower_position, name="one"))
        assert found == round_number
    database.close()


def test_postgresql_without_a_password_does_not_start(unprotected_postgres: "DockerContainer") -> None:
    unprotected_postgres.start()
    assert unprotected_postgres.get_wrapped_container().wait()["StatusCode"] != 0
    assert b"POSTGRES_PASSWORD" in b"".join(unprotected_postgres.get_logs())


def test_application_starts_from_its_image(application: "DockerContainer") -> None:
    application.with_command("ledger fsck --help").start()
    assert application.get_wrapped_container().wait()["StatusCode"] == 0
    assert b"--dir" in b"".join(application.get_logs())
