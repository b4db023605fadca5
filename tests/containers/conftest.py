"""Fixtures for tests with containers.

Fixtures:
    engine: a container engine answers and has the project's images; otherwise the test is skipped, or fails where
        MEDTRAIL_TEST_CONTAINERS is ``required``.
    application, unprotected_postgres: containers that are not started.
    postgres_container: a PostgreSQL in a container, with a port that stays its own; can be killed and started again.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

import docker  # type: ignore[import-untyped]  # it ships none
import psycopg
import pytest
from docker.errors import ImageNotFound  # type: ignore[import-untyped]
from testcontainers.core.container import DockerContainer

IMAGES = tuple(f"localhost/medtrail/{name}" for name in ("nats", "postgres", "app"))
PATIENCE_S = 180.0


def _without(reason: str) -> NoReturn:
    if os.environ.get("MEDTRAIL_TEST_CONTAINERS") == "required":
        pytest.fail(f"MEDTRAIL_TEST_CONTAINERS=required, but {reason}")
    pytest.skip(reason)


def _listens(address: str) -> bool:
    """Tell whether something takes connections there: the engine's client leaves a socket open where nothing does."""
    url = urlsplit(address)
    try:
        if url.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(url.path)
        else:
            socket.create_connection((url.hostname or "", url.port or 2375), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def engine() -> None:
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not _listens(address):
        _without(f"no container engine listens at {address} (DOCKER_HOST; podman system service)")
    client = docker.from_env()
    try:
        for image in IMAGES:
            client.images.get(image)
    except ImageNotFound as error:
        _without(f"an image is missing: make images ({error.explanation})")
    finally:
        client.close()


@contextmanager
def ended(container: DockerContainer) -> Iterator[None]:
    """Remove a container in the end, started or not, and close the connection to the engine."""
    try:
        yield
    finally:
        container.stop(force=True)
        container.get_docker_client().client.close()


@pytest.fixture
def unprotected_postgres(engine: None) -> Iterator[DockerContainer]:
    """A PostgreSQL without a password, not started."""
    container = DockerContainer("localhost/medtrail/postgres")
    with ended(container):
        yield container


@pytest.fixture
def application(engine: None) -> Iterator[DockerContainer]:
    """Medtrail in a container, not started and without a command."""
    container = DockerContainer("localhost/medtrail/app")
    with ended(container):
        yield container


@dataclass(frozen=True)
class PostgresContainer:
    """A PostgreSQL in a container; kept with its data until the test ends."""

    container: DockerContainer
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"

    def kill(self) -> None:
        wrapped = self.container.get_wrapped_container()
        wrapped.kill("SIGKILL")
        wrapped.wait()

    def start(self) -> None:
        self.container.get_wrapped_container().start()
        self.wait()

    def wait(self) -> None:
        """Wait until it takes connections."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start: {self.container.get_logs()}")
                time.sleep(0.01)
            else:
                return


@pytest.fixture
def postgres_container(engine: None) -> Iterator[PostgresContainer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    container = (
        DockerContainer("localhost/medtrail/postgres")
        .with_env("POSTGRES_PASSWORD", "of@a:test")
        .with_bind_ports(5432, port)
    )
    server = PostgresContainer(container, port, "of%40a%3Atest")
    with ended(container):
        container.start()
        server.wait()
        yield server
