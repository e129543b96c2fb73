"""Whether a table fits a spec: the columns that it names, in types that can be used, the same as when it was loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from connectors.columns import nearest
from connectors.contract import COMMITTED_AT, OP, VERSION, Source
from connectors.errors import SchemaMismatch
from indexer.netting import BAD_TEXT, PART, ROUTE, ROW_HASH, SHARD, SLOT
from indexer.spec import CollectionSpec

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

HEALING = " What is indexed goes on being served; mend the table, or apply the spec with --rebuild."
TEXT_TYPES = {"string", "varchar", "char"}
OPAQUE_TYPES = {"map", "variant", "interval", "void"}
OWN_NAMES = {OP, VERSION, COMMITTED_AT, ROW_HASH, BAD_TEXT, ROUTE, SHARD, SLOT, PART}
KEYLESS_TYPES = {"array", "map", "struct", "float", "double", "variant"}


def require_fit(spec: CollectionSpec, source: Source, known: Mapping[str, str], *, healing: str = HEALING) -> None:
    """Raise :class:`connectors.errors.SchemaMismatch` unless the table has what the spec names, in usable types.

    ``known`` are the types that the columns had when the table was loaded: a column that is gone or of another type
    now stops a sync, because what is indexed would no longer be what the table holds. ``healing`` says what to do then.
    """
    types = types_of(source.schema())
    _complain(spec, _misfits(spec, types, known) or _retyped(spec, types, known), types, healing if known else "")


def require_usable(spec: CollectionSpec, types: Mapping[str, str]) -> None:
    """Raise :class:`connectors.errors.SchemaMismatch` unless columns of ``types`` are what a sync of ``spec`` takes."""
    _complain(spec, _misfits(spec, types, {}), types, "")


def require_same_types(spec: CollectionSpec, schema: StructType, known: Mapping[str, str]) -> None:
    """Raise :class:`connectors.errors.SchemaMismatch` if a column of a batch has another type than at the load."""
    types = types_of(schema)
    _complain(spec, _retyped(spec, types, known), types, HEALING if known else "")


def types_of(schema: StructType) -> dict[str, str]:
    """Return the columns' types as Spark writes them."""
    return {field.name: field.dataType.simpleString() for field in schema.fields}


def _misfits(spec: CollectionSpec, types: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    problems = [
        f"'{name}' is missing{_was(known, name)}{_nearest(name, types)}"
        for name in spec.source_columns
        if name not in types
    ]
    problems += [f"'{name}' is a name that Grebe uses itself" for name in spec.source_columns if name in OWN_NAMES]
    problems += [
        f"column '{name}' is {types[name]}, which can be neither filtered nor compared"
        for name in spec.stored_columns
        if types.get(name, "string").split("<")[0].split(" ")[0] in OPAQUE_TYPES
    ]
    problems += [
        f"text field '{name}' is {types[name]}, expected string"
        for name in spec.text.fields
        if types.get(name, "string").split("(")[0] not in TEXT_TYPES
    ]
    vector = spec.vector.column
    if vector and types.get(vector, "array<float>") not in {"array<float>", "array<double>"}:
        problems.append(f"vector column '{vector}' is {types[vector]}, expected array<float> or array<double>")
    problems += [
        f"key column '{name}' is {types[name]}, which cannot identify a row"
        for name in spec.key
        if types.get(name, "string").split("<")[0] in KEYLESS_TYPES
    ]
    return problems


def _retyped(spec: CollectionSpec, types: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    return [
        f"column '{name}' is {types[name]}{_was(known, name)}"
        for name in spec.source_columns
        if name in types and name in known and types[name] != known[name]
    ]


def _was(known: Mapping[str, str], name: str) -> str:
    return f" (it was {known[name]})" if name in known else ""


def _nearest(name: str, types: Mapping[str, str]) -> str:
    near = nearest(name, types)
    return f"; did you mean '{near}'?" if near else ""


def _complain(spec: CollectionSpec, problems: list[str], types: Mapping[str, str], healing: str) -> None:
    if not problems:
        return
    table = ", ".join(f"{name} {kind}" for name, kind in types.items())
    told = "; ".join(problems)
    end = "" if told.endswith("?") else "."
    raise SchemaMismatch(f"{spec.name}: {told}{end} The table has: {table}.{healing}")
