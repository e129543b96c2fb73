"""Audit records: events in the form of OCSF, the Open Cybersecurity Schema Framework.

An operation leaves two events of class API Activity (6003): its *intent* and its *outcome*. What the chain says of
itself, such as its beginning and its checkpoints, is a Base Event (class 0). What OCSF has no place for is under
``unmapped``; ``unmapped.phase`` tells all of them apart.

Nothing that a caller asked with is in a record: such text is handed over as a :class:`Secret` and leaves as its HMAC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from typing import Any, Literal

import orjson

from api.encoding import encode

OCSF_VERSION = "1.5.0"
PRODUCT = {"name": "Grebe", "vendor_name": "Grebe", "version": installed_version("grebe")}

API_ACTIVITY, APPLICATION_ACTIVITY = 6003, 6
ACTIVITIES = {"create": 1, "read": 2, "update": 3, "delete": 4}
OTHER = 99
INFORMATIONAL, MEDIUM = 1, 3
UNKNOWN, SUCCESS, FAILURE = 0, 1, 2

Activity = Literal["create", "read", "update", "delete"]
Decision = Literal["allowed", "denied", "undecided"]
Record = dict[str, Any]
Hash = Callable[[str, str], str]
"""From a domain (what the text is) and a text to its keyed hash."""


class Secret:
    """Text that may only be recorded as its HMAC. No dataclass, because those have a JSON form."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Secret(masked)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who asks: ``kind`` says how that is known (a key, a token), ``id`` is stable, ``name`` is for people."""

    kind: str
    id: str
    name: str
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """What is about to run. ``route`` is the path's pattern; ``path`` comes without its query string.

    ``time_ms`` counts from 1970 (UTC). A fact has a JSON form or is a :class:`Secret`: ``{"query": Secret(text)}`` is
    recorded as ``query_hmac``, and a list of secrets as a list.
    """

    time_ms: int
    request_id: str
    actor: Actor
    client_ip: str
    activity: Activity
    method: str
    route: str
    path: str
    collection: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of ``intent``; ``status`` is the answer's HTTP status, ``facts`` are as there."""

    intent: Intent
    time_ms: int
    duration_ms: int
    status: int
    decision: Decision
    facts: Mapping[str, Any] = field(default_factory=dict)


def intent_record(intent: Intent, hashed: Hash) -> Record:
    """Return the event that says what is about to run."""
    return _activity(intent, intent.time_ms, "intent", intent.facts, hashed) | {
        "severity_id": INFORMATIONAL,
        "status_id": UNKNOWN,
    }


def outcome_record(outcome: Outcome, hashed: Hash) -> Record:
    """Return the event that says how an operation ended."""
    record = _activity(outcome.intent, outcome.time_ms, "outcome", outcome.facts, hashed)
    record["unmapped"]["decision"] = outcome.decision
    record["api"]["response"] = {"code": outcome.status}
    return record | {
        "severity_id": MEDIUM if outcome.decision == "denied" else INFORMATIONAL,
        "status_id": SUCCESS if outcome.status < 400 else FAILURE,
        "duration": outcome.duration_ms,
    }


def marker(phase: str, uid: str, time_ms: int, facts: Mapping[str, Any]) -> Record:
    """Return the event with which the chain says something of itself."""
    return {
        "category_uid": 0,
        "class_uid": 0,
        "activity_id": OTHER,
        "type_uid": OTHER,
        "severity_id": INFORMATIONAL,
        "time": time_ms,
        "metadata": _metadata(f"{uid}/{phase}"),
        "unmapped": {**facts, "phase": phase},
    }


def _activity(intent: Intent, time_ms: int, phase: str, facts: Mapping[str, Any], hashed: Hash) -> Record:
    activity_id = ACTIVITIES[intent.activity]
    return {
        "category_uid": APPLICATION_ACTIVITY,
        "class_uid": API_ACTIVITY,
        "activity_id": activity_id,
        "type_uid": API_ACTIVITY * 100 + activity_id,
        "time": time_ms,
        "metadata": _metadata(f"{intent.request_id}/{phase}"),
        "actor": {"user": _user(intent.actor)},
        "api": {"operation": f"{intent.method} {intent.route}", "request": {"uid": intent.request_id}},
        "src_endpoint": {"ip": intent.client_ip},
        "http_request": {"http_method": intent.method, "url": {"path": intent.path}},
        "unmapped": {**_plain(facts, hashed), "phase": phase, "collection": intent.collection},
    }


def _metadata(uid: str) -> Record:
    return {"version": OCSF_VERSION, "product": PRODUCT, "uid": uid}


def _user(actor: Actor) -> Record:
    return {
        "uid": actor.id,
        "name": actor.name,
        "type_id": OTHER,
        "type": actor.kind,
        "groups": [{"name": role} for role in actor.roles],
    }


def _plain(facts: Mapping[str, Any], hashed: Hash) -> Record:
    """Return ``facts`` as what JSON can say: keys of rows may be dates, decimals or bytes."""
    hidden: Record = {}
    shown: Record = {}
    for name, fact in facts.items():
        if isinstance(fact, Secret):
            hidden[f"{name}_hmac"] = hashed(name, fact.text)
        elif isinstance(fact, list) and fact and all(isinstance(part, Secret) for part in fact):
            hidden[f"{name}_hmac"] = [hashed(name, part.text) for part in fact]
        else:
            shown[name] = fact
    plain: Record = orjson.loads(encode(shown))
    return plain | hidden
