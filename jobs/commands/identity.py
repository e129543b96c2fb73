"""``keys`` and ``roles``: who may ask the server what."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from jobs.options import lifetime, parameters
from jobs.output import Format, Output, StoreOption, note, print_json, stdout, table
from jobs.settings import Settings

if TYPE_CHECKING:
    from api.identity.control import ApiKey, Claim, Control, ControlTable
    from indexer.format.store import Store

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.", rich_markup_mode="rich")
roles = typer.Typer(no_args_is_help=True, help="Say what the roles of keys and tokens may do.", rich_markup_mode="rich")

KEY_COLUMNS = ("id", "name", "roles", "claims", "state", "created", "expires")
ROLE_COLUMNS = ("role", "collection", "actions")


class Allowed(StrEnum):
    """What a role may do with a collection."""

    SEARCH = "search"
    SQL = "sql"
    READ = "read"
    MONITOR = "monitor"
    ADMIN = "admin"


def add_to(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.add_typer(keys, name="keys")
    app.add_typer(roles, name="roles")


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.")],
    role: Annotated[list[str], typer.Option("--role", "-r", help="A role that its holder has; may be repeated.")],
    claim: Annotated[
        list[str] | None,
        typer.Option("--claim", "-c", metavar="NAME=VALUE", help="A value for policies: JSON, or text."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="How long it works: 12h, 90d.  [default: for good]")
    ] = None,
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a key and print it, this once; the store keeps its hash.

    From the first key on, every request needs one.

    grebe keys create "support bot" --role support --claim team=blue --expires 90d
    """
    from api.identity.administration import create_key
    from jobs.looks import looks_at_claims

    control = _table(store)
    key, kept = create_key(
        control, name, roles=role, claims=_claims(claim or []), lifetime=lifetime(expires, "--expires")
    )
    for each in kept.roles:
        if each not in (control.read() or _nothing()).roles:
            note(f"Role '{each}' may do nothing yet: grebe roles grant {each} COLLECTION search")
    for warning in looks_at_claims(_store(store), kept.roles, kept.claims):
        note(f"Warning: {warning}")
    if output is Format.JSON:
        print_json({"key": key, "id": kept.id, "name": kept.name, "roles": kept.roles, "expires_at": kept.expires_at})
        return
    note(f"Key {kept.id} for {kept.name}, to the store {_store(store).url}. It is not shown again:")
    typer.echo(key)


@keys.command("list")
def list_keys(store: StoreOption = None, output: Output = Format.TABLE) -> None:
    """Show the keys, without the keys themselves.

    grebe keys list
    """
    kept = sorted((_table(store).read() or _nothing()).keys.values(), key=lambda key: key.created_at)
    if output is Format.JSON:
        print_json({"keys": [each.model_dump(exclude={"sha256"}) | {"state": _state(each)} for each in kept]})
        return
    if not kept:
        place = _store(store).url
        note(f"There is no key in {place} yet, so whoever reaches a server may ask: grebe keys create NAME --role ROLE")
        return
    rows = [
        (
            each.id,
            each.name,
            each.roles,
            ", ".join(f"{name}={json.dumps(value)}" for name, value in each.claims.items()) or None,
            _state(each),
            each.created_at,
            each.expires_at,
        )
        for each in kept
    ]
    stdout().print(table(KEY_COLUMNS, rows, spare=("created",)))


@keys.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `grebe keys list` shows it.")],
    store: StoreOption = None,
) -> None:
    """Let a key open nothing any more; servers know within two seconds.

    grebe keys revoke 0123456789ab
    """
    from api.identity.administration import revoke_key

    revoked = revoke_key(_table(store), key)
    note(f"Revoked {revoked.id} ({revoked.name}).")


@roles.command("grant")
def grant_role(
    role: Annotated[str, typer.Argument(help="The role.")],
    collection: Annotated[str, typer.Argument(help="A collection, or a pattern: 'sales_*', '*'.")],
    actions: Annotated[list[Allowed], typer.Argument(help="What is allowed.")],
    store: StoreOption = None,
) -> None:
    """Let a role do something with a collection.

    It may do so beside what it was granted before. search: search it. sql: SELECT statements over it. read: fetch rows
    by key. monitor: counts and metrics. admin: all of that, and see its policies. What rows a role sees is said by the
    policies in the spec.

    grebe roles grant support advisories search read
    grebe roles grant prometheus '*' monitor
    """
    from api.identity.administration import grant
    from indexer.catalog import Catalog

    if "*" not in collection and collection not in (names := Catalog.names(_store(store))):
        note(f"Warning: there is no collection '{collection}' in {_store(store).url} yet; there are {', '.join(names)}")
    for each in grant(_table(store), role, collection, [action.value for action in actions]):
        stdout().print(f"{role}: {', '.join(each.actions)} on {each.collection}", markup=False, soft_wrap=True)


@roles.command("withdraw")
def withdraw_role(
    role: Annotated[str, typer.Argument(help="The role.")],
    collection: Annotated[str | None, typer.Argument(help="As it was granted; all of them if not given.")] = None,
    actions: Annotated[list[Allowed] | None, typer.Argument(help="All of them if not given.")] = None,
    store: StoreOption = None,
) -> None:
    """Take back what a role may do.

    grebe roles withdraw support
    grebe roles withdraw support advisories read
    """
    from api.identity.administration import withdraw

    left = withdraw(_table(store), role, collection, [action.value for action in actions or []])
    note(
        f"{role}: " + ("; ".join(f"{', '.join(each.actions)} on {each.collection}" for each in left) or "nothing left")
    )


@roles.command("list")
def list_roles(store: StoreOption = None, output: Output = Format.TABLE) -> None:
    """Show what each role may do.

    grebe roles list
    """
    found = (_table(store).read() or _nothing()).roles
    grants = [(role, each.collection, each.actions) for role, given in sorted(found.items()) for each in given]
    if output is Format.JSON:
        print_json({"roles": [dict(zip(ROLE_COLUMNS, each, strict=True)) for each in grants]})
    elif grants:
        stdout().print(table(ROLE_COLUMNS, grants))
    else:
        note(f"There is no role in {_store(store).url} yet: grebe roles grant ROLE COLLECTION search")


def _store(store: str | None) -> Store:
    from indexer.format.store import Store

    return Store.at(Settings.read(store=store).store)


def _table(store: str | None) -> ControlTable:
    from api.identity.control import ControlTable

    return ControlTable(_store(store))


def _nothing() -> Control:
    from api.identity.control import Control

    return Control()


def _state(key: ApiKey) -> str:
    if key.revoked_at:
        return "revoked"
    return "works" if key.works(datetime.now(UTC)) else "expired"


def _claims(given: list[str]) -> dict[str, Claim]:
    return cast("dict[str, Claim]", parameters(given, option="--claim"))
