"""When there is something to read: what a token that changes with the table tells, and what it does not.

The server's token is no time and says nothing about order. All that it tells is that something was committed before it
was first seen. So everything that a token stands for has been read once a window ends at or after that moment.
"""

from __future__ import annotations

from typing import Any


class ChangeSignal:
    """What is known of a table's tokens; ``now`` is always the server's clock, read *after* the token was."""

    def __init__(self) -> None:
        self._token: str | None = None
        self._first: int | None = None
        self._seen: list[int] = []

    def note(self, token: str, now: int) -> None:
        """Take in that the table had ``token`` before ``now``; the time at which it was first seen counts."""
        if token != self._token:
            self._token, self._first = token, now
            self._seen.append(now)
        elif self._first is not None and now < self._first:  # another look had it earlier
            self._seen = [now if time == self._first else time for time in self._seen]
            self._first = now

    def is_news(self, token: str) -> bool:
        """Say whether ``token`` is another one than the last."""
        return token != self._token

    def waiting(self, version: int) -> int | None:
        """Return when the oldest token was first seen whose changes a reader up to ``version`` may lack, else None.

        >>> signal = ChangeSignal()
        >>> signal.note("a", 100)
        >>> signal.note("b", 200)
        >>> [signal.waiting(version) for version in (99, 100, 200)]
        [100, 200, None]
        """
        return next((time for time in self._seen if time > version), None)

    def last(self) -> dict[str, Any]:
        """Return the last token and when it was first seen, for another one's :meth:`note`."""
        return {"token": self._token, "seen": self._first}

    def forget(self, version: int) -> None:
        """Forget the times up to ``version``, which everybody has read."""
        self._seen = [time for time in self._seen if time > version]
