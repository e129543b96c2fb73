"""Search quality on a set with judgements, measured through the real path: Delta table, sync, search."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.catalog import Catalog
from indexer.format.store import Store
from indexer.spec import CollectionSpec, SourceSpec, TextSpec, VectorSpec
from jobs.errors import EvaluationError
from jobs.judgements import Judgements, read_judgements, read_lines, read_queries
from jobs.local import LocalCollection
from jobs.metrics import DEPTH, quality
from jobs.progress import Report
from retrieval.request import Mode, SearchRequest

MODES: tuple[Mode, ...] = ("vector", "keyword", "hybrid")
FILES = ("corpus.jsonl.gz", "queries.jsonl.gz", "qrels.tsv")
MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Documents, queries and judgements; ``digest`` is of the documents' file."""

    name: str
    digest: str
    documents: tuple[dict[str, str], ...]
    queries: dict[str, str]
    judgements: Judgements


def load_set(data: Path, name: str) -> EvaluationSet:
    """Read ``data/name``: ``corpus.jsonl.gz`` (id, title, text), ``queries.jsonl.gz`` (id, text), ``qrels.tsv``."""
    folder = data / name
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        there = sorted(path.parent.name for path in data.glob(f"*/{FILES[2]}"))
        raise EvaluationError(
            f"{folder} has no {', '.join(missing)}; "
            + (f"the sets in {data} are {', '.join(there)}" if there else "set GREBE_DATA to the folder of the sets")
        )
    corpus = folder / FILES[0]
    return EvaluationSet(
        name=name,
        digest=hashlib.sha256(corpus.read_bytes()).hexdigest(),
        documents=tuple(
            {"id": str(line["id"]), "title": line.get("title") or "", "text": line.get("text") or ""}
            for line in read_lines(corpus)
        ),
        queries=read_queries(folder / FILES[1]),
        judgements=read_judgements(folder / FILES[2]),
    )


def evaluate(wanted: EvaluationSet, cache: Path, progress: Report) -> dict[str, Any]:
    """Return ``{"set": name, "modes": {mode: {measure: value}}}``; builds the index on the first run, in ``cache``."""
    spec = _spec(wanted, cache)
    folder = Path(spec.source.table).parent
    store = Store.at(str(folder / "store"))
    _build(wanted, spec, store, folder / "segments", progress)
    queries = {query: text for query, text in wanted.queries.items() if query in wanted.judgements}
    measured: dict[str, dict[str, float]] = {}
    with LocalCollection(store, spec.name, folder / "segments") as collection:
        for mode in MODES:
            rankings: dict[str, list[str]] = {}
            for number, (query, text) in enumerate(queries.items()):
                answer = collection.search(SearchRequest(query=text, mode=mode, k=DEPTH, include=()))
                rankings[query] = [str(hit["key"]) for hit in answer["results"]]
                progress(mode, number + 1, len(queries))
            measured[mode] = quality(wanted.judgements, rankings)
    return {"set": wanted.name, "modes": measured}


def _spec(wanted: EvaluationSet, cache: Path) -> CollectionSpec:
    """Return the set's spec, whose table lies in a folder named after all that decides the index."""
    spec = CollectionSpec(
        name=wanted.name,
        source=SourceSpec(table="undecided"),
        key=("id",),
        text=TextSpec(fields={"title": 1.0, "text": 1.0}),
        vector=VectorSpec(model=MODEL),
    )
    folder = cache / "eval" / f"{wanted.name}-{wanted.digest[:12]}-{spec.fingerprint[:12]}"
    return spec.model_copy(update={"source": SourceSpec(table=str((folder / "table").resolve()))})


def _build(wanted: EvaluationSet, spec: CollectionSpec, store: Store, cache: Path, progress: Report) -> None:
    if spec.name in Catalog.names(store) and Catalog.open(store, spec.name).read().position is not None:
        return
    import pyarrow as pa
    from deltalake import write_deltalake

    from indexer.apply import apply
    from indexer.sync import SyncOptions
    from jobs.pipeline import run_sync

    if not (Path(spec.source.table) / "_delta_log").exists():
        rows = pa.Table.from_pylist(list(wanted.documents))
        write_deltalake(spec.source.table, rows, configuration={"delta.enableChangeDataFeed": "true"})
    apply(store, spec)
    run_sync(store, spec.name, cache=cache, options=SyncOptions(progress=progress))
