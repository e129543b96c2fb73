from __future__ import annotations

import io

from rich.console import Console

from jobs.output import note, stderr
from jobs.progress import LINE_SECONDS, _Lines, bars


def test_a_log_gets_a_line_where_a_stage_begins_and_now_and_then() -> None:
    now = [100.0]
    written: list[str] = []
    report = _Lines(written.append, "rows", clock=lambda: now[0])

    for seconds in range(0, 100, 5):
        now[0] = 100.0 + seconds
        report("read", 200 * seconds, 50_000)
        report("embedded", 40 * seconds, None)

    assert LINE_SECONDS == 30.0
    assert written == ["read: 0 of 50,000 rows", "embedded: 0 rows"] + [
        line
        for seconds in (30, 60, 90)
        for line in (
            f"read: {200 * seconds:,} of 50,000 rows, 200 rows/s",
            f"embedded: {40 * seconds:,} rows, 40 rows/s",
        )
    ]


def test_the_last_line_of_a_log_is_not_that_nothing_is_done() -> None:
    now = [100.0]
    written: list[str] = []
    report = _Lines(written.append, "rows", clock=lambda: now[0])

    report("docs: embedding", 0, 400)
    now[0] += 2
    report("docs: embedding", 400, 400)
    report("docs: building", 0, 400)
    report("birds: loaded", 7, 7)
    report("docs: loaded", 300, 300)
    report("docs: embedding", 0, 5)  # the next batch
    report("docs: embedding", 5, 5)

    assert written == [
        "docs: embedding: 0 of 400 chunks",
        "docs: embedding: 400 of 400 chunks, 200 chunks/s",
        "docs: building: 0 of 400 chunks",
        "docs: loaded: 300 of 300 rows",
    ]


def test_a_short_step_writes_nothing_to_a_log() -> None:
    written = io.StringIO()
    with bars(Console(file=written)) as report:
        report("read", 5, 5)
    assert written.getvalue() == ""


def test_a_terminal_gets_bars() -> None:
    written = io.StringIO()
    with bars(Console(file=written, force_terminal=True, width=120)) as report:
        report("read", 5, 10)
    assert "5 of 10 rows" in written.getvalue()


def test_stages_of_chunks_say_so() -> None:
    written = io.StringIO()
    with bars(Console(file=written, force_terminal=True, width=120)) as report:
        report("docs: embedding", 5, 10)
        report("docs: loaded", 5, 10)
    assert "5 of 10 chunks" in written.getvalue()
    assert "5 of 10 rows" in written.getvalue()


def test_what_is_said_beside_bars_goes_through_their_console_and_they_go_when_their_work_is_over() -> None:
    written = io.StringIO()
    screen = Console(file=written, force_terminal=True, width=120)
    with bars(screen) as report:
        assert stderr() is screen
        report("a: read", 5, 10)
        report("b: read", 7, 10)
        report.over("a: ")
        written.seek(0)
        written.truncate()
        note("a: following")
        report("b: read", 8, 10)
    said = written.getvalue()
    assert "a: following\n" in said
    assert "5 of 10 rows" not in said
    assert stderr() is not screen
