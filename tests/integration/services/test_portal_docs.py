"""The lines of docs/epcis-rest.md, as a reader types them."""

import asyncio
import json
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medtrail.epcis import EpcisDocument, event_from_json, write_xml
from medtrail.runtime.portal_tokens import Scope, add_token
from medtrail.runtime.settings import PortalSettings
from services.portal.bootstrap import running

if TYPE_CHECKING:
    from tests.integration.services.conftest import Play, World

ROOT = Path(__file__).resolve().parents[3]
EVENT = {
    "@context": ["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"],
    "type": "ObjectEvent",
    "eventTime": "2026-03-01T12:00:00Z",
    "eventTimeZoneOffset": "+00:00",
    "action": "ADD",
    "epcList": ["urn:epc:id:sgtin:030001.0012345.1"],
    "bizStep": "commissioning",
    "disposition": "active",
    "readPoint": {"id": "urn:epc:id:sgln:030001.111111.0"},
    "bizLocation": {"id": "urn:epc:id:sgln:030001.111111.0"},
}


def curl_lines() -> list[str]:
    """Return the curl commands of the document, each on one line, in order."""
    text = (ROOT / "docs/epcis-rest.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ curl ")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_every_curl_line_of_the_document_is_answered(play: "Play", tmp_path: Path) -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        tokens = tmp_path / "tokens"
        token = add_token(tokens, "erp", frozenset(Scope), created=datetime.now(UTC))
        settings = PortalSettings(
            org_dir=world.network["maker"].path,
            data_dir=tmp_path / "data",
            service_address=maker.address,  # type: ignore[attr-defined]
            token_file=tokens,
        )
        (tmp_path / "event.json").write_text(json.dumps(EVENT), encoding="utf-8")
        event = event_from_json(EVENT)
        (tmp_path / "shipment.xml").write_bytes(write_xml(EpcisDocument((event,), creation_date=event.event_time)))
        lines = curl_lines()
        assert len(lines) >= 8
        async with running(settings) as (_portal, url):
            for line in lines:
                process = await asyncio.create_subprocess_shell(
                    line.replace("curl ", "curl --fail-with-body --silent --show-error ", 1),
                    cwd=tmp_path,
                    env={"PATH": os.environ["PATH"], "PORTAL": url, "TOKEN": token},
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                )
                output, _ = await process.communicate()
                assert process.returncode == 0, (line, output)

    play(story)
