from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession

from indexer.catalog import Catalog
from indexer.format.store import Store
from indexer.spec_file import parse_spec
from jobs.doctor import DEFAULT_MODEL, Finding, _models, _reranker, _rerankers, examine, faiss, python
from jobs.settings import Settings


def test_two_faiss_packages_are_refused() -> None:
    finding = faiss(frozenset({"faiss-cpu", "faiss-gpu-cuvs", "numpy"}))
    assert finding.state == "failed"
    assert finding.found == "faiss-cpu and faiss-gpu-cuvs are installed together and overwrite each other"
    assert finding.advice.startswith("pip uninstall -y faiss-cpu faiss-gpu-cuvs")


def test_no_faiss_says_what_to_install() -> None:
    assert "grebe[cpu]" in faiss(frozenset()).advice


def test_an_old_python_is_refused() -> None:
    assert python((3, 10, 4)) == Finding(
        check="python", state="failed", found="3.10.4", advice="install Python 3.11 or newer and run `make` again"
    )
    assert python((3, 11, 0)).state == "ok"


def test_everything_is_tried_and_what_breaks_is_a_finding(tmp_path: Path, spark: SparkSession) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    settings = Settings(store=str(blocked / "store"), cache=tmp_path / "cache", data=tmp_path, debug=False)
    findings = {finding.check: finding for finding in examine(settings, model="hash:8")}
    assert list(findings) == ["python", "java", "faiss", "gpu", "cache", "store", "model", "spark and delta"]
    assert findings["store"].state == "failed"
    assert "GREBE_STORE" in findings["store"].advice
    assert findings["model"].found.startswith("hash:8: 8 dimensions")
    others = {name: finding.state for name, finding in findings.items() if name not in {"gpu", "store"}}
    assert set(others.values()) == {"ok"}, findings


def test_the_store_is_left_as_it_was(tmp_path: Path) -> None:
    settings = Settings(store=str(tmp_path / "store"), cache=tmp_path / "cache", data=tmp_path, debug=False)
    finding = next(found for found in examine(settings, model="hash:8") if found.check == "store")
    assert finding.state == "ok"
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_the_models_are_those_of_the_stores_collections(tmp_path: Path) -> None:
    settings = Settings(store=str(tmp_path / "store"), cache=tmp_path / "cache", data=tmp_path, debug=False)
    assert _models(settings) == [DEFAULT_MODEL]

    for name, vector in (("a", "model: 'hash:16'"), ("b", "model: 'hash:8'"), ("c", "column: v, dim: 3")):
        text = f"name: {name}\nsource: {{table: t}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\nvector: {{{vector}}}"
        Catalog.create(Store.at(settings.store), parse_spec(text))

    assert _models(settings) == ["hash:16", "hash:8"]
    assert _rerankers(settings) == []


def test_reranking_models_are_tried_each_once(tmp_path: Path) -> None:
    settings = Settings(store=str(tmp_path / "store"), cache=tmp_path / "cache", data=tmp_path, debug=False)
    for name in ("a", "b"):
        text = (
            f"name: {name}\nsource: {{table: t}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\nvector: {{model: 'hash:8'}}"
        )
        Catalog.create(Store.at(settings.store), parse_spec(f"{text}\nrerank: {{model: 'words:overlap'}}"))

    (spec,) = _rerankers(settings)

    finding = _reranker(spec, settings)
    assert (finding.check, finding.state) == ("reranking model", "ok")
    assert finding.found.startswith("words:overlap: a passage in ")
