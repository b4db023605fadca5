"""``medtrail simulate``: a whole network played by a seed, its answers compared with what is known to be so."""

import asyncio
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from medtrail.cli.output import ExitCode, Output
from medtrail.errors import ConflictError
from medtrail.simulation.staging import Options, Tell, simulate

MARKER = ".medtrail-simulation"


def run_simulate(folder: Path, output: Output, options: Options) -> None:
    """Simulate in a fresh folder; exit code 1 at any difference.

    Raises:
        ConflictError: The folder holds something that no simulation made.
        MedtrailError: The network did not start, or got stuck.
    """
    _clear(folder)
    with drawn_bars(output.errors) as tell:
        report = asyncio.run(simulate(folder, options, tell=tell))
    output.answer(report.document(), report.draw)
    if not report.ok:
        sys.exit(ExitCode.REFUSED)


def _clear(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        message = f"{folder} holds something else: name an empty folder with --dir"
        raise ConflictError(message, code="FOLDER_TAKEN", field="--dir")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


@contextmanager
def drawn_bars(console: Console) -> Iterator[Tell]:
    """Yield what draws a bar a phase where there is a terminal, and else writes a line at the end of each."""
    progress = Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    tasks = {}

    def tell(phase: str, done: int, total: int) -> None:
        if phase not in tasks:
            tasks[phase] = progress.add_task(phase, total=total, speed="")
        task = tasks[phase]
        elapsed = next(item.elapsed for item in progress.tasks if item.id == task)
        speed = f"{done / elapsed:.0f}/s" if elapsed else ""
        progress.update(task, completed=done, total=total, speed=speed)
        if done == total and not console.is_terminal:
            console.print(f"{phase}: {total}", markup=False)

    with progress:
        yield tell
