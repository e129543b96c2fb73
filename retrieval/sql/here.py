"""Running a SELECT on a snapshot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import numpy as np

from indexer.embedding import QueryEmbedder
from retrieval.policies import ANYONE, Caller, Sight
from retrieval.search import in_key_order, search
from retrieval.snapshot import Snapshot
from retrieval.sql.found import FoundRows
from retrieval.sql.grouped import GroupPlan
from retrieval.sql.plan import SqlPlan, plan_of
from retrieval.sql.run import NO_PARAMS, Found, SqlAnswer, StatementRun
from retrieval.sql.statement import Statement
from retrieval.stopwatch import Stopwatch


def run_statement(
    snapshot: Snapshot,
    statement: Statement,
    *,
    params: Mapping[str, object] = NO_PARAMS,
    caller: Caller = ANYONE,
    embedder: QueryEmbedder | None = None,
    deadline: float | None = None,
    now: datetime | None = None,
    skip: int = 0,
) -> SqlAnswer:
    """Run ``statement`` on a snapshot, which is kept open meanwhile, over what ``caller`` may see and nothing else.

    ``embedder`` is as in :func:`retrieval.search.search`, ``deadline`` on the clock of ``time.monotonic()``, ``now``
    (aware; by default the present) what CURRENT_TIMESTAMP gives. Of a page that is not the first, the ``skip`` rows
    before it are left out. Rows that compare equal are in the order of their keys, groups of theirs.

    Raises what a search raises; :class:`retrieval.errors.FilterError` with the place in the statement's text.
    """
    watch = Stopwatch()
    sight = snapshot.sight_of(caller)
    plan = plan_of(statement, snapshot, sight, params, now or datetime.now(UTC), skip)
    watch.lap("plan")
    return StatementHere(snapshot, plan, sight, deadline).answer(embedder, watch)


class StatementHere(StatementRun):
    """A statement whose rows lie in a snapshot."""

    def __init__(self, snapshot: Snapshot, plan: SqlPlan, sight: Sight, deadline: float | None) -> None:
        super().__init__(snapshot, plan, sight, deadline)
        self._snapshot = snapshot.within(sight)

    def find(self, embedder: QueryEmbedder | None) -> Found:
        """Return the rows that the statement is about, best first if it searches.

        Without an order of its own they are in that of keys, and the first ones will do.
        """
        searched, select = self.plan.searched, self.plan.select
        if searched is None:
            passing = self._snapshot.passing(self.plan.where, self.sight)
            if isinstance(select, GroupPlan) or select.order:
                rows = FoundRows.passing(passing)
                return Found(rows=rows, read=len(rows))
            ranked = in_key_order(self._snapshot, passing, self.cut.stop, None)
            rows = FoundRows.placed(
                np.array(ranked.places, dtype=np.int64),
                np.array(ranked.positions, dtype=np.int64),
                self._snapshot.segments,
            )
            return Found(rows=rows, read=sum(selection.n_rows for selection in passing.selections))
        request = searched.request(self.deadline)
        response = search(self._snapshot, request, embedder=embedder, where=self.plan.where, sight=self.sight)
        rows = FoundRows.ranked(response.results.ranked, self._snapshot.segments)
        return Found(rows=rows, read=len(rows), search=response.plan)

    def loaded(
        self, rows: FoundRows, columns: Collection[str], *, fields: Collection[str] = (), passages: bool = False
    ) -> FoundRows:
        """Return ``rows``: their segments have everything."""
        return rows
