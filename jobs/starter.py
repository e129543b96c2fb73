"""The first version of a collection's YAML, commented, with the columns of a Delta table if there is one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from indexer.fit import KEYLESS_TYPES, OPAQUE_TYPES, OWN_NAMES
from indexer.spec_file import parse_spec
from jobs.errors import CommandError
from jobs.sample import NO_SAMPLE, Sample, delta_table, is_cjk, prose_of

CHANGE_FEED = "delta.enableChangeDataFeed"
KEY_NAMES = ("id", "key", "uuid", "guid")
TEXT_NAMES = frozenset(
    {
        *("abstract", "answer", "body", "comment", "content", "description", "details", "docstring", "message"),
        *("headline", "notes", "question", "subject", "summary", "text", "title"),
    }
)
VECTOR_TYPES = frozenset({"array<float>", "array<double>"})
"""Columns of these are likely to be embeddings, which nobody filters by."""
NESTED_TYPES = frozenset({"struct"})
"""A sync takes these and answers show them, but nothing can be asked of them."""
KEY_ROWS = 1_000_000
"""So many rows are asked whether they have keys of their own, which takes a tenth of a second from a disk."""
HEAD_NAMES = frozenset({"title", "summary", "subject", "headline", "question"})

TEMPLATE = """\
# A Grebe collection. Apply it with: grebe apply -f {name}.yaml
name: {name}

# Where the rows are: a folder, s3://bucket/path, or on Databricks catalog.schema.table. Its change feed must be on:
#   ALTER TABLE delta.`{table}` SET TBLPROPERTIES (delta.enableChangeDataFeed = true)
source:
  kind: delta
  table: {table_yaml}

# The columns that identify a row.
key: [{key}]

# What is searched. A field's number is its weight in keyword search.
text:
  fields: {{{fields}}}
  language: {language:<18} # stop words and stemming; cjk, none and others: docs/ranking.md
  chunk: {{max_tokens: 256, overlap_tokens: 32}}   # long texts are cut into passages of the model's own tokens

# Where vectors come from: a model's hub name or folder, or the table's own vectors (column: {vectors}).
vector:
  model: sentence-transformers/all-MiniLM-L6-v2{model_note}

# How both legs of a search become one list; `grebe tune` finds what suits your questions (docs/ranking.md):
# fusion: {{kind: minmax, weights: {{vector: 0.5, keyword: 0.5}}}}

# A cross-encoder that reads what was found once more, for searches that ask for it (docs/ranking.md):
# rerank: {{model: cross-encoder/ms-marco-MiniLM-L6-v2}}

# Columns to filter on and to return. The key is there anyway.
columns: [{columns}]
{left_out}
# Who sees which rows and values; without policies, whoever may search sees all (docs/governance.md):
# policies:
#   - role: support
#     rows: "team = :team"       # a condition on columns; :team is a claim of the caller's key or token
#     masks: {{email: hash}}       # or redact

# An index and statistics of its own for each tenant; the tenant's column has to be in the key (docs/governance.md):
# isolation: {{tenant: team}}

# Defaults that may stay out:
# sync: {{max_delete_ratio: 0.5}}   # a batch that deletes more of the rows waits for a person's word
# index: {{kind: auto, device: auto, min_recall: 0.95}}
# shards: 1                    # more for tables of many millions of rows
"""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table: its name and Delta's name of its type."""

    name: str
    type: str


def starter_spec(name: str, table: str | None, columns: Sequence[Column] = (), sample: Sample = NO_SAMPLE) -> str:
    """Return YAML that is a valid spec as it stands; raises :class:`indexer.errors.SpecError` for a bad ``name``.

    The key is the column called like one, else the first; text fields are the strings that ``sample`` shows to be
    prose. Without a sample they are those named like prose, else all strings but the key. Columns that a sync would
    refuse, or that nothing can be asked of, are in a comment.
    """
    unusable = [column for column in columns if not _is_usable(column)]
    is_given, columns = bool(columns), [column for column in columns if _is_usable(column)]
    keys = [column for column in columns if _kinds(column)[0] not in KEYLESS_TYPES]
    if is_given and not keys:
        raise CommandError(
            f"{table} has no column whose type can identify a row: a key is of texts, whole numbers or dates"
        )
    key = _key(keys)
    strings = [column.name for column in columns if column.type == "string" and column.name != key]
    called_prose = [column for column in strings if column.lower() in TEXT_NAMES]
    fields = prose_of({name: sample[name] for name in strings if name in sample}, called_prose)
    fields = fields or called_prose or strings
    if is_given and not fields:
        raise CommandError(f"{table} has no text column beside its key '{key}': there is nothing to search in it")
    vectors = [column.name for column in columns if column.type in VECTOR_TYPES]
    out = {key, *fields, *vectors}
    rest = [column.name for column in columns if column.name not in out and column.type != "binary"]
    cjk = is_cjk(value for field in fields for value in sample.get(field, ()))
    text = TEMPLATE.format(
        name=name,
        table=table or "/path/to/table",
        table_yaml=_quoted(table or "/path/to/table"),
        key=_yaml(key),
        fields=", ".join(f"{_yaml(field)}: {2.0 if field.lower() in HEAD_NAMES else 1.0}" for field in fields)
        or "title: 2.0, body: 1.0",
        language="cjk" if cjk else "english",
        model_note="   # knows English; paraphrase-multilingual-MiniLM-L12-v2, for one, knows more" if cjk else "",
        vectors=_yaml(vectors[0]) if vectors else "embedding",
        columns=", ".join(map(_yaml, rest)),
        left_out=_left_out(unusable),
    )
    parse_spec(text, origin=f"{name}.yaml")
    return text


def _is_usable(column: Column) -> bool:
    """Say whether a sync takes the column, and whether it can be filtered by."""
    return column.name not in OWN_NAMES and not (NESTED_TYPES | OPAQUE_TYPES).intersection(_kinds(column))


def _kinds(column: Column) -> list[str]:
    """Return the name of the column's type and, of an array or map, those of what is in it, outermost first."""
    return column.type.rstrip(">").split("<")


def _left_out(columns: Sequence[Column]) -> str:
    if not columns:
        return ""
    names = "".join(f"\n#   {_quoted(column.name)[1:-1]}: {column.type}" for column in columns)
    heading = "# Left out: no filter can read these types (flatten what is needed upstream), or Grebe uses the name:"
    return f"{heading}{names}\n"


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """What a Delta table's log says: its columns, and whether its change feed is on."""

    columns: tuple[Column, ...]
    change_feed: bool


def facts_of(table: str) -> TableFacts:
    """Return the facts of the Delta table at ``table``, read from its log without Spark; raises CommandError."""
    from deltalake.exceptions import DeltaError

    from indexer.catalog_table import causes

    if Path(table).is_dir() and not Path(table, "_delta_log").is_dir():
        raise CommandError(f"{table}: is a folder and no Delta table: it has no _delta_log")
    try:
        found = delta_table(table)
        fields, configuration = found.schema().fields, found.metadata().configuration
    except (DeltaError, OSError, ValueError) as error:
        reason = causes(error).rstrip("!;")
        raise CommandError(
            f"{table}: cannot be read as a Delta table: {reason}; a metastore's table has no folder to read here, "
            "so leave --table out and write its name into the file"
        ) from error
    columns = tuple(Column(name=field.name, type=_type_name(field.type)) for field in fields)
    return TableFacts(columns=columns, change_feed=configuration.get(CHANGE_FEED, "false").lower() == "true")


def key_trouble(table: str, key: str) -> str | None:
    """Return a sentence if column ``key`` of the Delta table does not tell its rows apart, of a million at most."""
    import pyarrow as pa
    from deltalake import QueryBuilder
    from deltalake.exceptions import DeltaError

    name = '"' + key.replace('"', '""') + '"'
    keys = f"SELECT {name} AS k FROM looked_at LIMIT {KEY_ROWS}"
    counts = f"SELECT count(*) AS n, count(k) AS keyed, count(DISTINCT k) AS keys FROM ({keys}) AS f"
    try:
        found = pa.table(QueryBuilder().register("looked_at", delta_table(table)).execute(counts)).to_pylist()[0]
    except (DeltaError, OSError, ValueError) as error:
        return f"{table}: whether '{key}' identifies its rows could not be looked at: {str(error).splitlines()[0]}"
    without, again = found["n"] - found["keyed"], found["keyed"] - found["keys"]
    told = [f"{without:,} {'has' if without == 1 else 'have'} none"] if without else []
    told += [f"{again:,} {'repeats' if again == 1 else 'repeat'} another's"] if again else []
    if not told:
        return None
    return (
        f"'{key}' does not identify the rows of {table}: of {found['n']:,} rows {' and '.join(told)}; put another "
        "column, or further ones, into `key`"
    )


def change_feed_off(table: str) -> str:
    """Return the warning about a table without a change feed."""
    return (
        f"The change feed of {table} is off; before the first sync: "
        f"ALTER TABLE delta.`{table}` SET TBLPROPERTIES ({CHANGE_FEED} = true), or by deltalake: "
        f'DeltaTable("{table}").alter.set_table_properties({{"{CHANGE_FEED}": "true"}})'
    )


def _type_name(kind: object) -> str:
    within = (getattr(kind, part, None) for part in ("element_type", "key_type", "value_type"))
    names = ",".join(_type_name(each) for each in within if each is not None)
    name = str(getattr(kind, "type", kind))
    return f"{name}<{names}>" if names else name


def _key(columns: Sequence[Column]) -> str:
    names = [column.name for column in columns]
    named = [name for wanted in KEY_NAMES for name in names if name.lower() == wanted]
    ending = [name for name in names if name.lower().endswith("_id")]
    return next(iter([*named, *ending, *names]), "id")


def _yaml(name: str) -> str:
    """Return ``name`` as YAML takes it: bare where that is safe, quoted otherwise.

    >>> _yaml("package"), _yaml("first name"), _yaml("no"), _yaml("本文")
    ('package', '"first name"', '"no"', '"本文"')
    """
    reserved = name.lower() in {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and not reserved else _quoted(name)


def _quoted(name: str) -> str:
    """Return ``name`` in quotes; letters of any script stay as they are, what no editor shows is written out."""
    return "".join(
        letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in json.dumps(name, ensure_ascii=False)
    )
