"""Ranking quality against judgements: nDCG@10, recall@100 and MRR@10, computed by trec_eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.errors import EvaluationError

DEPTH = 100
MEASURES = ("ndcg@10", "recall@100", "mrr@10")
MRR_DEPTH = 10


def quality(judgements: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return each of :data:`MEASURES`, averaged over all queries of ``judgements`` that have a relevant document.

    ``rankings`` gives each query's documents, best first; a query without an answer counts as 0. trec_eval orders by
    score and would break ties its own way, so it is given the ranks.

    >>> judged = {"q": {"a": 1}, "unanswered": {"b": 1}}
    >>> quality(judged, {"q": ["x", "a"]})
    {'ndcg@10': 0.3155, 'recall@100': 0.5, 'mrr@10': 0.25}
    """
    try:
        import pytrec_eval
    except ImportError as error:
        raise EvaluationError(
            "the measures need pytrec-eval-terrier: pip install 'grebe[bench]', or run `make` in a checkout"
        ) from error
    queries = [query for query, documents in judgements.items() if any(grade > 0 for grade in documents.values())]
    judged = {query: dict(judgements[query]) for query in queries}
    wide = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", f"recall.{DEPTH}"}).evaluate(_run(rankings, DEPTH))
    short = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(_run(rankings, MRR_DEPTH))
    found = {
        "ndcg@10": [wide.get(query, {}).get("ndcg_cut_10", 0.0) for query in queries],
        "recall@100": [wide.get(query, {}).get(f"recall_{DEPTH}", 0.0) for query in queries],
        "mrr@10": [short.get(query, {}).get("recip_rank", 0.0) for query in queries],
    }
    return {measure: round(sum(found[measure]) / max(1, len(queries)), 4) for measure in MEASURES}


def _run(rankings: Mapping[str, Sequence[str]], depth: int) -> dict[str, dict[str, float]]:
    return {
        query: {document: float(depth - rank) for rank, document in enumerate(documents[:depth])}
        for query, documents in rankings.items()
        if documents
    }
