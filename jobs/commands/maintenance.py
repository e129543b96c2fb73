"""``compact`` and ``vacuum``: fewer and cleaner segments, and an end to files that nothing names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.output import Format, Output, StoreOption, confirmed, note, print_json, sentence, stdout, table
from jobs.settings import Settings
from jobs.several import T, for_each, names_of, require_named_or_all

if TYPE_CHECKING:
    from indexer.compact import Compaction
    from indexer.format.store import Store
    from indexer.vacuum import Vacuumed

MIB = 2**20
MOST_HOURS = 876_000.0
"""A hundred years: what dates can still be reckoned with."""

SURE_HOURS = 1.0
"""Below this, a server that opens an older version at this moment may find its files gone, and opens the newest."""

NameOrAll = Annotated[str | None, typer.Argument(help="The collection.")]
EveryOption = Annotated[bool, typer.Option("--all", help="Every collection that is in the store now.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(compact)
    app.command()(vacuum)


def compact(
    name: NameOrAll = None,
    every: EveryOption = False,
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Write every segment that holds deleted or replaced rows again."),
    ] = False,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Merge small segments into larger ones, and build approximate indexes where they have become worth it.

    A sync does this by itself; nothing waits for it, neither a sync nor a search. --purge is for erasure: afterwards
    no live segment holds a row that was deleted before it began. Older versions still do, until a vacuum. With --all,
    a collection that fails stops no other, and the exit code is 1.

    grebe compact advisories
    grebe compact --all --purge
    """
    from indexer.format.store import Store

    require_named_or_all(named=name is not None, every=every)
    settings = Settings.read(store=store)
    place = Store.at(settings.store)

    def act(each: str) -> Compaction:
        return _compacted(place, each, settings, purge=purge)

    if name is None:
        columns: dict[str, Callable[[Compaction], object]] = {
            "segments before": lambda done: len(done.before.segments),
            "segments": lambda done: len(done.after.segments),
            "tombstoned before": lambda done: sum(done.before.deleted.values()),
            "tombstoned": lambda done: sum(done.after.deleted.values()),
        }
        done = _over_all(place, act, _compaction, columns, output)
    else:
        done = [act(name)]
        _show_compaction(name, done[0], output)
    if purge and done:
        if any(each.merges or each.letters for each in done):
            said = "Older versions still hold what was purged."
        else:
            said = "Nothing was there to be purged, but older versions may hold what was before."
        note(f"{said} Next: grebe vacuum {name or '--all'} --retain 0 --dry-run")


def vacuum(
    name: NameOrAll = None,
    every: EveryOption = False,
    retain: Annotated[
        float | None,
        typer.Option(
            "--retain",
            min=0.0,
            max=MOST_HOURS,
            metavar="HOURS",
            help="Keep the versions that were the newest within so many hours.  [default: 168]",
            show_default=False,
        ),
    ] = None,
    longest_job: Annotated[
        float,
        typer.Option(
            "--longest-job",
            min=0.0,
            metavar="HOURS",
            help="Keep what no version names for so long: a job may be at it.",
        ),
    ] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Delete old versions, and the files that no kept version names.

    The newest version always stays, and so does what a running sync or an interrupted load still needs. Versions that
    went cannot be rolled back to; those replaced more than 168 hours ago go by themselves, but leave their files. With
    --all, a collection that fails stops no other, and the exit code is 1.

    grebe vacuum advisories --dry-run
    grebe vacuum --all --retain 24 --yes
    """
    from indexer.catalog import DEFAULT_HORIZON
    from indexer.format.store import Store

    require_named_or_all(named=name is not None, every=every)
    place = Store.at(Settings.read(store=store).store)
    retained = DEFAULT_HORIZON if retain is None else timedelta(hours=retain)
    if name is not None:
        _require_there(place, name)
    if not dry_run and not yes and not confirmed(_question(name, retained)):
        note("Nothing was deleted.")
        raise typer.Exit(1)

    def act(each: str) -> Vacuumed:
        return _vacuumed(place, each, retained, timedelta(hours=longest_job), dry_run=dry_run)

    if name is None:
        columns: dict[str, Callable[[Vacuumed], object]] = {
            "versions": lambda done: done.versions_kept,
            "versions gone": lambda done: done.versions_dropped,
            "files gone": lambda done: done.total.files,
            "MiB gone": lambda done: _mib(done.total.size_bytes),
        }
        _over_all(place, act, _removal, columns, output)
    else:
        _show_vacuum(name, act(name), output)


def _compacted(store: Store, name: str, settings: Settings, *, purge: bool) -> Compaction:
    """Compact in a folder that goes with the command: what is purged is not to stay in a cache of this machine."""
    from indexer.catalog import Catalog
    from indexer.compact import compact as merge_all
    from indexer.compact import purge as purge_all
    from jobs.progress import bars
    from retrieval.cache import LocalCache

    catalog = Catalog.open(store, name)
    scratch = LocalCache(settings.cache).scratch()
    try:
        with bars(unit="chunks") as progress:
            return (purge_all if purge else merge_all)(catalog, scratch.path, progress=progress)
    finally:
        scratch.release()


def _vacuumed(store: Store, name: str, retained: timedelta, longest_job: timedelta, *, dry_run: bool) -> Vacuumed:
    from indexer.catalog import Catalog
    from indexer.vacuum import vacuum as run_vacuum
    from jobs.progress import bars

    catalog = Catalog.open(store, name)
    with bars(unit="files") as progress:
        return run_vacuum(catalog, retain=retained, longest_job=longest_job, dry_run=dry_run, progress=progress)


def _require_there(store: Store, name: str) -> None:
    """Raise before anybody is asked."""
    from indexer.catalog import Catalog

    Catalog.open(store, name)


def _over_all(
    store: Store,
    act: Callable[[str], T],
    as_json: Callable[[T], dict[str, Any]],
    columns: Mapping[str, Callable[[T], object]],
    output: Format,
) -> list[T]:
    """Act on every collection of ``store``, print and return what came of each; exits with 1 if any failed."""
    outcomes = for_each(names_of(store), act)
    words = {True: "failed", False: "done"}
    failed = [each.name for each in outcomes if each.error]
    if output is Format.JSON:
        results = [
            {
                "collection": each.name,
                "outcome": words[each.error is not None],
                **({} if each.done is None else as_json(each.done)),
                "error": sentence(each.error) if each.error else None,
            }
            for each in outcomes
        ]
        print_json({"collections": results, "failed": failed})
    elif outcomes:
        cells = [
            (each.name, words[each.error is not None], *(each.done and of(each.done) for of in columns.values()))
            for each in outcomes
        ]
        stdout().print(table(("collection", "outcome", *columns), cells))
    if failed:
        raise typer.Exit(1)
    return [each.done for each in outcomes if each.done is not None]


def _compaction(done: Compaction) -> dict[str, Any]:
    return {
        "version": done.after.version,
        "merges": done.merges,
        "letters_removed": done.letters,
        "segments_before": len(done.before.segments),
        "segments": len(done.after.segments),
        "tombstoned_before": sum(done.before.deleted.values()),
        "tombstoned": sum(done.after.deleted.values()),
        "size_bytes": sum(segment.size_bytes for segment in done.after.segments),
    }


def _show_compaction(name: str, done: Compaction, output: Format) -> None:
    if output is Format.JSON:
        print_json({"collection": name, **_compaction(done)})
        return
    columns = ("", "segments", "tombstoned chunks", "MiB")
    rows = [
        (when, len(state.segments), sum(state.deleted.values()), _mib(sum(one.size_bytes for one in state.segments)))
        for when, state in (("before", done.before), ("after", done.after))
    ]
    stdout().print(table(columns, rows))


def _removal(done: Vacuumed) -> dict[str, Any]:
    return {
        "dry_run": done.dry_run,
        "versions_kept": done.versions_kept,
        "versions_dropped": done.versions_dropped,
        "removed": {kind: vars(removed) for kind, removed in done.removed.items()},
        "total": vars(done.total),
    }


def _show_vacuum(name: str, done: Vacuumed, output: Format) -> None:
    if output is Format.JSON:
        print_json({"collection": name, **_removal(done)})
        return
    rows = [(kind, removed.files, _mib(removed.size_bytes)) for kind, removed in done.removed.items()]
    stdout().print(table(("kind", "files", "MiB"), [*rows, ("total", done.total.files, _mib(done.total.size_bytes))]))
    verb = "would go" if done.dry_run else "went"
    note(f"Of {done.versions_kept + done.versions_dropped:,} versions {done.versions_dropped:,} {verb}.")


def _question(name: str | None, retained: timedelta) -> str:
    hours = retained.total_seconds() / 3600
    whose = "all collections" if name is None else f"'{name}'"
    warning = "" if hours >= SURE_HOURS else " A server that opens one of them at this moment has to begin again."
    return (
        f"Delete the versions of {whose} that were replaced more than {hours:g} hours ago, with their files?{warning}"
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.1f}"
