"""Syncs with a Spark session of their own: what ``grebe sync``, the jobs, the evaluation and the demo run.

Each holds its collection's lease while it runs, so that of two syncs of one collection the second waits or stops.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from connectors.errors import ChangesUnavailable, SessionFailed
from connectors.hadoop import hadoop_cloud
from connectors.session import is_alive, spark_session
from indexer.cache import of_collection
from indexer.catalog import Catalog, CatalogState, SyncFailure
from indexer.errors import CollectionBusy, CollectionHeld, IndexerError
from indexer.format.store import Store
from indexer.hold import approval, require_free
from indexer.lease import OnBusy, leased, require_idle
from indexer.rollback import require_rolled_back
from indexer.spec import CollectionSpec
from indexer.sync import ONCE, SyncOptions, SyncReport, sync
from indexer.verify import Verification, verify
from jobs.following import AWAKE_SECONDS, Outcome, followed
from jobs.output import is_ours, note, sentence
from jobs.sources import open_source, require_change_feed

SPARK_ENDED = (
    "Spark's JVM ended during the sync (was it killed, or out of memory?); what was committed stays, and the same "
    "command goes on from there"
)
FAILURE_CHARS = 1_000
"""Of an error's sentence, so much is kept for `grebe status`."""


def run_sync(
    store: Store, name: str, *, cache: Path, options: SyncOptions = ONCE, on_busy: OnBusy = "stop"
) -> SyncReport:
    """Bring the collection ``name`` to its table's newest version.

    Raises what :func:`indexer.lease.leased` and :func:`indexer.sync.sync` raise.
    """
    spark = _session(f"grebe sync {name}", [_spec_to_sync(store, name, options, idle=on_busy == "stop")])
    return _sync(spark, store, name, cache, options, on_busy)


def run_syncs(
    store: Store,
    names: Sequence[str],
    *,
    cache: Path,
    continuous: bool,
    options_of: Callable[[str], SyncOptions],
    on_busy: OnBusy = "stop",
    waiting: Callable[[str], None] = lambda sentence: None,
    retrying: Callable[[Outcome, float], None] = lambda outcome, seconds: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Sync the collections ``names`` in one session and return what became of each, in that order.

    One that fails stops no other. They are synced one after another, those that have to be loaded or built anew after
    the others, whose few changes need not wait for them, and those that another process is syncing last; or, if
    ``continuous``, side by side, and then one that fails is tried again until it is stopped. ``options_of`` gives a
    collection's options, ``waiting`` is told whose end is waited for, ``retrying`` hears what failed and in how many
    seconds it is tried again, and ``ended`` hears of each collection when it has ended; from any thread.

    Raises what :func:`connectors.session.spark_session` raises; whatever befalls a single collection is in its outcome.
    """
    outcomes: dict[str, Outcome] = {}

    def end(outcome: Outcome) -> None:
        outcomes[outcome.name] = outcome
        ended(outcome)

    specs: dict[str, CollectionSpec] = {}
    at_once = on_busy == "stop" and len(names) == 1  # of several, one that is busy now may be free at its turn
    for name in names:
        try:
            specs[name] = _spec_to_sync(store, name, options_of(name), idle=at_once)
        except ChangesUnavailable as error:
            _leave_word(store, name, error)
            end(Outcome(name=name, error=error))
        except IndexerError as error:
            end(Outcome(name=name, error=error))
    if specs:
        try:
            spark = _session(f"grebe sync {' '.join(specs)}", specs.values())
        except Exception as error:
            for name in specs:
                _leave_word(store, name, error)
            raise
        attempt = partial(_attempt, spark, store, cache, waiting)
        if continuous:
            with ThreadPoolExecutor(len(specs), thread_name_prefix="grebe-sync") as pool:
                follow = partial(followed, store, attempt, on_busy, partial(is_alive, spark), retrying)
                following = [pool.submit(lambda name: end(follow(name, options_of(name))), name) for name in specs]
                # The system may hand a signal to any thread; Python answers it in this one, and only while it is awake.
                while wait(following, AWAKE_SECONDS).not_done:
                    pass
            for future in following:
                future.result()
        else:
            quick_first = sorted(specs, key=lambda name: _to_load(store, name) is not None)
            _one_after_another(quick_first, lambda name, busy: attempt(name, busy, options_of(name)), on_busy, end)
    return [outcomes[name] for name in names]


def run_verify(store: Store, name: str, *, cache: Path) -> Verification:
    """Compare the collection ``name`` with its table; see :func:`indexer.verify.verify`."""
    catalog = Catalog.open(store, name)
    spec = catalog.read().spec
    spark = _session(f"grebe verify {name}", [spec])
    note(f"Comparing {name} with {spec.source.table} ...")
    return verify(open_source(spark, spec), catalog, of_collection(cache / "sync", catalog.store))


def _to_load(store: Store, name: str, postponed: CollectionSpec | None = None) -> CatalogState | None:
    """Return the state of a collection of which a sync reads the whole table: it is not loaded, or a rebuild waits.

    That of a spec that is ``postponed`` goes on waiting.
    """
    with suppress(IndexerError):  # the sync itself says what is wrong
        state = Catalog.open(store, name).read()
        if state.position is None or state.pending not in (None, postponed):
            return state
    return None


def _one_after_another(
    names: Iterable[str], attempt: Callable[[str, OnBusy], Outcome], on_busy: OnBusy, end: Callable[[Outcome], None]
) -> None:
    busy = []
    for name in names:
        outcome = attempt(name, "stop")
        if on_busy == "wait" and isinstance(outcome.error, CollectionBusy):
            busy.append(name)
        else:
            end(outcome)
    for name in busy:
        end(attempt(name, "wait"))


def _attempt(
    spark: SparkSession,
    store: Store,
    cache: Path,
    waiting: Callable[[str], None],
    name: str,
    on_busy: OnBusy,
    options: SyncOptions,
) -> Outcome:
    try:
        if state := _to_load(store, name, options.postponed):  # which takes long before there is anything to count
            note(f"Loading {name} from {(state.pending or state.spec).source.table} ...")
        return Outcome(name=name, report=_sync(spark, store, name, cache, options, on_busy, waiting))
    except Exception as error:  # whatever it is, the other collections go on
        told = error if is_alive(spark) else SessionFailed(SPARK_ENDED)
        _leave_word(store, name, told)
        return Outcome(name=name, error=told)


def _leave_word(store: Store, name: str, error: Exception) -> None:
    """Let `grebe status` say how a sync failed that nobody watched; the catalog says itself what is held.

    Of an error that is not ours only the kind is kept: its message may quote a row.
    """
    if isinstance(error, CollectionBusy | CollectionHeld):
        return
    said = sentence(error).removeprefix(f"{name}: ") if is_ours(error) else f"unexpected {type(error).__name__}"
    with suppress(IndexerError):  # a store that is away, a collection that was dropped: the error itself is told
        catalog = Catalog.open(store, name)
        position = catalog.read().position
        catalog.write_failure(SyncFailure(at=datetime.now(UTC), position=position, error=said[:FAILURE_CHARS]))


def _sync(
    spark: SparkSession,
    store: Store,
    name: str,
    cache: Path,
    options: SyncOptions,
    on_busy: OnBusy,
    waiting: Callable[[str], None] = lambda sentence: None,
) -> SyncReport:
    with leased(store.child(name), name, on_busy, waiting=waiting, stop=options.stop):
        # The cache is apart from the readers', which evicts what no reader holds.
        return sync(store, name, lambda spec: open_source(spark, spec), cache=cache / "sync", options=options)


def _spec_to_sync(store: Store, name: str, options: SyncOptions, *, idle: bool) -> CollectionSpec:
    """Return the spec that the next sync goes by; what it would refuse anyway is refused before Spark starts.

    That no other process is syncing the collection is asked for if it must be ``idle``.
    """
    state = Catalog.open(store, name).read()
    if options.release:
        require_rolled_back(state)
    elif not options.continuous:  # which waits for the hold's end
        require_free(state)
    approval(state, options.approve)
    if idle:
        require_idle(store.child(name), name)
    spec = state.pending or state.spec
    try:
        require_change_feed(spec)
    except ChangesUnavailable as error:
        if not options.continuous:
            raise
        note(f"{name} waits: {error}")  # its sync is tried again until the feed is on
    return spec


def _session(app_name: str, specs: Iterable[CollectionSpec]) -> SparkSession:
    # PySpark would log the errors that it raises, so that they were told twice, once with the whole plan.
    PySparkLogger.getLogger("DataFrameQueryContextLogger").setLevel(logging.CRITICAL)
    logging.getLogger("py4j").setLevel(logging.CRITICAL)  # stack after stack when the JVM ends
    if SparkSession.getActiveSession() is None:
        note("Starting Spark ...")
    clouds = {cloud for spec in specs if spec.source.kind == "delta" and (cloud := hadoop_cloud(spec.source.table))}
    return spark_session(app_name, clouds=clouds)
