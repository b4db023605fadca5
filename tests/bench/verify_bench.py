"""Measures verification requests over HTTP: portal, the maker's service, its books, the whole log, and the record."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import httpx

from medtrail.cli.network import OrganisationAddress
from medtrail.errors import VerificationError
from medtrail.gs1 import Gln, Gtin, Sgtin
from medtrail.runtime.files import write_secret
from medtrail.runtime.portal_tokens import Scope, new_token, token_line
from medtrail.runtime.settings import PortalSettings
from medtrail.vrs import SALEABLE_RETURN, VrsRequest, response_from_document
from services.portal.bootstrap import running

CALLERS = 8


def _make_token(folder: Path) -> str:
    folder.mkdir(parents=True)
    token, record = new_token("bench", frozenset({Scope.VERIFY}), created=datetime.now(UTC))
    write_secret(folder / "tokens", token_line(record).encode())
    return token


async def measure_verifications(
    maker: OrganisationAddress,
    folder: Path,
    packs: Sequence[str],
    *,
    gtin: Gtin,
    lot: str,
    expiry: date,
    speed: Callable[[str, int, float], None],
) -> None:
    """Measure one request for each serial, so many callers at a time; every answer is checked.

    Args:
        maker: Whose packs they are.
        folder: For the portal's files; absent.
        packs: Serials that the log has.
        gtin: Of the packs.
        lot: Of the packs.
        expiry: Of the packs.
        speed: Takes a name, how many, and in how many seconds.
    """
    token = _make_token(folder)
    settings = PortalSettings(
        org_dir=Path(maker.folder),
        data_dir=folder,
        service_address=maker.address,
        token_file=folder / "tokens",
        verifications_per_s=10_000,
    )
    left = iter(packs)
    async with running(settings) as (_, url), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        client.headers["Authorization"] = f"Bearer {token}"

        async def ask() -> None:
            for serial in left:
                request = VrsRequest(
                    Sgtin(gtin, serial), lot, expiry, SALEABLE_RETURN, Gln(maker.gln), str(uuid.uuid4())
                )
                answer = await client.get(request.target())
                if answer.status_code != httpx.codes.OK:
                    raise VerificationError(f"HTTP {answer.status_code}", code="BENCH_FAILED")
                if not response_from_document(answer.json(), corr_uuid=request.corr_uuid).answer.plain:
                    raise VerificationError(f"{serial} is not verified", code="BENCH_FAILED")

        began = time.perf_counter()
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(ask())
        speed("VRS over HTTP: verifications", len(packs), time.perf_counter() - began)
