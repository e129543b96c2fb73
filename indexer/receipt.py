"""Receipts: whether the source deleted a row, since when it is gone, and which files still hold its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from indexer.catalog import Catalog, CatalogState
from indexer.format.deletions import find
from indexer.format.records import Record
from indexer.holders import Holder, holders_of
from indexer.keyfields import hash_key, key_fields
from indexer.versions import Progress, list_versions, read_versions

Verdict = Literal["live", "inserted again", "deleted", "set aside", "absent", "unknown"]


class Deletion(Record):
    """The source deleted the row at ``source_version`` of ``epoch``; ``version`` of the catalog first lacked it."""

    epoch: str
    source_version: int
    version: int


class Receipt(Record):
    """What is known of one key at ``version``; ``erased`` says that no file in the store holds the row any more.

    ``made_at`` has when versions that are named here were made, of a range its ends; none of those no longer kept.
    """

    collection: str
    key: str
    key_hash: str
    version: int
    checked_at: datetime
    verdict: Verdict
    statement: str
    erased: bool
    deletions: tuple[Deletion, ...]
    holders: tuple[Holder, ...]
    made_at: dict[int, datetime]


def receipt(catalog: Catalog, key: str, *, progress: Progress | None = None) -> Receipt:
    """Return the receipt of ``key``, written as in a URL: values percent-encoded, joined by commas.

    Raises ``ValueError`` for a text that is no key of the collection, and :class:`indexer.errors.IndexerError`.
    """
    store = catalog.store
    states = list(read_versions(store, list_versions(catalog).versions, progress)) or [catalog.read()]
    newest = states[-1]
    fields = key_fields(store, reversed(states))
    key_hash = hash_key(key, fields)
    deletions = tuple(
        Deletion(epoch=epoch, source_version=source, version=version)
        for epoch, source, version in find(newest.deletions, key_hash, store)
    )
    deleted = {deletion.epoch: deletion.source_version for deletion in deletions}
    holders = holders_of(catalog, key_hash, fields, states, progress, deleted=deleted)
    verdict = _verdict(deletions, holders)
    return Receipt(
        collection=newest.spec.name,
        key=key,
        key_hash=key_hash.hex(),
        version=newest.version,
        checked_at=datetime.now(UTC),
        verdict=verdict,
        statement=" ".join(
            [*_about_row(verdict, key, newest, deletions), _about_bytes(holders, newest), *_about_hold(newest)]
        ),
        erased=not holders,
        deletions=deletions,
        holders=tuple(holders),
        made_at=_made_at(states, deletions, holders),
    )


def _made_at(
    states: Sequence[CatalogState], deletions: Sequence[Deletion], holders: Sequence[Holder]
) -> dict[int, datetime]:
    named = {states[-1].version, *(deletion.version for deletion in deletions)}
    named.update(version for holder in holders for ends in holder.versions for version in ends)
    return {state.version: state.committed_at for state in states if state.version in named}


def _verdict(deletions: Sequence[Deletion], holders: Sequence[Holder]) -> Verdict:
    current = {holder.kind for holder in holders if holder.current}
    if "segment" in current:
        return "inserted again" if deletions else "live"
    if "letters" in current:
        return "set aside"
    if deletions:
        return "deleted"
    return "absent" if any(holder.certain for holder in holders) else "unknown"


def _about_row(verdict: Verdict, key: str, newest: CatalogState, deletions: Sequence[Deletion]) -> list[str]:
    version = newest.version
    sentences = {
        "live": f"Row {key} is live in version {version}, and no deletion of it is recorded.",
        "inserted again": f"Row {key} was deleted and inserted again, and is live in version {version}.",
        "set aside": f"Row {key} is not searchable in version {version}, but lies there as a dead letter.",
        "deleted": f"Row {key} was deleted and is not in version {version}.",
        "absent": f"Row {key} is not in version {version}, and no deletion of it is recorded: it went bad, or it went "
        "with a rollback, or with a rebuild while the old index took no changes.",
        "unknown": f"Row {key} is in no version, and no deletion of it is recorded: as far as is known it never was.",
    }
    if not deletions:
        return [sentences[verdict]]
    last = deletions[-1]
    return [
        sentences[verdict],
        f"The source deleted it {'last ' if len(deletions) > 1 else ''}at its version {last.source_version} (epoch "
        f"{last.epoch}), and version {last.version} of the collection was the first without it.",
    ]


def _about_bytes(holders: Sequence[Holder], newest: CatalogState) -> str:
    old = sum(holder.certain and not holder.current for holder in holders)
    unsure = sum(not holder.certain for holder in holders)
    if not holders:
        return "No file in the store holds its bytes."
    if not old and not unsure:
        places = "one place" if len(holders) == 1 else f"{len(holders)} places"
        return f"Bytes of it lie in {places}, which is where it counts, and in no other file."
    found = [f"bytes of it that no longer count lie in {old} {'place' if old == 1 else 'places'}"] if old else []
    if unsure:
        found.append(f"{unsure} cannot be looked into, as after an upload that broke off or while an index is built")
    text, name = "; ".join(found), newest.spec.name
    is_live = any(holder.versions and holder.versions[-1][1] == newest.version for holder in holders)
    purge = f"`grebe compact {name} --purge` writes the live segments without it, and " if is_live else ""
    rest = "the others" if is_live else "them"
    return (
        f"{text[0].upper()}{text[1:]}: {purge}`grebe vacuum {name}` deletes {rest} once no version that names them "
        "need be kept (with --retain 0, at once)."
    )


def _about_hold(newest: CatalogState) -> list[str]:
    if newest.held is None or newest.held.kind != "rollback":
        return []
    since = f"source version {newest.position.version}" if newest.position else "its beginning"
    return [
        f"The collection is held after a rollback to {since}: what the source deleted later is deleted here again once "
        "the hold is released."
    ]
