"""Syncs with a Spark session of their own: what ``grebe sync``, the jobs, the evaluation and the demo run.

Each holds its collection's lease while it runs, so that of two syncs of one collection the second waits or stops.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from connectors.session import is_s3, spark_session
from indexer.catalog import Catalog
from indexer.errors import CollectionBusy, IndexerError
from indexer.format.store import Store
from indexer.hold import approval, require_free
from indexer.lease import OnBusy, leased
from indexer.rollback import require_rolled_back
from indexer.spec import CollectionSpec
from indexer.sync import ONCE, SyncOptions, SyncReport, sync
from indexer.verify import Verification, verify
from jobs.output import note
from jobs.sources import open_source

AWAKE_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one collection of a job: the report of its sync, or else the error that ended it."""

    name: str
    report: SyncReport | None = None
    error: Exception | None = None


def run_sync(
    store: Store, name: str, *, cache: Path, options: SyncOptions = ONCE, on_busy: OnBusy = "stop"
) -> SyncReport:
    """Bring the collection ``name`` to its table's newest version.

    Raises what :func:`indexer.lease.leased` and :func:`indexer.sync.sync` raise.
    """
    spark = _session(f"grebe sync {name}", [_spec_to_sync(store, name, options)])
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
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Sync the collections ``names`` in one session and return what became of each, in that order.

    One that fails stops no other. They are synced one after another, those that another process is syncing last, or,
    if ``continuous``, side by side. ``options_of`` gives a collection's options, ``waiting`` is told whose end is
    waited for, and ``ended`` hears of each collection when it has ended, from any thread.

    Raises what :func:`connectors.session.spark_session` raises; whatever befalls a single collection is in its outcome.
    """
    outcomes: dict[str, Outcome] = {}

    def end(outcome: Outcome) -> None:
        outcomes[outcome.name] = outcome
        ended(outcome)

    specs: dict[str, CollectionSpec] = {}
    for name in names:
        try:
            specs[name] = _spec_to_sync(store, name, options_of(name))
        except IndexerError as error:
            end(Outcome(name=name, error=error))
    if specs:
        spark = _session(f"grebe sync {' '.join(specs)}", specs.values())
        attempt = partial(_attempt, spark, store, cache, options_of, waiting)
        if continuous:
            with ThreadPoolExecutor(len(specs), thread_name_prefix="grebe-sync") as pool:
                following = [pool.submit(lambda name: end(attempt(on_busy, name)), name) for name in specs]
                # The system may hand a signal to any thread; Python answers it in this one, and only while it is awake.
                while wait(following, AWAKE_SECONDS).not_done:
                    pass
            for future in following:
                future.result()
        else:
            _one_after_another(specs, attempt, on_busy, end)
    return [outcomes[name] for name in names]


def run_verify(store: Store, name: str, *, cache: Path) -> Verification:
    """Compare the collection ``name`` with its table; see :func:`indexer.verify.verify`."""
    catalog = Catalog.open(store, name)
    spec = catalog.read().spec
    spark = _session(f"grebe verify {name}", [spec])
    note(f"Comparing {name} with {spec.source.table} ...")
    return verify(open_source(spark, spec), catalog, cache / "sync")


def _one_after_another(
    names: Iterable[str], attempt: Callable[[OnBusy, str], Outcome], on_busy: OnBusy, end: Callable[[Outcome], None]
) -> None:
    busy = []
    for name in names:
        outcome = attempt("stop", name)
        if on_busy == "wait" and isinstance(outcome.error, CollectionBusy):
            busy.append(name)
        else:
            end(outcome)
    for name in busy:
        end(attempt("wait", name))


def _attempt(
    spark: SparkSession,
    store: Store,
    cache: Path,
    options_of: Callable[[str], SyncOptions],
    waiting: Callable[[str], None],
    on_busy: OnBusy,
    name: str,
) -> Outcome:
    try:
        return Outcome(name=name, report=_sync(spark, store, name, cache, options_of(name), on_busy, waiting))
    except Exception as error:  # whatever it is, the other collections go on
        return Outcome(name=name, error=error)


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


def _spec_to_sync(store: Store, name: str, options: SyncOptions) -> CollectionSpec:
    """Return the spec that the next sync goes by; what it would refuse by the catalog alone is refused before Spark."""
    state = Catalog.open(store, name).read()
    if options.release:
        require_rolled_back(state)
    else:
        require_free(state)
    approval(state, options.approve)
    return state.pending or state.spec


def _session(app_name: str, specs: Iterable[CollectionSpec]) -> SparkSession:
    # PySpark would log the errors that it raises, so that they were told twice, once with the whole plan.
    PySparkLogger.getLogger("DataFrameQueryContextLogger").setLevel(logging.CRITICAL)
    if SparkSession.getActiveSession() is None:
        note("Starting Spark ...")
    return spark_session(app_name, s3=any(is_s3(spec.source.table) for spec in specs))
