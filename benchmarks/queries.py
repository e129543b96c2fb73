"""Several wordings of a question over HTTP: in one call, which fuses them, and in a call each. The model included.

One client on an idle server, that sends a call each one after the other or all at once, and then eight busy clients.
Wordings are sentences of the corpus; a figure is of five of them. Clients and server share the machine's cores.

    .venv/bin/python -m benchmarks.queries [--quick] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
import numpy as np

from benchmarks.freshness import server
from benchmarks.harness import Goal, Report, run
from benchmarks.replicas import until
from benchmarks.search import NAME, QUERIES, QUICK_QUERIES, QUICK_ROWS, ROWS, Corpus, build_grebe, load_corpus
from benchmarks.users import MODEL_SPEC

WORDINGS, K, BUSY = 5, 10, 8
SECONDS, QUICK_SECONDS = 20.0, 5.0

Ask = Callable[[aiohttp.ClientSession, Sequence[str]], Awaitable[object]]


async def _call(session: aiohttp.ClientSession, body: dict[str, object]) -> None:
    async with session.post(f"/v1/collections/{NAME}/search", json={"k": K, **body}) as response:
        response.raise_for_status()
        await response.read()


async def in_one_call(session: aiohttp.ClientSession, wordings: Sequence[str]) -> None:
    """Ask by all wordings, for one list."""
    await _call(session, {"queries": list(wordings)})


async def one_after_another(session: aiohttp.ClientSession, wordings: Sequence[str]) -> None:
    """Ask by each, for a list each."""
    for wording in wordings:
        await _call(session, {"query": wording})


async def all_at_once(session: aiohttp.ClientSession, wordings: Sequence[str]) -> None:
    """Ask by each, for a list each, over as many connections."""
    await asyncio.gather(*(_call(session, {"query": wording}) for wording in wordings))


def asked(url: str, ask: Ask, corpus: Corpus, clients: int, seconds: float) -> list[float]:
    """Return how long each group of wordings took, with so many ``clients`` for so many ``seconds``."""
    groups = [corpus.queries[at : at + WORDINGS] for at in range(0, len(corpus.queries) - WORDINGS, WORDINGS)]

    async def client(session: aiohttp.ClientSession, number: int, end: float, took: list[float]) -> None:
        at = number
        while time.monotonic() < end:
            started = time.perf_counter()
            await ask(session, groups[at % len(groups)])
            took.append(time.perf_counter() - started)
            at += clients

    async def everybody() -> list[float]:
        took: list[float] = []
        end = time.monotonic() + seconds
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(client(session, number, end, took) for number in range(clients)))
        return took

    return asyncio.run(everybody())


def measure(arguments: argparse.Namespace) -> Report:
    """Ask in each way."""
    corpus = load_corpus(*((QUICK_ROWS, QUICK_QUERIES) if arguments.quick else (ROWS, QUERIES)))
    seconds = QUICK_SECONDS if arguments.quick else SECONDS
    report = Report(
        title=f"{WORDINGS} wordings of a question: {len(corpus):,} sentences over HTTP, the model on the CPU",
        columns=("p50, ms", "p99, ms", "questions/s", "of one after another"),
        packages=("sentence-transformers", "torch", "fastapi", "uvicorn"),
    )
    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-queries-"))
    ways: tuple[Ask, ...] = (one_after_another, all_at_once, in_one_call)
    try:
        build_grebe(corpus, folder, MODEL_SPEC)
        with server(folder) as client:
            url = str(client.base_url)
            until(lambda: client.get("/readyz").status_code == 200, "the model to be loaded")
            for clients in (1, BUSY):
                first = 0.0
                for ask in ways:
                    asked(url, ask, corpus, clients, 1.0)
                    took = asked(url, ask, corpus, clients, seconds)
                    middle, late = (float(np.quantile(took, share)) * 1000 for share in (0.5, 0.99))
                    first = first or middle
                    name = f"{clients} client{'s' * (clients > 1)}, {ask.__name__.replace('_', ' ')}"
                    goal = Goal(most=1.0) if ask is in_one_call else None
                    ratio = middle / first
                    report.add(name, middle, late, len(took) / seconds, f"{ratio:.2f}", value=ratio, goal=goal)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    run(__doc__ or "", measure)
