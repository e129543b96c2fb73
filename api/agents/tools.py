"""The tools of an agent: each is one call of the HTTP API, whose arguments, checks and answers it has."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mcp_types import Tool, ToolAnnotations
from pydantic import TypeAdapter

from api.models.requests import KeyValue, SearchBody, SqlBody
from api.models.stages import Body
from indexer.format.keys import format_key
from indexer.spec import collection_name
from indexer.suggestion import did_you_mean

MAX_KEY_CHARS = 16_384
TOO_DEEP = "the arguments are nested too deeply"

INSTRUCTIONS = """Grebe searches tables: their rows have texts, and columns to filter by.
- list_collections: which there are. describe_collection: a collection's texts, key and columns.
- search ranks rows by meaning and by words. What is known of the rows wanted goes into 'filter', as a SQL condition.
- sql counts, groups and sorts. get_row has the whole texts of a row, of which search shows a passage.
An answer holds what its caller may see and nothing else; columns named in 'masked' are hidden from it. 'age_seconds'
says how old it is. Cite rows by their keys."""

_WHAT = ("query", "queries", "like", "filter", "params", "dialect", "k", "mode", "min_similarity")
_OF_SEARCH = (*_WHAT, "include", "context", "rerank", "decay")
_OF_SQL = ("sql", "params", "dialect")
_COLLECTION = {"collection": {"type": "string", "description": "The collection's name."}}
_KEY = {
    "key": TypeAdapter(KeyValue).json_schema()
    | {"description": "The key as answers have it: a value, or a list of them where it is of several columns."}
}
_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call of the HTTP API: ``path`` is percent-encoded, and ``body``, if there is one, is JSON."""

    path: str
    method: str = "GET"
    body: bytes = b""


@functools.cache
def tools() -> tuple[Tool, ...]:
    """Return the tools, described."""
    return (
        _tool("list_collections", "The collections that there are for this caller, by name."),
        _tool(
            "describe_collection",
            "A collection's text fields and key, and the columns that filters and SQL may name, with their types.",
            _COLLECTION,
            required=["collection"],
        ),
        _tool(
            "search",
            "Rank the rows of a collection that pass the filter, by meaning and by words. A hit has its key and score, "
            "the passage that was found, and its columns. With a filter alone: the rows that pass it, by key.",
            _COLLECTION | _properties(SearchBody, _OF_SEARCH),
            required=["collection"],
            defs={name: part for name, part in _defs(SearchBody).items() if name in ("RerankBody", "DecayBody")},
        ),
        _tool(
            "sql",
            "Run a SELECT over one collection, which FROM names: projection, WHERE, GROUP BY with aggregates, ORDER "
            "BY, LIMIT. search('text') in WHERE ranks the rows that the rest of it passes, and score() is what they "
            "got. There are no joins, and nothing can be changed.",
            _properties(SqlBody, _OF_SQL),
            required=["sql"],
        ),
        _tool("get_row", "The row of a key, with its whole texts.", _COLLECTION | _KEY, required=["collection", "key"]),
    )


def call_of(tool: str, arguments: dict[str, Any]) -> Call:
    """Return the call that ``tool`` is; what the call checks itself is not checked here. Raises ValueError."""
    schemas = {known.name: known.input_schema for known in tools()}
    if tool not in schemas:
        raise ValueError(f"there is no tool '{tool}'; there are {', '.join(schemas)}")
    _require(tool, arguments, schemas[tool])
    if tool == "list_collections":
        return Call(path="/v1/collections")
    if tool == "sql":
        return Call(path="/v1/sql", method="POST", body=_json(arguments))
    path = f"/v1/collections/{_collection(arguments['collection'])}"
    match tool:
        case "search":
            rest = {name: value for name, value in arguments.items() if name != "collection"}
            return Call(path=f"{path}/search", method="POST", body=_json(rest))
        case "get_row":
            return Call(path=f"{path}/rows/{_key(arguments['key'])}")
    return Call(path=path)


def _tool(
    name: str,
    description: str,
    properties: dict[str, Any] | None = None,
    *,
    required: Iterable[str] = (),
    defs: dict[str, Any] | None = None,
) -> Tool:
    schema = {"type": "object", "properties": properties or {}, "required": [*required], "additionalProperties": False}
    title = name.replace("_", " ").capitalize().replace("Sql", "SQL")
    given = schema | ({"$defs": defs} if defs else {})
    return Tool(name=name, title=title, description=description, input_schema=given, annotations=_READS)


def _properties(body: type[Body], names: Iterable[str]) -> dict[str, Any]:
    """Return how the fields ``names`` of a call's body are described."""
    described = body.model_json_schema()["properties"]
    return {name: described[name] for name in names}


def _defs(body: type[Body]) -> dict[str, Any]:
    defs: dict[str, Any] = body.model_json_schema()["$defs"]
    return defs


def _require(tool: str, arguments: dict[str, Any], schema: dict[str, Any]) -> None:
    """Raise ValueError where an argument is missing or unknown: the call's own answer would not name the tool."""
    known = schema["properties"]
    for name in arguments.keys() - known.keys():
        takes = ", ".join(known) or "no arguments"
        raise ValueError(f"{tool} has no argument '{name}'{did_you_mean(name, known)}; it takes {takes}")
    for name in schema["required"]:
        if name not in arguments:
            raise ValueError(f"{tool} needs '{name}': {known[name].get('description', name)}")


def _collection(name: Any) -> str:
    try:
        return collection_name(name if isinstance(name, str) else "")
    except ValueError:
        raise ValueError(f"{ascii(name)[:80]} is no name of a collection; list_collections has them") from None


def _key(key: Any) -> str:
    """Return ``key`` as a path has it; raises ValueError for one that no row has."""
    values = key if isinstance(key, list) else [key]
    if isinstance(key, dict) or not values:
        raise ValueError("a key is a value or, where it is of several columns, a list of values in their order")
    try:
        path = format_key(values)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if len(path) > MAX_KEY_CHARS:
        raise ValueError(f"the key has {len(path):,} characters in a URL, and at most {MAX_KEY_CHARS:,} are looked up")
    return path


def _json(value: Any) -> bytes:
    """Return ``value`` as it came: neither rounded nor made into what it is not, as an answer may be."""
    try:
        return json.dumps(value).encode("ascii")
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
