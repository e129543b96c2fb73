"""Records are OCSF events, and say nothing of what a caller asked with."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from api.audit.record import PRODUCT, Secret, intent_record, marker, outcome_record
from tests.api.audit.scene import FOUND, SEARCH, TIME_MS


def hashed(domain: str, text: str) -> str:
    return f"{domain}:{len(text)}"


def test_an_intent_is_an_api_activity_whose_end_is_unknown() -> None:
    assert intent_record(SEARCH, hashed) == {
        "category_uid": 6,
        "class_uid": 6003,
        "activity_id": 2,
        "type_uid": 600302,
        "severity_id": 1,
        "status_id": 0,
        "time": TIME_MS,
        "metadata": {"version": "1.5.0", "product": PRODUCT, "uid": "r-1/intent"},
        "actor": {
            "user": {"uid": "k-7", "name": "reports", "type_id": 99, "type": "api-key", "groups": [{"name": "analyst"}]}
        },
        "api": {"operation": "POST /v1/collections/{name}/search", "request": {"uid": "r-1"}},
        "src_endpoint": {"ip": "10.0.0.9"},
        "http_request": {"http_method": "POST", "url": {"path": "/v1/collections/books/search"}},
        "unmapped": {"phase": "intent", "collection": "books", "k": 10, "query_hmac": "query:9"},
    }


def test_an_outcome_says_how_the_operation_ended() -> None:
    record = outcome_record(FOUND, hashed)

    intent = intent_record(SEARCH, hashed)
    assert record == intent | {
        "time": TIME_MS + 12,
        "duration": 11,
        "status_id": 1,
        "metadata": intent["metadata"] | {"uid": "r-1/outcome"},
        "api": intent["api"] | {"response": {"code": 200}},
        "unmapped": {"phase": "outcome", "collection": "books", "decision": "allowed", "version": 3, "keys": [1]},
    }


def test_a_denied_operation_stands_out() -> None:
    record = outcome_record(replace(FOUND, status=403, decision="denied"), hashed)

    assert (record["severity_id"], record["status_id"], record["unmapped"]["decision"]) == (3, 2, "denied")


def test_facts_cannot_take_the_place_of_what_the_log_says() -> None:
    facts = {"phase": "checkpoint", "collection": "other", "decision": "allowed"}

    record = outcome_record(replace(FOUND, decision="denied", facts=facts), hashed)

    assert record["unmapped"] == {"phase": "outcome", "collection": "books", "decision": "denied"}


def test_keys_of_any_type_are_recorded_as_answers_show_them() -> None:
    keys = [date(2026, 1, 2), Decimal("1.10"), b"ab", 2**70, [1, "a"]]

    record = outcome_record(replace(FOUND, facts={"keys": keys}), hashed)

    assert record["unmapped"]["keys"] == ["2026-01-02", "1.10", "YWI=", str(2**70), [1, "a"]]


def test_several_secrets_are_recorded_each_as_it_would_be_alone() -> None:
    intent = replace(SEARCH, facts={"query": [Secret("red nests"), Secret("nests")]})

    assert intent_record(intent, hashed)["unmapped"]["query_hmac"] == ["query:9", "query:5"]


def test_a_secret_does_not_show_itself() -> None:
    assert repr(SEARCH).count("red nests") == 0
    assert repr(Secret("red nests")) == "Secret(masked)"


def test_a_secret_inside_another_fact_is_refused() -> None:
    with pytest.raises(TypeError, match="Type is not JSON serializable: Secret"):
        outcome_record(replace(FOUND, facts={"params": {"colour": [Secret("red nests")]}}), hashed)


def test_what_the_chain_says_of_itself_is_a_base_event() -> None:
    assert marker("genesis", "w", TIME_MS, {"writer": "w"}) == {
        "category_uid": 0,
        "class_uid": 0,
        "activity_id": 99,
        "type_uid": 99,
        "severity_id": 1,
        "time": TIME_MS,
        "metadata": {"version": "1.5.0", "product": PRODUCT, "uid": "w/genesis"},
        "unmapped": {"phase": "genesis", "writer": "w"},
    }
