"""A SELECT statement, taken apart and not yet judged against a collection's columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from retrieval.errors import FilterError
from retrieval.filter.dialects import DialectRules, rules_of
from retrieval.filter.kept import kept
from retrieval.filter.parse import SELECT_HINT, Parsed, parse_select

_PARTS = ("expressions", "from_", "where", "group", "having", "order", "limit", "offset", "distinct")
_REFUSED = {
    "joins": "a statement reads one collection, so it joins nothing",
    "laterals": "a statement reads one collection, so it joins nothing",
    "with_": "WITH is not allowed: write one SELECT over the collection",
    "windows": "window functions are not allowed",
    "qualify": "QUALIFY is not allowed",
}
MAX_NAME_CHARACTERS = 128
"""Of the name of a column that has no alias."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Item:
    """One entry of SELECT: an expression, or ``*``. ``name`` is its alias or, without one, its text."""

    node: exp.Expr
    name: str
    aliased: bool

    @property
    def is_star(self) -> bool:
        """Whether it is ``*``."""
        return isinstance(self.node, exp.Star)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SearchCall:
    """``search(query, k => …, mode => …)``: each argument is a literal or a parameter, None where it is left out."""

    node: exp.Expr
    query: exp.Expr
    k: exp.Expr | None
    mode: exp.Expr | None


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Ordering:
    """One entry of ORDER BY, with the dialect's place of NULLs where the text has none."""

    node: exp.Expr
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Statement:
    """``SELECT items FROM collection WHERE condition AND search GROUP BY group HAVING … ORDER BY order LIMIT …``.

    ``group`` is None without GROUP BY, and () for GROUP BY ALL.
    """

    parsed: Parsed
    rules: DialectRules
    collection: str
    items: tuple[Item, ...]
    condition: exp.Expr | None
    search: SearchCall | None
    group: tuple[exp.Expr, ...] | None
    having: exp.Expr | None
    order: tuple[Ordering, ...]
    limit: exp.Expr | None
    offset: exp.Expr | None
    distinct: bool


@kept(256)
def parse_statement(text: str, dialect: str) -> Statement:
    """Take a SELECT statement apart; raises FilterError, with the place, for what is none or asks for what is not here.

    >>> parse_statement("SELECT id FROM books WHERE search('birds') LIMIT 3", "duckdb").collection
    'books'
    """
    rules = rules_of(dialect)
    parsed = parse_select(text, dialect)
    tree = parsed.tree
    if not isinstance(tree, exp.Select):
        raise refused(parsed, tree, "one SELECT is allowed, and nothing that joins several", SELECT_HINT)
    for name, part in tree.args.items():
        if part and name not in _PARTS:
            at = part[0] if isinstance(part, list) else part
            message = _REFUSED.get(name, f"{name.strip('_').upper()} is not allowed")
            raise refused(parsed, at if isinstance(at, exp.Expr) else tree, message)
    collection, names = _collection(parsed, tree)
    _unqualify(parsed, tree, names)
    where = tree.args.get("where")
    condition, search = _condition(parsed, where.this) if where else (None, None)
    having, order = tree.args.get("having"), tree.args.get("order")
    return Statement(
        parsed=parsed,
        rules=rules,
        collection=collection,
        items=_items(parsed, tree),
        condition=condition,
        search=search,
        group=_group(parsed, tree.args.get("group")),
        having=having.this if having else None,
        order=tuple(_ordering(parsed, node) for node in order.expressions) if order else (),
        limit=_counted(parsed, tree.args.get("limit"), exp.Limit, "write LIMIT 10"),
        offset=_counted(parsed, tree.args.get("offset"), exp.Offset, "write OFFSET 10"),
        distinct=_distinct(parsed, tree.args.get("distinct")),
    )


def refused(
    parsed: Parsed, node: exp.Expr, message: str, hint: str = "", code: str = "filter_not_allowed"
) -> FilterError:
    """Return the error of a construct, at its place."""
    return parsed.error(parsed.place(node), code, message, hint)


def _collection(parsed: Parsed, tree: exp.Select) -> tuple[str, set[str]]:
    """Return the collection's name, and the names that may stand before a column's."""
    from_ = tree.args.get("from_")
    if from_ is None:
        raise refused(parsed, tree, "FROM is missing", SELECT_HINT, "filter_syntax")
    table = from_.this
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        raise refused(parsed, table, "FROM names one collection", SELECT_HINT)
    for name, part in table.args.items():
        if part and name not in ("this", "alias"):
            message = _REFUSED.get(name, "FROM names one collection, by its name alone")
            raise refused(parsed, table, message, SELECT_HINT)
    identifier = table.this
    name = identifier.name if identifier.args.get("quoted") else identifier.name.lower()
    return name, {table.alias_or_name.casefold()}


def _unqualify(parsed: Parsed, tree: exp.Select, names: set[str]) -> None:
    """Take the collection's name off the columns."""
    for column in tree.find_all(exp.Column):
        qualifier = column.args.get("table")
        if qualifier is None:
            continue
        if column.args.get("db") or qualifier.name.casefold() not in names:
            message = f"there is no table {qualifier.name!r} in FROM"
            raise refused(parsed, column, message, f"known is {', '.join(sorted(names))}", "filter_unknown_column")
        column.set("table", None)


def _items(parsed: Parsed, tree: exp.Select) -> tuple[Item, ...]:
    nodes, texts = tree.expressions, parsed.listed()
    if not nodes:
        raise refused(parsed, tree, "SELECT names nothing", SELECT_HINT, "filter_syntax")
    if len(texts) != len(nodes):
        texts = [parsed.snippet(node, limit=MAX_NAME_CHARACTERS) for node in nodes]
    return tuple(_item(parsed, node, text) for node, text in zip(nodes, texts, strict=True))


def _item(parsed: Parsed, node: exp.Expr, text: str) -> Item:
    aliased = isinstance(node, exp.Alias)
    name = node.alias if aliased else text[:MAX_NAME_CHARACTERS]
    node = node.this if aliased else node
    star = node.this if isinstance(node, exp.Column) else node
    if not isinstance(star, exp.Star):
        return Item(node=node, name=name, aliased=aliased)
    if aliased or any(star.args.values()):
        raise refused(parsed, node, "* stands alone: name the columns that are wanted instead")
    return Item(node=parsed.in_place_of(node, exp.Star()), name=name, aliased=False)


def _condition(parsed: Parsed, where: exp.Expr) -> tuple[exp.Expr | None, SearchCall | None]:
    """Part WHERE into the search that is joined to the rest by AND, and the rest."""
    parts = list(_conjuncts(where))
    calls = [part for part in parts if function_name(part) == "search"]
    if not calls:
        return where, None
    if len(calls) > 1:
        raise refused(parsed, calls[1], "one search is allowed", "put both texts into one")
    rest = [part for part in parts if part is not calls[0]]
    return exp.and_(*rest, copy=False) if rest else None, _search(parsed, calls[0])


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    waiting = [node]
    while waiting:
        part = waiting.pop()
        inner = part.unnest()
        if isinstance(inner, exp.And):
            waiting += [inner.expression, inner.this]
        else:
            yield inner if function_name(inner) else part


def function_name(node: exp.Expr) -> str | None:
    """Return the name, in small letters, of a function that SQL itself does not have."""
    return node.name.lower() if isinstance(node, exp.Anonymous) else None


def _search(parsed: Parsed, node: exp.Expr) -> SearchCall:
    hint = "write search('text'), search(:text, k => 50) or search('text', mode => 'keyword')"
    given: dict[str, exp.Expr] = {}
    for place, argument in enumerate(node.expressions):
        name = argument.this.name.lower() if isinstance(argument, exp.Kwarg) else None
        value = argument.expression if isinstance(argument, exp.Kwarg) else argument
        if place == 0 and name is None:
            name = "query"
        if name not in ("query", "k", "mode") or name in given or not isinstance(value, exp.Literal | exp.Placeholder):
            raise refused(parsed, argument, "search takes a text, k and mode, each in quotes or as a parameter", hint)
        given[name] = value
    if "query" not in given:
        raise refused(parsed, node, "search needs a text", hint, "filter_value")
    return SearchCall(node=node, query=given["query"], k=given.get("k"), mode=given.get("mode"))


def _group(parsed: Parsed, group: exp.Expr | None) -> tuple[exp.Expr, ...] | None:
    if group is None:
        return None
    extra = next((name for name, part in group.args.items() if part and name not in ("expressions", "all")), None)
    if extra is not None:
        raise refused(parsed, group, f"GROUP BY takes expressions; {extra} is not allowed")
    keys: Sequence[exp.Expr] = group.expressions
    every = len(keys) == 1 and isinstance(keys[0], exp.Column) and keys[0].name.upper() == "ALL"
    return () if group.args.get("all") or every else tuple(keys)


def _ordering(parsed: Parsed, node: exp.Expr) -> Ordering:
    if not isinstance(node, exp.Ordered) or node.args.get("with_fill"):
        raise refused(parsed, node, f"{parsed.snippet(node)} is not allowed in ORDER BY")
    return Ordering(
        node=node.this, descending=bool(node.args.get("desc")), nulls_first=bool(node.args.get("nulls_first"))
    )


def _counted(parsed: Parsed, part: exp.Expr | None, kind: type[exp.Expr], hint: str) -> exp.Expr | None:
    if part is None:
        return None
    value = part.args.get("expression")
    plain = type(part) is kind and isinstance(value, exp.Literal | exp.Placeholder)
    if not plain or any(more for name, more in part.args.items() if name != "expression"):
        raise refused(parsed, part, f"{parsed.snippet(part)} is not allowed here", f"{hint}, or with a parameter")
    return value


def _distinct(parsed: Parsed, distinct: exp.Expr | None) -> bool:
    if distinct is not None and distinct.args.get("on"):
        raise refused(parsed, distinct, "DISTINCT ON is not allowed")
    return distinct is not None
