"""Why a node did not answer, as it goes over the wire, and what the router raises for it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from api.errors import PoolFull
from retrieval.errors import (
    DeadlineExceeded,
    FilterError,
    NodeDiffers,
    NodeFailed,
    RequestError,
    RetrievalError,
    SnapshotClosed,
)

FAILED = "a node failed; its log has the details"


class Failure(BaseModel):
    """One error of a node's; the fields are those of the error that it stands for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["filter", "request", "differs", "busy", "deadline", "failed"]
    message: str = ""
    code: str = ""
    field: str = ""
    text: str = ""
    start: int = 0
    length: int = 0
    hint: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return what routers are told of ``error``."""
        match error:
            case FilterError():
                return cls(
                    kind="filter",
                    message=error.message,
                    code=error.code,
                    text=error.text,
                    start=error.start,
                    length=error.length,
                    hint=error.hint,
                )
            case RequestError():
                return cls(kind="request", message=error.message, code=error.code, field=error.field, hint=error.hint)
            case NodeDiffers() | SnapshotClosed():
                return cls(kind="differs", message=str(error))
            case PoolFull():
                return cls(kind="busy")
            case DeadlineExceeded() | TimeoutError():
                return cls(kind="deadline")
            case NodeFailed():
                return cls(kind="failed", message=str(error))
            case _:
                return cls(kind="failed", message=FAILED)

    def error(self) -> RetrievalError | PoolFull:
        """Return the error that this stands for."""
        match self.kind:
            case "filter":
                return FilterError(
                    self.message, code=self.code, text=self.text, start=self.start, length=self.length, hint=self.hint
                )
            case "request":
                return RequestError(self.message, field=self.field, code=self.code, hint=self.hint)
            case "differs":
                return NodeDiffers(self.message)
            case "busy":
                return PoolFull()
            case "deadline":
                return DeadlineExceeded("a node's answer was not ready by the deadline")
            case "failed":
                return NodeFailed(self.message)
