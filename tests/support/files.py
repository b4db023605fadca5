"""What lies in the files of parts that run."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def files_holding(folder: Path, marker: bytes) -> list[str]:
    """Return the names of the files under a folder that hold some bytes; what vanishes meanwhile holds nothing."""
    found: list[str] = []
    for path in _files(folder):
        with suppress(FileNotFoundError):
            if marker in path.read_bytes():
                found.append(path.name)
    return found


def _files(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                yield from _files(path)
            elif path.is_file():
                yield path
