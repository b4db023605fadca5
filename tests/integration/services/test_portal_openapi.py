"""The portal against its own OpenAPI text."""

import asyncio
import os
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest

from medtrail.runtime.portal_tokens import Scope, add_token
from medtrail.runtime.settings import PortalSettings
from services.portal.bootstrap import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.services.conftest import Play, World

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,allow_header_conformance,ignored_auth"
)
# More of both for a longer look: SCHEMATHESIS_PHASES=coverage,fuzzing SCHEMATHESIS_EXAMPLES=200.
PHASES = os.environ.get("SCHEMATHESIS_PHASES", "examples,fuzzing")
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "3")


@pytest.mark.timeout(1800)
def test_schemathesis_finds_no_broken_and_no_undocumented_answer(play: "Play", tmp_path: "Path") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        tokens = tmp_path / "tokens"
        token = add_token(tokens, "tester", frozenset(Scope), created=datetime.now(UTC))
        settings = PortalSettings(
            org_dir=world.network["maker"].path,
            data_dir=tmp_path / "data",
            service_address=maker.address,  # type: ignore[attr-defined]
            token_file=tokens,
            most_jobs=1000,
        )
        async with running(settings) as (_portal, url):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
                *("--checks", CHECKS, "--header", f"Authorization: Bearer {token}"),
                *(
                    "--phases",
                    PHASES,
                    "--max-examples",
                    EXAMPLES,
                    "--seed",
                    "1",
                ),
                *("--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off", "--no-color"),
                *("--generation-database", "none"),
                cwd=tmp_path,
                env={name: text for name, text in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            words = output.decode()
            assert process.returncode == 0, words[-20_000:]

    play(story)


def test_a_path_does_what_the_text_says_and_nothing_else(play: "Play", tmp_path: "Path") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        tokens = tmp_path / "tokens"
        token = add_token(tokens, "tester", frozenset(Scope), created=datetime.now(UTC))
        settings = PortalSettings(
            org_dir=world.network["maker"].path,
            data_dir=tmp_path / "data",
            service_address=maker.address,  # type: ignore[attr-defined]
            token_file=tokens,
        )
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            running(settings) as (_portal, url),
            httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client,
        ):
            paths = (await client.get("/openapi.json")).json()["paths"]
            for path, item in paths.items():
                concrete = re.sub(r"\{[^}]+\}", "ObjectEvent", path)
                told = {name.upper() for name in item} - {"OPTIONS"}
                for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - told:
                    answer = await client.request(method, concrete)
                    assert answer.status_code == 405, (method, concrete, answer.text)
                    assert told <= set(answer.headers["Allow"].split(", ")), (method, concrete)
                options = await client.options(concrete)
                assert options.status_code == 204, (concrete, options.text)
                assert set(options.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == told, concrete
                assert (await client.options(concrete, headers={"Authorization": ""})).status_code == 401, concrete

    play(story)
