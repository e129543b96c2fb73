"""``prepare``: what is done once on a machine so that syncs start sooner."""

from __future__ import annotations

import typer

from jobs.output import note, stderr


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(prepare)


def prepare() -> None:
    """Have Java keep the classes that a sync loads, so that every sync on this machine starts some ten seconds sooner.

    Once, after an installation or a new Java: it takes two minutes and 200 MB in the user's cache (XDG_CACHE_HOME, or
    ~/.cache). Without it, or with one that no longer fits, everything works as before.

    grebe prepare
    """
    from jobs.prepare import prepare as archived

    with stderr().status("Syncing a small table, then archiving what was loaded ..."):
        archive = archived()
    note(f"Java's classes are kept in {archive} ({archive.stat().st_size / 2**20:.0f} MiB).")
