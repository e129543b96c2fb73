"""Traces: a span for each request and one for each stage of its search, where ``OTEL_*`` says where to send them.

FastAPI makes the request's span and exports it by OTLP; what is added here is what Grebe knows of it. No span carries a
query, a filter, a statement, a value or a key: like the log line, and unlike the audit log, it may be read by many.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from starlette.types import Scope

from api.operation import Operation, route_of

UNTRACED = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
"""Asked every few seconds by what watches the server."""

TOLD = ("collection", "version", "mode", "k", "results")
"""Facts of an operation that its span has too."""

NAMESPACE = "grebe"
EXPORT_SECONDS = "2"
"""How long sending a batch may take, as text: the exit waits for two, and a collector may hang."""


def telemetry() -> TelemetryConfig:
    """Return what FastAPI records: traces alone, exported only if the environment names an endpoint."""
    asked = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if asked:
        os.environ.setdefault("OTEL_SERVICE_NAME", NAMESPACE)
        os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", EXPORT_SECONDS)
    return {
        "tracing": bool(asked),
        "metrics": False,  # /metrics has them
        "logs": False,
        "operation_spans": False,
        "auto_configure": bool(asked),
        "exclude": lambda scope: scope.get("path") in UNTRACED,
    }


def ids_of_span() -> dict[str, str]:
    """Return the ids of the span under way for the log line; nothing where there is none."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def begin(scope: Scope) -> None:
    """Take what may hold a key or a value off the request's span, before anything can end it."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attribute("url.path", "")
        if scope.get("query_string"):
            span.set_attribute("url.query", "")


def describe(scope: Scope, operation: Operation) -> None:
    """Let the request's span say what the log line says of it, and of the path its pattern."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attribute("url.path", route_of(scope))
    span.set_attribute(f"{NAMESPACE}.request_id", operation.request_id)
    for name in TOLD:
        value = operation.facts.get(name)
        if value is not None:
            span.set_attribute(f"{NAMESPACE}.{name}", value)
    if operation.code:
        span.set_attribute(f"{NAMESPACE}.code", operation.code)


def stages(began_ns: int, took_ms: Mapping[str, float]) -> None:
    """Put a span under the request's for each stage, one after the other from ``began_ns`` (time.time_ns())."""
    if not trace.get_current_span().is_recording():
        return
    tracer, start = trace.get_tracer(NAMESPACE), began_ns
    for stage, milliseconds in took_ms.items():
        if stage == "total":
            continue
        end = start + round(milliseconds * 1e6)
        tracer.start_span(stage, start_time=start).end(end_time=end)
        start = end
