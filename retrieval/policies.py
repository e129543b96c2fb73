"""Row policies: which rows and values of a collection one caller sees, decided before anything is ranked.

A collection without policies is seen whole by whoever may search it. Of one with policies a caller sees the rows that
any policy of its roles lets through, and a column is masked if each of these policies masks it. A policy whose
predicate names a claim that the caller lacks, or cannot take the claim's value, does not count: what is doubtful is
closed. Who has no policy that counts sees no rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import polars as pl
from sqlglot import exp

from indexer.errors import SpecError
from indexer.spec import CollectionSpec, Mask, PolicySpec
from retrieval.bitmap import Bitmap
from retrieval.errors import FilterError
from retrieval.filter import (
    NOTHING_PASSES,
    CompiledFilter,
    FilterSchema,
    any_of,
    compile_filter,
    names_in,
    schema_of,
)
from retrieval.filter.parse import parse
from retrieval.lru import ByteLru
from retrieval.masks import masked

NO_CLAIMS: Mapping[str, object] = MappingProxyType({})
NO_TYPES: Mapping[str, str] = MappingProxyType({})
SPARK_TYPES: Mapping[str, pl.DataType] = MappingProxyType(
    {
        "string": pl.String(),
        "boolean": pl.Boolean(),
        "tinyint": pl.Int8(),
        "smallint": pl.Int16(),
        "int": pl.Int32(),
        "bigint": pl.Int64(),
        "float": pl.Float32(),
        "double": pl.Float64(),
        "binary": pl.Binary(),
        "date": pl.Date(),
        "timestamp": pl.Datetime("us", "UTC"),
        "timestamp_ntz": pl.Datetime("us"),
        "array<string>": pl.List(pl.String()),
    }
)
"""How Spark calls the types that a policy is likely to compare; any other is taken for one that is not known."""

SIGHTS_BYTES = 16 << 20
SIGHT_BYTES = 4096
"""What a kept sight is taken to need, beside the claims in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Whom an answer is for.

    ``roles`` choose the policies and ``claims`` are the values of their ``:name`` parameters. Policies do not apply to
    an ``unrestricted`` caller: one who has the store's files anyway. ``hash_key`` keys the hashes of masked values;
    without one they are redacted.
    """

    roles: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=lambda: NO_CLAIMS, repr=False)
    unrestricted: bool = False
    hash_key: bytes | None = field(default=None, repr=False)


ANYONE = Caller()
OPERATOR = Caller(unrestricted=True)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Sight:
    """What a caller sees of one collection: the rows that pass ``rows`` (None: all), and ``masks`` over columns.

    ``tenants`` passes the tenants of whom the caller may see a row (None: all), where the spec keeps tenants apart.
    ``hidden_text`` are the masked text fields, which no leg may look into. ``troubles`` say, by role, why its policy
    let no row through; they are for who runs the server, because they tell of the policy. ``seen`` keeps which chunks
    of a segment pass ``rows``, as of the moment for which the sight was made.
    """

    rows: CompiledFilter | None = None
    tenants: CompiledFilter | None = None
    masks: Mapping[str, Mask] = field(default_factory=dict)
    hidden_text: frozenset[str] = frozenset()
    hash_key: bytes | None = field(default=None, repr=False)
    troubles: Mapping[str, str] = field(default_factory=dict)
    seen: dict[int, Bitmap] = field(default_factory=dict, repr=False)

    @property
    def is_whole(self) -> bool:
        """Whether the caller sees every row and value."""
        return self.rows is None and not self.masks

    def value(self, name: str, value: object) -> object:
        """Return what the caller gets for the ``value`` of column ``name``."""
        mask = self.masks.get(name)
        return value if mask is None else masked(value, mask, self.hash_key)

    def refuse_masked(self, filter_: CompiledFilter) -> None:
        """Raise FilterError if ``filter_`` reads a masked column: which rows pass would tell its values."""
        hidden = sorted(filter_.columns & self.masks.keys())
        if hidden:
            message = f"{', '.join(hidden)} is masked for you and cannot be filtered by"
            raise FilterError(message, code="filter_masked_column")


WHOLE = Sight()


def sight_of(spec: CollectionSpec, schema: FilterSchema, caller: Caller) -> Sight:
    """Return what ``caller`` sees of the collection of ``spec``, whose stored columns have the types of ``schema``."""
    if caller.unrestricted or not spec.policies:
        return WHOLE
    rows: list[CompiledFilter | None] = []
    heeded: list[PolicySpec] = []
    troubles: dict[str, str] = {}
    for policy in spec.policies:
        if policy.role in caller.roles:
            try:
                rows.append(_predicate(policy, schema, caller.claims))
                heeded.append(policy)
            except FilterError as error:
                troubles[policy.role] = str(error)
    masks, any_rows = _masks(heeded), _any_of(rows)
    return Sight(
        rows=any_rows,
        tenants=any_rows.about(spec.tenant) if any_rows is not None and spec.tenant is not None else None,
        masks=masks,
        hidden_text=frozenset(masks.keys() & spec.text.fields.keys()),
        hash_key=caller.hash_key,
        troubles=troubles,
    )


class Sights:
    """What callers see of one collection, kept for as long as its policies stay: to compile them costs a quick search.

    Safe to share between threads.
    """

    def __init__(self, spec: CollectionSpec, schema: FilterSchema) -> None:
        self.spec = spec
        self._schema = schema
        self._asked = {policy.role: _claims_asked(policy) for policy in spec.policies}
        self._kept: ByteLru[Hashable, Sight] = ByteLru(max_bytes=SIGHTS_BYTES)

    def of(self, caller: Caller) -> Sight:
        """Return what :func:`sight_of` returns."""
        if caller.unrestricted or not self.spec.policies:
            return WHOLE
        roles = caller.roles.intersection(self._asked)
        asked = sorted(frozenset().union(*(self._asked[role] for role in roles)))
        claims = repr([caller.claims.get(name) for name in asked])  # tells 1 from 1.0 and True, which are equal
        key = (roles, claims, caller.hash_key)
        sight = self._kept.get(key)
        if sight is None:
            sight = sight_of(self.spec, self._schema, caller)
            if sight.rows is None or not sight.rows.uses_now:
                self._kept.put(key, sight, size_bytes=SIGHT_BYTES + 2 * len(claims))
        return replace(sight, seen={})


def _claims_asked(policy: PolicySpec) -> frozenset[str]:
    try:
        return names_in(policy.rows, policy.dialect) if policy.rows is not None else frozenset()
    except FilterError:  # whoever has the role is told so, each time
        return frozenset()


def digest_of(policies: Sequence[PolicySpec]) -> str:
    """Return what tells these policies from others."""
    written = "\n".join(policy.model_dump_json() for policy in policies)
    return hashlib.blake2b(written.encode(), digest_size=16).hexdigest()


def check_policies(spec: CollectionSpec, types: Mapping[str, str] = NO_TYPES) -> None:
    """Raise SpecError for a predicate that can never be used.

    That is one that is not SQL, is of columns that are not stored, or compares what cannot be compared; the last as far
    as ``types`` (Spark's names of them, by column) tell. Those of claims show at the first search.
    """
    known = _known(spec, types)
    for place, policy in enumerate(spec.policies):
        try:
            _checked(policy, schema_of(known, spec.text.fields))
        except FilterError as error:
            if error.code != "filter_type" or not _reads(policy, [n for n, t in known.items() if t == pl.Null()]):
                raise SpecError(f"policies.{place}.rows: {error}") from error


def missing_claims(policy: PolicySpec, claims: Collection[str]) -> tuple[str, ...]:
    """Return the claims that ``policy`` asks for and that are not among ``claims``, by name."""
    return tuple(sorted(_claims_asked(policy).difference(claims)))


def roles_of_all_tenants(spec: CollectionSpec, types: Mapping[str, str] = NO_TYPES) -> list[str]:
    """Return the roles whose predicate, although they have one, leaves open whose rows it lets through.

    A predicate that can only be judged with types that ``types`` lacks is not among them.
    """
    known = _known(spec, types)
    found = []
    for policy in spec.policies:
        with suppress(FilterError):
            rows = _checked(policy, schema_of(known, spec.text.fields))
            if spec.tenant is not None and rows is not None and not rows.names(spec.tenant):
                found.append(policy.role)
    return found


def _known(spec: CollectionSpec, types: Mapping[str, str]) -> dict[str, pl.DataType]:
    return {name: SPARK_TYPES.get(types.get(name, ""), pl.Null()) for name in spec.stored_columns}


def _checked(policy: PolicySpec, schema: FilterSchema) -> CompiledFilter | None:
    """Return the predicate with NULL for every claim; raises FilterError."""
    if policy.rows is None:
        return None
    claims = dict.fromkeys(names_in(policy.rows, policy.dialect))
    return compile_filter(policy.rows, dialect=policy.dialect, schema=schema, params=claims)


def _reads(policy: PolicySpec, names: Sequence[str]) -> bool:
    """Say whether the predicate reads any of these columns."""
    folded = {name.casefold() for name in names}
    columns = parse(policy.rows or "", policy.dialect).tree.find_all(exp.Column)
    return any(column.name.casefold() in folded for column in columns)


def _predicate(policy: PolicySpec, schema: FilterSchema, claims: Mapping[str, object]) -> CompiledFilter | None:
    """Return the rows of ``policy`` with ``claims`` bound as values; raises FilterError, also for a missing claim."""
    if policy.rows is None:
        return None
    names = names_in(policy.rows, policy.dialect)
    missing = sorted(name for name in names if claims.get(name) is None)
    if missing:
        raise FilterError(f"the caller has no claim {', '.join(missing)}", code="filter_parameter")
    given = {name: claims[name] for name in names}
    return compile_filter(policy.rows, dialect=policy.dialect, schema=schema, params=given)


def _any_of(rows: Sequence[CompiledFilter | None]) -> CompiledFilter | None:
    """Return the rows of several policies together; None, a policy without a predicate, is all of them."""
    predicates = [predicate for predicate in rows if predicate is not None]
    if len(predicates) < len(rows):
        return None
    return any_of(predicates) if predicates else NOTHING_PASSES


def _masks(policies: Sequence[PolicySpec]) -> dict[str, Mask]:
    """Return the masks that all of ``policies`` have; where one of them shows a hash, a hash is shown."""
    if not policies:
        return {}
    common = set.intersection(*(set(policy.masks) for policy in policies))
    return {
        name: "hash" if any(policy.masks[name] == "hash" for policy in policies) else "redact"
        for name in sorted(common)
    }
