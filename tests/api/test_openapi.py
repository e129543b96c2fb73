"""``/openapi.json`` is valid, whole, and its examples are accepted."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from api.models.requests import SearchBody, SqlBody
from retrieval.sql import parse_statement


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


def test_the_search_describes_each_of_its_problems_with_an_example(schema: Any) -> None:
    responses = schema["paths"]["/v1/collections/{name}/search"]["post"]["responses"]
    problems = validator(schema, "ProblemAnswer")
    statuses = {"200", "400", "401", "403", "404", "410", "412", "413", "415", "422", "429", "503", "504", "default"}
    assert set(responses) == statuses
    for status, response in responses.items():
        if status not in ("200", "default"):
            for example in response["content"]["application/problem+json"]["examples"].values():
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
    assert len(examples) == 6
    for example in examples:
        SearchBody.model_validate_json(json.dumps(example))


def test_the_examples_of_a_statement_are_accepted_and_parse(schema: Any) -> None:
    examples = schema["components"]["schemas"]["SqlBody"]["examples"]
    assert len(examples) == 2
    for example in examples:
        body = SqlBody.model_validate_json(json.dumps(example))
        assert parse_statement(body.sql, body.dialect).collection == "advisories"


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


def test_a_problem_is_as_described(client: httpx.Client, schema: Any) -> None:
    validator(schema, "ProblemAnswer").validate(client.get("/v1/collections/nope").json())


def validator(schema: Any, name: str) -> OAS31Validator:
    return OAS31Validator({"$ref": f"#/components/schemas/{name}", "components": schema["components"]})
