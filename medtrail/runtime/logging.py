"""Logs as JSON lines on standard error: a fixed phrase, and facts as fields.

Keys, tokens and payloads never go to the log: whoever logs passes names, GLNs, indices and hashes only; what slips
through under a telling name is struck out here all the same.
"""

import logging
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

_SECRET_NAMES = frozenset({"authorization", "key", "nats_seed", "payload", "secret", "seed", "signed_event", "token"})


def strike_secrets(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Return the fields with those struck out whose names tell of secrets or payloads, and bytes shortened to hex."""
    for name, value in fields.items():
        if name in _SECRET_NAMES:
            fields[name] = "[struck out]"
        elif isinstance(value, bytes):
            fields[name] = value.hex() if len(value) <= 32 else f"{value[:8].hex()}… ({len(value)} bytes)"
    return fields


def configure_logging(*, process: str, level: str = "info") -> None:
    """Send all logs of this process to standard error as JSON lines.

    Args:
        process: Name of the process, a field of every line.
        level: debug, info, warning or error.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Where it failed, never what the variables held: those are tokens, payloads and keys.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            strike_secrets,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    # Libraries that use the standard logger: warnings only, in the same stream.
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr, format="%(name)s: %(message)s")


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry the module's name."""
    logger: FilteringBoundLogger = structlog.get_logger(module=name)
    return logger
