"""CHANGES and time travel against a naive model: every state kept whole, each row with an identity of its own."""

from __future__ import annotations

import itertools
import random
from datetime import datetime

import pytest

from tests.snowflake.rules import Account, changes, now, sql

Row = tuple[int, str]
State = dict[int, Row]
Delta = list[tuple[int, str, str, bool]]

STEPS = 12


class Model:
    """The rows of t by identity, changed as the statements change them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.state: State = {}
        self._identities = itertools.count()

    def step(self) -> str:
        """Change the rows in one random way and return the statement that does the same."""
        kinds = [self._insert, self._insert, self._update, self._delete, self._merge, self._truncate, self._overwrite]
        return self.random.choices(kinds, weights=[4, 4, 5, 3, 3, 1, 1])[0]()

    def _key(self) -> int:
        return self.random.randrange(4)

    def _name(self) -> str:
        return self.random.choice("ab")

    def _insert(self) -> str:
        key, name = self._key(), self._name()
        self.state = self.state | {next(self._identities): (key, name)}
        return f"INSERT INTO t VALUES ({key}, '{name}')"

    def _update(self) -> str:
        old, new, name = self._key(), self._key(), self._name()
        self.state = {i: (new, name) if row[0] == old else row for i, row in self.state.items()}
        return f"UPDATE t SET id = {new}, name = '{name}' WHERE id = {old}"

    def _delete(self) -> str:
        key = self._key()
        self.state = {i: row for i, row in self.state.items() if row[0] != key}
        return f"DELETE FROM t WHERE id = {key}"

    def _merge(self) -> str:
        """Key k gets a new name or comes in with it, key k + 1 goes."""
        key, name = self._key(), self._name()
        found = any(row[0] == key for row in self.state.values())
        kept = {i: row for i, row in self.state.items() if row[0] != key + 1}
        self.state = {i: (key, name) if row[0] == key else row for i, row in kept.items()}
        if not found:
            self.state[next(self._identities)] = (key, name)
        return f"""
            MERGE INTO t
            USING (SELECT * FROM VALUES ({key}, '{name}', FALSE), ({key + 1}, '', TRUE) AS v (id, name, gone)) s
            ON t.id = s.id
            WHEN MATCHED AND s.gone THEN DELETE
            WHEN MATCHED THEN UPDATE SET name = s.name
            WHEN NOT MATCHED AND NOT s.gone THEN INSERT (id, name) VALUES (s.id, s.name)"""

    def _truncate(self) -> str:
        self.state = {}
        return "TRUNCATE TABLE t"

    def _overwrite(self) -> str:
        key, name = self._key(), self._name()
        self.state = {next(self._identities): (key, name)}
        return f"INSERT OVERWRITE INTO t SELECT {key}, '{name}'"


def delta(before: State, after: State) -> Delta:
    """Return the net changes between two states, as CHANGES gives them."""
    moved = {i for i in before.keys() | after.keys() if before.get(i) != after.get(i)}
    deleted: Delta = [(*before[i], "DELETE", i in after) for i in moved if i in before]
    inserted: Delta = [(*after[i], "INSERT", i in before) for i in moved if i in after]
    return sorted(deleted + inserted, key=repr)


@pytest.mark.parametrize("seed", range(4))
def test_any_two_moments_differ_by_their_delta(account: Account, seed: int) -> None:
    model = Model(seed)
    account.execute("CREATE TABLE t (id INT, name VARCHAR) CHANGE_TRACKING = TRUE")
    moments: list[tuple[datetime, State]] = [(now(account), {})]
    for _ in range(STEPS):
        in_one = model.random.randrange(3)
        if in_one:
            account.execute("BEGIN")
        for _ in range(1 + in_one):
            account.execute(model.step())
        if in_one:
            account.execute("COMMIT")
        moments.append((now(account), model.state))

    for moment, state in moments:
        assert sorted(account.execute(f"SELECT * FROM t AT(TIMESTAMP => {sql(moment)})")) == sorted(state.values())
    for (after, before), (until, then) in itertools.combinations(moments, 2):
        assert changes(account, after, until) == delta(before, then)
