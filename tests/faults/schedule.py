"""A seeded schedule: a table changes, and its collection is synced, merged, rolled back and vacuumed, with faults.

After every step the rows that a new replica serves are those that the table had at the version which the catalog says,
and after a sync that succeeds those that it has now. What differs is named as lost, doubled, resurrected or stale.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.contract import ChangeBatch, Head, Position
from connectors.errors import HistoryExpired, SourceError
from indexer.apply import apply
from indexer.catalog import Catalog
from indexer.compact import purge
from indexer.errors import CollectionHeld, IndexerError
from indexer.format.store import Store
from indexer.merge import merge_once
from indexer.publish import publish
from indexer.rollback import release, rollback
from indexer.spec import CollectionSpec
from indexer.sync import SyncOptions, sync
from indexer.vacuum import LONGEST_JOB, vacuum
from indexer.versions import list_versions
from tests.faults.feed import Changes, Feed, Row, Table
from tests.faults.points import CALLS, Crash, Point, crash
from tests.served import Rows, served_rows

BODIES = ["", "alpha", "beta gamma", "delta " * 40, "Ünïcode 🦆", None]
MOST_KEYS = 40
NOW = timedelta(0)


class Schedule:
    """One seed's table, collection and steps; ``story`` are the steps so far."""

    def __init__(
        self,
        seed: int,
        table: Table,
        store: Store,
        spec: CollectionSpec,
        folder: Path,
        patch: pytest.MonkeyPatch,
        *,
        most_commits: int = 3,
    ) -> None:
        self.random = random.Random(seed)
        self.seed, self.table, self.store, self.name, self.patch = seed, table, store, spec.name, patch
        self.most_commits = most_commits
        self.cache, self.rival_cache = folder / "cache", folder / "rival"
        self.feed = Feed(table)
        self.rows: dict[int, Row] = {}
        self.past: list[tuple[str, int, dict[int, Row]]] = []
        self.gone: set[int] = set()
        self.story: list[str] = []
        apply(store, spec)
        self._remember()

    def run(self, steps: int) -> None:
        """Take so many steps, then sync until all is well."""
        kinds: dict[Callable[[], None], int] = {
            self.change: 8,
            self.sync: 5,
            self.disturbed_sync: 8,
            self.disturbed_merge: 3,
            self.compare: 1,
            self.rebuild: 2,
            self.merge: 2,
            self.roll_back: 2,
            self.vacuum: 2,
            self.lose_history: 1,
            self.recreate: 1,
        }
        for _ in range(steps):
            (step,) = self.random.choices(list(kinds), list(kinds.values()))
            step()
            self.check()
        self.settle()

    def change(self) -> None:
        """Commit to the table, once or several times."""
        for _ in range(self.random.randint(1, self.most_commits)):
            self._commit(*self._changes())

    def sync(self) -> None:
        """Sync undisturbed: it succeeds, but for a hold, which is released."""
        self._stutter()
        held = self.catalog.read().held
        self._note("sync", "released" if held else "")
        self._synced(release=held is not None)

    def compare(self) -> None:
        """Compare the whole table."""
        if not self.catalog.read().held:
            self._note("sync, comparing")
            self._synced(compare=True)

    def rebuild(self) -> None:
        """Ask for another index, in perhaps other shards; a sync will build it."""
        state = self.catalog.read()
        spec = (state.pending or state.spec).model_copy(update={"shards": self.random.randint(1, 3)})
        self._note("apply with a rebuild", f"{spec.shards} shards")
        apply(self.store, spec, rebuild=True)

    def disturbed_sync(self) -> None:
        """Change the table, sync, and die half-way or have another writer come between: it may fail, and says so."""
        self.change()
        rivals: dict[Callable[[], object], int] = {
            crash: 6,
            self.change: 2,
            self._rival_sync: 3,
            self._rival_merge: 3,
            self._rival_rollback: 2,
            self._rival_vacuum: 2,
            self.lose_history: 1,
        }
        self._stutter()
        self._disturb("sync", self._sync, rivals)

    def disturbed_merge(self) -> None:
        """Change the table, and merge while another writer syncs, or die."""
        self.change()
        rivals: dict[Callable[[], object], int] = {
            crash: 1,
            self._rival_sync: 1,
            self._rival_batches: 4,
            self._rival_rollback: 1,
            self._rival_vacuum: 1,
        }
        self._disturb("merge", self._merge, rivals)

    def merge(self) -> None:
        """Merge, or write out what is deleted."""
        self._attempt(self._merge)

    def roll_back(self) -> None:
        """Put an older version back; it is released at once or by a later sync."""
        self._rival_rollback()

    def vacuum(self) -> None:
        """Delete everything but the newest version, with the litter of those that died."""
        self._note("vacuum")
        vacuum(self.catalog, retain=NOW, longest_job=self.random.choice([NOW, LONGEST_JOB]))

    def lose_history(self) -> None:
        """Make that no changes lead on from where the table is now."""
        self._note("history is lost")
        self.table.lose_history()
        self._remember()

    def recreate(self) -> None:
        """Drop the table and make it anew with some rows."""
        self._note("the table is made anew")
        self.table.recreate()
        self.gone |= self.rows.keys()
        self.rows = {}
        self._remember()
        self._commit("refill", self._some(3))

    def settle(self) -> None:
        """Sync at the end."""
        self._note("at the end")
        self.sync()
        self.check()

    def check(self) -> None:
        """Compare what a new replica serves with what the table had at the version that the catalog says."""
        state = self.catalog.read()
        try:
            served, version = served_rows(self.store, self.name)
        except AssertionError as error:
            raise AssertionError(self._told(str(error))) from error
        place = (state.position.epoch, state.position.version) if state.position else None
        expected = self._rows_at(*place) if place else {}
        wrong = differences(served, expected, self.gone)
        if version != (place and place[1]):
            wrong.append(f"version {version} is served, the catalog is at {place}")
        if state.live_rows != len(expected) and place:
            wrong.append(f"the catalog counts {state.live_rows} rows of {len(expected)}")
        assert not wrong, self._told("; ".join(wrong))

    @property
    def catalog(self) -> Catalog:
        """Open the catalog as another process would."""
        return Catalog.open(self.store, self.name)

    def _sync(self, *, release: bool = False, compare: bool = False, rival: bool = False) -> None:
        cache = self.rival_cache if rival else self.cache
        options = SyncOptions(release=release, compare=compare)
        sync(self.store, self.name, lambda _: self.feed, cache=cache, options=options)

    def _synced(self, *, release: bool = False, compare: bool = False) -> None:
        """Sync; it must succeed and be at the table's head.

        What was interrupted may have been reading a version that the table no longer keeps: then the second one must.
        """
        failed = self._attempt(lambda: self._sync(release=release, compare=compare))
        if isinstance(failed, HistoryExpired) and "sync again" in str(failed):
            failed = self._attempt(lambda: self._sync(compare=compare))
        assert failed is None, self._told("an undisturbed sync failed")
        position, head = self.catalog.read().position, self._head().position
        assert position is not None
        assert (position.epoch, position.version) == (head.epoch, head.version), self._told(f"left at {position}")

    def _rival_sync(self) -> None:
        self._note("  another sync")
        self._attempt(lambda: self._sync(rival=True, release=self.catalog.read().held is not None))

    def _rival_batches(self) -> None:
        """What a sync does before it merges: that would take the merge away which is being disturbed."""
        state = self.catalog.read()
        if state.held or state.position is None:
            return
        start = Position(state.position.epoch, state.position.version)
        self._note("  another sync's batches")
        self._attempt(lambda: self.feed.stream(start, self._publish, continuous=False))

    def _publish(self, batch: ChangeBatch) -> None:
        publish(batch, self.feed, self.catalog, self.catalog.read(), self.rival_cache)

    def _rival_merge(self) -> None:
        self._attempt(self._merge)

    def _merge(self) -> None:
        job: Callable[[Catalog, Path], object] = purge if self.random.random() < 0.5 else merge_once
        self._note(job.__name__)
        job(self.catalog, self.rival_cache)

    def _disturb(self, what: str, job: Callable[[], None], rivals: Mapping[Callable[[], object], int]) -> None:
        """Run ``job`` with one of ``rivals``, by their weights, at some point of it, which may not be reached."""
        (rival,) = self.random.choices(list(rivals), list(rivals.values()))
        when = self.random.choice(["before", "after"])
        (call,) = self.random.choices(list(CALLS), [4 if call == "commit" else 1 for call in CALLS])
        (number,) = self.random.choices([1, 2, 3, 4], [4, 3, 2, 1])
        point = Point(f"{when}:{call}:{number}", rival)
        self._note(what, f"{rival.__name__.strip('_')} at {point.name}")
        with self.patch.context() as patch:
            point.install(patch)
            try:
                failed = self._attempt(job)
            except Crash:
                self._note("  died")
                self.cache = self.cache.with_name(f"{self.cache.name}+")  # another process, perhaps another machine
                return
        allowed = point.reached or isinstance(failed, (CollectionHeld, HistoryExpired))
        assert failed is None or allowed, self._told(f"a {what} failed undisturbed")

    def _rival_rollback(self) -> None:
        version = self.random.choice(list_versions(self.catalog).versions)
        self._note(f"rollback to {version}")
        if not self._attempt(lambda: rollback(self.catalog, version)) and self.random.random() < 0.7:
            self._note("release")
            release(self.catalog)

    def _rival_vacuum(self) -> None:
        """A sync is running: its uploads must stay."""
        self._note("  vacuum")
        vacuum(self.catalog, retain=NOW)

    def _attempt(self, job: Callable[[], object]) -> Exception | None:
        """Run ``job``, which may be refused in a sentence; return what it raised then."""
        try:
            job()
        except (IndexerError, SourceError) as error:
            self._note(f"  {type(error).__name__}", str(error))
            return error
        return None

    def _stutter(self) -> None:
        """Let the feed of the next sync come in pieces, twice or again."""
        chance = self.random.random
        cuts = chance() < 0.5
        self.feed.doubled, self.feed.replayed = chance() < 0.2, chance() < 0.2
        self.feed.cuts = lambda start, end: [v for v in range(start + 1, end) if cuts and chance() < 0.6]

    def _commit(self, kind: str, changes: Changes) -> None:
        self._note(kind, f"{ {key: row and (row['body'] or '')[:8] for key, row in changes.items()} }")
        self.table.change(self.rows, changes)
        self.gone |= self.rows.keys()
        rows = {**self.rows, **changes}
        self.rows = {key: row for key, row in rows.items() if row is not None}
        self._remember()

    def _changes(self) -> tuple[str, Changes]:
        """Choose what a commit does."""
        here = self.random.sample(sorted(self.rows), min(len(self.rows), self.random.randint(1, 5)))
        one = here[0] if here else 0
        kinds: list[tuple[str, Changes]] = [
            ("insert", self._some(self.random.randint(1, 6))),
            (
                "insert again what was deleted",
                {key: self._row(key) for key in sorted(self.gone - self.rows.keys())[:4]},
            ),
            ("nothing", {}),
        ]
        if here:
            kinds += [
                ("update", {key: self._row(key) for key in here}),
                ("update to the same", {key: self.rows[key] for key in here}),
                ("move", {one: None, one + MOST_KEYS: {**self.rows[one], "id": one + MOST_KEYS}}),
                ("move into another's place", {one: None, here[-1]: {**self.rows[one], "id": here[-1]}}),
                ("delete", dict.fromkeys(here)),
                ("delete some, insert some", {**dict.fromkeys(here), **self._some(2)}),
                ("truncate and refill", {**dict.fromkeys(self.rows), **self._some(4)}),
                ("truncate", dict.fromkeys(self.rows)),
            ]
        return self.random.choice(kinds)

    def _some(self, count: int) -> Changes:
        return {key: self._row(key) for key in self.random.sample(range(MOST_KEYS), count)}

    def _row(self, key: int) -> Row:
        return {"id": key, "body": self.random.choice(BODIES), "n": self.random.randint(0, 3)}

    def _head(self) -> Head:
        return self.feed.head()

    def _remember(self) -> None:
        head = self._head()
        self.past.append((head.position.epoch, head.position.version, dict(self.rows)))

    def _rows_at(self, epoch: str, version: int) -> dict[int, Row]:
        """The table's rows at a version; one that has none of its own changed nothing."""
        return next(rows for e, v, rows in reversed(self.past) if e == epoch and v <= version)

    def _note(self, step: str, more: str = "") -> None:
        self.story.append(f"{step}: {more}" if more else step)

    def _told(self, what: str) -> str:
        steps = "\n".join(f"  {number:3} {step}" for number, step in enumerate(self.story, start=1))
        return f"seed {self.seed}: {what}, after\n{steps}"


def differences(served: Rows, expected: Rows, gone: set[int]) -> list[str]:
    """Say what is wrong with ``served``; ``gone`` are the keys that the table had at some time."""
    stale = [key for key in served.keys() & expected.keys() if served[key] != expected[key]]
    extra = served.keys() - expected.keys()
    kinds = {
        "lost": expected.keys() - served.keys(),
        "resurrected": extra & gone,
        "invented": extra - gone,
        "stale": stale,
    }
    return [f"{kind} {sorted(keys)}" for kind, keys in kinds.items() if keys]
