"""Searching without a server: a collection's newest version, opened in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from api.answers import hit_answer, source_answer
from api.descriptors import take_all_descriptors
from api.freshness import age_seconds, known_complete_at
from api.identity.control import Action, ControlTable
from api.selecting import plan_answer
from indexer.catalog import Catalog
from indexer.format.store import Store
from indexer.hold import sentence
from indexer.spec import CollectionSpec
from jobs.errors import CommandError
from jobs.policies import Effect, effect_of, roles_of, troubles_of
from retrieval.cache import LocalCache
from retrieval.chunks import Key
from retrieval.policies import OPERATOR, Caller
from retrieval.request import SearchRequest
from retrieval.search import search
from retrieval.snapshot import open_snapshot
from retrieval.sql import Statement, run_statement


def caller_as(store: Store, roles: Sequence[str], claims: Mapping[str, object]) -> Caller:
    """Return a caller with ``roles`` and ``claims`` whose masked values are hashed as the server hashes them."""
    control = ControlTable(store).read()
    return Caller(roles=frozenset(roles), claims=claims, hash_key=control.hash_bytes if control else None)


def granted_roles(store: Store, name: str) -> list[str]:
    """Return the roles that may read rows of the collection ``name``, so far as policies let them, by name."""
    control = ControlTable(store).read()
    if control is None:
        return []
    reading: tuple[Action, ...] = ("search", "sql", "read")
    return [role for role in sorted(control.roles) if any(control.gives([role], each, name) for each in reading)]


class LocalCollection:
    """One version of a collection, open until the block ends; its answers have the shape of the HTTP ones.

    Raises :class:`jobs.errors.CommandError` before the first load.
    """

    def __init__(self, store: Store, name: str, cache: Path) -> None:
        catalog = Catalog.open(store, name)
        newest = catalog.read()
        if newest.position is None:
            held = newest.held and sentence(newest, newest.held)
            raise CommandError(held or f"'{name}' has not been loaded yet: `grebe sync {name}` loads it")
        take_all_descriptors()
        self._snapshot = open_snapshot(catalog, LocalCache(cache))
        state = self._snapshot.state
        self._complete_at = known_complete_at(state.position, state.source_committed_at, catalog.read_heartbeat())

    @property
    def spec(self) -> CollectionSpec:
        """The collection's spec."""
        return self._snapshot.spec

    def scored(self, request: SearchRequest) -> list[tuple[Key, float]]:
        """Return the keys and scores of what a search finds, best first; raises as :meth:`search` does."""
        found = search(self._snapshot, request, caller=OPERATOR).results
        return list(zip(found.keys(), found.scores(), strict=True))

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the key."""
        return tuple(self._snapshot.spec.key)

    def notes(self, request: SearchRequest | None, caller: Caller) -> Iterator[str]:
        """Return what to tell before ``caller`` is answered: which roles see nothing, and what has to be loaded."""
        for role, trouble in troubles_of(self.spec, self._snapshot.sight_of(caller), caller).items():
            yield f"Role '{role}' sees no row: {trouble}"
        for model in self._models_for(request) if request else ():
            yield f"Loading {model} ..."

    def _models_for(self, request: SearchRequest) -> list[str]:
        """Return the models that have to be loaded for ``request``."""
        spec, models = self._snapshot.spec, []
        model = spec.vector.model
        if model and not request.brings_vector and request.resolved_mode(spec.vector) in ("hybrid", "vector"):
            models.append(model)
        if spec.rerank and request.stages.rerank:
            models.append(spec.rerank.model)
        return [model for model in models if not model.startswith(("hash:", "words:"))]

    def effects(
        self,
        roles: Sequence[str] | None,
        claims: Mapping[str, object],
        draft: CollectionSpec | None,
        *,
        granted: Sequence[str] = (),
        keys: int,
    ) -> list[Effect]:
        """Return what each role sees that has a policy, or what one caller with ``roles`` does: see :func:`effect_of`.

        Where there are policies, so is each role that is ``granted`` actions and has none: it sees nothing. Raises
        :class:`jobs.errors.CommandError` where the policies of ``draft`` do not fit what is indexed.
        """
        named = roles_of(self.spec, draft)
        every = dict.fromkeys([*named, *granted]) if named else ()
        callers = [roles] if roles else [[role] for role in every]
        try:
            return [
                effect_of(
                    self._snapshot, Caller(roles=frozenset(each), claims=claims), ", ".join(each), draft, keys=keys
                )
                for each in callers
            ]
        except ValueError as error:
            raise CommandError(f"the draft's policies do not fit what is indexed: {error}") from error

    def search(self, request: SearchRequest, caller: Caller = OPERATOR) -> dict[str, Any]:
        """Return the answer for ``caller``; raises what :func:`retrieval.search.search` raises."""
        response = search(self._snapshot, request, caller=caller)
        return {
            "results": [hit_answer(hit) for hit in response.results],
            "masked": list(response.masked),
            **self._of_version(),
            "plan": dataclasses.asdict(response.plan),
            "took_ms": dict(response.took_ms),
        }

    def pages(
        self, statement: Statement, params: Mapping[str, object], caller: Caller = OPERATOR
    ) -> Iterator[dict[str, Any]]:
        """Return the answers that have all rows of ``statement``, which has no LIMIT; raises as :meth:`select` does."""
        now, skip, more = datetime.now(UTC), 0, True
        while more:
            answer = self.select(statement, params, caller, now=now, skip=skip)
            yield answer
            skip, more = skip + len(answer["rows"]), answer["truncated"]

    def select(
        self,
        statement: Statement,
        params: Mapping[str, object],
        caller: Caller = OPERATOR,
        *,
        now: datetime | None = None,
        skip: int = 0,
    ) -> dict[str, Any]:
        """Return the answer to ``statement`` for ``caller``; see :func:`retrieval.sql.run_statement`."""
        answer = run_statement(self._snapshot, statement, params=params, caller=caller, now=now, skip=skip)
        return {
            "columns": [dataclasses.asdict(column) for column in answer.columns],
            "rows": answer.rows,
            "truncated": answer.truncated,
            "masked": list(answer.masked),
            **self._of_version(),
            "plan": plan_answer(answer),
            "took_ms": dict(answer.took_ms),
        }

    def _of_version(self) -> dict[str, Any]:
        state = self._snapshot.state
        return {
            "version": self._snapshot.version,
            "source": source_answer(state),
            "age_seconds": age_seconds(self._complete_at, datetime.now(UTC)),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._snapshot.close()
