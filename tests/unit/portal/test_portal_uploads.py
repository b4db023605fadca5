"""Bodies on their way to the disk."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from medtrail.errors import MalformedError, TooLargeError, UnavailableError
from services.portal.errors import UploadTooSlowError
from services.portal.uploads import BUFFER_BYTES, Uploads


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


def _uploads(folder: Path, *, largest: int = 10 * BUFFER_BYTES, timeout_s: float = 60) -> Uploads:
    return Uploads(folder, largest=largest, timeout_s=timeout_s)


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def test_a_body_lies_whole_on_the_disk_for_its_owner_only(folder: Path) -> None:
    uploads = _uploads(folder)
    body = [b"a" * BUFFER_BYTES, b"b" * 10, b""]
    assert asyncio.run(uploads.receive("id", _pieces(*body), announced=None)) == BUFFER_BYTES + 10
    assert uploads.path("id").read_bytes() == b"".join(body)
    assert uploads.path("id").stat().st_mode & 0o777 == 0o600
    uploads.remove("id")
    uploads.remove("id")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("announced", [None, "1", "x", "11"])
def test_a_body_over_the_limit_leaves_nothing(folder: Path, announced: str | None) -> None:
    uploads = _uploads(folder, largest=10)
    with pytest.raises(TooLargeError) as caught:
        asyncio.run(uploads.receive("id", _pieces(b"x" * 6, b"x" * 6), announced=announced))
    assert caught.value.code == "CAPTURE_TOO_LARGE"
    assert list(folder.iterdir()) == []


def test_an_empty_a_slow_and_a_broken_off_body_leave_nothing(folder: Path) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionError

    with pytest.raises(MalformedError) as empty:
        asyncio.run(_uploads(folder).receive("id", _pieces(), announced=None))
    assert empty.value.code == "BODY_EMPTY"
    with pytest.raises(UploadTooSlowError):
        asyncio.run(_uploads(folder, timeout_s=0.01).receive("id", slow(), announced=None))
    with pytest.raises(UnavailableError) as lost:
        asyncio.run(_uploads(folder).receive("id", broken(), announced=None))
    assert lost.value.code == "UPLOAD_STORAGE"
    assert list(folder.iterdir()) == []


def test_a_start_removes_what_no_capture_waits_for(folder: Path) -> None:
    uploads = _uploads(folder)
    for name in ("kept", "left", "cut.part"):
        (folder / name).write_bytes(b"x")
    uploads.clean(["kept", "absent"])
    assert [path.name for path in folder.iterdir()] == ["kept"]
