"""Errors of the retrieval room.

::

    RetrievalError
    ├── FilterError           a filter or SELECT is wrong; it knows the place in the SQL text
    ├── RequestError          a search request is wrong; it names the field
    ├── DeadlineExceeded      the answer could not be had in the time given
    ├── GpuUntrusted          a GPU returned what a filter forbids, so none of its answers is taken
    ├── NodeError             a collection that lies on several machines could not be asked
    │   ├── NodeUnavailable   no machine that holds one part of it could be reached in time
    │   ├── NodeDiffers       one has not the version that is asked for, or goes by other policies
    │   └── NodeFailed        one of them failed, or answered what cannot be
    └── SnapshotError         a version of the index could not be opened
        ├── SnapshotStale     no version open here is as new as the request wants
        └── SnapshotClosed    a newer version has taken its place; use that one

None of them helps to try again unchanged, but for DeadlineExceeded, NodeUnavailable, NodeDiffers,
SnapshotStale and SnapshotClosed.
"""

from __future__ import annotations

EXCERPT_CHARACTERS = 80
"""How much of a long line an excerpt shows to either side of the place."""


class RetrievalError(Exception):
    """Anything that the retrieval room raises on purpose."""


class SnapshotError(RetrievalError):
    """A version of the index could not be opened."""


class SnapshotStale(SnapshotError):
    """No version that is open here is as new as the request wants; trying again later helps."""


class SnapshotClosed(SnapshotError):
    """The snapshot has been closed, because a newer version took its place; trying again with that one helps."""


class NodeError(RetrievalError):
    """A collection that lies on several machines could not be asked."""


class NodeUnavailable(NodeError):
    """No machine that holds one part of the collection could be reached; trying again later helps."""


class NodeDiffers(NodeError):
    """A machine has not the version that is asked for, or goes by other policies; it may soon, or another does."""


class NodeFailed(NodeError):
    """A machine that holds a part of the collection failed, or answered what cannot be; its log has the details."""


class DeadlineExceeded(RetrievalError):
    """The answer could not be had before the request's deadline; trying again may help."""


class GpuUntrusted(RetrievalError):
    """A GPU returned a row that a filter forbids."""


class RequestError(RetrievalError):
    """A search request is wrong.

    `field` names the part of the request, `code` is stable for programs, `hint` says what to do instead.
    """

    def __init__(self, message: str, *, field: str, code: str = "request_invalid", hint: str = "") -> None:
        super().__init__(f"{field}: {message}" + (f" ({hint})" if hint else ""))
        self.message = message
        self.field = field
        self.code = code
        self.hint = hint


class FilterError(RetrievalError):
    """The SQL text of a filter or a SELECT, or a value bound to it, is wrong.

    `code` is stable for programs and one of `filter_syntax`, `filter_not_allowed`, `filter_unknown_column`,
    `filter_type`, `filter_value`, `filter_parameter`, `filter_limit`, `filter_dialect`, `filter_failed` and
    `filter_masked_column`.
    `line` and `column` count from 1, in characters; `length` is in characters and 0 where no place is to blame.
    """

    def __init__(
        self, message: str, *, code: str, text: str = "", start: int = 0, length: int = 0, hint: str = ""
    ) -> None:
        self.message = message
        self.code = code
        self.text = text
        self.start = start
        self.length = length
        self.hint = hint
        self.line = text.count("\n", 0, start) + 1
        self.column = start - (text.rfind("\n", 0, start) + 1) + 1
        where = f" (line {self.line}, column {self.column})" if length else ""
        super().__init__(f"{message}{where}" + (f"; {hint}" if hint else ""))

    def excerpt(self) -> str:
        """Return the line in question with carets under the place, or "" where no place is to blame.

        >>> print(FilterError("no", code="filter_syntax", text="a = 1 AN b", start=6, length=2).excerpt())
        a = 1 AN b
              ^^
        """
        if not self.length:
            return ""
        line = self.text.split("\n")[self.line - 1].rstrip("\r")
        cut = max(0, self.column - 1 - EXCERPT_CHARACTERS)
        shown = line[cut : self.column - 1 + EXCERPT_CHARACTERS]
        before = shown[: self.column - 1 - cut]
        indent = "".join("\t" if character == "\t" else " " for character in before)
        return f"{shown}\n{indent}{'^' * max(1, min(self.length, len(shown) - len(before)))}"
