"""``audit``: check the audit log of the store's servers, and read it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.errors import CommandError
from jobs.options import keys_given, lifetime
from jobs.output import Format, Output, StoreOption, note, print_json, stdout, table
from jobs.settings import Settings

if TYPE_CHECKING:
    from api.audit.verify import Verdict

audit = typer.Typer(no_args_is_help=True, help="Check and read the audit log.", rich_markup_mode="rich")

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="A server's audit.folder, for what it has not shipped yet."),
]
VERDICT_COLUMNS = ("writer", "host", "records", "from", "to", "not yet signed", "key", "problem")
ASKED = ("query", "filter", "sql")
"""What of a request is a text, and in the log as its hash."""

RECORD_COLUMNS = ("time", "actor", "operation", "collection", "phase", "status", "decision")


def add_to(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.add_typer(audit, name="audit")


@audit.command("verify")
def verify_log(
    folder: FolderOption = None,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="A public key (PEM) that is trusted; may be repeated."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="A file that remembers how far the log was, kept elsewhere than the log."),
    ] = None,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Check that no record was altered, dropped or reordered; the first that was is named, and the exit code is 1.

    Each server's log is a chain of its own, signed at least once a minute. With --key each chain must be signed by one
    of the keys given; without, a log that was made anew as a whole, under a key of its own, looks whole. So does one
    that lost its end, unless --state remembers that there was more.

    grebe audit verify --key replica-1.pem --state /safe/audit.json
    """
    from api.audit.signing import read_public
    from api.audit.verify import verify
    from indexer.format.store import Store
    from jobs.checkpoints import read_checkpoints, write_checkpoints

    log = Store.at(Settings.read(store=store).store)
    trusted = [read_public(path) for path in key or []]
    known = read_checkpoints(state) if state else []
    verdicts = verify(log, _there(folder), trusted=trusted, known=known)
    if output is Format.JSON:
        print_json({"writers": [_verdict(verdict) for verdict in verdicts]})
    elif verdicts:
        stdout().print(table(VERDICT_COLUMNS, [list(_verdict(verdict).values()) for verdict in verdicts]))
    else:
        note("There is no audit log in the store; a server keeps one where audit.folder is set (docs/governance.md).")
    if any(verdict.problem for verdict in verdicts) or (trusted and not verdicts):
        raise typer.Exit(1)
    if state:
        # What is in a server's folder alone is not remembered: a next time without the folder would miss it.
        shipped = verify(log, trusted=trusted) if folder else verdicts
        write_checkpoints(state, known, [verdict.checkpoint for verdict in shipped if verdict.checkpoint])


@audit.command("list")
def list_records(
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="How far back: 30m, 12h, 90d.")] = None,
    collection: Annotated[str | None, typer.Option("--collection", help="Of this collection alone.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Of this caller alone, as the log names it.")] = None,
    request: Annotated[
        str | None, typer.Option("--request", metavar="ID", help="Of the request with this X-Request-ID alone.")
    ] = None,
    row: Annotated[
        str | None,
        typer.Option(
            "--row", metavar="KEY", help="That returned the row of this key: JSON (a composite key is a list), or text."
        ),
    ] = None,
    asked: Annotated[
        str | None,
        typer.Option(
            "--asked", metavar="TEXT", help="With this query, filter or SQL, letter by letter; --signing-key."
        ),
    ] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(
            "--signing-key", help="The private key (PEM) of the server whose records have the hashes of --asked."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many records at most.")] = 50,
    folder: FolderOption = None,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what was asked, the newest first; as JSON the whole records, which are OCSF events.

    grebe audit list --since 24h --actor key:0123456789ab
    grebe audit list --collection advisories --row CVE-2024-3094
    grebe audit list --request 215a892ce0b14d5f8f4ab9b4e0b12034 --output json
    """
    from api.audit.reading import Wanted, records, requests_of
    from indexer.format.store import Store

    back = lifetime(since, "--since")
    since_ms = int((datetime.now(UTC) - back).timestamp() * 1000) if back else None
    keys, hashes = () if row is None else keys_given(row), _hashes(asked, signing_key)
    log = Store.at(Settings.read(store=store).store)
    of_one = frozenset({request}) if request else None
    wanted = Wanted(since_ms=since_ms, collection=collection, actor=actor, requests=of_one)
    if keys or hashes:
        meant = requests_of(records(log, _there(folder), wanted), keys=keys, hashes=hashes)
        wanted = replace(wanted, requests=meant)
    found = records(log, _there(folder), wanted)
    shown = list(islice((record for record in found if record["class_uid"]), limit))
    if output is Format.JSON:
        print_json({"records": shown})
    elif shown:
        stdout().print(table(RECORD_COLUMNS, [_line(record) for record in shown]))
    else:
        more = f" or {folder}" if folder else "; what a server has not shipped yet is in its audit.folder: --folder"
        note(f"There is no such record in {log.url}{more}")
    if keys:
        note("Statements that made groups of more than 1,000 rows name none of these, and are not among them.")


def _hashes(asked: str | None, signing_key: Path | None) -> frozenset[str]:
    """Return what ``asked`` is hashed to, wherever in a request it may have stood."""
    from api.audit.signing import SigningKey

    if asked is None:
        return frozenset()
    if signing_key is None:
        raise typer.BadParameter(
            "the log has hashes under a server's private key: give --signing-key", param_hint="--asked"
        )
    key = SigningKey.read(signing_key)
    return frozenset(key.secret_hash(domain, asked) for domain in ASKED)


def _there(folder: Path | None) -> Path | None:
    if folder is not None and not folder.is_dir():
        raise CommandError(f"{folder}: there is no such folder; give the audit.folder of a server's settings")
    return folder


def _verdict(verdict: Verdict) -> dict[str, Any]:
    problem = verdict.problem
    return {
        "writer": verdict.writer,
        "host": verdict.host,
        "records": verdict.records,
        "from": _time(verdict.first_time_ms),
        "to": _time(verdict.last_time_ms),
        "unattested": verdict.unattested,
        "key": "given" if verdict.trusted else "the log's own",
        "problem": f"{problem.kind}: {problem.sentence}" if problem else None,
    }


def _line(record: dict[str, Any]) -> list[object]:
    unmapped = record["unmapped"]
    return [
        _time(record["time"]),
        record["actor"]["user"]["uid"],
        record["api"]["operation"],
        unmapped.get("collection"),
        unmapped["phase"],
        record["api"].get("response", {}).get("code"),
        unmapped.get("decision"),
    ]


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
