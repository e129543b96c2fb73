"""Running a SELECT on a snapshot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from indexer.embedding import QueryEmbedder
from retrieval.policies import ANYONE, Caller, Sight
from retrieval.search import search
from retrieval.snapshot import Snapshot
from retrieval.sql.found import FoundRows
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
        self._snapshot = snapshot

    def find(self, embedder: QueryEmbedder | None) -> Found:
        """Return all rows that the statement is about, best first if it searches."""
        searched = self.plan.searched
        if searched is None:
            rows = FoundRows.passing(self._snapshot.passing(self.plan.where, self.sight))
            return Found(rows=rows, read=len(rows))
        request = searched.request(self.deadline)
        response = search(self._snapshot, request, embedder=embedder, where=self.plan.where, sight=self.sight)
        rows = FoundRows.ranked(response.results.ranked, self._snapshot.segments)
        return Found(rows=rows, read=len(rows), search=response.plan)

    def loaded(
        self, rows: FoundRows, columns: Collection[str], *, fields: Collection[str] = (), passages: bool = False
    ) -> FoundRows:
        """Return ``rows``: their segments have everything."""
        return rows
