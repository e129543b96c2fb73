"""Running a SELECT on a version that lies on several machines: the same answer as if it lay on one.

A search in WHERE is one over all nodes. Else every node orders and cuts its own rows, or groups them, and these are
ordered and cut, or merged, again. What is shown of rows is fetched for those alone that are left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import numpy as np

from indexer.embedding import QueryEmbedder
from retrieval.chunks import COLUMN_PREFIX, Key, keys_of
from retrieval.distributed.groups import merged_groups
from retrieval.distributed.lines import Lines, fetch
from retrieval.distributed.messages import Asker, Find, Select, StatementText
from retrieval.distributed.routed import Answers, RoutedVersion
from retrieval.distributed.search import SearchRun
from retrieval.policies import ANYONE, Caller, Sight
from retrieval.sql.found import FoundRows
from retrieval.sql.grouped import GroupPlan
from retrieval.sql.plan import SqlPlan, plan_of
from retrieval.sql.run import NO_PARAMS, Found, Groups, SqlAnswer, StatementRun
from retrieval.sql.statement import Statement
from retrieval.stopwatch import Stopwatch


def select_from_nodes(
    version: RoutedVersion,
    statement: Statement,
    *,
    params: Mapping[str, object] = NO_PARAMS,
    caller: Caller = ANYONE,
    embedder: QueryEmbedder | None = None,
    deadline: float | None = None,
    now: datetime | None = None,
    skip: int = 0,
) -> SqlAnswer:
    """Run ``statement`` over all nodes: as :func:`retrieval.sql.run_statement` on one machine.

    Raises what that raises, and :class:`retrieval.errors.NodeError`.
    """
    watch = Stopwatch()
    now = now or datetime.now(UTC)
    asker = version.asker(caller, now)  # before the sight: policies that come in between can then only hide more
    sight = version.sight_of(caller)
    plan = plan_of(statement, version, sight, params, now, skip)  # before anybody is asked
    watch.lap("plan")
    text = StatementText(text=statement.parsed.text, params=dict(params), dialect=statement.rules.name, skip=skip)
    return _Run(version, text, plan, asker, sight, deadline).answer(embedder, watch)


class _Run(StatementRun):
    """A statement whose rows lie on nodes."""

    def __init__(
        self,
        version: RoutedVersion,
        statement: StatementText,
        plan: SqlPlan,
        asker: Asker,
        sight: Sight,
        deadline: float | None,
    ) -> None:
        super().__init__(version, plan, sight, deadline)
        self._nodes = version
        self._statement = statement
        self._asker = asker

    def find(self, embedder: QueryEmbedder | None) -> Found:
        """Return the rows that were searched for, or the first ones of every node."""
        if self.plan.searched is None:
            answers = self._select()
            rows = FoundRows([(Lines(part, table), np.arange(len(table))) for part, (_, table) in answers.items()])
            return Found(rows=rows, read=_read(answers))
        request = self.plan.searched.request(self.deadline)
        run = SearchRun(self._nodes, request, self._asker, self.sight, self._statement)
        ranked, _ = run.best(embedder, Stopwatch())
        rows = FoundRows.ranked(ranked, run.found)
        return Found(rows=rows, read=len(rows), search=run.plan())

    def loaded(
        self, rows: FoundRows, columns: Collection[str], *, fields: Collection[str] = (), passages: bool = False
    ) -> FoundRows:
        """Return the rows as they came, if they came with all of it, else as they are fetched."""
        names = {*columns, *fields, *self.version.spec.key}
        wanted = {COLUMN_PREFIX + name for name in names & set(self.version.arrow_schema.names)}
        if not (fields or passages) and all(wanted <= set(part.table.column_names) for part, _ in rows.parts):
            return rows
        places, lines = rows.places(np.arange(len(rows)))
        found = [part for part, _ in rows.parts if isinstance(part, Lines)]
        assert len(found) == len(rows.parts)  # what was fetched is not fetched again
        chunks, placed, best = fetch(
            self._nodes,
            self._asker,
            found,
            places,
            lines,
            names=names,
            passages=passages,
            deadline=self.deadline,
        )
        return FoundRows.placed(placed, best, chunks, rows.scores)

    def groups(self, plan: GroupPlan, embedder: QueryEmbedder | None, watch: Stopwatch) -> Groups:
        """Return the groups: of rows that were searched for as on one machine, else merged from those of the nodes."""
        if self.plan.searched is not None:
            return super().groups(plan, embedder, watch)
        answers = self._select()
        read = _read(answers)
        keys = self._every_key(read) if self.has_keys(read) else None
        watch.lap("find")
        return Groups(table=merged_groups([table for _, table in answers.values()], plan), read=read, keys=keys)

    def _select(self) -> Answers:
        return self._nodes.ask_all(self._asker, Select(statement=self._statement), deadline=self.deadline).answers()

    def _every_key(self, read: int) -> list[Key]:
        """Return the keys of all ``read`` rows."""
        if not read:
            return []
        question = Find(mode=None, pool=read, statement=self._statement)
        answers = self._nodes.ask_all(self._asker, question, deadline=self.deadline).answers()
        tables = [Lines(part, table) for part, (_, table) in answers.items()]
        return [key for part in tables for key in keys_of(part, self.version.spec, range(part.n))]


def _read(answers: Answers) -> int:
    return sum(answer.read for answer, _ in answers.values())
