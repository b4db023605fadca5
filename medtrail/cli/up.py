"""``medtrail up``."""

import asyncio
from pathlib import Path

from rich.console import Console
from rich.table import Table

from medtrail.cli.embedded import EmbeddedNetwork
from medtrail.cli.network import RunningNetwork
from medtrail.cli.output import Output
from medtrail.runtime.server import wait_for_signal


def run_up(folder: Path, output: Output, *, portals: bool) -> None:
    """Run the network of a folder until SIGINT or SIGTERM."""
    asyncio.run(_run(folder, output, portals=portals))


async def _run(folder: Path, output: Output, *, portals: bool) -> None:
    def report(text: str) -> None:
        output.errors.print(text, markup=False)

    network = EmbeddedNetwork(folder, report=report, portals=portals)
    starting = asyncio.create_task(network.start())
    stopping = asyncio.create_task(wait_for_signal())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            running = await starting
            output.answer(running.to_document(), lambda console: _draw(console, network.root, running))
            await stopping
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        report("stopping")
        await network.stop()


def _draw(console: Console, root: Path, running: RunningNetwork) -> None:
    table = Table(title=f"{running.origin} in {root}", title_justify="left")
    for heading in ("organisation", "role", "GLN", "gRPC", "EPCIS REST"):
        table.add_column(heading)
    for item in running.organisations:
        table.add_row(item.name, item.role, item.gln, item.address, item.portal_url)
    table.add_row("ledger", "ledger", running.ledger_gln, running.ledger_address, "")
    console.print(table)
    console.print(f"log       {running.log_url}/checkpoint", markup=False)
    console.print(f"key       {running.verifier_keys[0]}", markup=False, soft_wrap=True)
    console.print(f"policy    {running.policy}", markup=False, soft_wrap=True)
    console.print(f"exchange  {running.nats_url}", markup=False)
    console.print(f"details   {root / 'network.json'}", markup=False, soft_wrap=True)
    console.print("running; Ctrl-C stops it", style="bold green")
