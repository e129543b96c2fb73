"""Points of a writer's work at which something happens: it dies there, or another writer comes between.

A point is ``when:call:number``, as in :mod:`tests.test_crash`: before or after the so-manyeth call of one of the calls
that leave a trace in the store.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from indexer.catalog import Catalog
from indexer.format.store import Store

CALLS: dict[str, tuple[type, str]] = {
    "put": (Store, "put"),
    "put_file": (Store, "put_file"),
    "put_record": (Store, "put_record"),
    "swap": (Store, "delete"),
    "commit": (Catalog, "commit"),
}


class Crash(BaseException):
    """The end of a writer, which nothing in it may catch."""


def crash() -> None:
    """Die."""
    raise Crash


@dataclass
class Point:
    """Runs ``action`` once, at ``name``; ``reached`` says whether that has happened."""

    name: str
    action: Callable[[], object]
    reached: bool = False
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Watch the call, for as long as ``patch`` lasts."""
        _, call, _ = self.name.split(":")
        kind, method = CALLS[call]
        patch.setattr(kind, method, self._watched(getattr(kind, method)))

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        when, _, number = self.name.split(":")

        @functools.wraps(function)
        def watched(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self._count += 1
                here = not self.reached and self._count == int(number)
                self.reached = self.reached or here
            if here and when == "before":
                self.action()
            result = function(*arguments, **options)
            if here and when == "after":
                self.action()
            return result

        return watched
