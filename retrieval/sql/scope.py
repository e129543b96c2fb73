"""What names mean in a statement: columns, aliases, parameters and Grebe's own functions, for one caller."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import polars as pl
from sqlglot import exp

from retrieval.errors import FilterError
from retrieval.filter import CompiledFilter, FilterSchema, filter_of, schema_of
from retrieval.filter.check import BOTH, FUNCTIONS, Checker
from retrieval.filter.constructs import HANDLERS
from retrieval.filter.filter import expression_of
from retrieval.filter.parse import Parsed
from retrieval.filter.sqltypes import FLOAT, working_dtype
from retrieval.filter.tree import Call, Column, Node
from retrieval.policies import Sight
from retrieval.sql.parameters import Parameters
from retrieval.sql.statement import Statement, function_name, refused

SCORE = "\0score"
"""The column of scores among a statement's rows; no text can name it."""

_FUNCTIONS = f"{FUNCTIONS}; in SELECT, HAVING and ORDER BY also count, sum, avg, min, max"


class Scope:
    """The names of one statement, asked by a caller of ``sight`` at ``now``.

    ``schema`` has the stored columns, ``found`` those and the score. Each method raises FilterError at the place in the
    text.
    """

    def __init__(
        self,
        statement: Statement,
        parameters: Parameters,
        *,
        schema: FilterSchema,
        sight: Sight,
        now: datetime,
    ) -> None:
        self.parsed: Parsed = statement.parsed
        self.parameters = parameters
        self.schema = schema
        self.found = schema_of({**schema.by_name, SCORE: pl.Float64()}, schema.texts)
        self.sight = sight
        self.text_fields = schema.texts
        self._rules = statement.rules
        self._searches = statement.search is not None
        self._now = now

    def resolved(
        self, node: exp.Expr, aliases: Mapping[str, exp.Expr] | None = None, *, alias_first: bool = False
    ) -> exp.Expr:
        """Return ``node`` with its columns under their exact names, and aliases replaced by what they stand for.

        A column goes before an alias of its name, unless with ``alias_first`` the name is all of ``node``.
        """
        root = node.copy()

        def name(part: exp.Expr) -> exp.Expr:
            if not isinstance(part, exp.Column):
                return part
            folded = part.name.casefold()
            known = folded in self.schema.by_folded
            if aliases and folded in aliases and (not known or (alias_first and part is root)):
                return aliases[folded].copy()
            return self._exact(part)

        return root.transform(name, copy=False)

    def _exact(self, column: exp.Column) -> exp.Column:
        if self.text_field(column):
            raise self._text_alone(column)
        exact = exp.to_identifier(self._checker(self.schema).resolve(column.this), quoted=True)
        exact.meta.update(column.this.meta)  # its place in the text
        column.set("this", exact)
        return column

    def _text_alone(self, column: exp.Column) -> FilterError:
        message = f"{column.name} is a text field: it can be selected by its name, and nothing else"
        hint = f"search('…') in WHERE finds rows by their text; to filter, group or order by it, {BOTH}"
        return refused(self.parsed, column, message, hint, "filter_type")

    def text_field(self, node: exp.Expr) -> str | None:
        """Return the text field that ``node`` names, if it does; a column goes before a field of its name."""
        if not isinstance(node, exp.Column) or node.name.casefold() in self.schema.by_folded:
            return None
        return next((name for name in self.text_fields if name.casefold() == node.name.casefold()), None)

    def refuse_unreadable(self, node: exp.Expr) -> None:
        """Raise if a resolved ``node`` reads a text field, or a column that the caller does not see."""
        for column in node.find_all(exp.Column):
            if self.text_field(column):
                raise self._text_alone(column)
            if column.name in self.sight.masks:
                message = f"{column.name} is masked for you: it can be selected by its name, and nothing else"
                raise refused(self.parsed, column, message, code="filter_masked_column")

    def value(self, node: exp.Expr, schema: FilterSchema) -> Node:
        """Check a resolved value over the columns of ``schema``."""
        check = self._checker(schema)
        tree = check.value(node)
        self.parameters.used |= check.used
        return tree

    def condition(self, node: exp.Expr, schema: FilterSchema) -> Node:
        """Check a resolved condition likewise."""
        check = self._checker(schema)
        tree = check.condition(node)
        self.parameters.used |= check.used
        return tree

    def filter_of(self, condition: Node) -> CompiledFilter:
        """Return the filter of a checked condition over the stored columns."""
        return filter_of(condition, text=self.parsed.text, params=self.parameters.values, now=self._now)

    def expression(self, tree: Node, *, is_computed: bool = True) -> pl.Expr:
        """Return the polars expression of a checked value, in the working type of its own.

        ``is_computed`` is False for what is only shown.
        """
        made = expression_of(
            tree, text=self.parsed.text, params=self.parameters.values, now=self._now, is_computed=is_computed
        )
        return made.cast(working_dtype(tree.type))

    def _checker(self, schema: FilterSchema) -> Checker:
        return Checker(
            parsed=self.parsed,
            rules=self._rules,
            schema=schema,
            given=self.parameters.types,
            handlers={**HANDLERS, exp.Anonymous: self._own_function},
            functions=_FUNCTIONS,
            selects_texts=True,
        )

    def _own_function(self, check: Checker, node: exp.Expr) -> Node:
        name = function_name(node)
        if name == "search":
            raise refused(self.parsed, node, "search('…') stands in WHERE, alone or joined to the rest by AND")
        if name == "passage":
            raise refused(self.parsed, node, "passage() stands alone in SELECT, of rows that are searched")
        if name != "score":
            return HANDLERS[exp.Anonymous](check, node)
        if node.expressions:
            raise refused(self.parsed, node, "score() takes nothing", code="filter_value")
        if not self._searches:
            raise refused(self.parsed, node, "score() is that of a search", "add search('…') to WHERE")
        if SCORE not in check.schema.by_name:
            raise refused(self.parsed, node, "score() stands in SELECT, GROUP BY and ORDER BY")
        return Column(SCORE, pl.Float64(), FLOAT)


def columns_of(tree: Node) -> set[str]:
    """Return the stored columns that a checked value reads."""
    if isinstance(tree, Column):
        return {tree.name} - {SCORE}
    return set().union(*map(columns_of, tree.args)) if isinstance(tree, Call) else set()
