"""Reading rows by their keys where they lie on several machines: each is asked once, for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from retrieval.distributed.lines import fetched_chunks
from retrieval.distributed.messages import Rows
from retrieval.distributed.routed import RoutedVersion
from retrieval.policies import Caller
from retrieval.rows import Row, field_names, hashes_of, row_at


def get_rows_of_nodes(
    version: RoutedVersion,
    keys: Sequence[Sequence[Any]],
    caller: Caller,
    *,
    where: Sequence[str],
    names: Sequence[str] | None = None,
    deadline: float | None = None,
) -> list[Row | None]:
    """Return the row of each of ``keys`` that ``caller`` sees, or None: as :func:`retrieval.rows.get_rows` does.

    Raises what that raises, and :class:`retrieval.errors.NodeError`.
    """
    rows: list[Row | None] = [None] * len(keys)
    if not version.arrow_schema.names:
        return rows
    spec = version.spec
    hashes = hashes_of(version, keys, where)
    asker = version.asker(caller, datetime.now(UTC))  # before the sight: policies that come in between then hide more
    sight = version.sight_of(caller)
    shown = field_names(spec) if names is None else names
    question = Rows(
        hashes=hashes.tobytes(),
        columns=[name for name in spec.stored_columns if name in shown or name in spec.key],
        fields=[field for field in spec.text.fields if field in shown and field not in spec.stored_columns],
    )
    for answer, table in version.ask_all(asker, question, deadline=deadline).answers().values():
        if answer.rows:
            chunks = fetched_chunks(table)
            for (number, n_chunks), first in zip(answer.rows, chunks.first_chunks.tolist(), strict=True):
                rows[number] = row_at(chunks, spec, first, sight, names=shown, n_chunks=n_chunks)
    return rows
