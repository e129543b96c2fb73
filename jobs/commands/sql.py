"""``sql``: a SELECT over a collection from the terminal, without a server."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import date, datetime
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.options import ClaimOption, Dialect, ParamOption, RoleOption, claims_of, parameters
from jobs.output import StoreOption, note, print_json, stdout, table
from jobs.settings import Settings

if TYPE_CHECKING:
    from jobs.progress import Report


class SqlFormat(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(sql)


def sql(
    statement: Annotated[str, typer.Argument(help="A SELECT over one collection, named in FROM; '-' reads stdin.")],
    param: ParamOption = None,
    dialect: Annotated[Dialect, typer.Option("--dialect", help="The statement's SQL.")] = Dialect.DATABRICKS,
    role: RoleOption = None,
    claim: ClaimOption = None,
    store: StoreOption = None,
    output: Annotated[
        SqlFormat, typer.Option("--output", "-o", help="A table to read, or JSON or CSV for a script.")
    ] = SqlFormat.TABLE,
    every: Annotated[
        bool, typer.Option("--all", help="All rows of a statement without LIMIT, as JSON or CSV; else the first 1,000.")
    ] = False,
) -> None:
    """Look rows up with SQL: columns, WHERE, GROUP BY with count, sum, avg, min, max, ORDER BY, LIMIT.

    search('text') in WHERE ranks the rows that the rest of it passes; score() and passage() are of those.

    grebe sql "SELECT severity, count(*) AS n FROM advisories GROUP BY severity ORDER BY n DESC"
    grebe sql "SELECT id, severity FROM advisories WHERE year > 2020" --all --output csv > advisories.csv
    grebe sql "SELECT id, score(), passage() FROM advisories WHERE search(:q) AND year > 2020 LIMIT 5" -p q="zip bomb"
    """
    from indexer.format.store import Store
    from jobs.local import LocalCollection, caller_as
    from jobs.progress import bars
    from retrieval.policies import OPERATOR
    from retrieval.request import SearchRequest
    from retrieval.sql import parse_statement, searched_by

    values = parameters(param or [])
    parsed = parse_statement(sys.stdin.read() if statement == "-" else statement, dialect.value)
    searched = searched_by(parsed, values)
    if every and output is SqlFormat.TABLE:
        raise typer.BadParameter("all rows are no table to read: add --output csv or json", param_hint="--all")
    if every and parsed.limit is not None:
        raise typer.BadParameter("the statement has a LIMIT: leave it out", param_hint="--all")
    settings = Settings.read(store=store)
    claims = claims_of(claim, role)
    root = Store.at(settings.store)
    caller = caller_as(root, role, claims) if role else OPERATOR
    request = SearchRequest(query=searched.query, mode=searched.mode) if searched else None
    with LocalCollection(root, parsed.collection, settings.cache) as collection:
        for line in collection.notes(request, caller):
            note(line)
        pages = collection.pages(parsed, values, caller)
        answers = pages if every else islice(pages, 1)
        with bars() if every else nullcontext(_quiet) as progress:
            answer = _write_csv(answers, progress) if output is SqlFormat.CSV else _together(answers, progress)
    if output is SqlFormat.JSON:
        print_json(answer)
        return
    if output is SqlFormat.TABLE:
        stdout().print(table([column["name"] for column in answer["columns"]], answer["rows"], shown))
    _tell(answer)


def _quiet(stage: str, done: int, total: int | None) -> None:
    """Show nothing of what is soon done."""


def _together(answers: Iterable[dict[str, Any]], progress: Report) -> dict[str, Any]:
    """Return one answer with the rows of all."""
    rows: list[Any] = []
    for answer in answers:
        rows += answer["rows"]
        progress("rows", len(rows), None)
    return answer | {"rows": rows}


def _write_csv(answers: Iterable[dict[str, Any]], progress: Report) -> dict[str, Any]:
    """Write the rows of all answers as they come; return what is to be told of them."""
    writer, n = csv.writer(sys.stdout, lineterminator="\n"), 0
    for answer in answers:
        if n == 0:
            writer.writerow([column["name"] for column in answer["columns"]])
        writer.writerows([["" if value is None else shown(value) for value in row] for row in answer["rows"]])
        n += len(answer["rows"])
        progress("rows", n, None)
    return answer | {"rows": range(n)}


def _tell(answer: dict[str, Any]) -> None:
    more = ": there are more, LIMIT says how many are wanted, and --all wants all" if answer["truncated"] else ""
    source = f", source version {answer['source']['version']}" if answer["source"] else ""
    rows = "1 row" if len(answer["rows"]) == 1 else f"{len(answer['rows']):,} rows"
    note(f"{rows}{source}, index version {answer['version']}{more}")


def shown(value: object) -> str:
    """Return ``value`` as a person reads it, without losing a digit.

    >>> from decimal import Decimal
    >>> [shown(value) for value in (None, True, 1234567, 0.1, Decimal("1.10"), "a", ["a", None], b"\\xff")]
    ['NULL', 'true', '1234567', '0.1', '1.10', 'a', '["a",null]', '/w==']
    """
    from api.encoding import encode

    match value:
        case None:
            return "NULL"
        case str():
            return value
        case datetime():
            return value.isoformat(sep=" ").replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case float():
            return repr(value)
        case _:
            return encode(value).decode().strip('"')
