"""Alerts and dashboard: every metric that they name is one that a server exposes, with those labels."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import Metrics
from tests.api.conftest import Serve
from tests.api.library import Library, book
from tests.infra.dockerfile import ROOT

RULES = yaml.safe_load((ROOT / "infra" / "prometheus-rules.yaml").read_text())
BOARD = json.loads((ROOT / "infra" / "grafana-dashboard.json").read_text())
PROMTOOL = shutil.which("promtool")
ALL_RULES: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL_RULES if "alert" in rule}
RECORDED = {rule["record"]: rule["expr"] for rule in ALL_RULES if "record" in rule}
PANELS = {panel["title"]: panel for panel in BOARD["panels"] if panel["type"] != "row"}
OF_THE_SCRAPER = {"job", "instance", "zone"}
"""Labels that targets get when they are found; docs/kubernetes.md has how."""
OF_PROMETHEUS = {"up": OF_THE_SCRAPER}
VARIABLES = {"$__rate_interval": "5m", "$job": "grebe", "$collection": ".*"}
"""Grafana's, put in before it asks."""

Labels = dict[str, set[str]]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in ALL_RULES)
    for panel in PANELS.values():
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield expression


EXPRESSIONS = sorted(set(expressions()))


def selected(expression: str) -> Labels:
    """Return the metrics that an expression selects, with the labels that it asks for, of any of them, beside."""
    found: Labels = defaultdict(set)
    grouped: set[str] = set()

    def visit(part: promql_parser.Expr) -> bool:
        if isinstance(part, promql_parser.VectorSelector):
            assert part.name is not None
            found[part.name] |= {matcher.name for matcher in part.matchers.matchers}
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            grouped.update(part.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return {name: labels | grouped for name, labels in found.items()}


def labels_of(text: str) -> Labels:
    """Return the names of samples in Prometheus' format, with their labels."""
    found: Labels = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found


@pytest.fixture
def exposed(library: Library, serve: Serve) -> Labels:
    """What a server exposes that serves a collection, is asked, and has had something to report of everything."""
    now = datetime.now(UTC)
    library.commit(1, [book(1)], at=now - timedelta(hours=1))
    library.beat(1, now, reads="changes", retention_seconds=86_400.0)
    with serve() as client:
        client.post("/v1/collections/books/search", json={"query": "river"}).raise_for_status()
        client.post("/v1/sql", json={"sql": "SELECT count(*) FROM books"}).raise_for_status()
        found = labels_of(client.get("/metrics").text)
    rare = Metrics()
    rare.open_failures.labels("books").inc()
    rare.node_up.labels(0, "http://node").set(1)  # of routers
    rare.node_answered(0, 0.1)
    rare.answered_question("find", 0.1)  # of nodes
    return {**labels_of(rare.text().decode()), **found} | OF_PROMETHEUS


def test_what_is_asked_for_is_what_a_server_exposes(exposed: Labels) -> None:
    recorded = {
        name: set().union(*(exposed.get(metric, set()) for metric in selected(RECORDED[name]))) | {"collection"}
        for name in RECORDED
        if name != "grebe:collection_late:bool"
    } | {"grebe:collection_late:bool": {"collection"}}
    known = exposed | recorded
    wanted = [(metric, labels) for expression in EXPRESSIONS for metric, labels in selected(expression).items()]
    assert len(wanted) > 40
    assert {metric for metric, _ in wanted} - known.keys() == set()
    assert [(metric, labels - known[metric] - OF_THE_SCRAPER) for metric, labels in wanted] == [
        (metric, set()) for metric, _ in wanted
    ]


@pytest.mark.parametrize("wrong", ["grebe_nothing", "sum by (stage) (grebe_http_in_flight)"])
def test_a_name_or_a_label_that_does_not_exist_is_found(exposed: Labels, wrong: str) -> None:
    ((metric, labels),) = selected(wrong).items()
    assert metric not in exposed or labels - exposed[metric] - OF_THE_SCRAPER


def test_an_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do() -> None:
    assert ALERTS
    for alert in ALERTS.values():
        assert alert.keys() == {"alert", "expr", "for", "labels", "annotations"}
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["annotations"].keys() == {"summary", "runbook"}
        promql_parser.parse_duration(alert["for"])


def test_annotations_use_labels_that_their_alert_has() -> None:
    for alert in ALERTS.values():
        used = set(re.findall(r"\$labels\.(\w+)", "".join(alert["annotations"].values())))
        recorded = [expression for name, expression in RECORDED.items() if name in alert["expr"]]
        by = [found for text in (alert["expr"], *recorded) for found in re.findall(r"by \(([^)]*)\)", text)]
        grouped = {label for found in by for label in found.split(", ")}
        if "grebe:" in alert["expr"] or "group_right" in alert["expr"]:
            grouped |= {"collection", "instance"}
        assert used <= grouped, alert["alert"]


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool: it comes with Prometheus")
def test_alerts_fire_when_they_should_and_not_before() -> None:
    assert PROMTOOL is not None
    command = [PROMTOOL, "test", "rules", str(ROOT / "tests" / "infra" / "alerts.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_that_are_tried_on_made_up_series_are_those_there_are() -> None:
    tried = yaml.safe_load((ROOT / "tests" / "infra" / "alerts.yaml").read_text())["tests"]
    assert {alert["alertname"] for one in tried for alert in one["alert_rule_test"]} <= ALERTS.keys()


def test_no_caller_can_page_by_asking_for_too_little_time_and_silence_is_an_alert() -> None:
    pages = [alert["expr"] for alert in ALERTS.values() if alert["labels"]["severity"] == "page"]
    failing = [found for expression in pages for found in re.findall(r"{[^}]*5\.\.[^}]*}", expression)]
    assert failing
    assert [found for found in failing if 'status!="504"' not in found] == []
    assert any(expression.startswith("absent(up{") for expression in pages)


def test_every_metric_that_the_document_lists_is_watched() -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    listed = set(re.findall(r"^\| `(grebe_\w+)` \|", text, flags=re.MULTILINE))
    watched = {metric for expression in EXPRESSIONS for metric in selected(expression)}
    assert listed
    assert {name for name in listed if not {name, f"{name}_bucket"} & watched} == set()


def test_documents_that_runbooks_name_are_there() -> None:
    text = (ROOT / "infra" / "prometheus-rules.yaml").read_text()
    assert [name for name in re.findall(r"docs/\w+\.md", text) if not (ROOT / name).exists()] == []


def test_panels_do_not_overlap_and_have_ids_and_words_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert len(PANELS) == sum(panel["type"] != "row" for panel in BOARD["panels"])
    assert [title for title, panel in PANELS.items() if not (panel["description"] and panel["targets"])] == []


def test_variables_that_panels_use_are_the_dashboards() -> None:
    known = {variable["name"] for variable in BOARD["templating"]["list"]} | {"__rate_interval", "__all"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD)))
    assert used <= known
