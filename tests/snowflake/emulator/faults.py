"""What a test tells the emulator to do wrong, and what it has seen."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class FailNext:
    """The next ``times`` statements whose text contains ``containing`` fail with this."""

    code: int
    sqlstate: str
    message: str
    times: int = 1
    containing: str = ""


@dataclass
class DropChunks:
    """The connection of the next ``requests`` chunk requests closes after ``after_bytes`` of the body."""

    after_bytes: int
    requests: int


@dataclass(frozen=True)
class Seen:
    """One statement that arrived."""

    query_id: str
    sql: str
    user: str
    session_id: int
    query_tag: str | None


@dataclass(frozen=True)
class Login:
    """One sign-in: ``how`` is PASSWORD, KEY_PAIR, OAUTH or PROGRAMMATIC_ACCESS_TOKEN."""

    how: str
    user: str
    client: str
    parameters: dict[str, Any]


@dataclass
class Faults:
    """Controls and records; every field may be read and set under ``lock`` only."""

    rows_per_chunk: int = 10_000
    compress: bool = True
    fail_next: list[FailNext] = field(default_factory=list)
    drop_chunks: DropChunks | None = None
    refuse_logins: int = 0
    http_status: int = 200
    http_requests: int = 0
    seconds_per_statement: float = 0
    seen: list[Seen] = field(default_factory=list)
    logins: list[Login] = field(default_factory=list)
    chunk_requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def failure(self, sql: str) -> FailNext | None:
        """Take one of the failures that a test ordered for this statement."""
        with self.lock:
            for ordered in self.fail_next:
                if ordered.containing.lower() in sql.lower():
                    ordered.times -= 1
                    self.fail_next = [f for f in self.fail_next if f.times > 0]
                    return ordered
        return None

    def refused_with(self) -> int | None:
        """Return the HTTP status that a request for a statement is turned away with, if it is."""
        with self.lock:
            if self.http_requests <= 0:
                return None
            self.http_requests -= 1
            return self.http_status

    def dropped_after(self) -> int | None:
        """Count a chunk request; return after how many bytes its connection closes, if it does."""
        with self.lock:
            self.chunk_requests += 1
            if self.drop_chunks is None or self.drop_chunks.requests <= 0:
                return None
            self.drop_chunks.requests -= 1
            return self.drop_chunks.after_bytes

    def reset(self) -> None:
        """Back to no faults and nothing seen."""
        with self.lock:
            fresh = Faults()
            for name in set(vars(fresh)) - {"lock"}:
                setattr(self, name, getattr(fresh, name))

    def records(self) -> dict[str, Any]:
        """Return what was seen."""
        with self.lock:
            return {
                "statements": [asdict(s) for s in self.seen],
                "logins": [asdict(login) for login in self.logins],
                "chunk_requests": self.chunk_requests,
            }
