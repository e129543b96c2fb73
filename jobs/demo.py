"""The demo: the main job from end to end on rows that every machine has, told on the screen as it happens."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule

from indexer.apply import apply
from indexer.format.store import Store
from indexer.sync import SyncOptions
from jobs.demo_server import USUAL_PORT, Client, server
from jobs.demo_snowflake import emulated_demo
from jobs.demo_table import MODEL, NAME, Change, DeltaDemo, DemoTable, changes, spec
from jobs.errors import CommandError
from jobs.hits import explained, hits_of_answer
from jobs.pipeline import run_sync
from jobs.progress import bars
from jobs.stdlib_docs import collect

ARRIVAL_SECONDS = 60.0
POLL_SECONDS = 0.02
MARKER = ".grebe-demo"

SourceKind = Literal["delta", "snowflake"]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One stop of the tour: a search, and why it is shown."""

    title: str
    body: dict[str, Any]


def tour(table: DemoTable) -> tuple[Stop, ...]:
    """Return the searches that are shown."""
    with_parameter, params = table.with_parameter
    return (
        Stop(
            title="By meaning: the words of the question are not in the answer",
            body={"query": "largest number that divides both", "mode": "vector", "k": 3},
        ),
        Stop(
            title="By keyword: a name that no model knows",
            body={"query": "b64encode", "mode": "keyword", "k": 3},
        ),
        Stop(
            title="With a SQL filter, its value bound as a parameter, applied before ranking",
            body={
                "query": "open a network connection",
                "k": 3,
                "filter": f"kind = 'function' AND {with_parameter}",
                "params": params,
            },
        ),
        Stop(
            title="Hybrid, explained: every score from the numbers that made it",
            body={"query": "parse a date from a string", "k": 3, "filter": "kind <> 'module'", "explain": True},
        ),
    )


def run(
    screen: Console,
    folder: Path,
    *,
    leave: bool,
    limit: int | None = None,
    model: str = MODEL,
    source: SourceKind = "delta",
) -> None:
    """Build everything anew under ``folder``, give the tour and then serve until interrupted, unless ``leave``.

    ``limit`` takes only so many rows, spread over the library. The table is a Delta table or, for a ``source`` of
    ``snowflake``, one of an emulated account.
    """
    started = time.monotonic()
    _empty(folder)
    store = Store.at(str(folder / "store"))
    screen.print(Rule(f"Grebe: a {source.title()} table becomes a live search service", align="left"))
    with ExitStack() as stack:
        table = stack.enter_context(_table(screen, source, folder))
        _build(screen, table, store, folder / "cache", limit, model)
        follower = stack.enter_context(_following(store, folder / "cache"))
        with _step(screen, "Starting `grebe serve`, a process of its own") as said:
            client = stack.enter_context(server(folder / "store", folder / "cache", folder / "serve.log"))
            said.append(client.url if client.usual_port else f"{client.url}, because {USUAL_PORT} is taken")
        for stop in tour(table):
            _show(screen, client, stop)
        _show_changes(screen, client, table, follower)
        screen.print(f"The tour took {time.monotonic() - started:.0f} s, all in all.\n")
        if not leave:
            _serve(screen, client, table, follower)


@contextmanager
def _table(screen: Console, source: SourceKind, folder: Path) -> Iterator[DemoTable]:
    if source == "delta":
        yield DeltaDemo(folder / "table")
        return
    with ExitStack() as stack:
        with _step(screen, "Starting an emulated Snowflake account, a process of its own") as said:
            table = stack.enter_context(emulated_demo())
            said.append("its tables last as long as this run")
        yield table


def _empty(folder: Path) -> None:
    """Make ``folder`` anew; one that is not the demo's own is refused."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise CommandError(f"{folder} holds files that are not the demo's; name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


def _build(screen: Console, table: DemoTable, store: Store, cache: Path, limit: int | None, model: str) -> None:
    with _step(screen, "Reading the documentation of this Python's standard library") as said:
        rows = collect()
        if limit:
            rows = rows[:: max(1, len(rows) // limit)][:limit]
        said.append(f"{len(rows):,} modules, classes, functions and methods")
    with _step(screen, f"Writing them to {table.described}") as said:
        table.write(rows)
        said.append(table.source.table)
    apply(store, spec(table.source, model))
    with _step(screen, f"Syncing: chunk, embed ({model}), build, commit") as said, bars(screen) as progress:
        began = time.monotonic()
        run_sync(store, NAME, cache=cache, options=SyncOptions(progress=progress))
        said.append(
            f"{len(rows) / (time.monotonic() - began):,.0f} rows/s, starting the workers and their model included"
        )


@contextmanager
def _step(screen: Console, title: str) -> Iterator[list[str]]:
    """Print ``title``, and how long the block took with what it put into the list."""
    began = time.monotonic()
    said: list[str] = []
    screen.print(f"[bold]{escape(title)}[/] ...", soft_wrap=True)
    yield said
    screen.print(f"  [green]{time.monotonic() - began:5.1f} s[/]  {escape('; '.join(said))}", soft_wrap=True)


def _show(screen: Console, client: Client, stop: Stop) -> None:
    answer = client.search(NAME, stop.body)
    screen.print()
    screen.print(Rule(stop.title, align="left"))
    screen.print(escape(json.dumps(stop.body)), style="cyan", soft_wrap=True)
    screen.print(Padding(hits_of_answer(answer), (0, 2), expand=False))
    if stop.body.get("explain"):
        screen.print(Padding(explained(answer["results"][0]), (1, 2, 0, 2), expand=False))
    took = answer["took_ms"]["total"]
    screen.print(
        f"  version {answer['version']} of the index, {answer['age_seconds']:.1f} s old, {took:.1f} ms", style="dim"
    )


@contextmanager
def _following(store: Store, cache: Path) -> Iterator[threading.Thread]:
    """Keep the collection in step with its table on a thread while the block runs; its error is raised here."""
    stopping, failed = threading.Event(), list[Exception]()

    def follow() -> None:
        try:
            run_sync(store, NAME, cache=cache, options=SyncOptions(continuous=True, stop=stopping.is_set))
        except Exception as error:  # carried over to the main thread
            failed.append(error)

    thread = threading.Thread(target=follow, name="sync")
    thread.start()
    try:
        yield thread
    finally:
        stopping.set()
        thread.join()
        if failed:
            raise failed[0]


def _show_changes(screen: Console, client: Client, table: DemoTable, follower: threading.Thread) -> None:
    screen.print()
    screen.print(Rule("Live: a continuous sync follows the table; three changes at the source", align="left"))
    for change in changes(table.place):
        committed_at = table.execute(change.sql)
        arrived_at, answer = _arrival(client, change, follower)
        lag = (arrived_at - committed_at).total_seconds()
        screen.print(escape(change.sql), style="cyan", soft_wrap=True)
        screen.print(f'  then searching for "{change.query}"', style="dim")
        screen.print(Padding(hits_of_answer(answer), (0, 2), expand=False))
        effect = "no longer found" if change.text is None else "found"
        screen.print(f"  [green]{change.kind}: {effect} over HTTP {lag:.2f} s after its commit[/]\n")


def _arrival(client: Client, change: Change, follower: threading.Thread) -> tuple[datetime, dict[str, Any]]:
    """Ask until ``change`` shows; return when it did, and the answer."""
    end = time.monotonic() + ARRIVAL_SECONDS
    while time.monotonic() < end and follower.is_alive():
        answer = client.search(NAME, {"query": change.query, "k": 3})
        now = datetime.now(UTC)
        if arrived(change, answer):
            return now, answer
        time.sleep(POLL_SECONDS)
    raise CommandError(f"the {change.kind} did not appear in the search within {ARRIVAL_SECONDS:.0f} s")


def arrived(change: Change, answer: dict[str, Any]) -> bool:
    """Say whether ``answer`` shows ``change``."""
    texts = [hit["text"] or "" for hit in answer["results"] if hit["key"] == change.id]
    return not texts if change.text is None else any(change.text in text for text in texts)


def curl_lines(url: str) -> tuple[str, str, str]:
    """Return three lines for a shell that ask the server at ``url``."""
    start = f"curl -s {url}/v1/collections/{NAME}"
    header = "-H 'content-type: application/json'"
    plain = json.dumps({"query": "read lines of a file backwards", "k": 3})
    filtered = json.dumps({"query": "compress", "filter": "kind = :kind", "params": {"kind": "class"}, "explain": True})
    return (
        f"{start}/search {header} -d '{plain}'",
        f"{start}/search {header} -d '{filtered}'",
        f"{start}/status",
    )


def console_link(url: str) -> str:
    """Return the address of the console of the server at ``url``, with a search of the collection.

    >>> console_link("http://127.0.0.1:8080")
    'http://127.0.0.1:8080/#search?collection=stdlib&query=parse+a+date'
    """
    return f"{url}/#search?collection={NAME}&query=parse+a+date"


def _serve(screen: Console, client: Client, table: DemoTable, follower: threading.Thread) -> None:
    screen.print(Rule("Now it is yours", align="left"))
    screen.print(f"Serving on {client.url}, following {table.source.table}. Ctrl-C ends it.", soft_wrap=True)
    screen.print(f"Look at it in a browser: {console_link(client.url)}\n", soft_wrap=True)
    for line in curl_lines(client.url):
        screen.print(escape(line), style="cyan", soft_wrap=True)
    try:
        while follower.is_alive():
            follower.join(0.5)
            if ending := client.ending():
                raise CommandError(ending)
    except KeyboardInterrupt:
        screen.print("\nStopping ...")
