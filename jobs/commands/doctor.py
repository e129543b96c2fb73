"""``doctor``: check the machine and say what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.output import Format, Output, StoreOption, note, print_json, stderr, stdout, table
from jobs.settings import Settings

MARKS = {"ok": "ok", "absent": "-", "failed": "FAILED"}


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(doctor)


def doctor(
    model: Annotated[
        str | None, typer.Option("--model", help="Try this model instead of those of the store's collections.")
    ] = None,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Try Java, Spark, Delta's JAR, the store, its collections' models and the GPU, and say what to do about each.

    Exit code 1 when something is missing that Grebe needs.

    grebe doctor --store s3://bucket/prefix
    """
    from jobs.doctor import examine

    settings = Settings.read(store=store)
    findings, screen = [], stderr()
    with screen.status("Looking ...") as status:
        for finding in examine(settings, model=model):
            findings.append(finding)
            said = f"{finding.check}: {MARKS[finding.state]}"
            status.update(f"Looking ... {said}")
            if not screen.is_terminal:
                note(said)
    failed = sum(finding.state == "failed" for finding in findings)
    if output is Format.JSON:
        print_json({"ok": not failed, "checks": [vars(finding) for finding in findings]})
    else:
        rows = [(finding.check, MARKS[finding.state], finding.found, finding.advice) for finding in findings]
        stdout().print(table(("check", "state", "found", "what to do"), rows))
        stdout().print("Everything that Grebe needs is here." if not failed else f"{failed} of these must be mended.")
    if failed:
        raise typer.Exit(1)
