"""Files that must be whole or absent, and secrets that only their owner may read."""

import os
import secrets
import stat
from pathlib import Path

from medtrail.errors import AuthorizationError, NotFoundError, TooLargeError

LARGEST_FILE_BYTES = 1 << 20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def write_file(path: Path, content: bytes, *, mode: int = 0o644, replace: bool = True) -> None:
    """Put a file in place whole: temporary file, fsync, rename, fsync of the folder.

    A crash leaves the old file or the new one; at worst a temporary file lies beside it.

    Args:
        path: Where; its folder exists.
        content: All of it.
        mode: Permission bits, set at creation, so that a secret is never readable for a moment.
        replace: False refuses to overwrite.

    Raises:
        FileExistsError: The file is there and must not be replaced.
    """
    put_file(path, content, mode=mode, replace=replace)
    sync_folder(path.parent)


def put_file(path: Path, content: bytes, *, mode: int = 0o644, replace: bool = True) -> None:
    """Put a file in place whole as :func:`write_file` does, but for the last step: :func:`sync_folder` is the caller's.

    Before it, a crash may leave the old name where the new one was seen already. Arguments and errors are the same.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - only the builtin takes a descriptor
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            # A link fails when the name is taken, in one step; a rename would overwrite.
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_secret(path: Path, content: bytes) -> None:
    """Put a new secret in place, readable by its owner only; an existing one is never overwritten.

    Raises:
        FileExistsError: There is one already.
    """
    write_file(path, content, mode=0o600, replace=False)


def read_secret(path: Path) -> bytes:
    """Return a secret.

    Raises:
        AuthorizationError: KEY_FILE_EXPOSED: group or others may touch it; nothing is read then.
        NotFoundError: FILE_MISSING.
        TooLargeError: More than 1 MiB.
    """
    return _read(path, secret=True)


def read_file(path: Path) -> bytes:
    """Return a file that is no secret.

    Raises:
        NotFoundError: FILE_MISSING.
        TooLargeError: More than 1 MiB.
    """
    return _read(path, secret=False)


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} is missing", code="FILE_MISSING", field=path.name) from error
    with file:
        # Of the open file, not of the name: the two cannot be swapped in between.
        status = os.fstat(file.fileno())
        if secret and status.st_mode & _OTHERS:
            message = f"{path} is open to group or others (mode {stat.S_IMODE(status.st_mode):04o}); wanted 0600"
            raise AuthorizationError(message, code="KEY_FILE_EXPOSED", field=path.name)
        if status.st_size > LARGEST_FILE_BYTES:
            message = f"{path} has {status.st_size} bytes, more than {LARGEST_FILE_BYTES}"
            raise TooLargeError(message, field=path.name)
        return file.read()
