"""``prepare``: what is done once on a machine so that syncs start sooner."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.output import interrupts_told, note, stderr


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(prepare)


def prepare(
    again: Annotated[bool, typer.Option("--again", help="Also where it was done before.")] = False,
) -> None:
    """Have Java keep the classes that a sync loads, so that every sync on this machine starts some ten seconds sooner.

    Once, after an installation or a new Java: it takes two minutes and 200 MB in the user's cache (XDG_CACHE_HOME, or
    ~/.cache). Without it, or with one that no longer fits, everything works as before.

    grebe prepare
    """
    from connectors.class_archive import archive_of
    from connectors.session import require_java
    from jobs.prepare import prepare as archived

    if not again and (there := archive_of(require_java())):
        note(f"Java's classes are kept in {there} already; --again keeps them anew.")
        return
    note("Syncing a small table, then archiving what Java loaded: some two minutes.")
    with interrupts_told("Interrupted. Nothing was kept."), stderr().status("Preparing ..."):
        archive = archived()
    note(f"Java's classes are kept in {archive} ({archive.stat().st_size / 2**20:.0f} MiB).")
