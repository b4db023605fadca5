"""Bodies of captures on their way to the disk: never in memory, bounded in size and time, whole or absent."""

import asyncio
import os
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import BinaryIO

from medtrail.errors import MalformedError, TooLargeError, UnavailableError
from medtrail.runtime.files import sync_folder
from services.portal.errors import UploadTooSlowError

BUFFER_BYTES = 256 * 1024
_UNFINISHED = ".part"


class Uploads:
    """The folder of uploads, one file a capture, named by its id."""

    def __init__(self, folder: Path, *, largest: int, timeout_s: float) -> None:
        """Name the folder; it is made when absent.

        Args:
            folder: Of its own.
            largest: Most bytes of one upload.
            timeout_s: Longest that one may take to come.
        """
        self._folder = folder
        self._largest = largest
        self._timeout_s = timeout_s
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, capture_id: str) -> Path:
        """Return where an upload lies."""
        return self._folder / capture_id

    async def receive(self, capture_id: str, body: AsyncIterable[bytes], *, announced: str | None) -> int:
        """Write a body to the disk; return its bytes. When it returns, the file is durable.

        A crash before that leaves a file that :meth:`clean` removes.

        Args:
            capture_id: Names the file.
            body: Comes in pieces.
            announced: Content-Length, or None.

        Raises:
            TooLargeError: CAPTURE_TOO_LARGE.
            UploadTooSlowError: It takes too long to come.
            MalformedError: It is empty.
            UnavailableError: UPLOAD_STORAGE: it cannot be written.
        """
        if announced is not None and announced.isdigit() and int(announced) > self._largest:
            raise self._too_large()
        part = self._folder / (capture_id + _UNFINISHED)
        try:
            async with asyncio.timeout(self._timeout_s):
                size = await self._write(part, body)
            await asyncio.to_thread(part.replace, self.path(capture_id))
            await asyncio.to_thread(sync_folder, self._folder)
        except TimeoutError as error:
            message = f"the body did not come within {self._timeout_s:g} s"
            raise UploadTooSlowError(message) from error
        except OSError as error:
            message = f"the upload cannot be kept: {error.strerror}"
            raise UnavailableError(message, code="UPLOAD_STORAGE") from error
        finally:
            part.unlink(missing_ok=True)
        return size

    async def _write(self, part: Path, body: AsyncIterable[bytes]) -> int:
        size = 0
        pieces: list[bytes] = []
        waiting = 0
        with open(part, "xb", opener=_private) as file:  # noqa: ASYNC230 - only the builtin takes an opener
            async for piece in body:
                size += len(piece)
                if size > self._largest:
                    raise self._too_large()
                pieces.append(piece)
                waiting += len(piece)
                if waiting >= BUFFER_BYTES:
                    await asyncio.to_thread(file.writelines, pieces)
                    pieces, waiting = [], 0
            if not size:
                raise MalformedError("expected a document, got an empty body", code="BODY_EMPTY")
            await asyncio.to_thread(_finish, file, pieces)
        return size

    def _too_large(self) -> TooLargeError:
        message = f"a capture has at most {self._largest} bytes"
        return TooLargeError(message, code="CAPTURE_TOO_LARGE", limit=self._largest)

    def remove(self, capture_id: str) -> None:
        """Remove an upload; it may be gone."""
        self.path(capture_id).unlink(missing_ok=True)

    def clean(self, wanted: Iterable[str]) -> None:
        """Remove everything but the uploads of some captures: what a crash left."""
        kept = set(wanted)
        for path in self._folder.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)


def _finish(file: BinaryIO, pieces: list[bytes]) -> None:
    file.writelines(pieces)
    file.flush()
    os.fsync(file.fileno())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
