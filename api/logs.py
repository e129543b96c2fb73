"""Structured logs on stderr: one JSON object a line, or on a terminal a line to read.

Query text, filter text and values never get here.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
        return _logger(structlog.WriteLogger(sys.stderr), [*stamped, _shortened, plain])
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


def _shortened(_logger: Any, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Say of a request what fits on a terminal's line: time, call, status and milliseconds."""
    line["time"] = line["time"][11:19]
    if line["event"] != "request":
        return line
    call = f"{line['method']} {line['route']}".replace("{name}", line.get("collection", "{name}"))
    kept = {name: line[name] for name in ("level", "time", "code") if name in line}
    return {**kept, "event": f"{call} {line['status']} {line['latency_ms']:.1f} ms"}


LIBRARIES = {
    "uvicorn": logging.INFO,
    "fastapi": logging.WARNING,
    "opentelemetry": logging.WARNING,
    "mcp": logging.ERROR,
}
"""Whose words are the server's too, from which level on: the two in the middle say so when traces cannot be sent."""


@contextmanager
def standard_logs(log: Logger) -> Iterator[None]:
    """Let what ``LIBRARIES`` log during the block go to ``log``; this process has no other use for their loggers."""
    handler = StandardLogs(log)
    for name, level in LIBRARIES.items():
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name in LIBRARIES:
            logging.getLogger(name).removeHandler(handler)


class StandardLogs(logging.Handler):
    """Passes what libraries log on to ``log``."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write ``record`` as one line."""
        extra: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        self._log.log(record.levelno, record.getMessage(), logger=record.name, **extra)


def _serialise(event: Any, **_: Any) -> bytes:
    return encode(event)
