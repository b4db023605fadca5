"""The machine's clock is years off: what is chained, refused and signed follows the stream's time alone."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from ledger.storage.tables import REFUSAL
from medtrail.codec import encode_batch
from medtrail.runtime import tokens
from medtrail.runtime.tokens import utc_now

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import CheckLog, Events, LogHome, RunLedger


@pytest.mark.parametrize("days", [-1100, 1100])
def test_ledger_whose_clock_is_years_off_decides_as_any_other(  # noqa: PLR0917 - fixtures
    run_ledger: "RunLedger",
    log_home: "LogHome",
    events: "Events",
    check_log: "CheckLog",
    monkeypatch: pytest.MonkeyPatch,
    days: int,
) -> None:
    right = datetime.now(UTC)

    class Shifted:
        @staticmethod
        def now(tz: tzinfo) -> datetime:
            return datetime.now(tz) + timedelta(days=days)

    # All of the ledger's own readings of the clock come through here.
    monkeypatch.setattr(tokens, "datetime", Shifted)
    assert abs(utc_now() - right) > timedelta(days=1000)
    on_time = events.sign(events.commission(1, when=right))
    ahead = events.sign(events.commission(2, when=right + timedelta(hours=1)))

    async def scenario() -> None:
        async with run_ledger() as running:
            await running.publish("maker", encode_batch([on_time, ahead]))
            await running.checkpoint_of(running.enrolled_size + 1)
            query = select(REFUSAL.c.code, REFUSAL.c.signed_event_sha256)
            refused = await running.ledger.database.read(lambda c: [tuple(row) for row in c.execute(query)])
            assert refused == [("EVENT_IN_FUTURE", hashlib.sha256(ahead).digest())]

    asyncio.run(scenario())
    check_log(log_home.root, acknowledged=[on_time])
