"""``history``, ``rollback`` and ``receipt``: what a collection was, putting it back, proof of what it no longer is."""

from __future__ import annotations

import difflib
import itertools
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from jobs.errors import CommandError
from jobs.output import Format, Output, StoreOption, confirmed, note, print_json, stdout, table
from jobs.settings import Settings

if TYPE_CHECKING:
    from indexer.catalog import Catalog, CatalogState
    from indexer.history import Past
    from indexer.holders import Holder

COUNTS = ("chunks", "segments", "unchanged", "set aside", "read", "deleted", "upserted")
"""What the history leaves out on a narrow terminal, from the first on: what and who made a version stays."""


def add_to(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(history)
    app.command()(rollback)
    app.command()(receipt)


def history(
    name: Annotated[str, typer.Argument(help="The collection.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many versions at most.")] = 20,
    changes: Annotated[bool, typer.Option("--changes", help="Show what the spec was and what it became.")] = False,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the kept versions, newest first: what made each, up to where in the source, and what it changed.

    Under 'by' stands whose process it was, and under 'changed' which parts of the spec, policies among them, became
    others; --changes, and --output json, have the parts themselves. A narrow terminal shows fewer counts.

    grebe history advisories --limit 50
    """
    from indexer.history import history as versions_of

    found = versions_of(_catalog(name, store), limit=limit)
    rows = [
        _version(past.state) | {"by": past.by, "changed": {part: vars(change) for part, change in past.changed.items()}}
        for past in found
    ]
    if output is Format.JSON:
        print_json({"collection": name, "versions": rows})
        return
    hidden = {"epoch", "held"}
    columns = [column for column in rows[0] if column not in hidden]
    cells = [[", ".join(row[column]) if column == "changed" else row[column] for column in columns] for row in rows]
    stdout().print(table([column.replace("_", " ") for column in columns], cells, spare=COUNTS))
    if changes:
        for line in itertools.chain.from_iterable(map(_changes, found)):
            stdout().print(line, markup=False, soft_wrap=True)


def _changes(past: Past) -> list[str]:
    """Return what ``past`` changed of the spec as lines: after ``-`` what went, after ``+`` what came."""
    if not past.changed:
        return []
    was, became = (
        _yaml({part: getattr(change, side) for part, change in past.changed.items()}) for side in ("before", "after")
    )
    lines = itertools.islice(difflib.unified_diff(was, became, lineterm="", n=5), 3, None)  # after its headers
    return ["", f"version {past.state.version}, by {past.by or 'unknown'}:", *lines]


def _yaml(parts: dict[str, Any]) -> list[str]:
    given = {name: value for name, value in parts.items() if value is not None}
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=100).splitlines() if given else []


def rollback(
    name: Annotated[str, typer.Argument(help="The collection.")],
    version: Annotated[int, typer.Argument(min=0, help="A version that `grebe history` lists.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Put an older version back, as a new one, and hold the collection there.

    Searches see it at once. Syncs are refused until `grebe sync NAME --release`, which reads on from that version's
    place in the source. Rows that the source has deleted since are back until then.

    grebe history advisories
    grebe rollback advisories 41
    """
    from indexer.rollback import require_possible
    from indexer.rollback import rollback as put_back

    catalog = _catalog(name, store)
    require_possible(catalog, version)
    if not yes and not confirmed(f"Put version {version} of '{name}' back and hold the collection?"):
        note("Nothing was changed.")
        raise typer.Exit(1)
    state = put_back(catalog, version)
    if output is Format.JSON:
        print_json({"collection": name, "rolled_back_to": version, **_version(state)})
        return
    stdout().print(f"{name}: version {state.version} is what version {version} was.", soft_wrap=True)
    note(f"Syncs are refused until: grebe sync {name} --release")


def receipt(
    name: Annotated[str, typer.Argument(help="The collection.")],
    key: Annotated[str, typer.Argument(help="The row's key as in a URL: values percent-encoded, joined by commas.")],
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Say whether the source deleted a row, since when it is gone, and which files still hold its bytes.

    Looks into every file of the collection, those that no version names among them; caches of servers and older
    versions that a bucket keeps of its objects are beyond it. `grebe compact --purge` and then `grebe vacuum
    --retain 0` leave no file that holds a deleted row.

    grebe receipt advisories GHSA-2xpw-w6gg-jr37
    """
    from indexer.receipt import receipt as look
    from jobs.progress import bars

    catalog = _catalog(name, store)
    try:
        with bars(unit="files") as progress:
            found = look(catalog, key, progress=progress)
    except ValueError as error:
        raise CommandError(f"{error}; write it as in the URL of a row, as in `grebe receipt {name} 7`") from error
    if output is Format.JSON:
        print_json(found.model_dump(mode="json"))
        return
    stdout().print(found.statement, soft_wrap=True, markup=False)
    if found.deletions:
        rows = [(deletion.source_version, deletion.epoch, deletion.version) for deletion in found.deletions]
        stdout().print(table(("deleted at source version", "epoch", "first version without it"), rows))
    if found.holders:
        columns = ("files", "holds it as", "of source version", "named by versions")
        stdout().print(table(columns, [_holder(holder) for holder in found.holders]))
    stdout().print(table(("version", "made"), list(found.made_at.items())))


def _catalog(name: str, store: str | None) -> Catalog:
    from indexer.catalog import Catalog
    from indexer.format.store import Store

    return Catalog.open(Store.at(Settings.read(store=store).store), name)


def _version(state: CatalogState) -> dict[str, Any]:
    return {
        "version": state.version,
        "when": state.committed_at,
        "operation": state.operation,
        "epoch": state.position.epoch if state.position else None,
        "source": state.position.version if state.position else None,
        **{name: getattr(state.ledger, name) for name in ("read", "upserted", "deleted", "unchanged", "set_aside")},
        "segments": len(state.segments),
        "chunks": state.n_chunks,
        "held": state.held.kind if state.held else None,
    }


def _holder(holder: Holder) -> tuple[object, ...]:
    what = {"segment": "a row", "letters": "a dead letter", "unfinished": "part of a write"}[holder.kind]
    if not holder.certain:
        what = f"perhaps {what}"
    elif not holder.current:
        what = f"{what} that no longer counts"
    names = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in holder.versions)
    where = holder.files[0] if len(holder.files) == 1 else f"{'/'.join(holder.files[0].split('/')[:2])}/"
    return where, what, holder.source_version, names or holder.load or "none"
