"""``sync``: bring a collection to its table's newest version, once or for as long as it is wanted."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Annotated

import typer

from connectors.contract import POLL_SECONDS
from jobs.output import Format, Output, StoreOption, note, print_json, stdout, table
from jobs.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(sync)


def sync(
    name: Annotated[str, typer.Argument(help="The collection.")],
    continuous: Annotated[
        bool, typer.Option("--continuous", "-c", help="Keep following the table until interrupted.")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.0, help="Seconds between two looks at the table.")
    ] = POLL_SECONDS,
    approve: Annotated[
        int | None,
        typer.Option("--approve", metavar="VERSION", help="Apply the deletes that are held at this source version."),
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="End the hold of a rollback, and read on.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare the whole table first, and put right what differs.")
    ] = False,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Read the table's changes into the index.

    The first sync loads the whole table; one that was interrupted goes on where it stopped.

    grebe sync advisories                 (once: for a scheduled job)
    grebe sync advisories --continuous    (until Ctrl-C: a change is searchable in seconds)
    """
    from indexer.catalog import CatalogState
    from indexer.format.store import Store
    from jobs.pipeline import run_sync
    from jobs.progress import bars

    settings = Settings.read(store=store)
    stopping = _stop_on_signals() if continuous else threading.Event()

    def committed(state: CatalogState) -> None:
        if continuous and output is Format.TABLE:
            ledger = state.ledger
            source = state.position.version if state.position else "-"
            note(f"version {state.version} (source {source}): {ledger.upserted} written, {ledger.deleted} deleted")

    with bars() as progress:
        report = run_sync(
            Store.at(settings.store),
            name,
            cache=settings.cache,
            continuous=continuous,
            interval_seconds=interval,
            stop=stopping.is_set,
            progress=progress,
            committed=committed,
            healing=lambda reason: note(f"Comparing the whole table: {reason}"),
            approve=approve,
            release=release,
            compare=compare,
        )
    ledger = report.ledger.model_dump()
    state = report.state
    result = {
        "collection": name,
        "version": state.version if state else None,
        "source_version": state.position.version if state and state.position else None,
        "commits": report.commits,
        **ledger,
    }
    if output is Format.JSON:
        print_json(result)
    else:
        stdout().print(table(list(result), [list(result.values())]))


def _stop_on_signals() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set, so that a batch under way is committed before the end."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if not stopping.is_set():
            note("Stopping after the batch under way ...")
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopping
