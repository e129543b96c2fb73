from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from api.identity.administration import create_key
from api.identity.control import ControlTable
from connectors.errors import SchemaMismatch
from indexer.format.store import Store
from indexer.spec import CollectionSpec
from indexer.spec_file import parse_spec
from jobs.looks import look_at_model, look_at_table, looks_at_claims, looks_at_policies, state_of
from jobs.starter import facts_of
from tests.api.library import Library

SPEC = (
    "name: birds\nsource: {{table: {table}}}\nkey: [id]\ncolumns: [{column}]\ntext: {{fields: {{body: 1}}}}\n"
    "vector: {{column: v, dim: 3}}"
)


def a_table(folder: Path, *, feed: bool) -> str:
    rows = pa.table({"id": [1], "body": ["a grebe"], "year": [2000], "v": [[0.0, 1.0, 0.0]]})
    write_deltalake(str(folder), rows, configuration={"delta.enableChangeDataFeed": str(feed).lower()})
    return str(folder)


def test_a_table_that_fits_needs_no_warning(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t", feed=True)
    assert look_at_table(parse_spec(SPEC.format(table=table, column="year"))) is None
    assert facts_of(table).change_feed


def test_a_column_that_the_table_lacks_is_named(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t", feed=True)
    with pytest.raises(SchemaMismatch, match=r"birds: 'yaer' is missing; did you mean 'year'\? The table has: id"):
        look_at_table(parse_spec(SPEC.format(table=table, column="yaer")))


def test_a_column_that_a_sync_would_refuse_is_refused_in_its_words(tmp_path: Path) -> None:
    labels = pa.array([[("colour", "brown")]], pa.map_(pa.string(), pa.string()))
    rows = pa.table({"id": [1], "body": ["a grebe"], "labels": labels, "v": [[0.0, 1.0, 0.0]]})
    write_deltalake(str(tmp_path / "t"), rows)
    with pytest.raises(
        SchemaMismatch, match="column 'labels' is map<string,string>, which can be neither filtered nor compared"
    ):
        look_at_table(parse_spec(SPEC.format(table=tmp_path / "t", column="labels")))


def test_a_change_feed_that_is_off_comes_with_the_statement_that_turns_it_on(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t", feed=False)
    warning = look_at_table(parse_spec(SPEC.format(table=table, column="year")))
    assert warning is not None
    assert f"ALTER TABLE delta.`{table}` SET TBLPROPERTIES (delta.enableChangeDataFeed = true)" in warning


@pytest.mark.parametrize(
    ("table", "warned"), [("absent", True), ("/absent/t", True), ("main.birds.seen", False), ("s3://b/t", False)]
)
def test_a_folder_that_is_not_here_is_a_warning_and_no_error(table: str, warned: bool) -> None:
    assert (look_at_table(parse_spec(SPEC.format(table=table, column="year"))) is not None) == warned


def test_a_models_folder_that_is_not_there_is_named_and_a_hubs_name_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    there = {str(tmp_path), "organisation/model"}
    for model in (*there, f"{tmp_path}/file", f"{tmp_path}/none", "./none"):
        spec = parse_spec(
            f"name: birds\nsource: {{table: t}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\nvector: {{model: '{model}'}}"
        )
        assert (look_at_model(spec) is None) == (model in there)


def test_policies_that_show_less_than_one_may_think_are_told(tmp_path: Path) -> None:
    library = Library(tmp_path)

    def told(policies: list[dict[str, Any]], **changed: Any) -> list[str]:
        spec = CollectionSpec.model_validate(library.spec.model_dump() | {"policies": policies} | changed)
        return list(looks_at_policies(library.store, state_of(library.store, "books"), spec))

    masked = [{"role": "reader", "masks": {"body": "redact", "pages": "hash"}}]
    assert told([]) == []
    no_meaning, no_key = told(masked)
    assert "for role 'reader' chunks with text of body are not searched by meaning; text: {chunk:" in no_meaning
    assert "there is no API key yet" in no_key
    assert no_key.endswith("sees a row: grebe keys create NAME --role reader")
    few = told([{"role": "reader", "rows": "shelf = :shelf AND pages < :most"}])
    assert few[0].endswith("grebe keys create NAME --role reader --claim most=VALUE --claim shelf=VALUE")

    create_key(ControlTable(library.store), "first", roles=["reader"], claims={})
    apart = {"text": {"fields": {"title": 1.0, "body": 1.0}, "chunk": {"per_field": True}}}
    assert told(masked, **apart) == []


def test_roles_that_are_not_bound_to_a_tenant_are_told(tmp_path: Path) -> None:
    library = Library(tmp_path)
    create_key(ControlTable(library.store), "first", roles=["reader"], claims={})
    policies = [
        {"role": "member", "rows": "author = :author AND pages > 3"},
        {"role": "partner", "rows": "pages > 900 AND (author IN (:authors) OR lower(author) = 'nobody')"},
        {"role": "everybody", "rows": "pages < 100 OR author = :author"},
        {"role": "others", "rows": "author <> :author AND pages < 100"},
        {"role": "anybody", "rows": "author IS NOT NULL AND 1 = 1"},
        {"role": "itself", "rows": "author = author"},
        {"role": "choosers", "rows": ":role = 'admin' AND pages > 3"},
        {"role": "auditor"},
    ]
    apart = {"key": ["author", "id"], "isolation": {"tenant": "author"}, "policies": policies}
    spec = CollectionSpec.model_validate(library.spec.model_dump() | apart)

    warnings = list(looks_at_policies(library.store, None, spec))

    roles = [re.findall(r"^role '(\w+)' is not bound to tenants", warning) for warning in warnings]
    assert roles == [["everybody"], ["others"], ["anybody"], ["itself"], ["choosers"]]
    assert warnings[0] == (
        "role 'everybody' is not bound to tenants by its rows, so its answers are found and scored among all of them; "
        "say AND author = :claim"
    )
    together = spec.model_copy(update={"isolation": None})
    assert list(looks_at_policies(library.store, None, together)) == []
    state = library.catalog.read().model_copy(update={"spec": spec})
    assert list(looks_at_policies(library.store, state, together)) == [
        "after the rebuild, tenants ('author') share one index and its statistics"
    ]
    assert list(looks_at_policies(library.store, None, spec.model_copy(update={"policies": ()}))) == [
        "isolation keeps no row from anybody: without policies whoever may search 'books' sees all tenants"
    ]


def test_a_role_that_loses_its_policy_is_told(tmp_path: Path) -> None:
    library = Library(tmp_path)
    create_key(ControlTable(library.store), "first", roles=["reader"], claims={})
    state = library.catalog.read()
    governed = library.spec.model_validate(library.spec.model_dump() | {"policies": [{"role": "a"}, {"role": "b"}]})
    before = state.model_copy(update={"spec": governed})

    spec = CollectionSpec.model_validate(library.spec.model_dump() | {"policies": [{"role": "b"}]})

    assert list(looks_at_policies(library.store, before, spec)) == ["role 'a' has no policy any more, and sees no row"]
    assert state_of(library.store, "nowhere") is None


def test_a_table_that_is_not_there_may_be_meant_for_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()

    def warning(table: str) -> str | None:
        return look_at_table(parse_spec(SPEC.format(table=table, column="year")))

    assert warning(str(tmp_path / "bocks")) == (
        f"{tmp_path}/bocks: no such folder here; its columns are unchecked; did you mean {tmp_path}/books?"
    )
    assert warning(str(tmp_path / "elsewhere" / "x")) == (
        f"{tmp_path}/elsewhere/x: no such folder here; its columns are unchecked"
    )
    assert warning("catalog.schema.table") is None


def test_a_key_that_lacks_a_claim_is_told_what_it_will_not_see(tmp_path: Path) -> None:
    Library(tmp_path, "books", policies=[{"role": "clerk", "rows": "shelf = :shelf AND pages < :most"}])
    Library(
        tmp_path, "others", policies=[{"role": "clerk", "rows": "pages < 9"}, {"role": "reader", "rows": "pages < :n"}]
    )
    store = Store.at(str(tmp_path / "store"))

    assert list(looks_at_claims(store, ["clerk"], {"shelf": "a"})) == [
        "in 'books' role 'clerk' shows no row to who has no most: --claim most=VALUE"
    ]
    assert list(looks_at_claims(store, ["clerk"], {"shelf": "a", "most": 3})) == []
    assert len(list(looks_at_claims(store, ["clerk", "reader"], {}))) == 2
