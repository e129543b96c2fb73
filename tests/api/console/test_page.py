"""The console in a browser, over real servers and collections."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.api.console.conftest import HOSTILE, Served, added
from tests.api.library import book

pytest.importorskip("playwright", reason="playwright is not installed")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import BrowserContext, Page, Route

A_MOMENT_MS = 150


def place(served: Served, tab: str, **fields: str) -> str:
    return f"{served.url}/#{tab}?{urlencode({name.replace('__', '.'): value for name, value in fields.items()})}"


def copied(page: Page, button: str) -> str:
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("button", name="Copied").first).to_be_visible()
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def answered(page: Page, columns: list[tuple[str, str, bool]], rows: str, masked: list[str] | None = None) -> None:
    """Have statements answered with these columns, each with whether it is masked, and rows in JSON."""
    named = [{"name": name, "type": type_, "masked": is_masked} for name, type_, is_masked in columns]
    told = {"masked": masked or [], "version": 1, "truncated": False, "age_seconds": 1, "source": None}
    rest = json.dumps({"columns": named, "plan": {"mode": "filter", "rows": 1}, "took_ms": {"total": 1}, **told})
    page.route("**/v1/sql", given(body=f'{rest[:-1]}, "rows": [{rows}]}}'))


def given(**answer: Any) -> Callable[[Route], None]:
    """Return what answers a request so."""
    return lambda route: route.fulfill(**answer)


def test_collections_are_listed_with_how_they_are_and_what_to_do_and_stay_new(page: Page, served: Served) -> None:
    page.goto(served.url)
    cards = page.locator(".collection")
    books, held = (cards.filter(has=page.get_by_role("heading", name=name)) for name in ("books", "waiting"))
    rows = books.locator(".main div", has_text="rows").locator("dd")
    expect(rows).to_have_text("21")
    expect(books.locator(".badge")).to_have_text("open")
    expect(books.locator(".facts")).to_contain_text("version 3")
    expect(held.locator(".badge")).to_have_text("look below")
    expect(held.locator(".age")).to_have_text(re.compile(r"^2\.\d h$"))
    expect(held.locator(".advice .warn code").first).to_have_text("grebe sync waiting --approve 8")
    expect(held.locator(".facts")).to_contain_text("67 % of 3.0 h")
    expect(held.locator(".facts")).to_contain_text("mass delete")
    age = books.locator(".age").inner_text()
    served.books.commit(4, [book(21)])
    expect(rows).to_have_text("22")
    expect(books.locator(".age")).not_to_have_text(age)
    assert len(books.locator(".sparkline .line").get_attribute("d") or "") > len("M2.0 4.0")
    served.books.commit(5, deletes=[book(21)])


def test_a_search_marks_its_words_and_its_bars_add_up_to_the_score(page: Page, served: Served) -> None:
    page.goto(place(served, "search", collection="books"))
    page.get_by_label("Query").fill("Stories of a heron")
    page.get_by_label("Query").press("Enter")
    expect(page.locator("#search-said")).to_have_text(re.compile(r"^10 hits in [\d.]+ ms$"))
    hit = page.locator(".hit").first
    assert {text.lower() for text in hit.locator(".passage mark").all_inner_texts()} == {"story", "heron"}
    hit.get_by_text("Why this score").click()
    score = float(hit.locator(".score").get_attribute("title") or "")
    parts = added(hit.locator("tbody tr"))
    assert len(parts) == 2
    assert sum(parts) == pytest.approx(score, abs=1e-4)
    assert added(hit.locator("tfoot tr")) == pytest.approx([score], abs=1e-4)
    widths = [float(part.evaluate("part => part.offsetWidth")) for part in hit.locator(".why .part").all()]
    assert widths[0] / sum(widths) == pytest.approx(parts[0] / sum(parts), abs=0.02)
    expect(page.locator("#search-found > .run").first).to_contain_text("vectors exact")
    expect(page.locator("#search-found .times .legend")).to_contain_text("keyword")


def test_a_filter_that_cannot_be_used_is_marked_at_its_place(page: Page, served: Served) -> None:
    text = "shelf <> '😀' AND shelv = 'a'"
    page.goto(place(served, "search", collection="books", query="otter", filter=text))
    problem = page.get_by_role("alert").filter(has_text="The filter cannot be used")
    expect(problem.locator("mark")).to_have_text("shelv")
    expect(problem).to_contain_text("did you mean shelf")
    expect(problem).to_contain_text("line 1, column 18")
    area = page.get_by_label("Condition in SQL")
    expect(page.locator(".options .behind mark")).to_have_text("shelv")
    expect(area).to_have_attribute("aria-invalid", "true")
    area.fill("shelf IS NULL")
    expect(page.locator(".options .behind mark")).to_have_count(0)
    area.press("Control+Enter")
    expect(page.locator(".hit h3")).to_have_text(["20"])
    expect(page.locator(".hit .null")).to_have_text("NULL")


def test_the_request_can_be_taken_along_with_its_parameters(page: Page, served: Served) -> None:
    page.goto(place(served, "search", collection="books", query="otter's", k="3"))
    page.get_by_label("Condition in SQL").fill("pages < :most")
    page.get_by_label(":most").fill("60")
    page.get_by_label("Weights").fill("0.8")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#search-said")).to_have_text(re.compile("^3 hits"))
    shown = [int(key) for key in page.locator(".hit h3").all_inner_texts()]
    body = json.loads(copied(page, "Copy as JSON"))
    assert body == {
        "query": "otter's",
        "k": 3,
        "filter": "pages < :most",
        "params": {"most": 60},
        "fusion": {"weights": {"vector": 0.8, "keyword": 0.2}},
        "explain": True,
    }
    answer = subprocess.check_output(["bash", "-c", copied(page, "Copy as curl")], text=True)
    assert [hit["key"] for hit in json.loads(answer)["results"]] == shown


def test_stages_after_fusion_are_explained_up_to_the_score(page: Page, served: Served) -> None:
    page.goto(place(served, "search", collection="books", query="otter"))
    page.get_by_text("After fusion", exact=True).click()
    expect(page.get_by_label("Rerank with")).to_be_disabled()
    page.get_by_label("Decay by").select_option("pages")
    page.get_by_label("Scale").fill("50")
    page.get_by_label("Origin").fill("100")
    page.get_by_label("Collapse by").select_option("pages")
    page.get_by_label("Rows of one value").fill("2")
    page.get_by_label("Diversify").check()
    page.get_by_role("button", name="Search").click()
    hit = page.locator(".hit").first
    expect(hit.locator(".stages b")).to_have_text(["decay", "collapse", "diversify"])
    score = float(hit.locator(".score").get_attribute("title") or "")
    hit.get_by_text("Why this score").click()
    assert float(hit.locator(".final b").inner_text()) == pytest.approx(score, abs=1e-4)
    expect(page.locator(".times .legend")).to_contain_text("diversify")


def test_an_index_that_is_too_old_is_told_as_such(page: Page, served: Served) -> None:
    page.goto(place(served, "search", collection="books", query="otter", min_version="999", deadline_ms="50"))
    expect(page.get_by_role("alert")).to_contain_text("The index is not new enough yet")
    expect(page.get_by_label("Source version at least")).to_have_value("999")


def test_a_statement_gives_a_table_a_chart_and_a_file(page: Page, served: Served) -> None:
    page.goto(place(served, "sql"))
    editor = page.get_by_label("Statement")
    editor.fill("SELECT shelf, sum(pages) AS total\nFROM books\nWHERE id < :below GROUP BY shelf ORDER BY total")
    expect(page.locator(".numbers")).to_have_text("1\n2\n3")
    page.get_by_label(":below").fill("100")
    editor.press("Control+Enter")
    expect(page.locator("#sql-said")).to_have_text(re.compile("^3 rows in"))
    assert page.locator("table.rows tbody td").all_inner_texts() == ["NULL", "200", "a/b, c", "810", "plain", "900"]
    assert page.locator("table.rows td.right").first.evaluate("cell => getComputedStyle(cell).textAlign") == "right"
    bars = [float(bar.get_attribute("width") or "") for bar in page.locator(".chart rect").all()]
    assert [bar / bars[2] for bar in bars] == pytest.approx([200 / 900, 810 / 900, 1])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    assert download.value.path().read_bytes() == b'shelf,total\r\n,200\r\n"a/b, c",810\r\nplain,900\r\n'


def test_dates_are_a_line_long_answers_come_in_pages_and_are_said_to_be_cut(page: Page, served: Served) -> None:
    line = "SELECT CAST(shelf AS DATE) AS day, count(*) AS n FROM diary GROUP BY day"
    page.goto(place(served, "sql", sql=line))
    expect(page.locator("#sql-said")).to_be_empty()  # whoever opens a link sees the statement before it runs
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".chart circle")).to_have_count(40)
    page.get_by_label("Statement").fill("SELECT id, title FROM diary")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#sql-found")).to_contain_text("There are more rows")
    expect(page.locator("table.rows tbody tr")).to_have_count(200)
    page.get_by_role("button", name="Show more (800 are left)").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(400)


def test_a_statement_is_read_on_to_its_last_row_all_of_one_version(page: Page, served: Served) -> None:
    cursors: list[str | None] = []
    page.on("request", lambda sent: cursors.append(json.loads(sent.post_data or "{}").get("cursor")))
    page.goto(place(served, "sql", sql="SELECT id FROM diary"))
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#sql-said")).to_have_text(re.compile("^1,000 rows in"))
    cursors.clear()
    page.get_by_role("button", name="Read on").click()
    expect(page.locator("#sql-said")).to_have_text(re.compile("^1,050 rows in"))
    expect(page.get_by_role("button", name="Read on")).to_have_count(0)
    assert cursors[0] == "start"
    assert len(cursors) == 2
    assert len(cursors[1] or "") > 50
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    ids = download.value.path().read_text().split()[1:]
    assert sorted(map(int, ids)) == list(range(1050))


def test_a_statement_that_cannot_run_is_marked_at_its_place(page: Page, served: Served) -> None:
    page.goto(place(served, "sql", sql="SELECT shelf,\n  nope\nFROM books"))
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("alert").locator("mark")).to_have_text("nope")
    expect(page.locator("#sql .behind mark")).to_have_text("nope")
    expect(page.get_by_role("alert")).to_contain_text("line 2, column 3")


def test_a_row_is_looked_up_by_each_part_of_its_key_and_from_a_hit(page: Page, served: Served) -> None:
    page.goto(place(served, "search", collection="pairs", query="heron", mode="keyword"))
    page.get_by_role("link", name="Whole row").first.click()
    row = page.locator(".row")
    expect(row.locator("h3")).to_have_text("a/b, c · 1")
    expect(row.locator(".values")).to_contain_text("Story 1 of a heron by the river")
    page.get_by_role("textbox", name="id").fill("77")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no such row")
    page.go_back()
    expect(row.locator("h3")).to_have_text("a/b, c · 1")


def test_rows_like_a_hit_are_one_link_away(page: Page, served: Served) -> None:
    page.goto(place(served, "search", collection="pairs", query="heron", mode="keyword"))
    page.get_by_role("link", name="More like this").first.click()
    expect(page.get_by_role("textbox", name="Like the row of this key")).to_have_value('["a/b, c","1"]')
    expect(page.locator("#search-said")).to_contain_text("hits in")
    expect(page.locator(".hit h3").first).to_be_visible()
    assert "a/b, c · 1" not in page.locator(".hit h3").all_text_contents()


def test_a_key_is_asked_for_kept_in_the_tab_alone_and_shows_what_its_caller_may_see(
    page: Page, context: BrowserContext, governed: Served
) -> None:
    page.goto(place(governed, "search", collection="books", query="otter"))
    field = page.get_by_role("textbox", name="API key or token")
    expect(page.locator("#key-said")).to_have_text("The server wants to know who is asking.")
    expect(field).to_be_focused()
    field.fill("grebe_0123456789ab_" + "x" * 43)
    field.press("Enter")
    expect(page.locator("#key-said")).to_contain_text("does not take this key")
    expect(page.get_by_role("button", name="Key refused")).to_be_visible()
    field.fill(governed.keys["short"])
    field.press("Enter")
    expect(page.locator("#search-found .note")).to_have_text("Masked for you: body, shelf.")
    expect(page.locator(".hit .masked").first).to_contain_text(re.compile("^masked [0-9a-f]{10}…$"))
    assert {int(key) for key in page.locator(".hit h3").all_inner_texts()} <= set(range(5))
    line = copied(page, "Copy as curl")
    assert "Bearer $KEY" in line
    stored = page.evaluate("JSON.stringify([localStorage, document.cookie, location.href, document.body.outerHTML])")
    assert governed.keys["short"] not in stored + line + json.dumps(context.cookies())
    assert page.evaluate("sessionStorage['grebe.key']") == governed.keys["short"]
    answer = json.loads(subprocess.check_output(["bash", "-c", f"KEY={governed.keys['short']}; {line}"], text=True))
    assert answer["masked"] == ["body", "shelf"]

    page.get_by_role("link", name="Collections").click()
    expect(page.locator(".collection h3")).to_have_text(["books"])
    expect(page.locator(".facts")).to_contain_text("for callers with the action 'monitor'")
    page.goto(place(governed, "sql", sql="SELECT count(*) FROM books"))
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("alert").filter(has_text="403")).to_contain_text("That is not allowed")
    page.goto(place(governed, "rows", collection="secret", key__0="1"))
    expect(page.get_by_role("alert").filter(has_text="404")).to_contain_text("There is no such collection")
    page.goto(place(governed, "rows", collection="books", key__0="3"))
    expect(page.locator(".row .masked")).to_have_count(2)

    page.get_by_role("button", name="Key in use").click()
    page.get_by_role("button", name="Forget it").click()
    expect(page.get_by_role("alert").filter(has_text="401")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_what_stands_in_data_stays_text_wherever_it_is_shown(page: Page, served: Served) -> None:
    def harmless() -> None:
        assert page.evaluate("window.hacked") is None
        assert page.locator("img, script, iframe, object").count() == 2  # the icon and the page's one module

    page.goto(place(served, "search", collection="books", query=f"otter {HOSTILE}", k="20"))
    hit = page.locator(".hit", has_text="666")
    expect(hit.locator(".passage")).to_contain_text(HOSTILE)
    expect(hit.locator(".fields")).to_contain_text(HOSTILE)
    harmless()
    page.goto(place(served, "search", collection=HOSTILE, query=HOSTILE))
    expect(page.get_by_role("alert")).to_contain_text(f"there is nothing at /v1/collections/{HOSTILE}/search")
    expect(page.locator("#search-collection")).to_have_value(HOSTILE)
    harmless()
    page.goto(place(served, "search", collection="books", query="x", filter=f"`{HOSTILE}` = 1"))
    expect(page.get_by_role("alert").locator("mark")).to_contain_text(HOSTILE)
    expect(page.get_by_role("alert")).to_contain_text(f"no column '{HOSTILE}'")
    harmless()
    page.goto(place(served, "rows", collection="pairs", key__0=HOSTILE, key__1="5"))
    expect(page.locator(".row h3")).to_contain_text(HOSTILE)
    expect(page.locator(".row dd").first).to_contain_text(HOSTILE)
    harmless()
    page.goto(place(served, "rows", collection="books", key__0="666"))
    expect(page.locator(".row details.folded summary")).to_contain_text(HOSTILE)
    harmless()
    statement = f"SELECT shelf AS `{HOSTILE}`, count(*) AS n FROM books WHERE id > 600 GROUP BY shelf"
    page.goto(place(served, "sql", sql=statement))
    page.get_by_role("button", name="Run").click()
    for shown in ("table.rows th", "table.rows td", ".chart figcaption"):
        expect(page.locator(shown).first).to_contain_text(HOSTILE)
    expect(page.locator(".chart title")).to_contain_text(HOSTILE)
    harmless()
    page.goto(place(served, "sql", sql=f"SELECT '{HOSTILE}"))
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("alert")).to_be_visible()
    harmless()


def test_an_address_brings_back_what_was_asked_and_the_tabs_keep_what_was_typed(
    page: Page, context: BrowserContext, served: Served
) -> None:
    page.goto(place(served, "search", collection="diary"))
    page.get_by_label("Query").fill("badger & newt")
    page.get_by_label("Mode").select_option("keyword")
    page.get_by_label("Condition in SQL").fill("pages > :p")
    page.get_by_label(":p").fill("70")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".hit")).to_have_count(10)
    other = context.new_page()
    other.goto(page.url)
    expect(other.locator(".hit h3")).to_have_text(page.locator(".hit h3").all_inner_texts())
    for label, value in [("Query", "badger & newt"), ("Mode", "keyword"), (":p", "70")]:
        expect(other.get_by_label(label)).to_have_value(value)
    expect(other.locator("#search-collection")).to_have_value("diary")
    other.close()

    page.get_by_role("link", name="SQL").click()
    page.get_by_label("Statement").fill("SELECT 1 -- unfinished")
    page.get_by_role("link", name="Rows").click()
    expect(page.locator("#rows-collection")).to_have_value("diary")
    page.get_by_role("link", name="SQL").click()
    expect(page.get_by_label("Statement")).to_have_value("SELECT 1 -- unfinished")
    page.get_by_role("link", name="Search").click()
    expect(page.get_by_label("Query")).to_have_value("badger & newt")


def test_a_chart_says_its_values_as_the_table_does_and_has_room_for_them(page: Page, served: Served) -> None:
    values = ["1234567", "9007199254740993", "1.7e308", "-1.7e308"]
    rows = ", ".join(f'["{"wide label " * 3}{at}", {value}]' for at, value in enumerate(values))
    answered(page, [("shelf", "STRING", False), ("n", "DOUBLE", False)], rows)
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(place(served, "sql", sql=f"SELECT {width}"))
        page.get_by_role("button", name="Run").click()
        expect(page.locator(".chart .value")).to_have_text(["1234567", "≈ 9.0072e+15", "1.7e+308", "-1.7e+308"])
        assert page.locator(".chart title").all_text_contents()[1].endswith(": 9007199254740993")
        assert "NaN" not in page.locator(".chart").inner_html()
        cut = """svg => [...svg.querySelectorAll('text')].map(text => text.getBBox())
            .filter(box => box.x < 0 || box.x + box.width > svg.viewBox.baseVal.width).length"""
        assert page.locator(".chart svg").evaluate(cut) == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_column_is_masked_where_the_answer_says_so_whatever_its_name(page: Page, served: Served) -> None:
    columns = [("shelf", "STRING", False), ("other", "STRING", True), ("n", "BIGINT", False)]
    answered(page, columns, "[null, null, null]", masked=["shelf"])
    page.goto(place(served, "sql", sql="SELECT 1"))
    page.get_by_role("button", name="Run").click()
    expect(page.locator("table.rows td")).to_have_text(["NULL", "masked", "NULL"])


def test_a_late_answer_to_what_was_asked_before_replaces_nothing(page: Page, served: Served) -> None:
    held: list[Route] = []
    page.route("**/rows/1", lambda route: held.append(route))
    page.goto(place(served, "rows", collection="books", key__0="1"))
    page.get_by_role("textbox", name="id").fill("2")
    page.get_by_role("button", name="Look up").click()
    expect(page.locator(".row h3")).to_have_text("2")
    page.route("**/v1/collections/waiting", lambda route: held.append(route))
    for tab, others in (("rows", "#rows-keys input"), ("search", "#decay option")):
        page.goto(place(served, tab, collection="books"))
        page.locator(f"#{tab}-collection").select_option("waiting")
        page.locator(f"#{tab}-collection").select_option("pairs")
        expect(page.locator(others)).not_to_have_count(1)
        for route in held:
            route.fulfill(json={"spec": {"key": ["late"], "vector": {}}, "columns": {}, "key": "late", "fields": {}})
        held.clear()
        page.wait_for_timeout(A_MOMENT_MS)
        expect(page.locator(others)).not_to_have_count(1)


def test_the_list_of_collections_is_asked_for_again_when_the_server_wants_it(page: Page, served: Served) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    refusal = given(status=429, headers={"Retry-After": later}, json={"title": "Too many", "errors": None})
    page.route("**/v1/collections", refusal)
    page.goto(served.url)
    problem = page.locator("#collections-trouble .problem")
    expect(problem).to_contain_text(re.compile(r"Too many.*429.*Try again in \d\d seconds\."))
    expect(page.locator("#collections-none")).to_be_hidden()
    page.wait_for_timeout(A_MOMENT_MS)
    assert sum(url.endswith("/v1/collections") for url in asked) == 2  # the page's list and the tab's


def test_the_tabs_are_there_before_the_collections_are(page: Page, served: Served) -> None:
    held: list[Route] = []
    page.route("**/v1/collections", lambda route: held.append(route))
    page.goto(served.url)
    expect(page.locator("#collections-said")).to_have_text("Asking for the collections …")
    expect(page.locator("#late")).to_be_hidden()
    page.get_by_role("link", name="Search").click()
    expect(page.locator("#search-collection option")).to_have_text("asking for them …")
    page.get_by_label("Query").fill("otter")
    for route in held:
        route.continue_()
    expect(page.locator("#search-collection")).to_have_value("books")
    expect(page.locator("#decay option")).not_to_have_count(1)
    expect(page.get_by_label("Query")).to_have_value("otter")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".hit").first).to_be_visible()


def test_an_odd_answer_is_a_problem_and_the_page_goes_on(page: Page, served: Served) -> None:
    html = "<html>Bad Gateway</html>"
    odd = [(200, html), (200, "{}"), (200, '"boom"'), (400, html), (400, '{"errors": "boom"}')]
    page.goto(place(served, "sql", sql="SELECT 1"))
    problem = page.locator("#sql-found .problem")
    for status, body in odd:
        page.route("**/v1/**", given(status=status, body=body))
        page.get_by_role("button", name="Run").click()
        expect(problem.locator("h3")).to_contain_text(re.compile("The (server said|answer cannot)"))
        expect(page.locator("#sql-found")).to_have_attribute("aria-busy", "false")
        problem.evaluate("problem => problem.remove()")
    for tab in ("search", "rows"):
        page.goto(place(served, tab, collection="books", query="otter", key__0="1"))
        expect(page.locator(f"#{tab}-found .problem")).to_be_visible()
        assert page.locator(f"#{tab}-found").get_attribute("aria-busy") in ("false", None)


def test_the_link_to_the_content_goes_there_and_nowhere_else(page: Page, served: Served) -> None:
    address = place(served, "search", collection="books")
    page.goto(address)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.locator("#search")).to_be_visible()
    assert page.url == address


def test_a_page_whose_modules_the_server_does_not_have_says_so(page: Page, served: Served) -> None:
    page.route("**/console/*/app.mjs", lambda route: route.continue_(url=f"{served.url}/console/0123abcd/app.mjs"))
    page.goto(served.url)
    expect(page.locator("#late")).to_be_hidden()
    page.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
    expect(page.get_by_role("link", name="Reload it")).to_be_visible()


def test_a_name_stays_whole_beside_a_long_value_and_each_text_has_its_own_direction(page: Page, served: Served) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    fields = {"shelf": "long" * 30, "title": "שלום, otter", "pages": -7, "body": "שלום " * 60}
    told: dict[str, Any] = {"source_version": 1, "source_committed_at": None, "chunks": 1, "version": 1, "masked": []}
    page.route("**/rows/1", given(json={"key": 1, "fields": fields, **told}))
    page.goto(place(served, "rows", collection="books", key__0="1"))
    directions = "dds => dds.map((dd) => getComputedStyle(dd.querySelector('p') ?? dd).direction)"
    expect(page.locator(".row dd")).to_have_count(4)
    assert page.locator(".row dd").evaluate_all(directions) == ["ltr", "rtl", "ltr", "rtl"]
    assert page.locator(".row dt").evaluate_all(BROKEN) == []
    page.goto(place(served, "search", collection="books", query=f"otter {HOSTILE}"))
    expect(page.locator(".hit").first).to_be_visible()
    assert page.locator(".hit dt").evaluate_all(BROKEN) == []
    assert page.locator(".hit .passage").first.get_attribute("dir") == "auto"
    answered(page, [("title", "STRING", False)], '["שלום, otter"]')
    page.goto(place(served, "sql", sql="SELECT 1"))
    page.get_by_role("button", name="Run").click()
    assert page.locator("table.rows td").evaluate("cell => getComputedStyle(cell).direction") == "rtl"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_narrow_screen_nothing_scrolls_sideways_and_everything_can_be_read(
    context: BrowserContext, served: Served, scheme: Any
) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 360, "height": 700})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    shown = {
        place(served, "collections"): ".advice li",
        place(served, "search", collection="books", query="otter", filter="pages >= 0"): ".hit",
        place(served, "search", collection="books", filter=f"nope = '{'x' * 99}'"): ".problem",
        place(served, "sql", sql="SELECT *, title, body FROM books"): "table.rows",
        place(served, "rows", collection="books", key__0="666"): ".row",
    }
    for address, sign in shown.items():
        page.goto(address)
        if sign == "table.rows":
            page.get_by_role("button", name="Run").click()
        expect(page.locator(sign).first).to_be_visible()
        page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address
    assert page.evaluate(CONTRASTS) == []
    assert page.evaluate("getComputedStyle(document.querySelector('button')).transitionDuration") == "0s"


def test_every_control_has_a_name_and_the_keyboard_reaches_it_with_its_focus_shown(page: Page, served: Served) -> None:
    page.goto(place(served, "search", collection="books"))
    nameless = "[...document.querySelectorAll('input, select, textarea')].filter(c => !c.labels.length).map(c => c.id)"
    assert page.evaluate(nameless) == []
    reached: list[str] = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or reached[-1] == "filter"
    wanted = ["to-collections", "to-search", "to-sql", "to-rows", "key-button", "search-collection", "query", "Search"]
    assert reached[1:9] == wanted


BROKEN = "dts => dts.filter((dt) => dt.offsetHeight > 30).map((dt) => dt.textContent)"
CONTRASTS = """() => {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => style.getPropertyValue(name).match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16) / 255);
  const light = (name) => rgb(name).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const pairs = [["text", "page"], ["text", "card"], ["muted", "page"], ["muted", "card"], ["accent", "page"],
    ["accent", "card"], ["accent", "tint"], ["muted", "tint"], ["on-accent", "accent"], ["bad", "bad-tint"],
    ["bad", "card"], ["bad", "tint"], ["warn", "card"], ["good", "card"], ["text", "mark"], ["text", "warn-tint"],
    ["text", "bad-tint"], ["muted", "bad-tint"]];
  return pairs.filter(([one, other]) => contrast(`--${one}`, `--${other}`) < 4.5).map(String);
}"""
