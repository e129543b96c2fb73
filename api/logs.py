"""Structured logs on stderr: one JSON object a line, or on a terminal a line to read.

Query text, filter text and values never get here.
"""

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
    stamped: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    if stream is None and sys.stderr.isatty():
        plain = structlog.dev.ConsoleRenderer(timestamp_key="time", exception_formatter=structlog.dev.plain_traceback)
        return _logger(structlog.WriteLogger(sys.stderr), [*stamped, plain])
    json = structlog.processors.JSONRenderer(serializer=_serialise)
    lines = structlog.BytesLogger(stream or sys.stderr.buffer)
    return _logger(lines, [*stamped, structlog.processors.format_exc_info, json])


def _logger(output: Any, processors: list[structlog.typing.Processor]) -> Logger:
    logger: Logger = structlog.wrap_logger(
        output,
        processors=processors,
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
