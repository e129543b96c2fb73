"""SELECT over one collection: projection, WHERE, GROUP BY with aggregates, ORDER BY, LIMIT, and ``search('text')``.

The way of a statement: text → :mod:`statement` (sqlglot's tree, taken apart; what it may not hold is refused) →
:mod:`plan` (names resolved, types checked, masked columns refused, expressions made) → :mod:`run` (the rows that the
caller sees and WHERE passes, ranked if it searches; then grouped, ordered and cut; :mod:`here` has them from a
snapshot, :mod:`retrieval.distributed.select` from nodes). No text reaches an engine.
"""

from retrieval.sql.here import run_statement
from retrieval.sql.parameters import DEFAULT_ROWS, Searched, searched_by
from retrieval.sql.run import SqlAnswer, SqlColumn
from retrieval.sql.statement import Statement, parse_statement

__all__ = [
    "DEFAULT_ROWS",
    "Searched",
    "SqlAnswer",
    "SqlColumn",
    "Statement",
    "parse_statement",
    "run_statement",
    "searched_by",
]
