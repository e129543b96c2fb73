"""``policy``: what each role sees of a collection, and what a change of its policies would show and hide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.errors import CommandError
from jobs.options import ClaimOption, parameters
from jobs.output import Format, Output, StoreOption, note, print_json, stdout, table
from jobs.settings import Settings

if TYPE_CHECKING:
    from indexer.spec import CollectionSpec
    from jobs.policies import Effect


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(policy)


def policy(
    name: Annotated[str, typer.Argument(help="The collection.")],
    role: Annotated[
        list[str] | None,
        typer.Option("--role", "-r", help="One caller with these roles.  [default: each role by itself]"),
    ] = None,
    claim: ClaimOption = None,
    draft: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="A spec whose policies are not applied yet: show what they would change."),
    ] = None,
    keys: Annotated[int, typer.Option("--keys", min=0, help="So many keys of rows that change are named.")] = 10,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what each role sees of the newest version: rows, masked columns, tenants; or why it sees none.

    Those are the roles that have a policy, or a grant (`grebe roles grant`) and no policy.

    With --file the same under the policies of a draft, with the rows that each role would see more and fewer. Nothing
    is changed; every row is looked at, and no text.

    grebe policy advisories --claim team=blue
    grebe policy advisories --claim team=blue -f advisories.yaml
    grebe policy advisories --role support --role audit --claim team=blue
    """
    from indexer.format.store import Store
    from jobs.local import LocalCollection, granted_roles
    from jobs.policies import COLUMNS, DRAFT_COLUMNS

    settings = Settings.read(store=store)
    claims = parameters(claim or [], "--claim")
    then = None if draft is None else _draft(draft, name)
    store_at = Store.at(settings.store)
    with LocalCollection(store_at, name, settings.cache) as collection:
        effects = collection.effects(role, claims, then, granted=granted_roles(store_at, name), keys=keys)
    if output is Format.JSON:
        print_json({"collection": name, "roles": [effect.as_json() for effect in effects]})
        return
    if not effects:
        note(f"'{name}' has no policies: whoever may search it sees all of it.")
        return
    stdout().print(table(DRAFT_COLUMNS if then else COLUMNS, [effect.as_row() for effect in effects]))
    for effect in effects:
        _tell_changes(effect)


def _draft(path: Path, name: str) -> CollectionSpec:
    from indexer.spec_file import load_spec
    from jobs.looks import require_policies

    spec = load_spec(path)
    if spec.name != name:
        raise CommandError(f"{path} is the spec of '{spec.name}', not of '{name}'")
    require_policies(path, spec)
    return spec


def _tell_changes(effect: Effect) -> None:
    for verb, count, keys in (("see", effect.more, effect.shown), ("no longer see", effect.fewer, effect.hidden)):
        if count and keys:
            more = f" and {count - len(keys):,} more" if count > len(keys) else ""
            stdout().print(f"{effect.role} would {verb}: {', '.join(keys)}{more}", soft_wrap=True, markup=False)
