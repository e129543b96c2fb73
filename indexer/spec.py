"""The collection spec: what a data engineer declares, checked on the way in; :mod:`indexer.spec_file` reads its YAML.

A spec's *fingerprint* covers what decides its vectors and terms, so that a change of it asks for a rebuild and nothing
else does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from indexer.format.records import FORMAT_VERSION
from indexer.suggestion import did_you_mean

Mask = Literal["redact", "hash"]
Dialect = Literal["databricks", "snowflake", "duckdb", "postgres"]
StoppedLanguage = Literal[
    "danish", "dutch", "english", "finnish", "french", "german", "hungarian", "italian", "norwegian", "portuguese",
    "russian", "spanish", "swedish",
]  # fmt: skip
"""Those of whose words the most frequent are left out."""
Language = Literal[StoppedLanguage, "arabic", "greek", "romanian", "tamil", "turkish", "cjk", "none"]

FusionKind = Literal["rrf", "minmax"]

ColumnName = Annotated[str, Field(min_length=1)]


def collection_name(name: str) -> str:
    """Return ``name`` if a collection may be called so; raises ValueError."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
        raise ValueError("use a lower-case letter, then up to 62 letters, digits, '_' or '-'")
    return name


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names {', '.join(twice)} twice")
    return names


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("must not be empty")
    return names


ColumnNames = Annotated[tuple[ColumnName, ...], AfterValidator(_distinct)]


SNOWFLAKE_OPTIONS = ("connection", "warehouse", "role", "paths", "trail_seconds")


class Part(BaseModel):
    """Base of every part of the spec: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSpec(Part):
    """Where the rows are.

    Of a Delta table: a path, a bucket's address or a metastore name. Of a Snowflake table or view: its name
    ``DB.SCHEMA.TABLE``, and optionally the ``connection`` of ``connections.toml`` that signs in, the ``warehouse`` and
    ``role`` that win over the connection's, ``paths``, columns that are places in semi-structured ones, and
    ``trail_seconds``, how far reading stays behind the server's clock (2 by default).
    """

    kind: Literal["delta", "snowflake"] = "delta"
    table: str = Field(min_length=1)
    connection: str | None = Field(default=None, min_length=1)
    warehouse: str | None = Field(default=None, min_length=1)
    role: str | None = Field(default=None, min_length=1)
    paths: dict[ColumnName, str] = {}
    trail_seconds: float | None = Field(default=None, ge=0, le=3600, allow_inf_nan=False)

    @property
    def rows(self) -> tuple[str, str, dict[str, str]]:
        """What decides the rows themselves; the rest is how to get at them."""
        return self.kind, self.table, self.paths

    @model_validator(mode="after")
    def _options_are_the_kinds_own(self) -> Self:
        if self.kind == "delta":
            for option in SNOWFLAKE_OPTIONS:
                if getattr(self, option) not in (None, {}):
                    raise ValueError(f"'{option}' is for kind: snowflake, and this source is of kind: delta")
            return self
        # Here, because a server reads specs too and knows nothing of sources.
        from connectors.snowflake_sql import json_path, table_name

        try:
            table_name(self.table)
        except ValueError as error:
            raise ValueError(f"table: {error}") from error
        for name, path in self.paths.items():
            try:
                json_path(path)
            except ValueError as error:
                raise ValueError(f"paths: {name}: {error}") from error
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the options that are not given: specs of Delta tables are written as they always were."""
        written: dict[str, Any] = write(self)
        return {
            name: value for name, value in written.items() if name not in SNOWFLAKE_OPTIONS or value not in (None, {})
        }


class ChunkSpec(Part):
    """How a row's text is cut: windows of the embedding model's own tokens, over all fields together or ``per_field``.

    Where a policy masks a text field, ``per_field`` leaves the others searchable by meaning.
    """

    max_tokens: int = Field(default=256, ge=16, le=8192)
    overlap_tokens: int = Field(default=32, ge=0)
    per_field: bool = False

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Self:
        if self.overlap_tokens * 2 > self.max_tokens:
            raise ValueError("overlap_tokens must be at most half of max_tokens")
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ``per_field`` where it is off: specs and fingerprints are what they were before there was one."""
        written: dict[str, Any] = write(self)
        return written if self.per_field else {name: value for name, value in written.items() if name != "per_field"}


class TextSpec(Part):
    """The searched fields with their keyword boosts, the analyser's language, and the chunking.

    With ``fold_accents`` words are the same with and without accents: a search for ``cafe`` finds ``café``.
    """

    fields: dict[ColumnName, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(min_length=1)
    language: Language = "english"
    fold_accents: bool = False
    chunk: ChunkSpec = ChunkSpec()

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ``fold_accents`` where it is off: specs are written as they were before there was one."""
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if (name, value) != ("fold_accents", False)}


class VectorSpec(Part):
    """Where vectors come from: a model, or the source's own column (then ``model``, if given, embeds queries)."""

    model: str | None = None
    revision: str | None = None
    query_prompt: str = ""
    document_prompt: str = ""
    column: str | None = None
    dim: int | None = Field(default=None, ge=1, le=16_384)
    dtype: Literal["float32", "float16"] = "float32"
    metric: Literal["cosine", "dot"] = "cosine"

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.model is None and self.column is None:
            raise ValueError("give 'model' (a hub name or folder) or 'column' (the source's own vectors)")
        return self


class WeightsSpec(Part):
    """How much each leg counts."""

    vector: float = Field(default=0.5, ge=0, le=1_000_000, allow_inf_nan=False)
    keyword: float = Field(default=0.5, ge=0, le=1_000_000, allow_inf_nan=False)

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.vector == 0 and self.keyword == 0:
            raise ValueError("at least one weight must be above 0")
        return self


class FusionSpec(Part):
    """How the legs of a hybrid search become one list where a request does not say it."""

    kind: FusionKind = "minmax"
    weights: WeightsSpec = WeightsSpec()


_FUSION = FusionSpec()
_LATER = ("fusion", "rerank", "isolation")


class RerankSpec(Part):
    """The cross-encoder that reranks what a search found, where a request asks for it: a hub name or folder."""

    model: str = Field(min_length=1)
    revision: str | None = Field(default=None, min_length=1)


def _role_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}", name):
        raise ValueError("use a letter or digit, then up to 127 letters, digits and ._:@/-")
    return name


RoleName = Annotated[str, Field(min_length=1), AfterValidator(_role_name)]


class PolicySpec(Part):
    """What a role sees: the rows that pass ``rows`` (None: all of them), less what is masked.

    ``rows`` is a WHERE condition in ``dialect`` over the stored columns; a ``:name`` in it is the caller's claim of
    that name. ``masks`` are by column or text field: ``redact`` shows nothing, ``hash`` a keyed hash.
    """

    role: RoleName
    rows: str | None = Field(default=None, min_length=1)
    dialect: Dialect = "databricks"
    masks: dict[str, Mask] = {}


class IsolationSpec(Part):
    """What keeps tenants apart: a row belongs to the one that its ``tenant`` column, one of the key's, names.

    Each tenant's rows then have segments of their own, and so an index and statistics in which no other's have a part.
    """

    tenant: ColumnName


class IndexSpec(Part):
    """Which vector index to build, and where."""

    kind: Literal["auto", "exact", "ivf", "hnsw", "cagra"] = "auto"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    min_recall: float = Field(default=0.95, gt=0, le=1)


class SyncSpec(Part):
    """Limits on what a sync may do unasked."""

    max_delete_ratio: float = Field(default=0.5, gt=0, le=1)


class CollectionSpec(Part):
    """One collection over one table.

    ``columns`` are filterable and returnable, and so are the key's columns.
    """

    name: Annotated[str, AfterValidator(collection_name)]
    source: SourceSpec
    key: Annotated[ColumnNames, AfterValidator(_some)]
    text: TextSpec
    vector: VectorSpec
    fusion: FusionSpec | None = None
    rerank: RerankSpec | None = None
    columns: ColumnNames = ()
    policies: tuple[PolicySpec, ...] = ()
    isolation: IsolationSpec | None = None
    index: IndexSpec = IndexSpec()
    shards: int = Field(default=1, ge=1, le=4096)
    sync: SyncSpec = SyncSpec()

    @model_validator(mode="after")
    def _chunks_are_our_own(self) -> Self:
        if self.text.chunk.per_field and self.vector.column:
            raise ValueError("text.chunk.per_field: the table's own vectors are one for each row, whatever its fields")
        return self

    @model_validator(mode="after")
    def _tenants_share_no_key(self) -> Self:
        if self.tenant is not None and self.tenant not in self.key:
            remedy = f"; make it key: [{', '.join((self.tenant, *self.key))}]"
            raise ValueError(
                f"isolation.tenant: '{self.tenant}' must be in 'key', or one tenant's row would take the place of "
                f"another's{did_you_mean(self.tenant, self.key) or remedy}"
            )
        return self

    @model_validator(mode="after")
    def _policies_fit(self) -> Self:
        twice = [role for role, count in Counter(policy.role for policy in self.policies).items() if count > 1]
        if twice:
            raise ValueError(f"policies: there are two for the role '{twice[0]}'; make them one")
        for number, policy in enumerate(self.policies):
            self._require_maskable(policy, f"policies.{number}.masks")
        return self

    def _require_maskable(self, policy: PolicySpec, place: str) -> None:
        for name in policy.masks:
            if name in self.key:
                raise ValueError(
                    f"{place}: '{name}' is of the key, by which rows are named in every answer, and cannot be masked; "
                    "hash it at the source, or leave rows out by 'rows'"
                )
            if name not in self.maskable:
                raise ValueError(
                    f"{place}: '{name}' is neither in 'columns' nor a text field; there are {', '.join(self.maskable)}"
                )
        vectors = self.vector.column
        if vectors in self.stored_columns and vectors not in policy.masks and policy.masks.keys() & self.text.fields:
            raise ValueError(
                f"{place}: '{vectors}' is in 'columns' and says what the masked text does; mask it too, or take it out"
            )

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came later where there is none of it: specs are written as they were before it."""
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if name not in _LATER or value is not None}

    @property
    def tenant(self) -> str | None:
        """The column that names a row's tenant; None where rows are not kept apart."""
        return self.isolation.tenant if self.isolation else None

    @property
    def placing(self) -> tuple[int, str | None]:
        """What says in which shard a row is, besides its key: the number of shards, and the tenant."""
        return self.shards, self.tenant

    @property
    def fusion_in_force(self) -> FusionSpec:
        """How the legs become one list where a request does not say it, whether the spec does or not."""
        return self.fusion or _FUSION

    @property
    def maskable(self) -> tuple[str, ...]:
        """What a policy may mask: the stored columns but those of the key, and the text fields."""
        return tuple(dict.fromkeys(name for name in (*self.columns, *self.text.fields) if name not in self.key))

    def under(self, newer: CollectionSpec) -> CollectionSpec:
        """Return this spec, that of what is indexed, under the policies of ``newer``, which may store other columns.

        What ``newer`` no longer stores is shown to nobody who has a policy: it cannot say who may see it. Raises
        ValueError where the policies do not fit.
        """
        gone = {name: "redact" for name in self.maskable if name not in (*newer.stored_columns, *newer.text.fields)}
        if gone and self.policies and not newer.policies:
            raise ValueError(f"{', '.join(gone)} would be shown to everybody, because no policy says who may see it")
        fitting = []
        for policy in newer.policies:
            masks = {name: mask for name, mask in policy.masks.items() if name in self.maskable}
            fitting.append(policy.model_dump() | {"masks": masks | gone})
        try:
            return CollectionSpec.model_validate(self.model_dump() | {"policies": fitting})
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error

    @property
    def stored_columns(self) -> tuple[str, ...]:
        """The key's columns, then the others: what a filter may name and a response may return."""
        return self.key + tuple(name for name in self.columns if name not in self.key)

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Every column that is read from the source, each once."""
        names = [*self.stored_columns, *self.text.fields]
        if self.vector.column:
            names.append(self.vector.column)
        return tuple(dict.fromkeys(names))

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what decides the index's vectors and terms; a change of it needs a rebuild."""
        deciding = {
            "format": FORMAT_VERSION,
            "key": self.key,
            "fields": list(self.text.fields),
            "language": self.text.language,
            "chunk": self.text.chunk.model_dump(),
            "vector": self.vector.model_dump(),
            "shards": self.shards,
        }
        if self.text.fold_accents:
            deciding["fold_accents"] = True
        if self.isolation:
            deciding["isolation"] = self.isolation.model_dump()
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
