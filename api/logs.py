"""Structured logs: one JSON object a line, on stderr. Query text, filter text and values never get here."""

from __future__ import annotations

import logging
import sys
from typing import Any, BinaryIO

import structlog

from api.encoding import encode

Logger = structlog.typing.FilteringBoundLogger


def open_log(stream: BinaryIO | None = None) -> Logger:
    """Return a logger that writes to ``stream`` (stderr), each line with its time and level.

    Nothing global is configured, so that two servers in one process keep their own logs.
    """
    logger: Logger = structlog.wrap_logger(
        structlog.BytesLogger(stream or sys.stderr.buffer),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_serialise),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    return logger


class StandardLogs(logging.Handler):
    """Passes what libraries log (uvicorn above all) on to ``log``."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write ``record`` as one line."""
        extra: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        self._log.log(record.levelno, record.getMessage(), logger=record.name, **extra)


def _serialise(event: Any, **_: Any) -> bytes:
    return encode(event)
