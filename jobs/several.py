"""One command over several collections: the next one's turn comes also where one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import typer

from jobs.output import note, tell

if TYPE_CHECKING:
    from indexer.format.store import Store

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """What came of the collection ``name``: what was ``done`` to it, or the ``error`` that ended it."""

    name: str
    done: T | None = None
    error: Exception | None = None


def require_named_or_all(*, named: bool, every: bool, what: str = "collection") -> None:
    """Raise :class:`typer.BadParameter` unless either ``what`` is ``named`` or ``--all`` is given."""
    if every == named:
        raise typer.BadParameter(f"name the {what}, or give --all instead")


def none_yet(store: Store) -> str:
    """Return what is said of a store without collections."""
    return f"{store.url} has no collection: make one with grebe apply, or name another place: --store"


def names_of(store: Store) -> list[str]:
    """Return the names of the collections in ``store``, sorted; says so if there are none, which is no failure."""
    from indexer.catalog import Catalog

    found = sorted(Catalog.names(store))
    if not found:
        note(none_yet(store))
    return found


def for_each(names: Iterable[str], act: Callable[[str], T]) -> list[Outcome[T]]:
    """Return what came of each collection of which ``act`` is called with the name, in their order.

    An error of one is told at once and ends that one alone.
    """
    outcomes = list[Outcome[T]]()
    for name in names:
        try:
            outcomes.append(Outcome(name=name, done=act(name)))
        except Exception as error:  # whatever it is, the other collections go on
            tell(error, about=name)
            outcomes.append(Outcome(name=name, error=error))
    return outcomes
