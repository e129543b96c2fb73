"""``eval``: search quality on a set with judgements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.output import Format, Output, print_json, stdout, table
from jobs.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command(name="eval")(evaluate)


def evaluate(
    name: Annotated[str, typer.Argument(metavar="SET", help="A folder of the data: scifact, cranfield, or your own.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="The folder of the sets.  [default: GREBE_DATA, or ../shared/data]", show_default=False
        ),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Measure nDCG@10, recall@100 and MRR@10 of vector, keyword and hybrid search.

    A set is a folder with corpus.jsonl.gz (id, title, text), queries.jsonl.gz (id, text) and qrels.tsv (query,
    document, grade). The first run indexes it; later runs only search.

    grebe eval scifact --output json
    """
    from jobs.evaluation import evaluate as measure
    from jobs.evaluation import load_set
    from jobs.metrics import MEASURES
    from jobs.progress import bars

    settings = Settings.read()
    wanted = load_set(data or settings.data, name)
    with bars(unit="queries") as progress:
        result = measure(wanted, settings.cache, progress)
    if output is Format.JSON:
        print_json(result)
        return
    rows = [[mode, *(values[measure] for measure in MEASURES)] for mode, values in result["modes"].items()]
    title = f"{name}: {len(wanted.documents):,} documents, {len(wanted.judgements):,} judged queries"
    stdout().print(title)
    stdout().print(table(("mode", *MEASURES), rows))
