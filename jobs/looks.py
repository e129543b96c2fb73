"""What is worth a warning about a spec before it is applied."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from api.errors import ControlError
from api.identity.control import Control, ControlTable
from indexer.apply import rebuild_reasons
from indexer.catalog import Catalog, CatalogState
from indexer.errors import CollectionNotFound, IndexerError, SpecError
from indexer.fit import require_usable
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from jobs.starter import change_feed_off, facts_of
from retrieval.policies import check_policies, missing_claims, roles_of_all_tenants


def state_of(store: Store, name: str) -> CatalogState | None:
    """Return the newest version of a collection, or None if there is no such collection yet."""
    try:
        return Catalog.open(store, name).read()
    except CollectionNotFound:
        return None


def require_policies(path: Path, spec: CollectionSpec, types: Mapping[str, str] | None = None) -> None:
    """Raise SpecError, which names the file, for a predicate that can never be used."""
    try:
        check_policies(spec, types or {})
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def unusable(spec: CollectionSpec) -> str | None:
    """Return what is wrong with a predicate of ``spec`` that can never be used, if there is one."""
    try:
        check_policies(spec)
    except SpecError as error:
        return str(error)
    return None


def looks_at_policies(store: Store, before: CatalogState | None, spec: CollectionSpec) -> Iterator[str]:
    """Yield warnings about who will see less, or is kept apart less, than one may think."""
    for policy in spec.policies:
        hidden = sorted(policy.masks.keys() & spec.text.fields.keys())
        if hidden and not spec.text.chunk.per_field:
            remedy = "" if spec.vector.column else "; text: {chunk: {per_field: true}} cuts the other fields apart"
            chunks = f"chunks with text of {', '.join(hidden)}"
            yield f"for role '{policy.role}' {chunks} are not searched by meaning{remedy}"
    if spec.tenant and not spec.policies:
        yield f"isolation keeps no row from anybody: without policies whoever may search '{spec.name}' sees all tenants"
    if before and before.spec.tenant and not spec.tenant:
        yield f"after the rebuild, tenants ('{before.spec.tenant}') share one index and its statistics"
    for role in roles_of_all_tenants(spec, before.types if before else {}):
        yield (
            f"role '{role}' is not bound to tenants by its rows, so its answers are found and scored among all of "
            f"them; say AND {spec.tenant} = :claim"
        )
    control = _control(store) if spec.policies else None
    if control and not control.keys:
        first = spec.policies[0]
        options = " ".join([f"--role {first.role}", *_claim_options(missing_claims(first, ()))])
        yield (
            "there is no API key yet, so over HTTP nobody but the bearer of an issuer's token has a role and sees a "
            f"row: grebe keys create NAME {options}"
        )
    if control and before and not before.spec.policies:
        blind = _roles_with_keys(control, spec.name) - {policy.role for policy in spec.policies}
        if blind:
            yield f"role {', '.join(map(repr, sorted(blind)))} has no policy, and sees no row from now on"
    gone = {policy.role for policy in before.spec.policies} if before else set()
    gone -= {policy.role for policy in spec.policies}
    if gone and spec.policies:
        yield f"role {', '.join(map(repr, sorted(gone)))} has no policy any more, and sees no row"


def dropped_columns(before: CatalogState | None, spec: CollectionSpec) -> tuple[str, ...]:
    """Return the columns that an apply of ``spec`` in place would take from the index."""
    if before is None or before.position is None or spec == (before.pending or before.spec):
        return ()
    if rebuild_reasons(before.spec, spec):  # which it will be refused for
        return ()
    return tuple(name for name in before.spec.columns if name not in spec.stored_columns)


def looks_at_claims(store: Store, roles: Collection[str], claims: Collection[str]) -> Iterator[str]:
    """Yield what a caller with ``roles`` will not see for want of a claim; what cannot be read is left aside."""
    for name in Catalog.names(store):
        with suppress(IndexerError):
            for policy in Catalog.open(store, name).read().spec.policies:
                missing = missing_claims(policy, claims) if policy.role in roles else ()
                if missing:
                    given = " ".join(_claim_options(missing))
                    yield f"in '{name}' role '{policy.role}' shows no row to who has no {', '.join(missing)}: {given}"


def _claim_options(claims: Iterable[str]) -> list[str]:
    return [f"--claim {claim}=VALUE" for claim in claims]


def _control(store: Store) -> Control | None:
    """Return the keys and roles; None where they cannot be read, which is for those to see who make keys."""
    try:
        return ControlTable(store).read() or Control()
    except ControlError:
        return None


def _roles_with_keys(control: Control, name: str) -> set[str]:
    """Return the roles that somebody's key has, and that may do something with collection ``name``."""
    roles = {role for key in control.keys.values() for role in key.roles}
    return {role for role in roles if control.covers([role], name)}


def look_at_table(spec: CollectionSpec) -> str | None:
    """Return a warning about the spec's table, if there is one to give; only folders on this machine are looked at.

    Raises :class:`connectors.errors.SchemaMismatch` for what a sync would refuse: a column that the table lacks, or
    has in a type that cannot be used.
    """
    source = spec.source
    if source.kind != "delta" or "://" in source.table:
        return None
    if not Path(source.table).is_dir():
        if "/" not in source.table and "." in source.table:
            return None  # a metastore's name
        return f"{source.table}: no such folder here; its columns are unchecked{_nearest(Path(source.table))}"
    facts = facts_of(source.table)
    require_usable(spec, {column.name: column.type for column in facts.columns})
    return None if facts.change_feed else change_feed_off(source.table)


def _nearest(folder: Path) -> str:
    beside = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    near = difflib.get_close_matches(folder.name, beside, n=1, cutoff=0.6)
    return f"; did you mean {folder.with_name(near[0])}?" if near else ""


def look_at_model(spec: CollectionSpec) -> str | None:
    """Return a warning if the spec's model is a folder that is not there; a hub's name is for the first sync."""
    model = spec.vector.model or ""
    if model.startswith(("/", "./", "../")) and not Path(model).is_dir():
        return f"{model}: no such folder here; a sync cannot load the model from it"
    return None
