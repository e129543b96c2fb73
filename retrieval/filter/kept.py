"""What is made of an SQL text, kept for the next time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

KEPT_CHARACTERS = 1_000
"""Longest text of which anything is kept: the tree of a long one takes megabytes."""

P = ParamSpec("P")
T = TypeVar("T")


def kept(maxsize: int) -> Callable[[Callable[Concatenate[str, P], T]], Callable[Concatenate[str, P], T]]:
    """Keep the last ``maxsize`` results of a function of a text, first, and of further hashable arguments by place.

    Of a long text nothing is kept, nor of an error.
    """

    def keeping(made: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
        remembered: Any = lru_cache(maxsize)(made)

        @wraps(made)
        def of_text(text: str, /, *rest: P.args, **named: P.kwargs) -> T:
            result: T = (remembered if len(text) <= KEPT_CHARACTERS else made)(text, *rest, **named)
            return result

        return of_text

    return keeping
