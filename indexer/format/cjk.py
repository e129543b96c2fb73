"""Chinese, Japanese and Korean for a keyword index: pairs of characters, because no spaces say where a word ends.

A run of their characters becomes its overlapping pairs, as Lucene's ``CJKBigramFilter`` makes them, so that any word of
two characters or more is found wherever it stands, as one pair or as a phrase of several. A word of one character is
part of two pairs and would be neither, so the characters themselves are indexed too, behind the pairs.
"""

from __future__ import annotations

import re
import unicodedata
from operator import add

_RUN = re.compile(
    "["
    "\u1100-\u11ff\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7c6\ud7cb-\ud7fb"  # Hangul
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Hiragana and Katakana
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufad9"  # Han
    "\U00020000-\U0002a6df\U0002a700-\U0002ebe0\U0002f800-\U0002fa1d\U00030000-\U000323af"
    "]+"
)


def normalised(text: str) -> str:
    """Return ``text`` with full and half width forms as the usual ones, and marks joined with their letters (NFKC)."""
    return unicodedata.normalize("NFKC", text)


def count(text: str) -> int:
    """Return how many of the characters of ``text`` are of these.

    >>> count("東京都 and 猫")
    4
    """
    return sum(map(len, _RUN.findall(text)))


def without(text: str) -> str:
    """Return ``text`` with a space in place of each run of characters.

    >>> without("東京都and猫")
    ' and '
    """
    return _RUN.sub(" ", text)


def paired(text: str) -> str:
    """Return a normalised text with each run of characters as its overlapping pairs, one alone as itself.

    >>> paired("東京都 and 猫")
    ' 東京 京都  and  猫 '
    """
    return _RUN.sub(_pairs, text)


def single(text: str) -> str:
    """Return the characters of a normalised text that :func:`paired` has in pairs only, parted by spaces.

    >>> single("東京都 and 猫")
    '東 京 都'
    """
    return " ".join(" ".join(run) for run in _RUN.findall(text) if len(run) > 1)


def _pairs(run: re.Match[str]) -> str:
    characters = run[0]
    return f" {' '.join(map(add, characters, characters[1:])) or characters} "
