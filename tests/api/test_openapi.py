"""``/openapi.json`` is valid, whole, and its examples are accepted."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from pydantic import ValidationError

from api.agents.tools import tools
from api.models.requests import MAX_CURSOR_CHARS, MAX_DIM, MAX_INCLUDE, MAX_KEYS, SearchBody, SqlBody
from api.settings import MAX_DEADLINE_MS
from retrieval.explanation import Collapsed, Decayed, Diversified, Reranked
from retrieval.filter.parse import MAX_TEXT_CHARACTERS, MAX_TOKENS
from retrieval.request import MAX_K, MAX_QUERY_CHARS
from retrieval.sql import parse_statement

LIMITS: dict[tuple[str, str], dict[str, Any]] = {
    ("SearchBody", "query"): {"maxLength": MAX_QUERY_CHARS},
    ("SearchBody", "filter"): {"maxLength": MAX_TEXT_CHARACTERS},
    ("SearchBody", "vector"): {"minItems": 1, "maxItems": MAX_DIM},
    ("SearchBody", "k"): {"minimum": 1, "maximum": MAX_K},
    ("SearchBody", "include"): {"maxItems": MAX_INCLUDE},
    ("SearchBody", "cursor"): {"minLength": 1, "maxLength": MAX_CURSOR_CHARS},
    ("SearchBody", "deadline_ms"): {"minimum": 1, "maximum": MAX_DEADLINE_MS},
    ("SqlBody", "sql"): {"minLength": 1, "maxLength": MAX_TEXT_CHARACTERS},
    ("RowsBody", "keys"): {"minItems": 1, "maxItems": MAX_KEYS},
    ("RowsBody", "include"): {"maxItems": MAX_INCLUDE},
}


@pytest.fixture(scope="module")
def schema(client: httpx.Client) -> Any:
    return client.get("/openapi.json").json()


def test_the_description_is_valid(schema: Any) -> None:
    validate(schema)


def test_every_call_of_the_design_is_described(schema: Any) -> None:
    described = {(method, path) for path, calls in schema["paths"].items() for method in calls}
    assert described == {
        ("post", "/v1/collections/{name}/search"),
        ("post", "/v1/sql"),
        ("post", "/v1/mcp"),
        ("get", "/v1/collections"),
        ("get", "/v1/collections/{name}"),
        ("get", "/v1/collections/{name}/status"),
        ("get", "/v1/collections/{name}/rows/{key}"),
        ("post", "/v1/collections/{name}/rows"),
        ("get", "/livez"),
        ("get", "/readyz"),
        ("get", "/startupz"),
        ("get", "/version"),
        ("get", "/metrics"),
    }


def test_every_call_has_a_short_name_of_its_own(schema: Any) -> None:
    named = [call["operationId"] for calls in schema["paths"].values() for call in calls.values()]
    assert sorted(named) == [
        "get_collection",
        "get_row",
        "get_rows",
        "get_status",
        "list_collections",
        "livez",
        "mcp",
        "metrics",
        "readyz",
        "search",
        "sql",
        "startupz",
        "version",
    ]


def test_the_limits_are_those_that_are_enforced(schema: Any) -> None:
    def limits(body: str, member: str) -> dict[str, Any]:
        described = schema["components"]["schemas"][body]["properties"][member]
        given = described | {name: limit for part in described.get("anyOf", ()) for name, limit in part.items()}
        return {name: limit for name, limit in given.items() if name.startswith(("max", "min"))}

    assert {(body, member): limits(body, member) for body, member in LIMITS} == LIMITS
    tools_ = {tool.name: tool.input_schema["properties"] for tool in tools()}
    for tool, body, names in (("search", "SearchBody", ("filter", "query", "k")), ("sql", "SqlBody", ("sql",))):
        of_body = schema["components"]["schemas"][body]["properties"]
        assert {name: tools_[tool][name] for name in names} == {name: of_body[name] for name in names}
    for body, member in (("SearchBody", "filter"), ("SqlBody", "sql")):
        described = schema["components"]["schemas"][body]["properties"][member]["description"]
        assert f"at most {MAX_TOKENS:,} words and signs" in described


def test_a_text_at_the_limit_is_taken_and_one_beyond_it_is_not() -> None:
    longest = "SELECT 1" + " " * (MAX_TEXT_CHARACTERS - 8)
    for body, members in ((SqlBody, {"sql": longest}), (SearchBody, {"filter": longest})):
        body.model_validate(members)
        with pytest.raises(ValidationError, match=f"at most {MAX_TEXT_CHARACTERS} characters"):
            body.model_validate({name: text + " " for name, text in members.items()})


def test_the_search_describes_each_of_its_problems_with_an_example(schema: Any) -> None:
    responses = schema["paths"]["/v1/collections/{name}/search"]["post"]["responses"]
    statuses = {"200", "400", "401", "403", "404", "410", "412", "413", "415", "422", "429", "503", "504", "default"}
    assert set(responses) == statuses
    for status, response in responses.items():
        if status not in ("200", "default"):
            described = response["content"]["application/problem+json"]
            problems = OAS31Validator(described["schema"] | {"components": schema["components"]})
            for example in described["examples"].values():
                problems.validate(example["value"])
                assert str(example["value"]["status"]) == status


def test_calls_that_ask_who_is_asking_are_marked_and_others_are_not(schema: Any) -> None:
    marked = {path for path, calls in schema["paths"].items() for call in calls.values() if "security" in call}
    assert marked == {path for path in schema["paths"] if path.startswith("/v1/") or path == "/metrics"}
    assert schema["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path in marked:
        for call in schema["paths"][path].values():
            assert {"401", "429", "503"} <= set(call["responses"])


def test_the_examples_of_a_search_are_accepted(schema: Any) -> None:
    examples = schema["components"]["schemas"]["SearchBody"]["examples"]
    assert len(examples) == 7
    for example in examples:
        SearchBody.model_validate_json(json.dumps(example))


def test_the_examples_of_a_statement_are_accepted_and_parse(schema: Any) -> None:
    examples = schema["components"]["schemas"]["SqlBody"]["examples"]
    assert len(examples) == 2
    for example in examples:
        body = SqlBody.model_validate_json(json.dumps(example))
        assert parse_statement(body.sql, body.dialect).collection == "advisories"


@pytest.mark.parametrize(
    ("path", "name", "body"),
    [
        ("/v1/collections/{name}/search", "SearchAnswer", {"query": "otter", "k": 1}),
        ("/v1/sql", "SqlAnswerBody", {"sql": "SELECT count(*) FROM books"}),
        ("/v1/collections/{name}/rows", "RowsAnswer", {"keys": [1]}),
    ],
)
def test_the_example_of_an_answer_is_as_described_and_as_answers_are(
    client: httpx.Client, schema: Any, path: str, name: str, body: dict[str, Any]
) -> None:
    content = schema["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
    assert content["schema"] == {"$ref": f"#/components/schemas/{name}"}
    validator(schema, name).validate(content["example"])
    answer = client.post(path.format(name="books"), json=body).json()
    assert list(content["example"]) == list(answer)
    for part in ("results", "plan", "source"):
        first, shown = (found.get(part) or {} for found in (answer, content["example"]))
        if isinstance(first, list):
            first, shown = first[0], shown[0]
        assert list(first) == list(shown)


def test_an_answer_in_sql_is_as_described(client: httpx.Client, schema: Any) -> None:
    answer = client.post("/v1/sql", json={"sql": "SELECT *, score() FROM books WHERE search('otter')"}).json()
    validator(schema, "SqlAnswerBody").validate(answer)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/collections/books", "CollectionAnswer"),
        ("/v1/collections/books/status", "StatusAnswer"),
        ("/v1/collections/pairs/rows/plain,2", "RowAnswer"),
        ("/v1/collections", "CollectionsAnswer"),
        ("/livez", "HealthAnswer"),
        ("/version", "VersionAnswer"),
    ],
)
def test_an_answer_is_as_described(client: httpx.Client, schema: Any, path: str, name: str) -> None:
    validator(schema, name).validate(client.get(path).json())


def test_a_searchs_answer_is_as_described(client: httpx.Client, schema: Any) -> None:
    response = client.post("/v1/collections/books/search", json={"query": "otter", "explain": True})
    validator(schema, "SearchAnswer").validate(response.json())


def test_an_answer_of_rows_is_as_described(client: httpx.Client, schema: Any) -> None:
    answer = client.post("/v1/collections/pairs/rows", json={"keys": [["plain", 2], ["plain", 77]]}).json()
    validator(schema, "RowsAnswer").validate(answer)


def test_an_explanation_is_as_described(client: httpx.Client, schema: Any) -> None:
    stages = {
        "decay": {"column": "pages", "origin": 100, "scale": 50},
        "collapse": {"column": "pages"},
        "diversify": {},
    }
    asked = {"query": "otter", "explain": True, **stages}
    hits = client.post("/v1/collections/books/search", json=asked).json()["results"]
    members = schema["components"]["schemas"]["ExplanationAnswer"]["properties"]
    for part in (part for hit in hits for part in hit["explanation"].items()):
        assert part[0] in members
    assert {part for hit in hits for part in hit["explanation"]} == {
        *("vector", "keyword", "decay", "collapse", "diversify"),
    }
    made = {
        "LegAnswer": hits[0]["explanation"]["vector"],
        "RerankedAnswer": fields_of(Reranked),
        "DecayedAnswer": fields_of(Decayed),
        "CollapsedAnswer": fields_of(Collapsed),
        "DiversifiedAnswer": fields_of(Diversified),
    }
    for model, fields in made.items():
        assert list(schema["components"]["schemas"][model]["properties"]) == list(fields)


def test_a_key_is_described_as_a_value_or_a_list_of_them(schema: Any) -> None:
    scalar = {"type": ["string", "number", "boolean"]}
    for name in ("HitAnswer", "RowAnswer", "ReadRowAnswer"):
        key = schema["components"]["schemas"][name]["properties"]["key"]
        assert key["anyOf"] == [scalar, {"type": "array", "items": scalar}]


def test_what_was_reached_is_described(client: httpx.Client, schema: Any) -> None:
    asked = {"query": "otter", "min_version": 99, "deadline_ms": 30}
    problem = client.post("/v1/collections/books/search", json=asked).json()
    validator(schema, "TooOldAnswer").validate(problem)
    assert set(problem["reached"]) == set(schema["components"]["schemas"]["ReachedAnswer"]["properties"])


def test_a_problem_is_as_described(client: httpx.Client, schema: Any) -> None:
    validator(schema, "ProblemAnswer").validate(client.get("/v1/collections/nope").json())


def fields_of(part: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(part)]


def validator(schema: Any, name: str) -> OAS31Validator:
    return OAS31Validator({"$ref": f"#/components/schemas/{name}", "components": schema["components"]})
