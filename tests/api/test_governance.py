"""Over HTTP, with keys: who may ask what, and what each caller sees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.errors import SettingsError
from api.identity import identity
from api.identity.administration import create_key, grant, revoke_key, withdraw
from api.identity.control import ControlTable
from api.logs import open_log
from api.server import serve, serving
from indexer.apply import apply
from indexer.build import PartResult
from indexer.format.store import Store
from tests.api.conftest import LogLines, client_of, settings_for, until
from tests.api.identity.issuing import ISSUER, Signer, claims_of, key_server, signer
from tests.api.library import Library, book

POLICIES: list[dict[str, Any]] = [
    {"role": "short", "rows": "pages < :most", "masks": {"shelf": "hash", "body": "redact"}},
    {"role": "everything"},
]
BOOKS = "/v1/collections/books"


@dataclass
class Scene:
    """A server, its store's keys by name, and what it logged."""

    client: httpx.Client
    table: ControlTable
    keys: dict[str, str]
    log: LogLines

    def get(self, path: str, who: str | None = None) -> httpx.Response:
        return self.client.get(path, headers=self.headers(who))

    def search(self, who: str | None = None, collection: str = "books", **body: Any) -> httpx.Response:
        return self.client.post(f"/v1/collections/{collection}/search", json=body, headers=self.headers(who))

    def headers(self, who: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[who]}"} if who else {}


def governed(root: Path) -> Library:
    library = Library(root)
    library.commit(1, [book(number) for number in range(20)])
    spec = library.spec.model_dump() | {"policies": POLICIES}
    apply(library.store, type(library.spec).model_validate(spec))
    Library(root, "open").commit(1, [book(number) for number in range(3)])
    return library


def make_keys(table: ControlTable) -> dict[str, str]:
    grant(table, "short", "books", ["search", "read"])
    grant(table, "everything", "*", ["search", "read", "monitor"])
    grant(table, "searcher", "open", ["search"])
    grant(table, "owner", "*", ["admin"])
    made: dict[str, dict[str, Any]] = {
        "short": {"roles": ["short"], "claims": {"most": 50}},
        "everything": {"roles": ["everything"]},
        "both": {"roles": ["short", "everything"], "claims": {"most": 50}},
        "claimless": {"roles": ["short"]},
        "searcher": {"roles": ["searcher"]},
        "owner": {"roles": ["owner"]},
        "roleless": {"roles": ["unheard-of"]},
        "expired": {"roles": ["everything"], "lifetime": timedelta(microseconds=1)},
        "revoked": {"roles": ["everything"]},
    }
    keys = {name: create_key(table, name, **({"claims": {}} | given)) for name, given in made.items()}
    revoke_key(table, keys["revoked"][1].id)
    return {name: key for name, (key, _) in keys.items()}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("governed")
    library = governed(root)
    table = ControlTable(library.store)
    keys, log = make_keys(table), LogLines()
    with client_of(settings_for(root), log) as client:
        yield Scene(client, table, keys, log)


def spoil(library: Library, result: PartResult) -> None:
    """Break a file of each segment before a version names it."""
    for segment in result.segments:
        for file in segment.files:
            library.file(file.path).write_bytes(b"not what was written")


def keys_of(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return sorted(hit["key"] for hit in response.json()["results"])


def test_every_call_of_the_api_wants_to_know_who_asks(scene: Scene) -> None:
    calls = [
        (method, path.replace("{name}", "books").replace("{key}", "1"))
        for path, described in scene.client.get("/openapi.json").json()["paths"].items()
        if path.startswith("/v1/") or path == "/metrics"
        for method in described
    ]
    assert len(calls) >= 6
    for method, path in calls:
        response = scene.client.request(method, path, json={"query": "otter"} if method == "post" else None)
        assert (response.status_code, response.json()["code"]) == (401, "unauthenticated"), path
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="grebe"'
        if path != "/metrics":
            assert scene.client.request(method, f"{path}?wrong=1").status_code == 401


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Basic Z3JlYmU6eA==",
        "Bearer grebe_0123456789ab_" + "x" * 43,
        "Bearer a.b.c",
        "grebe",
        "Bearer \xff",
    ],
)
def test_credentials_that_open_nothing_are_refused(scene: Scene, authorization: str) -> None:
    headers = [(b"Authorization", authorization.encode("latin-1"))]
    response = scene.client.get(BOOKS, headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("who", ["expired", "revoked"])
def test_keys_that_are_over_are_refused_like_unknown_ones(scene: Scene, who: str) -> None:
    response = scene.search(who, query="otter")
    assert response.status_code == 401
    assert response.json()["detail"] == "the key is not known, has expired or was revoked"
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="grebe", error="invalid_token"'


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
def test_each_caller_gets_a_full_page_of_its_own_rows(scene: Scene, mode: str) -> None:
    body: dict[str, Any] = {"query": "heron river story", "mode": mode, "k": 5}

    assert set(keys_of(scene.search("short", **body))) <= set(range(5))
    assert len(keys_of(scene.search("everything", **body))) == 5
    assert keys_of(scene.search("claimless", **body)) == []


def test_rows_in_key_order_are_the_callers(scene: Scene) -> None:
    assert keys_of(scene.search("short", filter="TRUE", k=100)) == list(range(5))
    assert keys_of(scene.search("short", filter="pages > 20", k=100)) == [3, 4]
    assert keys_of(scene.search("both", filter="TRUE", k=100)) == list(range(20))
    # An owner without a policy's role runs the server, and sees no row of it.
    assert keys_of(scene.search("owner", filter="TRUE", k=100)) == []
    assert keys_of(scene.search("owner", "open", filter="TRUE", k=100)) == [0, 1, 2]


def test_masked_values_leave_neither_fields_passages_nor_filters(scene: Scene) -> None:
    answer = scene.search("short", filter="id = 1", include=["shelf", "title", "body", "pages"]).json()
    (hit,) = answer["results"]
    assert answer["masked"] == ["body", "shelf"]
    assert (hit["text"], hit["fields"]["body"], hit["fields"]["title"]) == ("The heron", None, "The heron")
    assert len(hit["fields"]["shelf"]) == 64

    refused = scene.search("short", filter="pages < 9 AND shelf = 'plain'")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-filter")
    assert refused.json()["errors"][0]["code"] == "filter-masked-column"

    assert keys_of(scene.search("short", query="river", mode="keyword")) == []
    assert keys_of(scene.search("short", query="heron", mode="keyword")) == [1]
    assert scene.search("everything", filter="id = 1").json()["masked"] == []


def test_a_row_that_is_not_the_callers_is_not_there(scene: Scene) -> None:
    row = scene.get(f"{BOOKS}/rows/4", "short").json()
    assert (row["masked"], row["fields"]["body"], row["fields"]["pages"]) == (["body", "shelf"], None, 40)

    hidden, absent = (scene.get(f"{BOOKS}/rows/{key}", "short") for key in (7, 777))

    assert hidden.status_code == absent.status_code == 404
    assert hidden.json() | {"request_id": ""} == absent.json() | {"request_id": ""}
    assert scene.get(f"{BOOKS}/rows/7", "everything").status_code == 200


def test_of_many_rows_those_that_are_not_the_callers_are_missing_as_absent_ones_are(scene: Scene) -> None:
    def rows(who: str, *keys: int, status: int = 200) -> Any:
        answer = scene.client.post(f"{BOOKS}/rows", json={"keys": keys}, headers=scene.headers(who))
        assert answer.status_code == status, answer.text
        return answer.json()

    found = rows("short", 4, 7, 777, 2)
    assert [(row["key"], row["fields"]["body"], row["chunks"]) for row in found["rows"]] == [
        (4, None, None),
        (2, None, None),
    ]
    assert (found["missing"], found["masked"]) == ([7, 777], ["body", "shelf"])
    hidden, absent = (rows("short", 4, key) for key in (7, 777))
    alike = {"missing": [], "age_seconds": 0}
    assert hidden | alike == absent | alike
    assert rows("everything", 7)["missing"] == []
    assert rows("claimless", 4)["missing"] == [4]
    assert rows("searcher", 4, status=404)["code"] == "collection-not-found"


def test_unknown_and_forbidden_collections_look_the_same(scene: Scene) -> None:
    for path in ("", "/status", "/rows/1"):
        forbidden, unknown = (scene.get(f"/v1/collections/{name}{path}", "searcher") for name in ("books", "nowhere"))
        assert forbidden.status_code == 404
        assert forbidden.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
    assert scene.search("searcher", "books", query="otter").status_code == 404
    assert scene.search("roleless", query="otter").status_code == 404


def test_an_action_that_no_role_allows_is_refused_on_a_known_collection(scene: Scene) -> None:
    assert scene.search("searcher", "open", query="otter").status_code == 200
    refused = scene.get("/v1/collections/open/rows/1", "searcher")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert refused.json()["detail"] == "no role of yours allows 'read' on this collection"
    many = scene.client.post("/v1/collections/open/rows", json={"keys": [1]}, headers=scene.headers("searcher"))
    assert (many.status_code, many.json()["detail"]) == (403, refused.json()["detail"])


def test_a_list_names_what_the_caller_may_use(scene: Scene) -> None:
    def names(who: str) -> list[str]:
        return [line["name"] for line in scene.get("/v1/collections", who).json()["collections"]]

    assert [names(who) for who in ("short", "searcher", "owner", "roleless")] == [
        ["books"],
        ["open"],
        ["books", "open"],
        [],
    ]


def test_specs_are_shown_without_policies_and_masked_columns(scene: Scene) -> None:
    seen, whole = (scene.get(BOOKS, who).json() for who in ("short", "owner"))
    assert seen["spec"].keys() == whole["spec"].keys() - {"policies", "source"}
    assert seen["columns"].keys() == {"id", "pages"}
    assert len(whole["spec"]["policies"]) == 2


def test_counts_are_for_callers_who_see_every_row(scene: Scene) -> None:
    short, everything, owner = (scene.get(f"{BOOKS}/status", who).json() for who in ("short", "everything", "owner"))
    assert short.keys() < everything.keys()
    assert "rows" not in short
    assert short["version"] == everything["version"]
    assert everything["rows"] == owner["rows"] == 20

    plans = [scene.search(who, query="otter", explain=True).json()["plan"] for who in ("short", "everything")]
    assert [(plan["chunks"], bool(plan["segments"]), plan["keyword"] is None) for plan in plans] == [
        (None, False, True),
        (20, True, False),
    ]


def test_metrics_are_for_who_may_monitor_everything(scene: Scene) -> None:
    assert scene.get("/metrics", "searcher").status_code == 403
    assert "grebe_collection_rows" in scene.get("/metrics", "everything").text


def test_what_needs_no_key_tells_no_name(scene: Scene) -> None:
    for path in ("/", "/livez", "/readyz", "/startupz", "/version", "/openapi.json", "/problems/forbidden"):
        response = scene.get(path)
        assert response.status_code == 200, path
        assert "books" not in response.text, path


def test_the_log_names_the_actor_and_the_roles_whose_policy_could_not_be_used(scene: Scene) -> None:
    scene.client.post(
        f"{BOOKS}/search", json={"query": "otter"}, headers=scene.headers("claimless") | {"X-Request-ID": "closed"}
    )
    scene.client.get(BOOKS, headers={"X-Request-ID": "nobody"})
    lines = {line.get("request_id"): line for line in scene.log.lines()}
    assert lines["closed"]["actor"].startswith("key:")
    assert lines["closed"]["closed_policies"] == ["short"]
    assert "actor" not in lines["nobody"]
    assert not any(key in str(lines) for key in scene.keys.values())


def test_a_revoked_key_and_a_withdrawn_role_hold_within_two_seconds(scene: Scene) -> None:
    key, kept = create_key(scene.table, "passing", roles=["everything", "guest"], claims={})
    grant(scene.table, "guest", "open", ["search"])
    scene.keys["passing"] = key
    until(lambda: scene.search("passing", query="otter").status_code == 200, seconds=2)

    revoke_key(scene.table, kept.id)

    until(lambda: scene.search("passing", query="otter").status_code == 401, seconds=2)
    withdraw(scene.table, "guest")


def test_a_server_that_cannot_read_the_keys_lets_nobody_in(tmp_path: Path) -> None:
    library = governed(tmp_path)
    keys = make_keys(ControlTable(library.store))
    with client_of(settings_for(tmp_path, identity={"trust_seconds": 0.6})) as client:
        headers = {"Authorization": f"Bearer {keys['everything']}"}
        assert client.get(BOOKS, headers=headers).status_code == 200
        away = (tmp_path / "store" / "_control").rename(tmp_path / "away")

        until(lambda: client.get(BOOKS, headers=headers).status_code == 503, seconds=5)

        refused = client.get(BOOKS, headers=headers)
        assert (refused.json()["code"], refused.headers["Retry-After"]) == ("identity-unavailable", "1")
        away.rename(tmp_path / "store" / "_control")
        until(lambda: client.get(BOOKS, headers=headers).status_code == 200, seconds=5)


def test_keys_are_trusted_for_as_long_as_the_settings_say_where_the_store_is_away(tmp_path: Path) -> None:
    library = governed(tmp_path)
    headers = {"Authorization": f"Bearer {make_keys(ControlTable(library.store))['everything']}"}
    with client_of(settings_for(tmp_path, identity={"trust_seconds": 60})) as client:
        away = (tmp_path / "store" / "_control").rename(tmp_path / "away")
        time.sleep(3 * identity.POLL_SECONDS)
        assert client.get(BOOKS, headers=headers).status_code == 200
        assert client.get("/readyz").status_code == 200
        away.rename(tmp_path / "store" / "_control")


def test_a_server_that_asks_everybody_who_they_are_starts_before_the_keys_can_be_read(tmp_path: Path) -> None:
    library = governed(tmp_path)
    headers = {"Authorization": f"Bearer {make_keys(ControlTable(library.store))['everything']}"}
    broken = tmp_path / "store" / "_control" / f"{99:020}.json"
    broken.write_text("not what a server writes")
    with pytest.raises(SettingsError, match=r"host: whether '0\.0\.0\.0' may be served cannot be told"):
        serve(settings_for(tmp_path, host="0.0.0.0"))

    named = settings_for(tmp_path, host="0.0.0.0", identity={"required": True})
    with serving(named) as url, httpx.Client(base_url=url.replace("0.0.0.0", "127.0.0.1"), timeout=60) as client:
        assert client.get("/readyz").status_code == 503
        assert client.get(BOOKS, headers=headers).status_code == 503
        broken.unlink()
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.get(BOOKS, headers=headers).status_code == 200
        assert client.get(BOOKS).status_code == 401


def test_without_a_key_only_this_machine_is_served_and_policies_hold(tmp_path: Path) -> None:
    governed(tmp_path)
    with client_of(settings_for(tmp_path)) as client:
        assert client.post("/v1/collections/open/search", json={"query": "otter"}).json()["results"]
        assert client.post(f"{BOOKS}/search", json={"query": "otter"}).json()["results"] == []
        assert client.get(f"{BOOKS}/rows/1").status_code == 404

    with pytest.raises(SettingsError, match=r"host: '0\.0\.0\.0' is not a loopback address, and there is no key yet"):
        serving(settings_for(tmp_path, host="0.0.0.0")).__enter__()


def test_a_key_that_is_not_known_yet_is_refused_and_not_taken_for_nobody(tmp_path: Path) -> None:
    governed(tmp_path)
    with client_of(settings_for(tmp_path)) as client:
        response = client.get("/v1/collections", headers={"Authorization": f"Bearer grebe_0123456789ab_{'x' * 43}"})
        assert response.status_code == 401
        assert "one that was just made works within two seconds" in response.json()["detail"]
        assert client.get("/v1/collections", headers={"Authorization": "Bearer x.y.z"}).status_code == 200


def test_the_first_key_closes_a_running_server_and_opens_it_to_others(tmp_path: Path) -> None:
    library = governed(tmp_path)
    with client_of(settings_for(tmp_path)) as client:
        grant(ControlTable(library.store), "everything", "*", ["search"])
        time.sleep(2 * identity.POLL_SECONDS)
        assert client.get("/v1/collections").status_code == 200
        create_key(ControlTable(library.store), "first", roles=["everything"], claims={})
        until(lambda: client.get("/v1/collections").status_code == 401, seconds=2)

    with client_of(settings_for(tmp_path, host="0.0.0.0")) as client:
        assert client.get("/version", headers={"Host": "grebe.internal"}).status_code == 200
        assert client.get("/v1/collections").status_code == 401


def test_a_request_that_waits_is_answered_for_what_its_caller_may_do_by_then(tmp_path: Path) -> None:
    library = governed(tmp_path)
    table = ControlTable(library.store)
    keys = make_keys(table)
    with client_of(settings_for(tmp_path)) as client, ThreadPoolExecutor() as threads:

        def waits(who: str) -> httpx.Response:
            body = {"filter": "TRUE", "k": 100, "min_version": 2, "deadline_ms": 30_000}
            return client.post(f"{BOOKS}/search", json=body, headers={"Authorization": f"Bearer {keys[who]}"})

        asked = {who: threads.submit(waits, who) for who in ("short", "everything", "both")}
        time.sleep(0.5)
        control = table.read()
        assert control is not None
        revoke_key(table, next(id_ for id_, key in control.keys.items() if key.name == "everything"))
        withdraw(table, "short")
        time.sleep(3 * identity.POLL_SECONDS)
        library.commit(2, [book(99)])

        codes = {who: answer.result().status_code for who, answer in asked.items()}
    assert codes == {"short": 404, "everything": 401, "both": 200}


def test_policies_hold_although_the_version_that_brings_them_cannot_be_opened(tmp_path: Path) -> None:
    library = governed(tmp_path)
    keys = make_keys(ControlTable(library.store))
    with client_of(settings_for(tmp_path)) as client:

        def sees(who: str) -> list[int]:
            body = {"filter": "TRUE", "k": 100}
            return keys_of(client.post(f"{BOOKS}/search", json=body, headers={"Authorization": f"Bearer {keys[who]}"}))

        assert (sees("everything"), sees("short")) == (list(range(20)), list(range(5)))
        spoiled = library.commit(2, [book(30)], before_commit=lambda result: spoil(library, result))
        tighter = [{"role": "everything", "rows": "pages < 30"}, {"role": "short", "masks": {"pages": "redact"}}]
        apply(library.store, type(library.spec).model_validate(library.spec.model_dump() | {"policies": tighter}))

        until(lambda: sees("everything") == [0, 1, 2], seconds=5)

        assert sees("short") == list(range(20))
        assert (
            "masked for you"
            in client.post(
                f"{BOOKS}/search", json={"filter": "pages > 1"}, headers={"Authorization": f"Bearer {keys['short']}"}
            ).text
        )
        assert spoiled.version > 1


def test_with_an_issuer_a_caller_needs_credentials_before_there_is_a_key(tmp_path: Path) -> None:
    governed(tmp_path)
    trusted = {"issuer": ISSUER, "audience": "grebe", "jwks": str(tmp_path / "keys.json")}
    with client_of(settings_for(tmp_path, identity={"issuers": [trusted]})) as client:
        assert client.get("/v1/collections").status_code == 401


def test_revoking_the_last_key_opens_nothing(tmp_path: Path) -> None:
    table = ControlTable(governed(tmp_path).store)
    _, kept = create_key(table, "only", roles=["everything"], claims={})
    revoke_key(table, kept.id)
    with client_of(settings_for(tmp_path)) as client:
        assert client.get("/v1/collections").status_code == 401


def test_before_the_keys_are_read_nobody_is_let_in_and_no_name_is_told(tmp_path: Path) -> None:
    library = governed(tmp_path)
    library.store.put(f"_control/{1:020d}.json", b"{}")
    with serving(settings_for(tmp_path), log=open_log(LogLines())) as url, httpx.Client(base_url=url) as client:
        until(lambda: client.get("/readyz").json()["reasons"] == ["the keys and roles have not been read for a while"])
        assert client.get("/v1/collections").json()["code"] == "identity-unavailable"
        assert [path for path in ("/", "/readyz", "/startupz") if "books" in client.get(path).text] == []
        assert client.get("/livez").status_code == 200


def test_counts_need_the_action_and_every_action_makes_a_collection_known(tmp_path: Path) -> None:
    table = ControlTable(governed(tmp_path).store)
    keys = {}
    for action in ("search", "read", "monitor"):
        grant(table, action, "books", [action])
        keys[action], _ = create_key(table, action, roles=[action, "everything"], claims={})
    with client_of(settings_for(tmp_path)) as client:
        status = {
            who: client.get(f"{BOOKS}/status", headers={"Authorization": f"Bearer {key}"}) for who, key in keys.items()
        }

    assert {who: answer.status_code for who, answer in status.items()} == dict.fromkeys(keys, 200)
    assert {who: "rows" in answer.json() for who, answer in status.items()} == {
        "search": False,
        "read": True,
        "monitor": True,
    }


def test_several_credentials_are_refused(tmp_path: Path) -> None:
    keys = make_keys(ControlTable(governed(tmp_path).store))
    with client_of(settings_for(tmp_path)) as client:
        twice = [("Authorization", f"Bearer {keys[who]}") for who in ("short", "everything")]
        refused = client.get(BOOKS, headers=twice)
    assert (refused.status_code, refused.json()["detail"]) == (401, "the request has several Authorization headers")


def test_tokens_of_an_issuer_bring_roles_and_claims(tmp_path: Path) -> None:
    make_keys(ControlTable(governed(tmp_path).store))
    alice, stranger = signer("RS256-alice"), signer("RS256-stranger")
    with key_server(alice) as issuer:
        trusted = {"issuer": ISSUER, "audience": "grebe", "jwks": issuer.url, "roles_claim": "realm_access.roles"}
        with client_of(settings_for(tmp_path, identity={"issuers": [trusted]}), log := LogLines()) as client:

            def ask(by: Signer = alice, **claims: Any) -> httpx.Response:
                times = {"exp": time.time() + 60, "iat": time.time()}
                token = by.token(claims_of(**(times | {"realm_access": {"roles": ["short"]}, "most": 30} | claims)))
                headers = {"Authorization": f"bearer {token}", "X-Request-ID": "by-token"}
                return client.post(f"{BOOKS}/search", json={"filter": "TRUE", "k": 100}, headers=headers)

            assert keys_of(ask()) == [0, 1, 2]
            assert keys_of(ask(most=None)) == []
            assert ask(realm_access=None).status_code == 404
            refused = [ask(stranger), ask(aud="another"), ask(exp=time.time() - 60), ask(iss="https://else.where/")]
            assert {(each.status_code, each.json()["code"]) for each in refused} == {(401, "unauthenticated")}
            assert refused[1].json()["detail"] == "the token is for another audience"
    assert {line["actor"] for line in log.lines() if line.get("actor")} == {f"token:{ISSUER}#alice"}


def test_identity_can_be_required_before_there_is_a_key(tmp_path: Path) -> None:
    governed(tmp_path)
    with client_of(settings_for(tmp_path, identity={"required": True})) as client:
        assert client.get("/v1/collections").status_code == 401


def test_a_store_that_is_no_store_yet_has_no_keys(tmp_path: Path) -> None:
    assert ControlTable(Store.at(str(tmp_path / "nowhere"))).read() is None


def test_a_caller_beyond_its_quota_is_refused_and_others_are_not(tmp_path: Path) -> None:
    keys = make_keys(ControlTable(governed(tmp_path).store))
    with client_of(settings_for(tmp_path, quota="3/hour")) as client:

        def ask(who: str) -> httpx.Response:
            return client.get(BOOKS, headers={"Authorization": f"Bearer {keys[who]}"})

        answers = [ask("short") for _ in range(4)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
        assert answers[0].headers["RateLimit-Limit"] == "3"
        assert answers[3].json()["code"] == "quota-exceeded"
        assert 1 <= int(answers[3].headers["Retry-After"]) <= 3600
        assert ask("everything").status_code == 200
        assert "RateLimit-Limit" not in client.get("/readyz").headers
