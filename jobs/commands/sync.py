"""``sync``: bring collections to their tables' newest versions, once or for as long as it is wanted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from connectors.contract import POLL_SECONDS
from jobs.output import Format, Output, StoreOption, interrupts_told, note, print_json, sentence, stdout, table, tell
from jobs.settings import Settings
from jobs.several import none_yet, require_named_or_all

if TYPE_CHECKING:
    from indexer.catalog import CatalogState, SourcePosition
    from indexer.format.store import Store
    from jobs.following import Outcome
    from jobs.progress import Shown


INTERRUPTED = "Interrupted. What was committed stays; the same command goes on from there."


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(sync)


def sync(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="The collections.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Sync every collection that is in the store now.")] = False,
    continuous: Annotated[
        bool, typer.Option("--continuous", "-c", help="Keep following the tables until interrupted.")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.0, help="Seconds between two looks at a table.")
    ] = POLL_SECONDS,
    on_busy: Annotated[
        Literal["wait", "stop"] | None,
        typer.Option(
            "--on-busy",
            help="What to do about a collection that another process is syncing.  [default: stop; with --approve or "
            "--release: wait]",
            show_default=False,
        ),
    ] = None,
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
    """Read the changes of tables into their indexes.

    The first sync loads the whole table; one that was interrupted goes on where it stopped. Of several collections, one
    that fails stops no other, and the exit code is 1; with --continuous it is tried again until it goes. --approve,
    --release and --compare are for one at a time. With --all a store without collections is no failure, so that a
    schedule may begin before the first grebe apply; with --continuous it is one, for there is nothing to follow.

    grebe sync advisories                 (once: for a scheduled job)
    grebe sync --all --output json        (every collection, with a summary)
    grebe sync advisories --continuous    (until Ctrl-C: changes within seconds)
    """
    from indexer.format.store import Store
    from indexer.sync import SyncOptions
    from jobs.pipeline import run_syncs
    from jobs.progress import bars

    settings = Settings.read(store=store)
    place = Store.at(settings.store)
    chosen = _chosen(place, names or [], every=every)
    alone = len(chosen) == 1 and not every
    if not alone and (approve is not None or release or compare):
        raise typer.BadParameter("--approve, --release and --compare are for one collection: name just that one")
    if not chosen:
        _none_yet(place, output, continuous=continuous)
        return
    stopping = _stop_on_signals() if continuous else threading.Event()
    ending = nullcontext() if continuous else interrupts_told(INTERRUPTED)
    with ending, bars() as progress:
        tells = continuous and output is Format.TABLE
        voices = {name: _Voice(name, progress, stopping, alone=alone, tells=tells) for name in chosen}

        def options_of(name: str) -> SyncOptions:
            voice = voices[name]
            return SyncOptions(
                continuous=continuous,
                interval_seconds=interval,
                stop=stopping.is_set,
                approve=approve,
                release=release,
                compare=compare,
                progress=voice.progress,
                following=voice.following,
                committed=voice.committed,
                healing=voice.healing,
                resting=voice.resting,
            )

        outcomes = run_syncs(
            place,
            chosen,
            cache=settings.cache,
            continuous=continuous,
            options_of=options_of,
            on_busy=on_busy or ("wait" if approve is not None or release else "stop"),
            waiting=note,
            retrying=lambda outcome, seconds: voices[outcome.name].retrying(outcome, seconds),
            ended=lambda outcome: voices[outcome.name].ended(outcome),
        )
    _print(outcomes, output, alone=alone)
    for outcome in outcomes:
        if outcome.report and (aside := outcome.report.ledger.set_aside):
            note(f"{aside} row{'s were' if aside > 1 else ' was'} set aside; why: grebe status {outcome.name}")
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)


def _chosen(store: Store, names: Sequence[str], *, every: bool) -> list[str]:
    from indexer.catalog import Catalog

    require_named_or_all(named=bool(names), every=every, what="collections")
    return list(dict.fromkeys(names)) or sorted(Catalog.names(store))


def _none_yet(store: Store, output: Format, *, continuous: bool) -> None:
    from jobs.errors import CommandError

    if continuous:
        raise CommandError(none_yet(store))
    note(none_yet(store))
    if output is Format.JSON:
        print_json({"collections": [], "failed": []})


class _Voice:
    """What is said of one collection while it is synced; of its commits and whereabouts only if it ``tells``."""

    def __init__(self, name: str, progress: Shown, stopping: threading.Event, *, alone: bool, tells: bool) -> None:
        self._about = None if alone else name
        self._prefix = "" if alone else f"{name}: "
        self._progress, self._stopping, self._tells = progress, stopping, tells
        self._followed: SourcePosition | None = None
        self._told: Exception | None = None

    def progress(self, stage: str, done: int, total: int | None) -> None:
        self._progress(f"{self._prefix}{stage}", done, total)

    def following(self, position: SourcePosition) -> None:
        self._progress.over(self._prefix)
        if self._tells and position != self._followed and not self._stopping.is_set():
            self._followed = position
            note(f"{self._prefix}Following from source version {position.version} (Ctrl-C ends it).")

    def committed(self, state: CatalogState) -> None:
        if not self._tells:
            return
        ledger = state.ledger
        source = state.position.version if state.position else "-"
        aside = f", {ledger.set_aside} set aside" if ledger.set_aside else ""
        did = f"{ledger.upserted} written, {ledger.deleted} deleted{aside}"
        note(f"{self._prefix}version {state.version} (source {source}): {did}")

    def healing(self, reason: str) -> None:
        note(f"{self._prefix}Comparing the whole table: {reason}")

    def resting(self, reason: str) -> None:
        note(f"{self._prefix}{reason}")

    def retrying(self, outcome: Outcome, seconds: float) -> None:
        self.ended(outcome)
        self._told = outcome.error
        sooner = ", or when the hold ends" if _word(outcome.error) == "held" else ""
        note(f"{self._prefix}Trying again in {seconds:.0f} s{sooner} ...")

    def ended(self, outcome: Outcome) -> None:
        if outcome.error and outcome.error is not self._told:
            tell(outcome.error, about=self._about)


def _print(outcomes: Sequence[Outcome], output: Format, *, alone: bool) -> None:
    """Print what became of each collection: of one that was named ``alone``, a single object or row."""
    results = [_result(outcome) for outcome in outcomes]
    if output is Format.JSON:
        failed = [outcome.name for outcome in outcomes if outcome.error]
        print_json(results[0] if alone else {"collections": results, "failed": failed})
    elif not (alone and outcomes[0].error):  # its sentence has been told
        columns = [column for column in results[0] if column != "error"]
        cells = [[result[column] for column in columns] for result in results]
        stdout().print(table([column.replace("_", " ") for column in columns], cells))


def _result(outcome: Outcome) -> dict[str, Any]:
    from indexer.format.records import Ledger

    report = outcome.report
    state = report.state if report else None
    return {
        "collection": outcome.name,
        "outcome": _word(outcome.error),
        "version": state.version if state else None,
        "source_version": state.position.version if state and state.position else None,
        "commits": report.commits if report else None,
        **(report.ledger.model_dump() if report else dict.fromkeys(Ledger.model_fields)),
        "error": sentence(outcome.error) if outcome.error else None,
    }


def _word(error: Exception | None) -> str:
    from indexer.errors import CollectionHeld

    if error is None:
        return "synced"
    return "held" if isinstance(error, CollectionHeld) else "failed"


def _stop_on_signals() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set, so that a batch under way is committed before the end.

    Off the main thread, where Python lets nobody take signals, they stay with the program that called.
    """
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        return stopping

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if not stopping.is_set():
            note("Stopping after the batch under way ...")
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopping
