"""Everything that one server holds: its settings, collections, models, search threads, metrics and log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from fastapi import Request
from starlette.requests import HTTPConnection

from api.answers import status_answer
from api.audit.log import AuditLog
from api.auditing import Auditor, Facts
from api.cluster.nodes import HttpNodes
from api.collections import Collections, no_collection
from api.embedders import Embedders
from api.errors import AuditBusy, AuditUnreadable, PoolFull, SettingsError
from api.identity.access import Access
from api.identity.control import Action
from api.identity.identity import Identity
from api.identity.keys import credentials_named
from api.logs import Logger, open_log
from api.metrics import Metrics
from api.models.answers import StatusAnswer
from api.opening import HereOpener, Opener, RoutedOpener
from api.operation import operation_of
from api.pool import WorkPool
from api.quotas import Quotas
from api.rerankers import Rerankers
from api.settings import ServeSettings
from api.watcher import Watcher, Watching
from indexer.ann.device import find_gpu, first_line
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from retrieval.cache import LocalCache
from retrieval.gpu import GpuSearch
from retrieval.helpers import Helpers
from retrieval.snapshot import Snapshot
from retrieval.version import OpenVersion


class Service:
    """Built with the application; its threads run between :meth:`start` and :meth:`stop`."""

    def __init__(self, settings: ServeSettings, log: Logger | None = None) -> None:
        self.settings = settings
        self.log = log or open_log()
        self.metrics = Metrics()
        self.embedders = Embedders(self.log)
        self.rerankers = Rerankers(self.log)
        self.gpu = _gpu(settings, self.log)
        store = Store.at(settings.store)
        self.audit = AuditLog(settings.audit, store, self._report_audit) if settings.audit.folder else None
        self.auditor = Auditor(self.audit)
        self.identity = Identity(store, settings.identity, log=self.log)
        self.quotas = Quotas(settings.quota)
        threads, queue = settings.search.threads, settings.search.queue
        self.helpers = Helpers(threads)
        self.pool = WorkPool(threads=threads, queue=queue, helpers=self.helpers)
        self.statements = WorkPool(threads=max(1, threads // 2), queue=queue, name="statement", helpers=self.helpers)
        self.nodes = self._nodes()
        watching = Watching(
            poll_interval_seconds=settings.poll_interval_ms / 1000,
            trust_seconds=settings.identity.trust_seconds,
            governed=lambda: self.identity.is_configured,
            ready=self._has_model,
            opened=self._warm,
        )
        self.collections = Collections(store, self._opener(), watching, log=self.log, metrics=self.metrics)
        self._audit_started = False
        self.waiting = 0
        self.draining = False
        self.metrics.describe(self.statuses)
        self.metrics.queue_depth.set_function(lambda: self.pool.depth + self.statements.depth)
        self.metrics.models_failing.set_function(self._models_failing)
        self.metrics.audit_failing.set_function(lambda: float(self.auditor.trouble is not None))
        self.metrics.audit_unshipped.set_function(lambda: self.audit.unshipped if self.audit else 0)

    def start(self) -> None:
        """Begin to watch the store, and to write the audit log unless :meth:`start_audit` was called."""
        self.start_audit()
        self.identity.start()
        if self.nodes is not None:
            self.nodes.start()
        self.collections.start()

    def start_audit(self) -> None:
        """Begin to write the audit log, once; raises :class:`api.errors.SettingsError` if its folder cannot be had."""
        if self.audit is None or self._audit_started:
            return
        try:
            self.audit.start()
        except (AuditBusy, AuditUnreadable, OSError) as error:
            raise SettingsError(f"audit.folder: {error}") from error
        self._audit_started = True

    def stop(self) -> None:
        """Let searches end, then every thread."""
        if self.nodes is not None:  # nobody waits any more for what is asked of them
            self.nodes.stop()
        self.pool.close()
        self.helpers.close()
        self.statements.close()
        self.collections.stop()
        self.identity.stop()
        self.embedders.close()
        self.rerankers.close()
        if self.gpu is not None:
            self.gpu.close()
        if self.audit is not None:
            self.audit.stop()

    @property
    def alive(self) -> bool:
        """Whether every thread runs that should."""
        return self.collections.alive and self.identity.alive and (self.nodes is None or self.nodes.alive)

    async def access(self, request: Request) -> Access:
        """Return what ``request`` may do; raises the 401 of one that does not say who asks, or the 429 of a quota."""
        access = await self.caller(request)
        operation_of(request).headers = self.quotas.take(access.principal.id)
        return access

    def counts(self, request: Request, access: Access, searches: int) -> None:
        """Let ``request``, one of which was counted, be so many ``searches`` in its quota; raises the 429."""
        if searches > 1:
            operation = operation_of(request)
            operation.headers = {}  # a refusal brings its own
            operation.headers = self.quotas.take_rest(access.principal.id, searches)

    async def caller(self, request: Request) -> Access:
        """Return what ``request`` may do, without taking from its quota; raises the 401."""
        operation = operation_of(request)
        sent = request.headers.getlist("authorization")
        operation.findings |= credentials_named(sent)
        access = await self.identity.access_of(sent)
        operation.principal = access.principal
        operation.facts["actor"] = access.principal.id
        return access

    def renewed(self, access: Access, name: str, action: Action) -> Access:
        """Return what the caller of ``access`` may do by now, with ``action`` on ``name`` still in it.

        For what runs after a wait. Raises what :meth:`access` and :meth:`watcher` raise.
        """
        now = self.identity.renewed(access)
        self.watcher(now, name, action)
        return now

    async def begins(self, request: Request, facts: Facts = dict) -> None:
        """Return once it is in the audit log that ``request`` is about to run, with ``facts``; raises the 503."""
        await self.auditor.begins(request.scope, operation_of(request), facts)

    def watcher(self, access: Access, name: str, action: Action) -> Watcher:
        """Return the watcher of the collection ``name`` for ``action``; raises the 404, or the 403."""
        watcher = self.known(access, name)
        access.require(action, name)
        return watcher

    def known(self, access: Access, name: str) -> Watcher:
        """Return the watcher of the collection ``name`` for a caller who may do anything with it; raises the 404."""
        if not access.knows(name):
            raise no_collection(denied=True)
        return self.collections.find(name)

    def _nodes(self) -> HttpNodes | None:
        settings = self.settings
        if settings.cluster.role != "router":
            return None
        interval = settings.poll_interval_ms / 1000
        return HttpNodes(settings.cluster, poll_interval_seconds=interval, log=self.log, metrics=self.metrics)

    def _opener(self) -> Opener:
        if self.nodes is not None:
            return RoutedOpener(self.nodes)
        return HereOpener(_cache(self.settings), self.settings.cluster.held)

    def _has_model(self, before: CollectionSpec, spec: CollectionSpec) -> bool:
        """Say whether the model that embeds queries is loaded, if ``spec`` has another one than ``before``.

        Raises :class:`indexer.errors.EmbeddingError`.
        """
        if self.settings.cluster.role == "node" or spec.vector == before.vector or spec.vector.model is None:
            return True
        loading = self.embedders.warm(spec.vector)
        return loading.done() and loading.result() is not None

    def _models_failing(self) -> int:
        """Return how many models failed of those that collections have now, or are to have next."""
        versions = [watcher.versions for watcher in self.collections.all()]
        served = [each.served.spec for each in versions if each.served is not None]
        specs = [*served, *(each.newest_spec for each in versions if each.newest_spec is not None)]
        embedding = {spec.vector.model_dump_json() for spec in specs if self.embedders.failed(spec.vector)}
        rerank = (spec.rerank for spec in specs if spec.rerank is not None)
        return len(embedding) + len({one.model_dump_json() for one in rerank if self.rerankers.failed(one)})

    def _warm(self, snapshot: OpenVersion) -> None:
        if isinstance(snapshot, Snapshot):
            snapshot.gpu, snapshot.helpers = self.gpu, self.helpers
        if self.settings.cluster.role == "node":  # routers embed and rerank
            return
        if snapshot.spec.vector.model is not None:
            self.embedders.warm(snapshot.spec.vector)
        if snapshot.spec.rerank is not None:
            self.rerankers.warm(snapshot.spec.rerank)

    def _report_audit(self, sentence: str) -> None:
        self.log.error("audit", error=sentence)

    def pool_of(self, action: Action) -> WorkPool:
        """Return the threads for what ``action`` allows."""
        return self.statements if action == "sql" else self.pool

    @contextmanager
    def waiter(self) -> Iterator[None]:
        """Count a request that waits for a newer version; as many may as may search and queue. Raises PoolFull."""
        if self.waiting >= self.pool.limit:
            raise PoolFull
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def statuses(self) -> Iterator[StatusAnswer]:
        """Return the status of every collection, by name."""
        return map(partial(status_answer, now=datetime.now(UTC)), self.collections.all())

    def starting(self, *, named: bool = True) -> list[str]:
        """Return what starting up still waits for; a collection or model that failed has been tried, and is not.

        Without ``named`` no reason has a collection's name.
        """
        reasons = [] if self.identity.is_fresh else ["the keys and roles have not been read for a while"]
        if not self.collections.discovered:
            return [*reasons, self.collections.trouble or "the store has not been listed yet"]
        watchers = self.collections.all()
        opening = [f"{watcher.name} is being opened" for watcher in watchers if not watcher.view.tried]
        specs = [watcher.view.snapshot.state.spec for watcher in watchers if watcher.view.snapshot]
        if self.nodes is not None:
            opening += [f"no node of part {part} answers" for part in self.nodes.absent() if opening]
        if self.settings.cluster.role == "node":
            specs = []
        opening += [
            f"{spec.name}'s query model is being loaded" for spec in specs if not self.embedders.settled(spec.vector)
        ]
        opening += [
            f"{spec.name}'s reranking model is being loaded"
            for spec in specs
            if spec.rerank is not None and not self.rerankers.settled(spec.rerank)
        ]
        if opening and not named:
            opening = [f"{len(opening)} collections or models are being opened"]
        return reasons + opening


def service_of(request: HTTPConnection) -> Service:
    """Return the service that ``request``, or a WebSocket, came to."""
    service: Service = request.app.state.service
    return service


def _gpu(settings: ServeSettings, log: Logger) -> GpuSearch | None:
    """Return the GPU that the settings ask for, once it has shown that it obeys filters."""
    if settings.serving.device == "cpu":
        return None
    try:
        device = find_gpu()
        if device is None:
            raise SettingsError(
                "serving.device: FAISS sees no GPU here: install Grebe's extra 'gpu' on a machine with one, "
                "or leave it at 'cpu'"
            )
        return GpuSearch(device, report=lambda sentence: log.error("gpu", error=sentence))
    except SettingsError:
        raise
    except Exception as error:  # CUDA, torch and FAISS have errors of many kinds
        raise SettingsError(f"serving.device: {first_line(error)}") from error


def _cache(settings: ServeSettings) -> LocalCache:
    try:
        return LocalCache(settings.cache, max_bytes=settings.cache_max_bytes)
    except OSError as error:
        raise SettingsError(f"cache: {settings.cache} cannot be used: {error.strerror}") from error
