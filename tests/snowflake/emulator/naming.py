"""Names: Snowflake's rules of case over DuckDB, which knows no case.

Unquoted names fold to upper case and quoted ones keep theirs (Snowflake docs, SQL reference, "Identifier
requirements"), so ``"id"`` and ``ID`` are two columns. DuckDB takes them for one: a name with lower-case letters is
kept there with a suffix that says which letters they are, and loses it again on the way out.
"""

from __future__ import annotations

from typing import TypeVar

import sqlglot
from sqlglot import exp

from tests.snowflake.emulator.failure import SqlFailure

MARK = "~"
AnyExpression = TypeVar("AnyExpression", bound=exp.Expression)


def kept(name: str) -> str:
    """Return how a Snowflake name is kept in DuckDB."""
    if name == name.upper():
        return name
    mask = sum(1 << place for place, letter in enumerate(name) if letter != letter.upper())
    return f"{name}{MARK}{mask:x}"


def shown(name: str) -> str:
    """Return the Snowflake name of what DuckDB keeps."""
    return name.partition(MARK)[0]


def given(name: str) -> str:
    """Return how a name is kept that was given as text: quoted, or folded to upper case."""
    if name.startswith('"') and name.endswith('"') and len(name) > 1:
        return kept(name[1:-1].replace('""', '"'))
    return name.upper()


def quoted(*parts: str) -> str:
    """Return a dotted DuckDB name."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def fold(tree: AnyExpression) -> AnyExpression:
    """Fold every identifier of a parsed statement to the way it is kept."""
    for dynamic in list(tree.find_all(exp.Table)):
        # IDENTIFIER('db.schema.table') names a table by text
        inner = dynamic.this
        if type(inner).__name__ == "DynamicIdentifier" and isinstance(inner.this, exp.Literal):
            for part, node in exp.to_table(inner.this.name, dialect="snowflake").args.items():
                dynamic.set(part, node)
    for identifier in tree.find_all(exp.Identifier):
        name = str(identifier.this)
        if MARK not in name:
            identifier.set("this", kept(name) if identifier.args.get("quoted") else name.upper())
        identifier.set("quoted", True)
    return tree


def parsed(sql: str) -> exp.Expression:
    """Parse one Snowflake statement; a syntax error is Snowflake's 001003 (42000)."""
    try:
        statements = [tree for tree in sqlglot.parse(sql, read="snowflake") if tree is not None]
    except sqlglot.errors.ParseError as error:
        raise SqlFailure(1003, "42000", f"SQL compilation error:\nsyntax error: {str(error)[:300]}") from None
    if len(statements) != 1:
        raise SqlFailure(
            8,
            "0A000",
            f"Actual statement count {len(statements)} did not match the desired statement count 1.",
        )
    (tree,) = statements
    assert isinstance(tree, exp.Expression)
    return tree


def table_name(text: str) -> exp.Table:
    """Parse a table's name that came as text."""
    return fold(exp.to_table(text, dialect="snowflake"))
