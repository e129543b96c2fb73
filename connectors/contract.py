"""The change contract: what every source yields, whatever it reads from.

A source yields Spark DataFrames with the source's own columns and three more: ``_op`` (``upsert`` or ``delete``),
``_version`` (int64, monotonic per source) and ``_committed_at`` (timestamp, UTC). An update appears as a delete of the
old row's key and an upsert of the new row, both at the update's version. Duplicate and no-op changes are harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

OP = "_op"
VERSION = "_version"
COMMITTED_AT = "_committed_at"
POLL_SECONDS = 0.2
"""How long a continuous stream waits between two looks at its source, unless told otherwise."""

UPSERT = "upsert"
DELETE = "delete"


Reads = Literal["changes", "snapshots"]
"""How a source is followed: by its changes, or, where it keeps none, by comparing whole snapshots with the index."""


@dataclass(frozen=True)
class Position:
    """A place in a source's history: everything up to and including ``version`` of the table ``epoch``.

    ``epoch`` is the table's own id, so that a table dropped and created anew is another epoch.
    """

    epoch: str
    version: int


@dataclass(frozen=True)
class Head:
    """The newest committed position of a source, and when it was committed (UTC)."""

    position: Position
    committed_at: datetime


@dataclass(frozen=True)
class ChangeBatch:
    """All changes after ``start`` up to and including ``end``: whole versions only.

    ``changes`` may hold no row (OPTIMIZE moves the position without changing data). ``committed_at`` is when the
    source committed ``end``: at that moment nothing newer existed.
    """

    start: Position
    end: Position
    committed_at: datetime
    changes: DataFrame


class Source(Protocol):
    """One table whose rows and changes can be read.

    Every method may raise :class:`connectors.errors.SourceError`. Reading never changes anything at the source, so
    that any range can be read again.
    """

    def head(self) -> Head:
        """Return the newest position; cheap enough to be asked every second (no Spark job)."""

    def reads(self) -> Reads:
        """Say how the table is followed at present; :meth:`stream` needs ``changes``."""

    def require_followable(self) -> None:
        """Raise :class:`connectors.errors.ChangesUnavailable` where the table can be followed in neither way."""

    def has_nothing_after(self, position: Position) -> bool:
        """Say whether ``position`` holds all that the source has now; as cheap as :meth:`head`.

        Where versions are points in time the head moves although nothing changes.
        """

    def retention_seconds(self) -> float | None:
        """Return how long the table keeps a change readable; None where that is not known."""

    def schema(self) -> StructType:
        """Return the table's own columns at the newest version."""

    def snapshot(self, position: Position) -> DataFrame:
        """Return every row of the table at exactly ``position``, each as an ``upsert``."""

    def stream(
        self,
        start: Position,
        handle: Callable[[ChangeBatch], None],
        *,
        continuous: bool,
        interval_seconds: float = POLL_SECONDS,
        stop: Callable[[], bool] | None = None,
        until: Position | None = None,
    ) -> None:
        """Call ``handle`` with every batch of changes after ``start``, in order, each exactly once per call.

        Returns when the source's head at the time of the call has been handled, or exactly what leads to ``until``, a
        place between ``start`` and the head (``continuous=False``); or when ``stop`` says so (``continuous=True``). An
        exception raised by ``handle`` ends the stream and is raised here as it was.
        """
