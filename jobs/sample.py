"""What the first rows of a Delta table say of its strings: which of them are prose, and whether that is CJK."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING

from indexer.format import cjk

if TYPE_CHECKING:
    from deltalake import DeltaTable

SAMPLE_ROWS = 1_000
"""So many rows are looked at, which takes a tenth of a second from a disk."""
SAMPLE_CHARACTERS = 1_000
"""And so much of each value."""
WORDS, FEW_WORDS = 4.0, 3.0
"""What has so many words on average is prose; with fewer than the latter it is a label, though it be called prose."""
REPEATING = 20, 0.1
"""Of so many values or more, no more than this share of them are distinct: a status, a code or a category."""
CJK_WORD = 2
"""Characters of a word of Chinese, Japanese or Korean, which no spaces part."""

Sample = Mapping[str, Sequence[str]]
"""The values of each string column, without those that are NULL."""
NO_SAMPLE: Sample = MappingProxyType({})


def delta_table(table: str) -> DeltaTable:
    """Open the Delta table at ``table``; raises ValueError for a folder that delta-rs would take for another.

    However it is given a ``%20``, it reads a space.
    """
    from deltalake import DeltaTable

    if "%" in table and Path(table).is_dir():
        raise ValueError("the folder's name has a % in it, which only Spark takes as it is")
    return DeltaTable(table)


def sample_of(table: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the beginnings of the first values of the columns ``names``; empty where they cannot be read."""
    import pyarrow as pa
    from deltalake import QueryBuilder
    from deltalake.exceptions import DeltaError

    quoted = ('"' + name.replace('"', '""') + '"' for name in names)
    heads = ", ".join(f"left({name}, {SAMPLE_CHARACTERS}) AS c{at}" for at, name in enumerate(quoted))
    query = f"SELECT {heads} FROM looked_at LIMIT {SAMPLE_ROWS}"
    try:
        found = pa.table(QueryBuilder().register("looked_at", delta_table(table)).execute(query)) if names else None
    except (DeltaError, OSError, ValueError):  # the look at the key says what is wrong
        return {}
    if found is None:
        return {}
    columns = {name: found[f"c{at}"].to_pylist() for at, name in enumerate(names)}
    return {name: [value for value in values if value is not None] for name, values in columns.items()}


def prose_of(sample: Sample, called_prose: Collection[str]) -> list[str]:
    """Return the columns of ``sample`` that are prose, in its order; at least the one with the most words.

    Those that are ``called_prose`` are so, too, unless their values are a few labels that repeat.

    >>> statuses = ["open", "closed"] * 20
    >>> prose_of({"state": statuses, "message": statuses, "said": [f"It is number {n} of many" for n in range(40)]}, [])
    ['said']
    >>> prose_of({"code": ["A1", "B2"], "name": ["green tea", "tea"]}, [])
    ['name']
    """
    words = {name: fmean(map(words_in, values)) if values else 0.0 for name, values in sample.items()}
    repeating = {name for name, values in sample.items() if _repeats(values)}
    prose = [
        name
        for name in sample
        if (name in called_prose and (name not in repeating or words[name] >= FEW_WORDS))
        or (name not in repeating and words[name] >= WORDS)
    ]
    others = [name for name in sample if name not in repeating] or list(sample)
    most = max((words[name] for name in others), default=0.0)
    return prose or [name for name in others if most and words[name] == most]


def is_cjk(texts: Iterable[str]) -> bool:
    """Say whether one in ten of ``texts``, or more, is mostly Chinese, Japanese or Korean: else nobody finds those.

    >>> is_cjk(["猫は魚を食べる。", "Spark 3.5の設定方法について"]), is_cjk(["The 猫 sleeps", "all day long"])
    (True, False)
    """
    told = [cjk.count(text) / CJK_WORD * 2 > words_in(text) for text in texts]
    return sum(told) * 10 >= len(told) > 0


def words_in(text: str) -> float:
    """Return how many words ``text`` has, about.

    >>> words_in("a water bird"), words_in("https://example.org/a/b"), words_in("東京都 and 猫")
    (3.0, 1.0, 3.0)
    """
    own = cjk.count(text)
    return len(cjk.without(text).split()) + own / CJK_WORD


def _repeats(values: Sequence[str]) -> bool:
    least, share = REPEATING
    return len(values) >= least and len(set(values)) <= share * len(values)
