"""A search's answer on the screen: the rows with their passages, and what made a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.output import cell, plain, printable, table
from retrieval.refine.stages import STAGE_NAMES

PASSAGE_CHARS = 220


def hits_of_answer(answer: dict[str, Any], key: Sequence[str] | None = None) -> RenderableType:
    """Return a table of ``answer``'s results (the shape of the HTTP answer): score, key and passage.

    Where ``key`` names the columns of the key, the others stand under the passage. Rows found by a filter alone
    have no score.
    """
    if not answer["results"]:
        return Text("nothing was found", style="dim")
    made = Table(box=None, header_style="bold", pad_edge=False)
    made.add_column("score", justify="right")
    made.add_column("key", style="green", no_wrap=True)
    made.add_column("passage", overflow="fold")
    for hit in answer["results"]:
        score = "-" if answer["plan"]["mode"] in (None, "filter") else f"{hit['score']:.4f}"
        shown = Text(passage(hit["text"]))
        if key is not None:
            others = (f"{name} {plain(value)}" for name, value in hit["fields"].items() if name not in key)
            shown.append(f"\n{passage('  '.join(others))}", style="dim")
        made.add_row(score, Text(printable(cell(hit["key"]))), shown)
    return made


def explained(hit: dict[str, Any]) -> RenderableType:
    """Return the explanation of one result as a table, one line per leg, and below it a line per stage."""
    explanation = hit.get("explanation") or {}
    stages = {name: explanation[name] for name in STAGE_NAMES if name in explanation}
    legs = {name: part for name, part in explanation.items() if isinstance(part, dict) and name not in stages}
    rest = ", ".join(f"{name} {cell(part)}" for name, part in explanation.items() if not isinstance(part, dict))
    columns = list(dict.fromkeys(column for part in legs.values() for column in part))
    rows = [[name, *(part.get(column) for column in columns)] for name, part in legs.items()]
    title = Text(f"Why {cell(hit['key'])} scores {hit['score']:.4f}" + (f" ({rest})" if rest else ""))
    made = [
        Text(f"  {name}: " + ", ".join(f"{key} {cell(value)}" for key, value in part.items()))
        for name, part in stages.items()
    ]
    return Group(title, *([table(("leg", *columns), rows)] if rows else []), *made)


def answer_on_screen(answer: dict[str, Any], *, explain: bool, key: Sequence[str] | None = None) -> RenderableType:
    """Return the results, each one's explanation if wanted, and how and in which version they were found."""
    parts = [hits_of_answer(answer, key)]
    if explain:
        parts += [explained(hit) for hit in answer["results"]]
    source = answer["source"]
    version = f"source version {source['version']}, " if source else ""
    mode = answer["plan"]["mode"] or "filter"
    parts.append(Text(f"{mode} search, {version}index version {answer['version']}", style="dim"))
    return Group(*parts)


def passage(text: str | None) -> str:
    """Return ``text`` on one line, cut at a word.

    >>> passage("one\\n  two")
    'one two'
    """
    line = printable(" ".join((text or "").split()))
    return line if len(line) <= PASSAGE_CHARS else line[:PASSAGE_CHARS].rpartition(" ")[0] + " ..."
