from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from api.identity.control import Control
from api.identity.keys import holder_of, is_key, new_key

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_key_is_known_by_its_hash_alone() -> None:
    key, kept = new_key("bot", ("reader",), {"team": "blue"}, created_at=NOW, expires_at=None)
    control = Control(keys={kept.id: kept})

    assert is_key(key)
    assert holder_of(key, control, NOW) == kept
    assert key[-43:] not in control.model_dump_json()
    assert kept.sha256 not in repr(kept)


def test_what_is_not_the_whole_key_opens_nothing() -> None:
    key, kept = new_key("bot", ("reader",), {}, created_at=NOW, expires_at=NOW + timedelta(days=1))
    other, _ = new_key("other", ("reader",), {}, created_at=NOW, expires_at=None)
    control = Control(keys={kept.id: kept})
    swapped = key[:-1] + ("A" if key[-1] != "A" else "B")

    wrong = [swapped, key[:-1], key + "A", other, key.upper(), "", "grebe_", kept.sha256, key.replace("grebe", "Grebe")]

    assert [each for each in wrong if holder_of(each, control, NOW)] == []
    assert holder_of(key, control, NOW + timedelta(hours=23)) == kept
    assert holder_of(key, control, NOW + timedelta(days=1)) is None
    revoked = Control(keys={kept.id: kept.model_copy(update={"revoked_at": NOW})})
    assert holder_of(key, revoked, NOW) is None


def test_keys_differ() -> None:
    made = {new_key("bot", ("r",), {}, created_at=NOW, expires_at=None)[0] for _ in range(100)}
    assert len(made) == 100


def test_a_claim_is_a_value_that_a_filter_can_bind() -> None:
    with pytest.raises(ValidationError):
        new_key("bot", ("r",), {"team": {"a": 1}}, created_at=NOW, expires_at=None)  # type: ignore[dict-item]
