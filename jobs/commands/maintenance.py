"""``compact`` and ``vacuum``: fewer and cleaner segments, and an end to files that nothing names."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from jobs.output import Format, Output, StoreOption, confirmed, note, print_json, stdout, table
from jobs.settings import Settings

MIB = 2**20
MOST_HOURS = 876_000.0
"""A hundred years: what dates can still be reckoned with."""

SURE_HOURS = 1.0
"""Below this, a server that opens an older version at this moment may find its files gone, and opens the newest."""


def add_to(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(compact)
    app.command()(vacuum)


def compact(
    name: Annotated[str, typer.Argument(help="The collection.")],
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Write every segment that holds deleted or replaced rows again."),
    ] = False,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Merge small segments into larger ones, and build approximate indexes where they have become worth it.

    A sync does this by itself; nothing waits for it, neither a sync nor a search. --purge is for erasure: afterwards
    no live segment holds a row that was deleted before it began. Older versions still do, until a vacuum.

    grebe compact advisories
    grebe compact advisories --purge
    """
    from indexer.cache import of_collection
    from indexer.catalog import Catalog
    from indexer.compact import compact as merge_all
    from indexer.compact import purge as purge_all
    from indexer.format.store import Store
    from jobs.progress import bars

    settings = Settings.read(store=store)
    catalog = Catalog.open(Store.at(settings.store), name)
    cache = of_collection(settings.cache / "sync", catalog.store)
    with bars(unit="chunks") as progress:
        done = (purge_all if purge else merge_all)(catalog, cache, progress=progress)
    result = {
        "collection": name,
        "version": done.after.version,
        "merges": done.merges,
        "letters_removed": done.letters,
        "segments_before": len(done.before.segments),
        "segments": len(done.after.segments),
        "tombstoned_before": sum(done.before.deleted.values()),
        "tombstoned": sum(done.after.deleted.values()),
        "size_bytes": sum(segment.size_bytes for segment in done.after.segments),
    }
    if output is Format.JSON:
        print_json(result)
        return
    columns = ("", "segments", "tombstoned chunks", "MiB")
    rows = [
        (when, len(state.segments), sum(state.deleted.values()), _mib(sum(one.size_bytes for one in state.segments)))
        for when, state in (("before", done.before), ("after", done.after))
    ]
    stdout().print(table(columns, rows))
    if purge:
        note(f"Older versions still hold what was purged. Next: grebe vacuum {name} --retain 0 --dry-run")


def vacuum(
    name: Annotated[str, typer.Argument(help="The collection.")],
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
    went cannot be rolled back to; those replaced more than 168 hours ago go by themselves, but leave their files.

    grebe vacuum advisories --dry-run
    grebe vacuum advisories --retain 24 --yes
    """
    from indexer.catalog import Catalog
    from indexer.format.store import Store
    from indexer.vacuum import Vacuumed
    from indexer.vacuum import vacuum as run_vacuum
    from jobs.progress import bars

    catalog = Catalog.open(Store.at(Settings.read(store=store).store), name)
    retained = catalog.horizon if retain is None else timedelta(hours=retain)
    if not dry_run and not yes and not confirmed(_question(name, retained)):
        note("Nothing was deleted.")
        raise typer.Exit(1)
    with bars(unit="files") as progress:
        done: Vacuumed = run_vacuum(
            catalog, retain=retained, longest_job=timedelta(hours=longest_job), dry_run=dry_run, progress=progress
        )
    if output is Format.JSON:
        print_json(
            {
                "collection": name,
                "dry_run": dry_run,
                "versions_kept": done.versions_kept,
                "versions_dropped": done.versions_dropped,
                "removed": {kind: vars(removed) for kind, removed in done.removed.items()},
                "total": vars(done.total),
            }
        )
        return
    rows = [(kind, removed.files, _mib(removed.size_bytes)) for kind, removed in done.removed.items()]
    stdout().print(table(("kind", "files", "MiB"), [*rows, ("total", done.total.files, _mib(done.total.size_bytes))]))
    verb = "would go" if dry_run else "went"
    note(f"Of {done.versions_kept + done.versions_dropped:,} versions {done.versions_dropped:,} {verb}.")


def _question(name: str, retained: timedelta) -> str:
    hours = retained.total_seconds() / 3600
    warning = "" if hours >= SURE_HOURS else " A server that opens one of them at this moment has to begin again."
    return (
        f"Delete the versions of '{name}' that were replaced more than {hours:g} hours ago, with their files?{warning}"
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.1f}"
