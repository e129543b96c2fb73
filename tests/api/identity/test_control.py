from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api.errors import ControlError
from api.identity.administration import create_key, grant, revoke_key, withdraw
from api.identity.control import FOLDER, Control, ControlTable, Grant
from indexer.format.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


@pytest.fixture
def table(store: Store) -> ControlTable:
    return ControlTable(store)


def key_of(table: ControlTable, **given: Any) -> tuple[str, str]:
    key, kept = create_key(table, "bot", **({"roles": ["reader"], "claims": {}} | given))
    return key, kept.id


def test_a_store_without_keys_has_no_control(table: ControlTable) -> None:
    assert table.read() is None


def test_each_change_is_a_version_that_says_who_made_it(table: ControlTable, store: Store) -> None:
    grant(table, "reader", "books", ["search"])
    _, id_ = key_of(table)
    revoke_key(table, id_)

    kept = [Control.model_validate_json(store.get(path)) for path in sorted(store.list(FOLDER))]

    assert [(each.version, each.change) for each in kept] == [
        (1, "role reader: search on books granted"),
        (2, f"key {id_} (bot) created"),
        (3, f"key {id_} revoked"),
    ]
    assert all("@" in each.changed_by and each.changed_at is not None for each in kept)
    assert len({each.hash_key for each in kept}) == 1


def test_another_reader_sees_a_change_at_its_next_look(table: ControlTable, store: Store) -> None:
    other = ControlTable(store)
    assert other.read() is None
    _, id_ = key_of(table)
    assert (other.read() or Control()).keys.keys() == {id_}
    revoke_key(table, id_)
    grant(table, "reader", "books", ["search"])

    seen = other.read()

    assert seen == table.read()
    assert seen is not None
    assert seen.keys[id_].revoked_at is not None
    assert ControlTable(store).read() == seen


def test_of_changes_made_at_once_none_is_lost(store: Store) -> None:
    def make(number: int) -> None:
        for each in range(5):
            grant(ControlTable(store), f"role-{number}", f"c{each}", ["search"])

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    control = ControlTable(store).read()
    assert control is not None
    assert control.version == 20
    assert {role: len(grants) for role, grants in control.roles.items()} == {f"role-{n}": 5 for n in range(4)}


def test_keys_that_went_away_are_no_leave_to_enter(table: ControlTable, store: Store) -> None:
    key_of(table)
    store.clear()

    with pytest.raises(ControlError, match="are not there any more"):
        table.read()


def test_a_version_that_cannot_be_read_lets_nobody_in(table: ControlTable, store: Store) -> None:
    key_of(table)
    store.put(f"{FOLDER}/{2:020d}.json", b'{"version": 2, "from_the_future": true}')

    for reader in (table, ControlTable(store)):
        with pytest.raises(ControlError, match=r"00002\.json .*is not what Grebe writes"):
            reader.read()


@pytest.mark.parametrize(
    ("pattern", "covered", "others"),
    [
        ("books", ["books"], ["book", "books2", "*"]),
        ("sales_*", ["sales_", "sales_eu"], ["sale", "resales_eu", "*"]),
        ("*_eu", ["sales_eu", "_eu"], ["sales", "*"]),
        ("*", ["books", "*"], []),
        ("**", ["books"], ["*"]),
    ],
)
def test_a_grant_is_about_a_name_or_a_pattern(pattern: str, covered: list[str], others: list[str]) -> None:
    given = Grant(collection=pattern, actions=("search",))

    assert all(given.gives("search", name) for name in covered)
    assert not any(given.covers(name) for name in others)
    assert not given.gives("read", covered[0])
    assert Grant(collection=pattern, actions=("admin",)).gives("read", covered[0])


def test_grants_add_up_and_are_withdrawn(table: ControlTable) -> None:
    grant(table, "reader", "books", ["search"])
    grant(table, "reader", "books", ["read", "search"])
    grant(table, "reader", "a*", ["monitor"])

    assert grant(table, "reader", "books", ["search"]) == (
        Grant(collection="a*", actions=("monitor",)),
        Grant(collection="books", actions=("search", "read")),
    )
    assert withdraw(table, "reader", "a*") == (Grant(collection="books", actions=("search", "read")),)
    assert withdraw(table, "reader") == ()
    with pytest.raises(ControlError, match="role 'reader' has no grant; `grebe roles list`"):
        withdraw(table, "reader")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: revoke_key(table, "nobody"), "there is no key with the id 'nobody'"),
        (lambda table: key_of(table, roles=["no spaces"]), r"roles\.0: use a letter or digit, then up to 127"),
        (lambda table: grant(table, "-x", "books", ["search"]), "roles.-x: use a letter or digit"),
        (lambda table: grant(table, "x", "Sales", ["search"]), r"collection: use a collection's name, or a pattern"),
        (lambda table: grant(table, "x", "[a-z]", ["search"]), r"collection: use a collection's name, or a pattern"),
        (lambda table: grant(table, "x", "book?", ["search"]), r"collection: use a collection's name, or a pattern"),
        (lambda table: key_of(table, claims={"x": float("nan")}), r"claims\.x"),
        (lambda table: key_of(table, claims={"x": [1.0, float("inf")]}), r"claims\.x"),
        (lambda table: key_of(table, claims={"x": [1, True]}), r"claims\.x"),
        (
            lambda table: key_of(table, claims={"x": "\ud800"}),
            "the change cannot be written as it is; nothing was changed",
        ),
        (lambda table: withdraw(table, "x", "books"), "role 'x' has no grant"),
    ],
)
def test_a_wrong_change_is_refused_and_changes_nothing(table: ControlTable, change: Any, message: str) -> None:
    with pytest.raises(ControlError, match=message):
        change(table)

    assert table.read() is None


@pytest.mark.parametrize("value", [True, 1, 1.5, "1", [True, False], [1, 2], [1.5], ["a", "b"], []])
def test_a_claim_keeps_its_type(table: ControlTable, store: Store, value: Any) -> None:
    _, id_ = key_of(table, claims={"x": value})

    control = ControlTable(store).read()
    assert control is not None
    kept: Any = control.keys[id_].claims["x"]
    assert (kept, type(kept)) == (value, type(value))
    if isinstance(value, list):
        assert list(map(type, kept)) == list(map(type, value))


def test_changes_whose_predecessors_were_deleted_are_found(
    table: ControlTable, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, id_ = key_of(table)
    reader = ControlTable(store)
    assert reader.read() == table.read()
    grant(table, "reader", "books", ["search"])
    revoke_key(table, id_)
    store.delete([f"{FOLDER}/{number:020d}.json" for number in (1, 2)])

    new, control = ControlTable(store).read(), table.read()
    assert new == control
    monkeypatch.setattr("api.identity.control.RELIST_SECONDS", 0.0)
    assert reader.read() == control
    assert grant(table, "reader", "papers", ["search"])
    assert (table.read() or Control()).version == 4


def test_a_copy_of_an_older_version_is_none(table: ControlTable, store: Store) -> None:
    _, id_ = key_of(table)
    revoke_key(table, id_)
    store.put(f"{FOLDER}/{3:020d}.json", store.get(f"{FOLDER}/{1:020d}.json"))

    for reader in (table, ControlTable(store)):
        with pytest.raises(ControlError, match=r"00003\.json .*is a copy of version 1"):
            reader.read()


def test_keys_that_are_over_leave_the_list_after_a_while_and_there_are_only_so_many(
    table: ControlTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, over = key_of(table)
    revoked_at = revoke_key(table, over).revoked_at
    assert revoke_key(table, over).revoked_at == revoked_at
    _, stays = key_of(table)
    assert (table.read() or Control()).keys.keys() == {over, stays}

    monkeypatch.setattr("api.identity.administration.KEPT_AFTER", timedelta(0))
    _, new = key_of(table)

    assert (table.read() or Control()).keys.keys() == {stays, new}
    monkeypatch.setattr("api.identity.administration.MAX_KEYS", 2)
    with pytest.raises(ControlError, match="there are 2 keys, and no more may be"):
        key_of(table)
