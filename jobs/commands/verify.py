"""``verify``: is what is indexed what the table holds?"""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.output import Format, Output, StoreOption, interrupts_told, note, print_json, stdout, table
from jobs.settings import Settings

SHOWN_KEYS = 20


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(verify)


def verify(
    name: Annotated[str, typer.Argument(help="The collection.")],
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Compare the index with its table, row by row, at the version that was read last.

    Exits with 1 if they differ, naming the keys; a sync with --compare puts right what differs.

    grebe verify advisories
    grebe sync advisories --compare
    """
    from indexer.format.store import Store
    from jobs.pipeline import run_verify

    settings = Settings.read(store=store)
    with interrupts_told("Interrupted. Nothing was changed."):
        found = run_verify(Store.at(settings.store), name, cache=settings.cache)
    if output is Format.JSON:
        print_json({**vars(found), "position": found.position.model_dump(), "equal": found.equal})
    else:
        columns = ("collection", "source version", "rows in the table", "rows in the index", "set aside", *found.counts)
        row = (name, found.position.version, found.source_rows, found.index_rows, found.set_aside)
        stdout().print(table(columns, [(*row, *found.counts.values())]))
        for kind in found.counts:
            keys = getattr(found, kind)
            if keys:
                more = f" and {found.counts[kind] - SHOWN_KEYS:,} more" if found.counts[kind] > SHOWN_KEYS else ""
                note(f"{kind}: {' '.join(keys[:SHOWN_KEYS])}{more}")
    if not found.equal:
        raise typer.Exit(1)
