"""``medtrail demo``: the whole job on a fresh network, every claim checked as it is made."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from medtrail.cli.demo_evidence import prove_offline, tamper_and_find
from medtrail.cli.demo_story import Story
from medtrail.cli.embedded import EmbeddedNetwork
from medtrail.cli.output import Output
from medtrail.errors import ConflictError

T = TypeVar("T")

NETWORK_FOLDER = "network"
PROOF_FOLDER = "proofs"
MARKER = ".medtrail-demo"


class Stage:
    """Prints what is being shown, and what was proven, with counts and times; remembers both for ``--json``."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self.facts: list[dict[str, object]] = []

    def title(self, text: str) -> None:
        """Begin a part."""
        self._console.print(f"\n[bold]{text}[/]")

    def note(self, text: str) -> None:
        """Say what is going on."""
        self._console.print(f"  {text}", markup=False, style="dim", soft_wrap=True)

    def proved(self, text: str, **facts: object) -> None:
        """Say what was shown; only called behind the check that it is so."""
        elapsed = time.monotonic() - self._started
        self.facts.append({"proved": text, "elapsed_s": round(elapsed, 1), **facts})
        self._console.print("  [green]✓[/] ", end="")
        self._console.print(f"{text}  [{elapsed:.1f} s]", markup=False, soft_wrap=True)

    async def timed(self, text: str, work: Awaitable[T], *, count: Callable[[T], int]) -> T:
        """Do a counted piece of work and print its count and speed."""
        began = time.monotonic()
        result = await work
        seconds = time.monotonic() - began
        number = count(result)
        self.proved(f"{text}: {number} in {seconds:.1f} s", count=number, seconds=round(seconds, 2))
        return result


def run_demo(folder: Path, output: Output, *, example: Path | None, packs: int) -> None:
    """Run the demo in a fresh folder.

    Raises:
        ConflictError: The folder holds something that no demo made.
        MedtrailError: Something did not turn out as claimed.
    """
    console = output.errors if output.as_json else output.console
    stage = Stage(console)
    _clear(folder)
    if example is None:
        with as_file(files("medtrail.cli").joinpath("data", "dscsa_example.xml")) as path:
            asyncio.run(_run(folder, stage, example=path, packs=packs))
    else:
        asyncio.run(_run(folder, stage, example=example, packs=packs))
    console.print("\n[bold green]all claims held[/]")
    output.answer({"proved": stage.facts}, lambda _console: None)


def _clear(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        message = f"{folder} holds something else: name an empty folder with --dir"
        raise ConflictError(message, code="FOLDER_TAKEN", field="--dir")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


async def _run(folder: Path, stage: Stage, *, example: Path, packs: int) -> None:
    stage.title("A network: one manufacturer, two distributors, four pharmacies, an exchange and a ledger")
    network = EmbeddedNetwork(folder / NETWORK_FOLDER, report=stage.note)
    proofs = folder / PROOF_FOLDER
    running = await network.start()
    try:
        stage.proved(f"{len(network.pids())} processes run, every call over TLS with a signed token")
        async with Story.open(running, stage, packs=packs) as story:
            await story.import_example(example)
            await story.make_and_ship()
            await story.receive_and_send_on()
            await story.handle()
            await story.scan()
            await story.recall()
            await story.forge()
            await story.export(proofs)
    finally:
        stage.title("Everything is shut down")
        await network.stop()
    await prove_offline(proofs, stage, key=running.verifier_keys[0])
    await tamper_and_find(network.root / "ledger", folder / "tampered", stage)
