"""Processes by their number."""

from pathlib import Path


def runs(pid: int) -> bool:
    """Tell whether a process runs: one that has ended and that nobody has waited for yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        # The second where it ends between the opening and the reading.
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}
