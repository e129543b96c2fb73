"""Batches of changes made in memory, built and committed as the tasks and the driver of a sync do, without Spark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.contract import COMMITTED_AT, OP, VERSION
from indexer.build import BuildJob, Progress, build_part
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.commit import commit_batch
from indexer.netting import BAD_TEXT, ROW_HASH

EPOCH = "bench"


def change_table(
    *,
    ids: npt.NDArray[np.int64],
    body: Sequence[str] | pa.ChunkedArray,
    vectors: npt.NDArray[np.float32] | None,
    ops: Sequence[str],
    contents: npt.NDArray[np.int64],
    version: int,
    **columns: npt.NDArray[np.generic],
) -> pa.Table:
    """Return changes at one source version.

    ``vectors`` are ``(n, dim)``, or None where a model embeds the texts; equal ``contents`` mean equal rows.
    """
    rows = len(ids)
    own = {}
    if vectors is not None:
        offsets = np.arange(rows + 1, dtype=np.int32) * vectors.shape[1]
        own["vector"] = pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1)))
    return pa.table(
        {
            "id": ids,
            **columns,
            "body": body,
            **own,
            OP: pa.array(ops, pa.string()),
            VERSION: np.full(rows, version, dtype=np.int64),
            COMMITTED_AT: pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC")), rows),
            ROW_HASH: pa.array([content.to_bytes(16, "big") for content in contents.tolist()], pa.binary()),
            BAD_TEXT: pa.repeat(pa.scalar(False), rows),
        }
    )


def publish(
    catalog: Catalog, changes: pa.Table, version: int, cache: Path, progress: Progress | None = None
) -> CatalogState:
    """Build ``changes`` (see :func:`change_table`) as one part and commit them; the source is then at ``version``."""
    state = catalog.read()
    job = BuildJob(
        store=catalog.store,
        spec=state.spec,
        dim=state.spec.vector.dim,
        live=state.segments,
        packs=state.packs,
        cache=cache,
        epoch=EPOCH,
    )
    return commit_batch(
        catalog,
        state,
        build_part(changes, job, progress=progress),
        end=SourcePosition(epoch=EPOCH, version=version),
        committed_at=datetime.now(UTC),
        cache=cache,
    )
