"""From a user's words to a tantivy query.

A user's text is never tantivy's query syntax: no field names, wildcards, ranges or operators. What counts is words
(any may match), ``+word`` (must match) and ``"a phrase"`` (as written, also ``+"a phrase"``); everything else that is
not a letter or digit separates words, as it did when the text was indexed. Each word is looked for in every text field,
weighted by the field's boost.

Words reach the analyser as they were typed: lower case is its own, as it was when the text was indexed. It splits words
at the marks of many scripts and at combining accents; such a word is looked for as a phrase of its parts. In a
collection in ``cjk`` a run of characters is looked for by any of its pairs, in quotes or after a plus by its characters
in a row.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import tantivy

from indexer.format import cjk
from indexer.format.keywords import ROW_FIELD, analyser, keyword_field, normalised
from indexer.format.records import keyword_row
from indexer.spec import CollectionSpec, Language
from retrieval.request import MAX_QUERY_CHARS

OTHER_FIELDS = 0.3
"""Share of a word's further fields in its score. On SciFact 0, 0.1 and 0.3 all beat the plain sum by 0.01 nDCG@10."""

MAX_TERMS = 1024
"""Words of one query that are looked for; an index is asked once for each word and field."""

JOINERS = "\u200c\u200d"
"""The zero-width joiners: they stand within words of Persian, Hindi and others."""

_PARTS = re.compile(r'(?P<must>(?<!\S)\+)?"(?P<phrase>[^"]*)"|(?P<plus>(?<!\S)\+)?(?P<word>[^\s"]+)')


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing to look for: a word, or several in this order; ``must`` when no hit is without it."""

    words: tuple[str, ...]
    must: bool = False

    @property
    def text(self) -> str:
        """The clause as tantivy writes it."""
        quoted = f'"{" ".join(self.words)}"' if len(self.words) > 1 else self.words[0]
        return f"+{quoted}" if self.must else quoted


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """What scores depend on beside the documents themselves, for one query.

    ``frequencies`` has, for each word or phrase in each field, how many of ``n_documents`` have each of its terms.
    """

    n_documents: int
    frequencies: Sequence[Sequence[int]]

    def __add__(self, other: TermStatistics) -> TermStatistics:
        """Return the statistics of two indexes together."""
        both = zip(self.frequencies, other.frequencies, strict=True)
        sums = [[mine + its for mine, its in zip(*pair, strict=True)] for pair in both]
        return TermStatistics(self.n_documents + other.n_documents, sums)

    def weights_over(self, part: TermStatistics) -> list[float]:
        """Return what to multiply each score with that an index with the statistics of ``part`` gives.

        Then it is the score of these statistics, but for the mean length of the documents, which stays the index's
        own. BM25 adds up ``idf * tf``, and a phrase has the sum of its terms' idf.
        """
        return [
            sum(self._idf(wide) for wide in whole) / sum(part._idf(narrow) for narrow in own)
            for whole, own in zip(self.frequencies, part.frequencies, strict=True)
        ]

    def _idf(self, frequency: int) -> float:
        """Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, plus 1 in the log."""
        return math.log1p((self.n_documents - frequency + 0.5) / (frequency + 0.5))


class _Separators(dict[int, str]):
    """A translation of everything but letters, digits and the marks that belong to them into spaces."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        kept = category[0] in "LNM" or character in JOINERS or (category == "So" and bool(_words.analyze(character)))
        replacement = character if kept else " "
        self[code] = replacement
        return replacement


_words = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).build()
"""What the index's analysers begin with: runs of letters and digits, among them some symbols such as Ⓐ."""

_separators = _Separators()


def clauses(text: str, language: Language = "none") -> list[Clause]:
    """Read a query leniently: a lone quote or plus is no error, it just separates words.

    >>> [clause.text for clause in clauses('solar +"heat pump" re-use')]
    ['solar', '+"heat pump"', 're', 'use']
    >>> [clause.text for clause in clauses("東京都 +東京都", "cjk")]
    ['東京', '京都', '+"東 京 都"']
    """
    in_pairs = language == "cjk"
    found: list[Clause] = []
    for part in _PARTS.finditer(normalised(text, language)[:MAX_QUERY_CHARS]):
        letters = (part["phrase"] or part["word"] or "").translate(_separators)
        must = part["must"] is not None or part["plus"] is not None
        is_phrase = part["phrase"] is not None or (must and in_pairs)
        if in_pairs:
            letters = cjk.apart(letters) if is_phrase else cjk.paired(letters)
        words = tuple(letters.split(maxsplit=MAX_TERMS)[:MAX_TERMS])
        if is_phrase and words:
            found.append(Clause(words, must))
        elif words:
            found.extend(Clause((word,), must) for word in words)
        if len(found) >= MAX_TERMS:
            break
    return found[:MAX_TERMS]


class KeywordQueries:
    """Builds queries for one composed index."""

    def __init__(self, index: tantivy.Index, spec: CollectionSpec) -> None:
        self._schema = index.schema
        self._language = spec.text.language
        self._analyser = analyser(spec.text.language, fold_accents=spec.text.fold_accents)
        self._boosts = spec.text.fields
        self._fields = {field: keyword_field(spec, field) for field in spec.text.fields}

    def of_text(
        self, text: str, hidden: frozenset[str] = frozenset(), *, weights: Sequence[float] | None = None
    ) -> tantivy.Query | None:
        """Return the query for a user's words in all text fields but the ``hidden``.

        None when nothing is left to look for (stop words only), or nowhere to look.

        A word's score is its best field's, and ``OTHER_FIELDS`` of each further field's: a disjunction maximum, so that
        a word found in a title and a body does not count as two. ``weights`` multiply what each word or phrase scores
        in each field (:meth:`TermStatistics.weights_over`).
        """
        fields = self._shown(hidden)
        found = self._looked_for(text) if fields else []
        each = iter(weights) if weights is not None else None
        parts = [
            (tantivy.Occur.Must if must else tantivy.Occur.Should, self._in_any(fields, terms, each))
            for must, terms in found
        ]
        return tantivy.Query.boolean_query(parts) if parts else None

    def statistics(self, searcher: tantivy.Searcher, text: str, hidden: frozenset[str] = frozenset()) -> TermStatistics:
        """Return the statistics of what :meth:`of_text` looks for, in the index of ``searcher``."""
        fields = [self._fields[field] for field in self._shown(hidden)]
        return TermStatistics(
            n_documents=searcher.num_docs,
            frequencies=[
                [searcher.doc_freq(field, term) for _, term in terms]
                for _, terms in self._looked_for(text)
                for field in fields
            ],
        )

    def _shown(self, hidden: frozenset[str]) -> list[str]:
        return [field for field in self._fields if field not in hidden]

    def _looked_for(self, text: str) -> list[tuple[bool, list[tuple[int, str]]]]:
        """Return each word or phrase that the text names: whether it must match, and its terms with their places."""
        found = []
        room = MAX_TERMS
        for clause in clauses(text, self._language):
            terms = self._terms(clause.words)[:room]
            room -= len(terms)
            if terms:
                found.append((clause.must, terms))
        return found

    def _terms(self, words: tuple[str, ...]) -> list[tuple[int, str]]:
        """The terms of ``words`` with their places: one for each part of a word, also for those that are not indexed.

        So stop words leave gaps, as they did when the text was indexed.
        """
        parts = [part for word in words for part in _words.analyze(word)]
        return [(at, term) for at, part in enumerate(parts) for term in self._analyser.analyze(part)]

    def _in_any(
        self, fields: Sequence[str], terms: Sequence[tuple[int, str]], weights: Iterator[float] | None
    ) -> tantivy.Query:
        queries = []
        for field in fields:
            boost = self._boosts[field] * (1.0 if weights is None else next(weights))
            queries.append(self._in_field(self._fields[field], boost, terms))
        return queries[0] if len(queries) == 1 else tantivy.Query.disjunction_max_query(queries, OTHER_FIELDS)

    def _in_field(self, field: str, boost: float, terms: Sequence[tuple[int, str]]) -> tantivy.Query:
        if len(terms) == 1:
            query = tantivy.Query.term_query(self._schema, field, terms[0][1], "freq")
        else:
            query = tantivy.Query.phrase_query(self._schema, field, list(terms))
        return query if boost == 1.0 else tantivy.Query.boost_query(query, boost)

    def among_rows(self, query: tantivy.Query, rows: list[tantivy.Query]) -> tantivy.Query:
        """Return ``query`` restricted to any of ``rows`` (see :meth:`rows`), with the same scores."""
        allowed = tantivy.Query.boolean_query([(tantivy.Occur.Should, part) for part in rows])
        free = tantivy.Query.const_score_query(allowed, 0.0)
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, free)])

    def rows(self, number: int, positions: list[int]) -> tantivy.Query:
        """Return the query for the chunks at ``positions`` of segment ``number``.

        One term query a chunk: up to a few hundred that is ten times as fast as tantivy's term set.
        """
        terms = [
            (tantivy.Occur.Should, tantivy.Query.term_query(self._schema, ROW_FIELD, keyword_row(number, position)))
            for position in positions
        ]
        return tantivy.Query.boolean_query(terms)
