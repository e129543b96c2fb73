"""One session's transactions: what it writes gets the time of its commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.snowflake.emulator.definition import Definer
from tests.snowflake.emulator.engine import Engine
from tests.snowflake.emulator.failure import unsupported
from tests.snowflake.emulator.table import Table


class Transactions:
    """At most one transaction at a time; without one, each statement is its own.

    DuckDB's begins with the first write, so that what was read before is the newest committed, as READ COMMITTED has it
    (Snowflake docs, user guide, "Transactions"). Two things differ and are refused or to be known: from its first write
    on a transaction sees one state only, and none can go on after a statement failed in it while running.
    """

    def __init__(self, engine: Engine, duck: Any) -> None:
        self._engine = engine
        self._duck = duck
        self.autocommit = True
        self._open = False
        self._number: int | None = None
        self._touched: list[Table] = []
        self._broken = False

    def begin(self) -> None:
        """BEGIN; in an open transaction it changes nothing."""
        self._open = True

    def commit(self) -> None:
        """COMMIT: from one moment on others see all that was written."""
        self.require_sound()
        number, touched = self._number, self._touched
        self._forget()
        if number is None:
            return
        us = self._engine.clock.commit_us()
        for commits in {table.commits for table in touched}:
            self._duck.execute(f"INSERT INTO {commits} VALUES ({number}, {us})")
        if self._engine.commit_delay_s:
            # the moment is chosen, but others see the rows only later: a late commit
            self._engine.lock.wait(self._engine.commit_delay_s)
        self._duck.commit()
        for table in touched:
            table.changed_us = max(table.changed_us, us)

    def rollback(self) -> None:
        """ROLLBACK."""
        begun = self._number is not None
        self._forget()
        if begun:
            self._duck.rollback()

    @contextmanager
    def writing(self, table: Table) -> Iterator[int]:
        """Give the number under which a statement writes to a table."""
        if not self.autocommit:
            self._open = True
        alone = not self._open
        if self._number is None:
            self._duck.begin()
            self._number = self._engine.transaction()
        self._touched.append(table)
        try:
            yield self._number
        except BaseException:
            self._broken = not alone
            if alone:
                self.rollback()
            raise
        if alone:
            self.commit()

    def define(self, act: Callable[[Definer, int], object]) -> None:
        """Run a definition in a transaction of its own, after committing what is open.

        Snowflake docs, user guide, "Transactions": DDL statements autocommit. A failure leaves the catalog as it was.
        """
        self.commit()
        before = dict(self._engine.catalog.tables)
        self._duck.begin()
        try:
            us, number = self._engine.clock.commit_us(), self._engine.transaction()
            act(Definer(self._duck, self._engine.catalog, us), number)
            self._duck.commit()
        except BaseException:
            self._duck.rollback()
            self._engine.catalog.tables = before
            raise

    def require_sound(self) -> None:
        """Raise when a statement failed in the open transaction: DuckDB has given it up, Snowflake would not have."""
        if self._broken:
            raise unsupported("going on in a transaction after a statement failed in it; ROLLBACK")

    def _forget(self) -> None:
        self._open, self._number, self._touched, self._broken = False, None, [], False
