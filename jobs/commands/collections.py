"""``init``, ``apply``, ``drop`` and ``status``: a collection from its first line to its last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.errors import CommandError
from jobs.output import Format, Output, StoreOption, confirmed, note, print_json, stdout, table
from jobs.settings import Settings

if TYPE_CHECKING:
    from indexer.format.store import Store
    from jobs.status import Letter


def add_to(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(init)
    app.command()(apply)
    app.command()(status)
    app.command()(drop)


def init(
    name: Annotated[str, typer.Argument(help="The collection's name: lower-case letters, digits, '_' and '-'.")],
    from_table: Annotated[
        str | None,
        typer.Option(
            "--table", help="A Delta table (a folder, or s3://, abfss://, az:// or gs://) to take the columns from."
        ),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Where to write it.  [default: NAME.yaml]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented spec to edit: NAME.yaml.

    grebe init advisories --table /data/advisories
    """
    from indexer.spec_file import load_spec
    from jobs.sample import NO_SAMPLE, sample_of
    from jobs.starter import change_feed_off, facts_of, key_trouble, starter_spec

    path = file or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise CommandError(f"{path} exists already; give another name with --file, or --force to replace it")
    facts = facts_of(from_table) if from_table else None
    columns = facts.columns if facts else ()
    strings = [column.name for column in columns if column.type == "string"]
    sample = sample_of(from_table, strings) if from_table else NO_SAMPLE
    path.write_text(starter_spec(name, from_table, columns, sample), encoding="utf-8")
    if from_table and facts:
        if not facts.change_feed:
            note(change_feed_off(from_table))
        if trouble := key_trouble(from_table, load_spec(path).key[0]):
            note(f"Warning: {trouble}")
    note(f"Wrote {path}. Look it over, then: grebe apply -f {path}")


def apply(
    path: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The same as --file.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="The collection's YAML.")] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build the index anew beside the old one, at the next sync.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before policies or columns go.")] = False,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Create a collection, or change it in place.

    What decides vectors and terms (key, text fields, chunks, model), another table and a further column need --rebuild
    and a sync; everything else changes at once.

    grebe apply -f advisories.yaml
    """
    from indexer.apply import apply as apply_spec
    from indexer.format.store import Store
    from indexer.spec_file import load_spec
    from jobs.looks import (
        dropped_columns,
        look_at_model,
        look_at_table,
        looks_at_policies,
        require_policies,
        state_of,
        unusable,
    )

    given = file or path
    if given is None or (file and path):
        raise typer.BadParameter("name one YAML file: grebe apply -f NAME.yaml", param_hint="--file")
    spec = load_spec(given)
    root = Store.at(Settings.read(store=store).store)
    before = state_of(root, spec.name)
    require_policies(given, spec, before.types if before else None)
    for warning in filter(None, (look_at_table(spec), look_at_model(spec), *looks_at_policies(root, before, spec))):
        note(f"Warning: {warning}")
    questions = []
    if before and before.spec.policies and not spec.policies:
        questions.append(f"Without policies, whoever may search '{spec.name}' sees all of it. Remove them?")
        if yes:
            note(f"Warning: without policies, whoever may search '{spec.name}' sees all of it.")
    if not rebuild and (dropped := ", ".join(dropped_columns(before, spec))):
        note(f"Warning: {dropped} can then no longer be filtered by, and only --rebuild brings that back.")
        questions.append(f"Remove {dropped} from '{spec.name}'?")
    if not yes and not all(map(confirmed, questions)):
        note("Nothing was changed.")
        raise typer.Exit(1)
    outcome = apply_spec(root, spec, rebuild=rebuild)
    after = state_of(root, spec.name)
    if outcome == "rebuild pending" and after and (waiting := unusable(after.spec)):
        note(f"Warning: until the rebuild these policies let no row through: {waiting}")
    if output is Format.JSON:
        print_json({"collection": spec.name, "outcome": outcome})
        return
    in_force = outcome == "changed" and after is not None and after.position is not None
    if before and before.pending and after and not after.pending:
        note("The rebuild that waited is called off.")
    following = "" if outcome == "unchanged" else " It is in force." if in_force else f" Next: grebe sync {spec.name}"
    if outcome == "unchanged" and after and after.pending:
        following = f" Its rebuild is pending. Next: grebe sync {spec.name}"
    stdout().print(f"{spec.name}: {outcome}.{following}", soft_wrap=True)


def status(
    name: Annotated[str | None, typer.Argument(help="One collection; all of them if not given.")] = None,
    letters: Annotated[
        int, typer.Option("--letters", min=0, metavar="N", help="Of one collection, how many rows set aside to list.")
    ] = 20,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what is in the store, how old it is, and what waits for a person; of one, its indexes and dead letters too.

    A narrow terminal shows fewer counts of several collections.

    grebe status advisories --output json
    """
    from indexer.catalog import Catalog
    from indexer.format.store import Store
    from jobs.status import COLUMNS, COUNTS, INDEX_COLUMNS, letters_of, status_of

    root = Store.at(Settings.read(store=store).store)
    catalogs = [Catalog.open(root, each) for each in ([name] if name else Catalog.names(root))]
    states = [status_of(catalog) for catalog in catalogs]
    listed = letters_of(catalogs[0], letters) if name else []
    if output is Format.JSON:
        found = [state.as_json() for state in states]
        print_json(found[0] | {"letters": [each.as_json() for each in listed]} if name else {"collections": found})
        return
    if not states:
        begin = "Begin with: grebe init NAME --table FOLDER, or name another place: --store"
        note(f"There is no collection in {root.url}. {begin}")
        return
    # Of one, a narrow terminal shows all, line by line.
    stdout().print(table(COLUMNS, [state.as_row() for state in states], spare=() if name else COUNTS))
    for warning in (warning for state in states for warning in state.warnings):
        stdout().print(f"warning: {warning}", soft_wrap=True, markup=False)
    if name and states[0].tenants:
        stdout().print(f"Tenants: {states[0].tenants:,}, each in segments of its own.", soft_wrap=True)
    if name and states[0].rows and not states[0].indexes:
        stdout().print("No segment has an index: all are searched exactly.", soft_wrap=True)
    if name and states[0].indexes:
        stdout().print("")
        stdout().print(table(INDEX_COLUMNS, [index.as_row() for index in states[0].indexes]))
    if name and listed:
        _show_letters(name, listed, states[0].dead_letters)


def _show_letters(name: str, letters: list[Letter], total: int) -> None:
    from jobs.status import LETTER_COLUMNS

    rows = f"{total:,} row" if total == 1 else f"{total:,} rows"
    some = f", the first {len(letters)} by key here (--letters {total} lists all)" if len(letters) < total else ""
    stdout().print(
        f"\nSet aside: {rows}{some}; mend or delete them at the source, and `grebe sync {name}` clears them.",
        soft_wrap=True,
        markup=False,
    )
    stdout().print(table(LETTER_COLUMNS, [letter.as_row() for letter in letters]))


def drop(
    name: Annotated[str, typer.Argument(help="The collection.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
) -> None:
    """Delete a collection's index and its history. The source table stays as it is.

    Grants stay too, and it is said which roles have some: a new collection of the same name would be open to them.

    grebe drop advisories --yes
    """
    from indexer.cache import of_collection
    from indexer.catalog import drop as drop_collection
    from indexer.format.store import Store

    settings = Settings.read(store=store)
    root = Store.at(settings.store)
    if roles := _granted_by_name(root, name):
        note(
            f"Warning: {', '.join(roles)} may go on using what is called '{name}', a new collection of that name too. "
            f"To end that: {' && '.join(f'grebe roles withdraw {role} {name}' for role in roles)}"
        )
    if not yes and not confirmed(f"Delete the index of '{name}' in {root.url}?"):
        note("Nothing was deleted.")
        raise typer.Exit(1)
    drop_collection(root, name)
    shutil.rmtree(of_collection(settings.cache / "sync", root.child(name)), ignore_errors=True)  # no sync will sweep it
    note(f"Dropped {name}.")


def _granted_by_name(store: Store, name: str) -> list[str]:
    """Return the roles with a grant on ``name`` itself, sorted; one by a pattern is meant for what is to come."""
    from api.identity.control import ControlTable

    control = ControlTable(store).read()
    roles = control.roles.items() if control else ()
    return sorted(role for role, grants in roles if any(grant.collection == name for grant in grants))
