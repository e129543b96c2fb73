from __future__ import annotations

import json
import math
from typing import Any

import pytest

from api.agents.tools import Call, call_of, tools
from api.models.requests import SearchBody, SqlBody


@pytest.mark.parametrize(
    ("tool", "arguments", "call"),
    [
        ("list_collections", {}, Call(path="/v1/collections")),
        ("describe_collection", {"collection": "books"}, Call(path="/v1/collections/books")),
        ("get_row", {"collection": "books", "key": 7}, Call(path="/v1/collections/books/rows/7")),
        (
            "get_row",
            {"collection": "books", "key": [True, "a/b, c"]},
            Call(path="/v1/collections/books/rows/true,a%2Fb%2C%20c"),
        ),
        ("sql", {"sql": "SELECT 1"}, Call(path="/v1/sql", method="POST", body=b'{"sql": "SELECT 1"}')),
        (
            "search",
            {"collection": "books", "query": "x"},
            Call(path="/v1/collections/books/search", method="POST", body=b'{"query": "x"}'),
        ),
    ],
)
def test_a_tool_is_a_call(tool: str, arguments: dict[str, Any], call: Call) -> None:
    assert call_of(tool, arguments) == call


@pytest.mark.parametrize("value", [2**70, math.inf, 0.1, "half a character: \ud800", None, [1, "two"]])
def test_arguments_go_as_they_came(value: Any) -> None:
    assert json.loads(call_of("sql", {"sql": "SELECT 1", "params": {"a": value}}).body)["params"] == {"a": value}


def test_what_cannot_be_asked_is_told_and_not_asked() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    for tool, arguments, told in (
        ("sql", {"sql": nested}, "the arguments are nested too deeply"),
        ("get_row", {"collection": "books", "key": [nested]}, "the arguments are nested too deeply"),
        ("describe_collection", {"collection": "x" * 1000}, "'xxx"),
        ("describe_collection", {"collection": None}, "None is no name of a collection"),
    ):
        with pytest.raises(ValueError, match=told):
            call_of(tool, arguments)


def test_the_tools_arguments_are_fields_of_the_calls_that_they_are() -> None:
    takes = {tool.name: tool.input_schema["properties"].keys() for tool in tools()}

    assert takes["search"] - {"collection"} < SearchBody.model_fields.keys()
    assert takes["sql"] < SqlBody.model_fields.keys()
