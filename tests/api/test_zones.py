"""Three servers over one store, of which one is lost and the others are restarted, under load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.balancer import Load
from benchmarks.replicas import Replica, until
from tests.api.library import Library, book

SETTINGS = {"drain_seconds": "1.5", "poll_interval_ms": "100", "search__threads": "1"}
"""A drain that outlasts the second between two looks of the balancer, and a client's pause between two requests."""


@pytest.fixture
def zones(library: Library, tmp_path: Path) -> Iterator[list[Replica]]:
    library.commit(1, [book(number) for number in range(20)])
    replicas = [Replica(tmp_path / name, str(library.root), settings=SETTINGS) for name in "abc"]
    for replica in replicas:
        replica.start()
    try:
        for replica in replicas:
            until(lambda replica=replica: replica.ready, "ready")  # type: ignore[misc]
        yield replicas
    finally:
        for replica in replicas:
            replica.close()


def test_a_lost_zone_costs_a_second_try_at_most_and_a_restart_not_even_that(
    library: Library, zones: list[Replica]
) -> None:
    lost, *others = zones
    load = Load(
        [zone.port for zone in zones],
        "/v1/collections/books/search",
        [{"query": "river"}],
        clients=12,
        per_second=5,
    )
    load.start()
    try:
        until(lambda: len(load.balancer.ready) == 3, "three zones known")
        with load.phase() as losing:
            time.sleep(0.5)
            lost.kill()
            library.commit(2, [book(100)])
            time.sleep(1.5)
        with load.phase() as restarting:
            for zone in others:
                zone.stop()
                zone.start()
                until(lambda zone=zone: zone.port in load.balancer.ready, "known to be ready")  # type: ignore[misc]
                library.commit(3 + others.index(zone), [book(101)])
        with load.phase() as returning:
            lost.forget()
            lost.start()
            until(lambda: lost.source_version("books") == 4, "the others' version")
    finally:
        load.stop()
    assert [phase.failed for phase in (losing, restarting, returning)] == [0, 0, 0]
    assert (restarting.retried, returning.retried) == (0, 0)
    assert [phase.went_back for phase in (losing, restarting, returning)] == [0, 0, 0]
    assert min(len(phase.seconds) for phase in (losing, restarting)) >= 20
    assert [zone.source_version("books") for zone in others] == [4, 4]
