"""What there is: the collections, a collection's spec and its freshness."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.answers import json_response, state_of, status_answer
from api.documented import problems_of_callers
from api.identity.access import Access
from api.models.answers import CollectionAnswer, CollectionsAnswer, FreshnessAnswer, StatusAnswer
from api.operation import operation_of
from api.problems import COLLECTION_NOT_FOUND, INVALID, NOT_READY
from api.service import Service, service_of
from api.strict import StrictRoute
from api.waiting import snapshot_of
from api.watcher import Watcher
from retrieval.distributed.routed import RoutedVersion
from retrieval.filter.sqltypes import type_name

router = APIRouter(prefix="/v1/collections", tags=["collections"], route_class=StrictRoute)
_FRESHNESS = set(FreshnessAnswer.model_fields)


@router.get(
    "",
    operation_id="list_collections",
    response_model=CollectionsAnswer,
    responses=problems_of_callers(INVALID),
    summary="List the collections",
)
async def list_collections(request: Request) -> Response:
    """Every collection that the caller may use, by name."""
    service = service_of(request)
    access = await service.access(request)
    await service.begins(request)
    lines = [
        {
            "name": watcher.name,
            "state": state_of(watcher.view),
            "version": watcher.view.snapshot.version if watcher.view.snapshot else None,
        }
        for watcher in service.collections.all()
        if access.knows(watcher.name)
    ]
    return json_response({"collections": lines})


@router.get(
    "/{name}",
    operation_id="get_collection",
    response_model=CollectionAnswer,
    responses=problems_of_callers(COLLECTION_NOT_FOUND, INVALID, NOT_READY),
    summary="A collection's spec and columns",
)
async def read_collection(request: Request, name: str) -> Response:
    """The spec as it was applied, and the columns that a filter may name with their types."""
    service = service_of(request)
    access = await service.access(request)
    watcher = service.known(access, name)
    await service.begins(request)
    snapshot = snapshot_of(watcher.view)
    operation_of(request).facts.update(collection=name, version=snapshot.version)
    state = snapshot.state
    masks = snapshot.sight_of(access.caller).masks
    kept_back = set() if access.may("admin", name) else {"source", "policies"}
    return json_response(
        {
            "name": name,
            "spec": state.spec.model_dump(mode="json", exclude=kept_back),
            "columns": {column: type_name(kind) for column, kind in snapshot.schema.items() if column not in masks},
            "dim": state.dim,
            "fingerprint": state.fingerprint,
        }
    )


@router.get(
    "/{name}/status",
    operation_id="get_status",
    response_model=StatusAnswer | FreshnessAnswer,
    responses=problems_of_callers(COLLECTION_NOT_FOUND, INVALID),
    summary="Freshness and counts",
)
async def read_status(request: Request, name: str) -> Response:
    """What is served, how fresh it is, and why it is not fresher.

    Counts are for callers who may see every row, or have the action 'monitor'.
    """
    service = service_of(request)
    access = await service.access(request)
    watcher = service.known(access, name)
    await service.begins(request)
    status = status_answer(watcher, datetime.now(UTC))
    if absent := _absent_parts(service, watcher):
        without = f"no node of {', '.join(f'part {part}' for part in absent)} answers, so searches get 503"
        status = status.model_copy(update={"warnings": [*status.warnings, f"{name}: {without}"]})
    operation_of(request).facts.update(collection=name, version=status.version)
    return json_response(status.model_dump(include=None if _may_count(access, watcher) else _FRESHNESS))


def _absent_parts(service: Service, watcher: Watcher) -> list[int]:
    """Return the parts that hold some of the collection and have no node that answers."""
    snapshot = watcher.view.snapshot
    if service.nodes is None or not isinstance(snapshot, RoutedVersion):
        return []
    return [part for part in service.nodes.absent() if part in snapshot.parts]


def _may_count(access: Access, watcher: Watcher) -> bool:
    if access.may("monitor", watcher.name):
        return True
    snapshot = watcher.view.snapshot
    sees_all = snapshot is not None and snapshot.sight_of(access.caller).rows is None
    return access.may("read", watcher.name) and sees_all
