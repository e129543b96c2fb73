"""``tune``: which fusion suits a collection's questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.output import Format, Output, StoreOption, note, print_json, stdout, table
from jobs.settings import Settings

if TYPE_CHECKING:
    from indexer.spec import FusionSpec
    from jobs.tuning import Tuning

BAR = 40


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(tune)


def tune(
    name: Annotated[str, typer.Argument(help="The collection.")],
    queries: Annotated[
        Path, typer.Option("--queries", help='Queries, a line each: {"id": "q1", "text": "..."}; may be gzipped.')
    ],
    judgements: Annotated[
        Path,
        typer.Option(
            "--judgements", help="Lines of query, key as in URLs, grade, parted by tabs; grade 0: does not answer it."
        ),
    ],
    store: StoreOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Find the fusion of both legs that answers your own questions best, and how sure that is.

    Every weight, by min-max scores and by reciprocal rank, is measured on judged queries; the gain is measured on
    queries that had no part in the choice. Ten judged queries are the least, a few hundred are good. Nothing is
    changed: the lines for the spec are printed.

    grebe tune books --queries questions.jsonl --judgements answers.tsv
    """
    from indexer.format.store import Store
    from jobs.judgements import read_judgements, read_queries
    from jobs.local import LocalCollection
    from jobs.progress import bars
    from jobs.tuning import judged_of
    from jobs.tuning import tune as measure
    from retrieval.policies import OPERATOR
    from retrieval.request import SearchRequest

    asked, judged = read_queries(queries), read_judgements(judgements)
    taken = len(judged_of(asked, judged))  # before a model is loaded
    if left_out := len(asked.keys() | judged.keys()) - taken:
        note(f"{left_out} ids are left out: a query without a document that answers it, or judgements without a query")
    settings = Settings.read(store=store)
    with (
        LocalCollection(Store.at(settings.store), name, settings.cache) as collection,
        bars(unit="queries") as progress,
    ):
        for line in collection.notes(SearchRequest(query="any", mode="vector"), OPERATOR):
            note(line)
        found = measure(collection, asked, judged, progress)
    if output is Format.JSON:
        print_json(_as_json(found))
    else:
        _show(name, found)


def _show(name: str, found: Tuning) -> None:
    from jobs.tuning import SHARES, share_of

    kind = found.best.fusion.kind
    curve = found.curves[kind]
    lowest, span = min(curve), max(max(curve) - min(curve), 1e-9)
    marks = {share_of(found.best.fusion): "best"}
    if found.now.fusion.kind == kind:
        nearest = min(SHARES.tolist(), key=lambda share: abs(share - share_of(found.now.fusion)))
        marks[nearest] = f"{marks[nearest]}, as now" if nearest in marks else "now"
    rows = [
        (
            f"{share:.2f}",
            f"{1 - share:.2f}",
            f"{value:.4f}",
            "█" * (1 + round(BAR * (value - lowest) / span)),
            marks.get(share, ""),
        )
        for share, value in zip(SHARES.tolist(), curve, strict=True)
    ]
    stdout().print(
        f"{name}: ndcg@10 of {found.queries:,} judged queries by the legs' weights, {kind}, bars from the lowest"
    )
    stdout().print(table(("vector", "keyword", "ndcg@10", "", " "), rows))
    stdout().print(
        f"now {found.now.ndcg:.4f} ({_said(found.now.fusion)}); at best {found.best.ndcg:.4f} "
        f"({_said(found.best.fusion)})"
    )
    for other in found.curves.keys() - {kind}:
        best = max(found.curves[other])
        share = SHARES[found.curves[other].index(best)]
        stdout().print(f"{other}, at best {best:.4f} (vector {share:g}, keyword {1 - share:.2g})")
    stdout().print(
        f"On queries that had no part in the choice: {found.gain:+.4f}, standard error {found.standard_error:.4f}; "
        f"by chance alone as much in {found.chance:.1%} of cases"
    )
    if found.best.fusion == found.now.fusion:
        stdout().print("The spec has the best already.")
        return
    if not found.is_sure:
        stdout().print("That may well be chance: leave the spec as it is, or judge more queries.")
        return
    stdout().print("Put into the spec, and apply it; nothing is built anew:")
    stdout().print(f"fusion: {_yaml(found.best.fusion)}", markup=False)


def _as_json(found: Tuning) -> dict[str, object]:
    from jobs.tuning import SHARES

    def setting(fusion: FusionSpec, ndcg: float) -> dict[str, object]:
        return fusion.model_dump() | {"ndcg@10": ndcg}

    return {
        "queries": found.queries,
        "now": setting(found.now.fusion, found.now.ndcg),
        "best": setting(found.best.fusion, found.best.ndcg),
        "held_out": {
            "gain": found.gain,
            "standard_error": found.standard_error,
            "chance": found.chance,
            "sure": found.is_sure,
        },
        "curves": {
            kind: [{"vector": share, "ndcg@10": value} for share, value in zip(SHARES.tolist(), curve, strict=True)]
            for kind, curve in found.curves.items()
        },
    }


def _said(fusion: FusionSpec) -> str:
    return f"{fusion.kind}, vector {fusion.weights.vector:g}, keyword {fusion.weights.keyword:g}"


def _yaml(fusion: FusionSpec) -> str:
    weights = fusion.weights
    return f"{{kind: {fusion.kind}, weights: {{vector: {weights.vector:g}, keyword: {weights.keyword:g}}}}}"
