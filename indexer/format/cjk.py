"""Chinese, Japanese and Korean for a keyword index: pairs of characters, because no spaces say where a word ends.

A text is indexed twice: with each of their characters apart, which phrases and words of one character are found by, and
behind that by the overlapping pairs of each run, as Lucene's ``CJKBigramFilter`` makes them, which are what is rare
enough to rank by.
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
_VARIANTS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Selectors of another shape of the character before: usual in Japanese names."""


def normalised(text: str) -> str:
    """Return ``text`` with full and half width forms as the usual ones, and marks joined with their letters (NFKC)."""
    return _VARIANTS.sub("", unicodedata.normalize("NFKC", text))


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


def apart(text: str) -> str:
    """Return a normalised text with each of the characters as a word.

    >>> apart("東京A社")
    ' 東 京 A 社 '
    """
    return _RUN.sub(lambda run: f" {' '.join(run[0])} ", text)


def paired(text: str) -> str:
    """Return a normalised text with each run of characters as its overlapping pairs, one alone as itself.

    >>> paired("東京都 and 猫")
    ' 東京 京都  and  猫 '
    """
    return _RUN.sub(lambda run: f" {_pairs(run[0]) or run[0]} ", text)


def pairs(text: str) -> str:
    """Return the overlapping pairs of a normalised text's runs alone.

    >>> pairs("東京都 and 猫")
    '東京 京都'
    """
    return " ".join(filter(None, map(_pairs, _RUN.findall(text))))


def _pairs(run: str) -> str:
    return " ".join(map(add, run, run[1:]))
