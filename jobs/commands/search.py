"""``search``: ask a collection from the terminal, without a server."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from jobs.options import ClaimOption, Dialect, ParamOption, RoleOption, claims_of, key_parts, parameters, stages
from jobs.output import Format, Output, StoreOption, note, print_json, stdout
from jobs.settings import Settings


class Mode(StrEnum):
    """The legs of a search."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    KEYWORD = "keyword"


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(search)


def search(
    name: Annotated[str, typer.Argument(help="The collection.")],
    query: Annotated[
        str | None, typer.Argument(help="What to look for; may be left out with --like or --filter.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="KEY", help="Rows like the one of this key (a composite key as JSON)."),
    ] = None,
    where: Annotated[
        str | None, typer.Option("--filter", "-f", help="A WHERE condition in SQL; ':name' is a parameter.")
    ] = None,
    param: ParamOption = None,
    mode: Annotated[Mode | None, typer.Option("--mode", "-m", help="Which legs to search.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many rows at most.")] = 10,
    rerank: Annotated[
        int | None, typer.Option("--rerank", metavar="DEPTH", help="Let the cross-encoder score so many rows anew.")
    ] = None,
    decay: Annotated[
        str | None,
        typer.Option(
            "--decay",
            metavar="COLUMN=SCALE[,NAME=VALUE...]",
            help="Prefer what is recent, as in published=30d or published=30d,kind=gauss.",
        ),
    ] = None,
    collapse: Annotated[
        str | None,
        typer.Option(
            "--collapse",
            metavar="COLUMN[=MOST]",
            help="Show the best row of each value of the column, or so many as in package=2.",
        ),
    ] = None,
    diversify: Annotated[
        float | None,
        typer.Option("--diversify", metavar="DIVERSITY", help="Avoid rows that are alike: from 0 (not) to 1."),
    ] = None,
    context: Annotated[
        int, typer.Option("--context", help="Show so many chunks before and after a hit's own.", min=0, max=10)
    ] = 0,
    min_similarity: Annotated[
        float | None, typer.Option("--min-similarity", help="Leave out what is not that near by meaning.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what made each score.")] = False,
    role: RoleOption = None,
    claim: ClaimOption = None,
    dialect: Annotated[Dialect, typer.Option("--dialect", help="The filter's SQL.")] = Dialect.DATABRICKS,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Search a collection's newest version by meaning, by words and by SQL.

    Policies hold for callers of the server; here they do with --role, to see what such a caller sees.

    grebe search advisories "remote code execution" --filter "published >= '2024-01-01'"
    grebe search advisories "zip bomb" --filter "package = :p" --param p=pillow --explain
    grebe search advisories "zip bomb" --decay published=180d --diversify 0.3
    grebe search advisories --like CVE-2024-3094 -k 5
    """
    from indexer.format.store import Store
    from jobs.hits import answer_on_screen
    from jobs.local import LocalCollection, caller_as
    from retrieval.policies import OPERATOR
    from retrieval.request import SearchRequest

    if query is None and like is None and where is None:
        raise typer.BadParameter("give what to look for, --like or --filter", param_hint="QUERY")
    values = parameters(param or [])
    settings = Settings.read(store=store)
    request = SearchRequest(
        query=query,
        like=None if like is None else key_parts(like),
        filter=where,
        params=values,
        mode=mode.value if mode else None,
        k=k,
        stages=stages(rerank, decay, collapse, diversify),
        context=context,
        min_similarity=min_similarity,
        explain=explain,
        dialect=dialect.value,
    )
    claims = claims_of(claim, role)
    root = Store.at(settings.store)
    caller = caller_as(root, role, claims) if role else OPERATOR
    with LocalCollection(root, name, settings.cache) as collection:
        for line in collection.notes(request, caller):
            note(line)
        answer = collection.search(request, caller)
    if output is Format.JSON:
        print_json(answer)
    else:
        stdout().print(answer_on_screen(answer, explain=explain, key=collection.key))
