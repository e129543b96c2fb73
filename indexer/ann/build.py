"""Building a segment's index: admitted first, on the device that gains, and kept only if it passes the gate.

What fails is tried again: a GPU that gives up is followed by the CPU, and an index that finds too little by one with
stronger parameters, then by the CPU's. The segment's record says how it went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.ann.admission import GPU_MIN_CHUNKS, Plan, admitted
from indexer.ann.device import Cpu, Device, DeviceFailed, failing_over, find_gpu, first_line
from indexer.ann.effort import Searcher, calibrate
from indexer.ann.gate import recall_of
from indexer.ann.graph import build_graph
from indexer.ann.ivf import build_ivf
from indexer.ann.questions import Exam, exam
from indexer.ann.threads import Cores, all_threads, threads
from indexer.errors import BuildError, RecallTooLow
from indexer.format.records import IndexKind, IndexRecord
from indexer.format.vectors import Positions, Vectors
from indexer.spec import IndexSpec

if TYPE_CHECKING:
    import faiss

EXACT_MAX_CHUNKS = 10_000
"""Up to here an exact scan takes about a millisecond and needs no training."""

FEWEST_TRAINABLE = 32
"""An index cannot be trained on fewer vectors: 4-bit codes have 16 centroids."""

STRENGTHS = (0, 1)

INSTEAD_OF = "instead_of"
"""The parameter of a record that names the kind which did not find enough."""

FindGpu = Callable[[], Device | None]
Parameters = dict[str, int | float | str]


def build_index(
    vectors: Vectors,
    spec: IndexSpec,
    *,
    embedded: npt.NDArray[np.bool_] | None = None,
    queries: npt.NDArray[np.float32] | None = None,
    gpu: FindGpu = find_gpu,
    cores: Cores = all_threads,
) -> tuple[faiss.Index | None, IndexRecord]:
    """Build the index over ``vectors`` ``(n_chunks, dim)``, leaving out chunks that are not ``embedded``.

    ``queries`` ``(n, dim)`` are questions as people ask them, embedded, for the gate. Raises
    :class:`indexer.errors.BuildError`: nothing fits in memory, or the spec asks for a GPU and there is none;
    :class:`indexer.errors.RecallTooLow` if no attempt finds enough.
    """
    present = np.arange(len(vectors)) if embedded is None else np.flatnonzero(embedded)
    reason = _why_exact(len(present), spec)
    if reason:
        return None, IndexRecord(kind="exact", reason=reason)
    device, why = _device(len(present), spec, gpu)
    return _first_that_passes(vectors, present, spec, queries, device, why, cores)


def is_as_asked(record: IndexRecord, n_embedded: int, spec: IndexSpec) -> bool:
    """Say whether an index is of the kind that the spec asks for, or stands in for it."""
    return record.parameters.get(INSTEAD_OF, record.kind) == index_kind(n_embedded, spec)


def index_kind(n_embedded: int, spec: IndexSpec) -> IndexKind:
    """Return the kind of index that :func:`build_index` makes over so many vectors, on whatever device.

    >>> index_kind(10_000, IndexSpec()), index_kind(10_001, IndexSpec()), index_kind(100, IndexSpec(kind="cagra"))
    ('exact', 'ivf', 'hnsw')
    """
    if _why_exact(n_embedded, spec):
        return "exact"
    return "ivf" if spec.kind in ("auto", "ivf") else "hnsw"


def _why_exact(n: int, spec: IndexSpec) -> str:
    """Return the reason to scan ``n`` vectors exactly, or an empty string."""
    if spec.kind == "exact":
        return "the spec asks for exact"
    if n < FEWEST_TRAINABLE:
        return f"{n} vectors: too few to train an index"
    if spec.kind == "auto" and n <= EXACT_MAX_CHUNKS:
        return f"{n} vectors: up to {EXACT_MAX_CHUNKS} are scanned exactly"
    return ""


def _why_approximate(n: int, spec: IndexSpec) -> str:
    if spec.kind == "auto":
        return f"{n} vectors: more than {EXACT_MAX_CHUNKS} are searched approximately"
    return f"the spec asks for {spec.kind}"


def _device(n: int, spec: IndexSpec, gpu: FindGpu) -> tuple[Device, str]:
    """Return where to build, and what is to be said of that; nothing where no other place was thinkable."""
    hnsw = "HNSW on the CPU stands in for CAGRA"
    if spec.device == "cpu":
        return Cpu(), hnsw if spec.kind == "cagra" else ""
    if spec.device == "auto" and n < GPU_MIN_CHUNKS:
        return Cpu(), f"fewer than {GPU_MIN_CHUNKS}: {hnsw}" if spec.kind == "cagra" else ""
    try:
        found = gpu()
    except Exception as error:  # CUDA, torch and FAISS have errors of many kinds
        if spec.device == "gpu":
            raise BuildError(f"index.device is 'gpu' and it cannot be used: {first_line(error)}") from error
        return Cpu(), f"the GPU cannot be used: {first_line(error)}"
    if found is None and spec.device == "gpu":
        raise BuildError(
            "index.device is 'gpu' and FAISS sees none here: install Grebe's extra 'gpu' on a machine with one, "
            "give the task one (spark.task.resource.gpu.amount), or set index.device to 'auto'"
        )
    if found is None:
        return Cpu(), f"no GPU: {hnsw}" if spec.kind == "cagra" else ""
    return found, ""


class _Attempt(NamedTuple):
    spec: IndexSpec
    device: Device
    strength: int
    note: str = ""


def _attempts(spec: IndexSpec, device: Device) -> list[_Attempt]:
    """Return what to try in turn: the device, the CPU, and lists where a graph falls apart, as over repeated texts."""
    places = [device, Cpu()] if device.kind == "gpu" else [device]
    attempts = [_Attempt(spec, place, strength) for place in places for strength in STRENGTHS]
    if spec.kind in ("hnsw", "cagra"):
        lists = spec.model_copy(update={"kind": "ivf"})
        attempts += [_Attempt(lists, Cpu(), strength, "IVF stands in for a graph") for strength in STRENGTHS]
    return attempts


def _first_that_passes(
    vectors: Vectors,
    present: Positions,
    spec: IndexSpec,
    queries: npt.NDArray[np.float32] | None,
    device: Device,
    why: str,
    cores: Cores,
) -> tuple[faiss.Index, IndexRecord]:
    """Return the first index that finds enough, and its record."""
    asked: Exam | None = None
    attempts, notes = _attempts(spec, device), [_why_approximate(len(present), spec), why]
    shortfalls: list[str] = []
    while attempts:
        attempt = attempts.pop(0)
        on = attempt.device
        try:
            with failing_over(on):
                plan = _admitted(vectors, present, attempt)
                with threads(cores()):
                    asked = asked or exam(vectors, present, queries, on)
                with threads(cores()):
                    index, parameters = _built(vectors, present, plan, on)
                with threads(cores()):
                    measured, recall = _examined(index, vectors, present, plan, asked, spec.min_recall)
        except (DeviceFailed, BuildError) as error:
            if on.kind == "cpu":
                raise BuildError("; ".join([*shortfalls, str(error)])) from error
            notes.append(f"{on.name}: {error}")
            attempts = [later for later in attempts if later.device.kind == "cpu"]
            continue
        if recall >= spec.min_recall:
            place = f"built on {on.name}" if on.kind == "gpu" else "built on the CPU" if device.kind == "gpu" else ""
            reason = "; ".join(note for note in (*notes, *shortfalls, attempt.note, place) if note)
            kind = index_kind(len(present), attempt.spec)
            parameters |= measured
            if attempt.note:
                parameters |= {INSTEAD_OF: index_kind(len(present), spec)}
            return index, IndexRecord(kind=kind, reason=reason, parameters=parameters, device=on.kind)
        shortfalls.append(
            f"recall@10 was {recall:.3f} at strength {attempt.strength} of {attempt.spec.kind} on the {on.kind.upper()}"
        )
    raise RecallTooLow(
        f"an index over {len(present):,} vectors must find {spec.min_recall:g} of the nearest ten (index.min_recall): "
        f"{'; '.join(shortfalls)}; set index.kind to 'exact', or min_recall to what the search can do without"
    )


def _admitted(vectors: Vectors, present: Positions, attempt: _Attempt) -> Plan:
    n = len(present) if attempt.spec.kind in ("auto", "ivf") else len(vectors)  # a graph has all chunks
    return admitted(n, int(vectors.shape[1]), attempt.spec, attempt.device, strength=attempt.strength)


def _built(vectors: Vectors, present: Positions, plan: Plan, device: Device) -> tuple[faiss.Index, Parameters]:
    """Return an index, and what its record says of how it was made."""
    if plan.kind == "ivf":
        lists, factory = build_ivf(vectors, present, plan, device)
        return lists, {"factory": factory, "nlist": lists.nlist}
    graph, factory = build_graph(vectors, plan, device)
    return graph, {"factory": factory}


def _examined(
    index: faiss.Index, vectors: Vectors, present: Positions, plan: Plan, asked: Exam, min_recall: float
) -> tuple[Parameters, float]:
    """Return the efforts that a search of the index needs, for its record, and the recall@10 that the gate measured."""
    searcher = Searcher(index, vectors, present)
    efforts = calibrate(searcher, asked, min_recall)
    recall = recall_of(searcher, efforts.plain, vectors, asked.gate)
    breadth = "nprobe" if plan.kind == "ivf" else "ef_search"
    parameters: Parameters = {"recall_at_10": round(recall, 4)}
    for name, effort in (("", efforts.plain), ("_tenth", efforts.tenth), ("_hundred", efforts.hundred)):
        if effort:
            parameters |= {f"{breadth}{name}": effort.breadth, f"k_factor{name}": effort.k_factor}
    return parameters, recall
