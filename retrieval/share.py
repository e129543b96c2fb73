"""Which of a collection's shards one machine holds, where a collection is spread over several."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

MOST_PARTS = 4096


@dataclass(frozen=True, slots=True)
class Share:
    """Part ``part``, from 0, of ``parts``: machines of one share hold the same shards."""

    part: int
    parts: int

    def __post_init__(self) -> None:
        if not (1 <= self.parts <= MOST_PARTS and 0 <= self.part < self.parts):
            raise ValueError(f"expected a part and of how many, such as 0/4 to 3/4, got {self}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the share that is written as ``part/parts``; raises ValueError.

        >>> Share.parse("2/8")
        Share(part=2, parts=8)
        """
        found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
        if found is None:
            raise ValueError(f"expected a part and of how many, such as 0/4 to 3/4, got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.part}/{self.parts}"

    def holds(self, collection: str, shard: int) -> bool:
        """Return whether the shard of the collection is in this share."""
        return part_of(collection, shard, self.parts) == self.part


def part_of(collection: str, shard: int, parts: int) -> int:
    """Return which of ``parts`` holds a shard: one after the other, from another one on for each collection.

    So collections of few shards do not all lie on the first machine.
    """
    first = int.from_bytes(hashlib.blake2b(collection.encode(), digest_size=8).digest(), "big")
    return (first + shard) % parts


def parts_of(collection: str, shards: int, parts: int) -> list[int]:
    """Return which of ``parts`` hold any of a collection's shards, ascending.

    >>> len(parts_of("notes", shards=3, parts=8)), parts_of("notes", shards=16, parts=2)
    (3, [0, 1])
    """
    return sorted({part_of(collection, shard, parts) for shard in range(min(shards, parts))})
