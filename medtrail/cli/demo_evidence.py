"""The demo's last part: what holds when nothing runs any more."""

import asyncio
import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtrail.errors import VerificationError

if TYPE_CHECKING:
    from medtrail.cli.demo import Stage


async def prove_offline(folder: Path, stage: "Stage", *, key: str) -> None:
    """Verify every exported event with `medtrail verify`, and see a changed one refused."""
    proofs = _proofs(folder)
    places = asyncio.Semaphore(os.cpu_count() or 1)

    async def verified(proof: Path) -> None:
        async with places:
            code, text = await run_python(
                "-m", "medtrail.cli", "verify", str(proof), "--event", _event(proof), "--key", key
            )
        if code != 0:
            raise VerificationError(f"a proof was refused: {text}", code="DEMO_FAILED")

    await asyncio.gather(*map(verified, proofs))
    stage.proved(f"{len(proofs)} exported events verified offline, with the kernel alone", proofs=len(proofs))
    changed = _change(Path(_event(proofs[0])), folder / "changed.event")
    code, text = await run_python("-m", "medtrail.cli", "verify", str(proofs[0]), "--event", str(changed), "--key", key)
    if code != 1:
        raise VerificationError(f"a changed event was not refused: {text}", code="DEMO_FAILED")
    stage.proved("the same proof with one bit of the event changed: refused")


def _proofs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tlog-proof"))


def _change(event: Path, changed: Path) -> Path:
    data = bytearray(event.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    return changed


def _event(proof: Path) -> str:
    return str(proof.with_suffix(".event"))


async def tamper_and_find(ledger: Path, copy: Path, stage: "Stage") -> None:
    """Check the ledger's files, change one byte in a copy of its database, and see it found."""
    code, report = await _fsck(ledger)
    if code != 0:
        raise VerificationError(f"fsck found something in the untouched log: {report}", code="DEMO_FAILED")
    stage.proved(f"fsck re-derived {report['tree_size']} entries from the stored bytes: clean", **_counts(report))
    shutil.copytree(ledger, copy)
    index = _flip_byte(copy / "ledger.db")
    code, report = await _fsck(copy)
    findings = report.get("findings", [])
    if code != 1 or not findings:
        raise VerificationError(f"fsck did not find the changed byte: {report}", code="DEMO_FAILED")
    codes = sorted({str(finding["code"]) for finding in findings})
    stage.proved(f"one bit changed in the stored event of entry {index}: fsck says {', '.join(codes)}")


def _counts(report: dict[str, Any]) -> dict[str, object]:
    return {key: value for key, value in report.items() if isinstance(value, int | str)}


def _flip_byte(path: Path) -> int:
    """Flip one bit in the middle of a stored SignedEvent; returns its index."""
    with sqlite3.connect(path) as connection:
        (index, data) = connection.execute(
            "SELECT leaf_index, data FROM signed_event ORDER BY leaf_index LIMIT 1 OFFSET 20"
        ).fetchone()
        changed = bytearray(data)
        changed[len(changed) // 2] ^= 1
        connection.execute("UPDATE signed_event SET data = ? WHERE leaf_index = ?", (bytes(changed), index))
    connection.close()
    return int(index)


async def _fsck(folder: Path) -> tuple[int, dict[str, Any]]:
    code, text = await run_python("-m", "ledger", "fsck", "--dir", str(folder), "--json")
    try:
        report: dict[str, Any] = json.loads(text)
    except ValueError:
        report = {"output": text}
    return code, report


async def run_python(*arguments: str) -> tuple[int, str]:
    """Run this Python with arguments; returns its exit code and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    return process.returncode or 0, (out or errors).decode(errors="replace")
