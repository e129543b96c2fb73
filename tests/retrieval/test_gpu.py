"""Searching through a GPU's interface, with FAISS on the CPU in its place: batches, filters, and devices gone wrong."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from api.errors import SettingsError
from api.service import Service
from api.settings import ServeSettings
from indexer.ann.device import Cpu
from retrieval import bitmap, vector_leg
from retrieval.errors import GpuUntrusted
from retrieval.gpu import GpuSearch, probe
from retrieval.lru import ByteLru
from retrieval.segments import OpenSegment
from retrieval.vector_leg import search_segment
from retrieval.vector_plan import Gathered, PlanToken, VectorPlan
from tests.retrieval.test_vector_leg import WIDTH, N, Vectors, clustered, make_segment, truth


class Flat:
    """A flat index that can be told to do wrong; ``scans`` are the sizes of the batches that it answered."""

    def __init__(self, device: StandIn, dim: int) -> None:
        self._device, self._index = device, faiss.IndexFlatIP(dim)

    def add(self, vectors: Vectors) -> None:
        self._index.add(vectors)
        self._device.added += len(vectors) == N

    def search(self, queries: Vectors, k: int, *, params: Any = None) -> Any:
        time.sleep(self._device.hangs)
        if self._device.fails:
            raise RuntimeError("CUDA error 700 an illegal memory access was encountered\n at somewhere")
        self._device.scans.append(len(queries))
        scores, ids = self._index.search(queries, k, params=None if self._device.ignores_filters else params)
        return scores, ids + self._device.shift


class StandIn(Cpu):
    """A device as far as the search can tell."""

    def __init__(self, *, ignores_filters: bool = False, free: int = 1 << 40) -> None:
        self.ignores_filters, self.fails, self.free = ignores_filters, False, free
        self.scans: list[int] = []
        self.hangs, self.shift, self.added = 0.0, 0, 0

    def free_bytes(self) -> int:
        return self.free

    def flat(self, dim: int, *, half: bool) -> Any:
        return Flat(self, dim)


@pytest.fixture(scope="module", params=[1, 3], ids=["one chunk a row", "three chunks a row"])
def segment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSegment]:
    opened = make_segment(tmp_path_factory.mktemp("wide"), request.param, "auto")
    yield opened
    opened.release()


@pytest.fixture(autouse=True)
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_leg, "EXACT_FLOATS", 0)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def gpu(said: list[str]) -> Iterator[Callable[..., GpuSearch]]:
    opened: list[GpuSearch] = []

    def open_one(device: StandIn, **settings: Any) -> GpuSearch:
        opened.append(GpuSearch(device, report=said.append, **settings))
        device.scans.clear()
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def found(
    segment: OpenSegment, plan: VectorPlan, query: Vectors, k: int, gpu: GpuSearch | None
) -> tuple[list[int], str]:
    kept: ByteLru[PlanToken, Gathered] = ByteLru(max_bytes=1 << 20)
    asked = vector_leg._ask(gpu, plan, query, k) if gpu else None
    candidates, search = search_segment(plan, query, k, kept, 0, asked.wait() if asked else None)
    rows = segment.row_of_chunk[candidates.positions[np.argsort(-candidates.scores, kind="stable")]]
    return list(dict.fromkeys(rows.tolist()))[:k], search.device


def plan_of(segment: OpenSegment, mask: Any) -> VectorPlan:
    return VectorPlan.of(segment, bitmap.pack(mask) & segment.embedded, view_token=0)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_its_answers_are_those_of_an_exact_scan(
    segment: OpenSegment, gpu: Callable[..., GpuSearch], share: float, k: int
) -> None:
    mask = (np.random.default_rng(3).random(N) < share) & bitmap.unpack(segment.embedded, N)
    device = StandIn()
    search = gpu(device)
    plan = plan_of(segment, mask)

    for query in clustered(5, 2):
        rows, where = found(segment, plan, query, k, search)
        assert set(rows) == set(truth(segment, mask, query, k))
        assert where == "gpu" or segment.chunks_per_row > 1


def test_requests_that_come_together_share_a_scan_and_get_what_they_would_alone(
    segment: OpenSegment, gpu: Callable[..., GpuSearch]
) -> None:
    device = StandIn()
    search = gpu(device, wait_seconds=0.5)
    masks = [np.ones(N, dtype=bool), np.arange(N) % 2 == 0]
    plans = [plan_of(segment, mask) for mask in masks]
    queries = clustered(24, 5)
    alone = [found(segment, plans[at % 2], query, 10, None)[0] for at, query in enumerate(queries)]
    together = threading.Barrier(24)

    def ask(at: int) -> list[int]:
        together.wait()
        return found(segment, plans[at % 2], queries[at], 10, search)[0]

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(24)))

    assert sorted(device.scans) == [12, 12]
    exact = [truth(segment, masks[at % 2] & bitmap.unpack(segment.embedded, N), queries[at], 10) for at in range(24)]
    assert [set(rows) for rows in answers] == [set(rows) for rows in exact]
    assert np.mean([len(set(rows) & set(own)) for rows, own in zip(answers, alone, strict=True)]) >= 9


def test_one_request_does_not_wait_long_for_others(segment: OpenSegment, gpu: Callable[..., GpuSearch]) -> None:
    search, plan, query = gpu(StandIn()), plan_of(segment, np.ones(N, dtype=bool)), clustered(1, 5)[0]
    found(segment, plan, query, 10, search)
    started = time.perf_counter()

    for _ in range(20):
        found(segment, plan, query, 10, search)

    assert (time.perf_counter() - started) / 20 < 0.1


def test_a_device_that_ignores_filters_is_refused_at_the_start(gpu: Callable[..., GpuSearch]) -> None:
    with pytest.raises(GpuUntrusted, match=r"returns rows that a filter forbids: install Grebe's extra 'gpu'"):
        gpu(StandIn(ignores_filters=True))


def test_a_device_that_obeys_them_passes() -> None:
    probe(StandIn())


def test_a_device_that_forgets_filters_later_returns_no_forbidden_row_and_is_not_asked_again(
    segment: OpenSegment, gpu: Callable[..., GpuSearch], said: list[str]
) -> None:
    device = StandIn()
    search = gpu(device)
    mask = np.arange(N) % 10 == 0
    plan = plan_of(segment, mask)
    device.ignores_filters = True

    for query in clustered(3, 2):
        asked = search.ask(plan, query, 10)
        proposed = asked.wait() if asked else None
        candidates, how = search_segment(plan, query, 10, ByteLru(max_bytes=1 << 20), 0, proposed)
        assert mask[candidates.positions].all()
        assert how.device == "cpu"

    assert said == ["the GPU proposed a row that the filter forbids: it is not asked again until a restart"]
    assert len(device.scans) == 1


def test_what_the_device_fails_the_cpu_answers(
    segment: OpenSegment, gpu: Callable[..., GpuSearch], said: list[str]
) -> None:
    device = StandIn()
    search, plan, query = gpu(device), plan_of(segment, np.ones(N, dtype=bool)), clustered(1, 2)[0]
    device.fails = True
    first = found(segment, plan, query, 10, search)
    device.fails = False

    assert first == (found(segment, plan, query, 10, None)[0], "cpu")
    assert said == [
        "the GPU failed a search, which the CPU answers: CUDA error 700 an illegal memory access was encountered"
    ]
    assert found(segment, plan, query, 10, search)[1] == "gpu"


def test_a_device_that_hangs_holds_no_request_up(
    segment: OpenSegment, gpu: Callable[..., GpuSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.gpu.PATIENCE_SECONDS", 0.05)
    device = StandIn()
    search, plan, query = gpu(device), plan_of(segment, np.ones(N, dtype=bool)), clustered(1, 2)[0]
    device.hangs = 0.5

    assert found(segment, plan, query, 10, search)[1] == "cpu"


def test_an_error_of_any_kind_is_answered_by_the_cpu(
    segment: OpenSegment, gpu: Callable[..., GpuSearch], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search, plan, query = gpu(StandIn()), plan_of(segment, np.ones(N, dtype=bool)), clustered(1, 2)[0]
    with monkeypatch.context() as broken:
        broken.setattr(search, "_scan", lambda group: 1 / 0)
        assert found(segment, plan, query, 10, search)[1] == "cpu"

    assert said == ["the GPU failed a search, which the CPU answers: division by zero"]
    assert found(segment, plan, query, 10, search)[1] == "gpu"


def test_a_segment_that_does_not_fit_is_searched_by_the_cpu(
    segment: OpenSegment, gpu: Callable[..., GpuSearch]
) -> None:
    search = gpu(StandIn(free=1 << 20))
    assert found(segment, plan_of(segment, np.ones(N, dtype=bool)), clustered(1, 2)[0], 10, search)[1] == "cpu"


def test_as_many_segments_are_resident_as_fit_and_go_when_they_are_closed(
    tmp_path: Path, gpu: Callable[..., GpuSearch]
) -> None:
    segments = [make_segment(tmp_path / str(number), 1, "auto") for number in range(3)]
    device = StandIn(free=int(2.5 * N * WIDTH * 4 / 0.8))
    search, query = gpu(device), clustered(1, 2)[0]
    every = np.ones(N, dtype=bool)

    where = [found(segment, plan_of(segment, every), query, 10, search)[1] for segment in segments * 2]

    assert where == ["gpu", "gpu", "cpu"] * 2
    assert device.added == 2
    for segment in segments:
        segment.release()
    del segments, segment
    gc.collect()
    another = make_segment(tmp_path / "another", 1, "auto")
    assert found(another, plan_of(another, every), query, 10, search)[1] == "gpu"
    another.release()


def test_a_tie_at_the_last_place_is_for_the_cpu(tmp_path: Path, gpu: Callable[..., GpuSearch]) -> None:
    segment = make_segment(tmp_path, 1, "exact", vectors=np.repeat(clustered(N // 500, 1), 500, axis=0))
    search, plan = gpu(StandIn()), plan_of(segment, np.ones(N, dtype=bool))

    for query in clustered(3, 2):
        rows, where = found(segment, plan, query, 10, search)
        assert (rows, where) == (found(segment, plan, query, 10, None)[0], "cpu")
    segment.release()


def test_an_id_that_there_is_not_is_as_bad_as_a_forbidden_one(
    segment: OpenSegment, gpu: Callable[..., GpuSearch], said: list[str]
) -> None:
    device = StandIn()
    search, plan = gpu(device), plan_of(segment, np.arange(N) % 2 == 0)
    device.shift = N

    assert found(segment, plan, clustered(1, 2)[0], 10, search)[1] == "cpu"
    assert said == ["the GPU proposed a row that the filter forbids: it is not asked again until a restart"]


def test_a_report_that_fails_ends_nothing(segment: OpenSegment) -> None:
    def report(sentence: str) -> None:
        raise OSError(sentence)

    device = StandIn()
    search = GpuSearch(device, report=report)
    plan, query = plan_of(segment, np.ones(N, dtype=bool)), clustered(1, 2)[0]
    device.fails = True
    assert found(segment, plan, query, 10, search)[1] == "cpu"
    device.fails = False
    assert found(segment, plan, query, 10, search)[1] == "gpu"
    search.close()


def test_after_its_end_the_cpu_answers(segment: OpenSegment) -> None:
    search = GpuSearch(StandIn(), report=print)
    search.close()
    assert found(segment, plan_of(segment, np.ones(N, dtype=bool)), clustered(1, 2)[0], 10, search)[1] == "cpu"


def test_a_server_that_is_to_use_a_gpu_says_when_there_is_none(tmp_path: Path) -> None:
    settings = ServeSettings.load(store=str(tmp_path), cache=tmp_path / "cache", serving={"device": "gpu"})
    if faiss.get_num_gpus():
        assert Service(settings).gpu is not None
    else:
        with pytest.raises(
            SettingsError, match=r"serving\.device: FAISS sees no GPU here: install Grebe's extra 'gpu'"
        ):
            Service(settings)


def test_a_device_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"serving\.device: Input should be 'cpu' or 'gpu'"):
        ServeSettings.load(store=str(tmp_path), serving={"device": "tpu"})
