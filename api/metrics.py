"""Prometheus metrics: what was asked and how long it took, and how fresh each collection is.

Counts and times are written by requests as they end; what describes a collection is read when ``/metrics`` is asked,
so that a dropped collection leaves no stale line behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.models.answers import StatusAnswer

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_COLLECTION_GAUGES: tuple[tuple[str, str, Callable[[StatusAnswer], float | None]], ...] = (
    ("open", "1 while a version of the collection is served.", lambda s: float(s.version is not None)),
    ("age_seconds", "How long ago the index was last known to hold all that the source had.", lambda s: s.age_seconds),
    ("catalog_version", "The catalog version that is served.", lambda s: s.version),
    ("catalog_latest_version", "The newest catalog version seen.", lambda s: s.latest_version),
    ("source_version", "The source version that is served.", lambda s: s.source.version if s.source else None),
    ("segments", "Live segments.", lambda s: s.segments),
    ("rows", "Live rows.", lambda s: s.rows),
    ("chunks", "Chunks in live segments, tombstoned ones included.", lambda s: s.chunks),
    ("deleted_chunks", "Tombstoned chunks in live segments.", lambda s: s.deleted_chunks),
    ("size_bytes", "Bytes of live segments in the store.", lambda s: s.size_bytes),
    ("dead_letters", "Rows that were set aside.", lambda s: s.dead_letters),
    ("held", "1 while syncs wait for a person's word.", lambda s: float(s.held is not None)),
    ("sync_failing", "1 while the last sync is one that failed.", lambda s: float(s.sync_failed_at is not None)),
    (
        "retention_used_ratio",
        "The time since the source was read, as a share of that for which it keeps changes.",
        lambda s: s.retention_used,
    ),
    ("open_failing", "1 while the newest version cannot be opened.", lambda s: float(s.failure is not None)),
    (
        "sync_seconds_ago",
        "How long ago a sync last looked at the source.",
        lambda s: s.sync.seconds_ago if s.sync else None,
    ),
)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        times = partial(Histogram, buckets=SECONDS, registry=self.registry)

        self.requests = counter(
            "grebe_http_requests", "Requests, by method, route and status.", ["method", "route", "status"]
        )
        self.seconds = times("grebe_http_request_seconds", "Time to answer, by route.", ["route"])
        self.in_flight = gauge("grebe_http_in_flight", "Requests being answered.")

        self.stage_seconds = times("grebe_search_stage_seconds", "Time per stage of a search.", ["collection", "stage"])
        self.sql_seconds = times("grebe_sql_stage_seconds", "Time per stage of a statement.", ["collection", "stage"])
        self.rejected = counter("grebe_search_rejected", "Searches turned away because the queue was full.")
        self.queue_depth = gauge("grebe_search_queue_depth", "Searches and statements waiting for a thread.")
        self.models_failing = gauge(
            "grebe_models_failing", "Models of collections that could not be loaded when they were last tried."
        )

        self.audit_failing = gauge("grebe_audit_failing", "1 while the audit log cannot be written.")
        self.audit_unshipped = gauge(
            "grebe_audit_unshipped_files", "Complete files of the audit log that wait to be shipped."
        )

        self.open_failures = counter(
            "grebe_collection_open_failures", "Times a version could not be opened.", ["collection"]
        )
        self.open_seconds = times(
            "grebe_collection_open_seconds", "Time to open a version beside the old one.", ["collection"]
        )

        self.node_up = gauge("grebe_node_up", "1 while a router's node answers, by part and address.", ["part", "node"])
        self.node_seconds = times("grebe_node_seconds", "Time until a router has a node's answer, by part.", ["part"])
        self.hedged = counter(
            "grebe_node_hedged", "Questions that a router asked of a second node, because the first took long."
        )
        self.question_seconds = times(
            "grebe_node_question_seconds", "Time in which a node answers a router's question, by kind.", ["kind"]
        )
        self._lines: dict[tuple[str | int, ...], Any] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._line(self.requests, method, route, status).inc()
        self._line(self.seconds, route).observe(seconds)

    def node_answered(self, part: int, seconds: float) -> None:
        """Count one answer that a router has from a node of ``part``."""
        self._line(self.node_seconds, part).observe(seconds)

    def answered_question(self, kind: str, seconds: float) -> None:
        """Count one answer that a node gives a router."""
        self._line(self.question_seconds, kind).observe(seconds)

    def unreadable(self) -> None:
        """Count one request that was no HTTP, and so had neither method nor route."""
        self._line(self.requests, "other", "unmatched", 400).inc()

    def searched(self, collection: str, took_ms: Mapping[str, float]) -> None:
        """Count the stages of one search."""
        self._stages(self.stage_seconds, collection, took_ms)

    def selected(self, collection: str, took_ms: Mapping[str, float]) -> None:
        """Count the stages of one statement."""
        self._stages(self.sql_seconds, collection, took_ms)

    def _stages(self, metric: Histogram, collection: str, took_ms: Mapping[str, float]) -> None:
        for stage, milliseconds in took_ms.items():
            self._line(metric, collection, stage).observe(milliseconds / 1000)

    def _line(self, metric: Counter | Histogram, *labels: str | int) -> Any:
        """Return ``metric.labels(*labels)``, which takes longer to find than to add to."""
        key = (id(metric), *labels)
        found = self._lines.get(key)
        if found is None:
            found = self._lines[key] = metric.labels(*labels)
        return found

    def forget(self, collection: str) -> None:
        """Drop the lines of a collection that is gone."""
        self.open_failures.remove_by_labels({"collection": collection})
        self.open_seconds.remove_by_labels({"collection": collection})
        self.stage_seconds.remove_by_labels({"collection": collection})
        self.sql_seconds.remove_by_labels({"collection": collection})
        self._lines = {}

    def describe(self, statuses: Callable[[], Iterable[StatusAnswer]]) -> None:
        """Report the collections that ``statuses`` returns, at each scrape."""
        self.registry.register(_CollectionGauges(statuses))

    def text(self) -> bytes:
        """Return every metric in Prometheus' text format."""
        return generate_latest(self.registry)


class _CollectionGauges(Collector):
    def __init__(self, statuses: Callable[[], Iterable[StatusAnswer]]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterator[Metric]:
        statuses = list(self._statuses())
        for name, meaning, value_of in _COLLECTION_GAUGES:
            family = GaugeMetricFamily(f"grebe_collection_{name}", meaning, labels=["collection"])
            for status in statuses:
                value = value_of(status)
                if value is not None:
                    family.add_metric([status.name], value)
            yield family

    def describe(self) -> Iterable[Metric]:
        return []
