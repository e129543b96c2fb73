"""What nodes send for a SELECT. That it gives what one machine gives is shown in tests/retrieval/sql."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retrieval.distributed.messages import Asker, Fetch, Part, Select
from retrieval.distributed.nearby import NearbyNodes
from retrieval.distributed.routed import Asked, RoutedVersion
from retrieval.distributed.search import search_nodes
from retrieval.distributed.select import select_from_nodes
from retrieval.errors import DeadlineExceeded, FilterError, NodeDiffers
from retrieval.policies import OPERATOR, Caller
from retrieval.request import SearchRequest
from retrieval.sql import SqlAnswer, evaluate, parse_statement, run_statement
from tests.retrieval.distributed.conftest import SHARDS, Spread, docs_of, spread_of
from tests.retrieval.library import Doc, Library, spec_of


@dataclass
class Listening:
    """Nodes that note what they are asked, and how many lines they answer with."""

    nodes: NearbyNodes
    asked: list[tuple[Part, int]]

    def ask(self, asker: Asker, questions: Mapping[int, Part], *, deadline: float | None) -> Asked:
        asked = self.nodes.ask(asker, questions, deadline=deadline)
        for part, (_, table) in asked.answers().items():
            self.asked.append((questions[part], len(table)))
        return asked

    def lines(self, kind: type[Any]) -> list[int]:
        return [lines for part, lines in self.asked if isinstance(part, kind)]


@pytest.fixture
def listening(spread: Spread) -> tuple[RoutedVersion, Listening]:
    nodes = Listening(NearbyNodes(spread.snapshots), [])
    columns = [snapshot.own_columns for snapshot in spread.snapshots]
    return RoutedVersion(spread.whole.state, nodes, (0, 1, 2), columns), nodes


def select(routed: RoutedVersion, text: str, *, caller: Caller = OPERATOR, **asked: Any) -> SqlAnswer:
    return select_from_nodes(routed, parse_statement(text, "duckdb"), caller=caller, **asked)


def test_a_search_in_where_is_the_search_of_all_nodes(spread: Spread) -> None:
    request = SearchRequest(query="turbine wind", mode="keyword", filter="size < 60", k=25)
    hits = search_nodes(spread.routed, request, caller=OPERATOR).results

    text = "SELECT id, score(), passage(), body FROM docs WHERE search(:q, mode => 'keyword', k => 25) AND size < :size"
    answer = select(spread.routed, text, params={"q": "turbine wind", "size": 60})

    assert [row[:3] for row in answer.rows] == [(hit.key[0], hit.score, hit.text) for hit in hits]
    bodies = run_statement(spread.whole, parse_statement("SELECT id, body FROM docs", "duckdb"), caller=OPERATOR)
    assert {row[0]: row[3] for row in answer.rows}.items() <= dict(bodies.rows).items()
    assert answer.search is not None
    assert (answer.search.mode, answer.read) == ("keyword", 25)


def test_a_node_sends_no_more_rows_than_are_shown_and_what_is_shown_comes_once(
    listening: tuple[RoutedVersion, Listening],
) -> None:
    routed, nodes = listening

    answer = select(routed, "SELECT id, colour, body FROM docs ORDER BY size DESC, id LIMIT 4 OFFSET 3")

    assert len(answer.rows) == 4
    assert answer.read == 235
    assert nodes.lines(Select) == [7, 7, 7]
    fetched = [part for part, _ in nodes.asked if isinstance(part, Fetch)]
    assert sum(len(part.places) for part in fetched) == 4
    assert {tuple(part.columns) for part in fetched} == {("id", "colour")}
    assert {tuple(part.fields) for part in fetched} == {("body",)}
    assert not any(part.passages for part in fetched)


def test_rows_that_came_with_all_that_is_shown_are_not_fetched(listening: tuple[RoutedVersion, Listening]) -> None:
    routed, nodes = listening

    assert len(select(routed, "SELECT id, size + 1 FROM docs ORDER BY size").rows) == 235
    assert nodes.lines(Fetch) == []


def test_a_node_sends_its_groups_and_of_those_in_the_order_of_keys_the_first(
    listening: tuple[RoutedVersion, Listening],
) -> None:
    routed, nodes = listening

    counted = select(routed, "SELECT colour, count(*) FROM docs GROUP BY colour ORDER BY 2 DESC").rows
    assert sum(n for _, n in counted) == 235
    assert nodes.lines(Select) == [4, 4, 4]

    first = select(routed, "SELECT DISTINCT id FROM docs LIMIT 5").rows
    assert first == [(0,), (1,), (2,), (4,), (5,)]
    assert nodes.lines(Select)[3:] == [5, 5, 5]


def test_more_than_a_node_may_send_is_refused(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "MAX_ANSWER_BYTES", 64)
    for text in ("SELECT 1 FROM docs LIMIT 3", "SELECT count(DISTINCT id) FROM docs"):
        with pytest.raises(FilterError, match="what one node would send would be larger than") as caught:
            select(spread.routed, text)
        assert caught.value.code == "filter_limit"


def test_the_time_is_one_on_all_nodes(spread: Spread) -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    text = "SELECT count(*), min(current_timestamp) FROM docs WHERE current_timestamp < TIMESTAMP '2024-01-02'"

    assert select(spread.routed, text, now=now).rows == [(235, now)]


def test_distinct_values_that_several_nodes_have_count_once(spread: Spread) -> None:
    text = "SELECT lang, count(DISTINCT colour), count(DISTINCT size % 7), avg(size) FROM docs GROUP BY lang"

    one = run_statement(spread.whole, parse_statement(text, "duckdb"), caller=OPERATOR).rows

    assert select(spread.routed, text).rows == [(*one[0][:3], pytest.approx(one[0][3]))]
    assert one[0][:3] == ("en", 3, 7)


def test_a_wrong_statement_is_refused_before_anybody_is_asked(listening: tuple[RoutedVersion, Listening]) -> None:
    routed, nodes = listening
    with pytest.raises(FilterError, match="colur"):
        select(routed, "SELECT colur FROM docs")
    assert nodes.asked == []


def test_policies_that_a_node_does_not_go_by_and_a_passed_deadline_end_a_statement(tmp_path: Path) -> None:
    library = Library(tmp_path, spec_of(shards=SHARDS))
    library.add(*docs_of(12, seed=1))
    with spread_of(library) as spread:
        with pytest.raises(DeadlineExceeded):
            select(spread.routed, "SELECT id FROM docs", deadline=0.0)
        spread.snapshots[1].govern(spec_of(shards=SHARDS, policies=[{"role": "r", "rows": "size > 3"}]))
        for text in ("SELECT id FROM docs", "SELECT count(*) FROM docs"):
            with pytest.raises(NodeDiffers):
                select(spread.routed, text)


def test_a_column_that_some_nodes_have_is_null_on_the_others(tmp_path: Path) -> None:
    old, new = spec_of(shards=SHARDS, columns=["lang"]), spec_of(shards=SHARDS, columns=["lang", "size"])
    library = Library(tmp_path, old)
    library.add(Doc(id=1), Doc(id=2, lang="fr"), shard=0)
    library.spec = new
    state = library.catalog.read()
    library.catalog.commit(state, state.model_copy(update={"spec": new, "operation": "apply"}), batch_end=None)
    library.add(Doc(id=3, size=5), shard=5)
    with spread_of(library) as spread:
        assert select(spread.routed, "SELECT id, size FROM docs ORDER BY size DESC NULLS LAST, id").rows == [
            (3, 5),
            (1, None),
            (2, None),
        ]
        assert select(spread.routed, "SELECT lang, count(size), sum(size) FROM docs GROUP BY 1 ORDER BY 1").rows == [
            ("en", 1, 5),
            ("fr", 0, None),
        ]
