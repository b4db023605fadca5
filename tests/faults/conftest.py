"""Fixtures of the fault tests: those of the ledger's integration tests, over the same real parts."""

from tests.integration.ledger.conftest import (
    database_url,
    events,
    log_home,
    new_log,
    producer,
    run_ledger,
)

__all__ = ["database_url", "events", "log_home", "new_log", "producer", "run_ledger"]
