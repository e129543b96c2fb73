"""Many users at once over HTTP, each asking a question in words: 100,000 sentences, the model included.

First 64 clients that ask without a pause: answers a second. Then a thousand users, who ask every
twenty seconds on average (exponentially distributed): the time to an answer, and how many got none. Clients and server
share the machine's cores.

The peer is what one writes by hand, served in the same run: FastAPI's threads, sentence-transformers' ``encode`` and
hnswlib, behind the same uvicorn. It has no keyword leg, no filters, no versions and no log.

    .venv/bin/python -m benchmarks.users [--quick] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from pydantic import BaseModel

from benchmarks.corpus import MODEL
from benchmarks.freshness import server
from benchmarks.harness import SEED, Goal, Report, run
from benchmarks.replicas import free_port
from benchmarks.search import NAME, QUERIES, QUICK_QUERIES, QUICK_ROWS, ROWS, SPEC, Corpus, build_grebe, load_corpus

BUSY, USERS = 64, 1_000
THINK_SECONDS = 20.0
SECONDS, QUICK_SECONDS = 20.0, 5.0
K = 10
MODEL_SPEC = SPEC.replace("{column: vector, dim: 384}", f"{{column: vector, dim: 384, model: {MODEL}}}")


@dataclass
class Answers:
    """What the users of one scenario got: the seconds of each answer, and how many requests had none."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    def quantile_ms(self, share: float) -> float:
        """Return the time that ``share`` of the answers took at most."""
        return float(np.quantile(self.seconds, share)) * 1000 if self.seconds else float("nan")


class User:
    """One user, without a library's work per request."""

    def __init__(self, port: int, requests: list[bytes], answers: Answers, until: float, think: float) -> None:
        self._port, self._requests, self._answers = port, requests, answers
        self._until, self._think = until, think

    async def ask(self, number: int) -> None:
        """Ask until the time is up, over one connection; with ``think`` seconds in between, over a new one each."""
        chance = random.Random(SEED + number)
        await self._pause(chance)
        while time.monotonic() < self._until:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            with closing(writer):
                await self._ask_once(chance, reader, writer)
                while not self._think and time.monotonic() < self._until:
                    await self._ask_once(chance, reader, writer)
            await self._pause(chance)

    async def _pause(self, chance: random.Random) -> None:
        if self._think:
            await asyncio.sleep(min(chance.expovariate(1 / self._think), self._until - time.monotonic()))

    async def _ask_once(
        self, chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        started = time.perf_counter()
        writer.write(chance.choice(self._requests))
        if await self._is_answered(reader):
            self._answers.seconds.append(time.perf_counter() - started)
        else:
            self._answers.failed += 1

    @staticmethod
    async def _is_answered(reader: asyncio.StreamReader) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        return b" 200 " in lines[0]


def asked_by(
    users: int, port: int, path: str, bodies: list[dict[str, object]], seconds: float, think: float
) -> Answers:
    """Let ``users`` ask for ``seconds``."""
    requests = []
    for body in bodies:
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        requests.append(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)

    async def everybody() -> Answers:
        answers, until = Answers(), time.monotonic() + seconds
        people = [User(port, requests, answers, until, think).ask(number) for number in range(users)]
        await asyncio.gather(*people)
        return answers

    return asyncio.run(everybody())


class Question(BaseModel):
    """What the peer is asked."""

    query: str
    k: int = K


def serve_by_hand(port: int, vectors: str, texts: str) -> None:
    """Serve the peer; runs in a process of its own."""
    import threading

    import hnswlib
    from fastapi import FastAPI
    from sentence_transformers import SentenceTransformer

    from indexer.embedding import load_embedder

    model: SentenceTransformer = load_embedder(MODEL)._model  # type: ignore[union-attr]
    known, sentences = np.load(vectors), json.loads(Path(texts).read_text())
    index = hnswlib.Index(space="ip", dim=known.shape[1])
    index.init_index(max_elements=len(known), M=16, ef_construction=200, random_seed=SEED)
    index.add_items(known)
    index.set_ef(64)
    app, one_at_a_time = FastAPI(), threading.Lock()

    @app.post("/search")
    def search(question: Question) -> dict[str, object]:
        with one_at_a_time:  # its tokenizer fails when two threads use it
            vector = model.encode([question.query], normalize_embeddings=True, show_progress_bar=False)
        ids, distances = index.knn_query(vector, k=question.k, num_threads=1)
        found = zip(ids[0].tolist(), distances[0].tolist(), strict=True)
        return {"results": [{"key": key, "score": 1 - far, "text": sentences[key]} for key, far in found]}

    uvicorn.run(app, port=port, log_level="warning", backlog=2 * USERS)


@contextmanager
def peer(corpus: Corpus, folder: Path) -> Iterator[int]:
    """Serve the peer for a ``with`` block, which gets its port."""
    vectors, texts = folder / "vectors.npy", folder / "texts.json"
    np.save(vectors, corpus.vectors)
    texts.write_text(json.dumps(corpus.texts))
    port = free_port()
    program = "import sys; from benchmarks.users import serve_by_hand; serve_by_hand(int(sys.argv[1]), *sys.argv[2:])"
    command = [sys.executable, "-c", program, str(port), str(vectors), str(texts)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_answered(port)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_answered(port: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            httpx.post(f"http://127.0.0.1:{port}/search", json={"query": "warm"}, timeout=30).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError("the peer did not come up within five minutes")


def _questions(corpus: Corpus, mode: str | None) -> list[dict[str, object]]:
    body: dict[str, object] = {"k": K} if mode is None else {"k": K, "mode": mode}
    return [{"query": query, **body} for query in corpus.queries]


def measure(arguments: argparse.Namespace) -> Report:
    """Run both scenarios against Grebe, by meaning and hybrid, and against the peer."""
    corpus = load_corpus(*((QUICK_ROWS, QUICK_QUERIES) if arguments.quick else (ROWS, QUERIES)))
    seconds = QUICK_SECONDS if arguments.quick else SECONDS
    report = Report(
        title=f"Users: {len(corpus):,} sentences over HTTP, asked in words, the model on the CPU",
        columns=("answers/s", "p50, ms", "p99, ms", "without an answer", "of the peer's answers/s"),
        packages=("sentence-transformers", "torch", "fastapi", "uvicorn", "hnswlib"),
    )
    folder = Path(tempfile.mkdtemp(prefix="grebe-bench-users-"))
    ours, theirs = f"/v1/collections/{NAME}/search", "/search"
    try:
        build_grebe(corpus, folder, MODEL_SPEC)
        with peer(corpus, folder) as port:
            asked_by(4, port, theirs, _questions(corpus, None), 2.0, 0.0)
            busy = asked_by(BUSY, port, theirs, _questions(corpus, None), seconds, 0.0)
            many = asked_by(USERS, port, theirs, _questions(corpus, None), 2 * seconds, THINK_SECONDS)
        peers_rate = len(busy.seconds) / seconds
        _add(report, f"{BUSY} busy clients, by hand", busy, seconds)
        _add(report, f"{USERS:,} users, by hand", many, 2 * seconds)
        with server(folder) as client:
            port = client.base_url.port or 0
            for mode in ("vector", "hybrid"):
                questions = _questions(corpus, mode)
                asked_by(4, port, ours, questions, 2.0, 0.0)
                busy = asked_by(BUSY, port, ours, questions, seconds, 0.0)
                ratio = len(busy.seconds) / seconds / peers_rate
                goal = Goal(least=1.0) if mode == "vector" else None
                _add(report, f"{BUSY} busy clients, {mode}", busy, seconds, f"{ratio:.2f}", value=ratio, goal=goal)
                many = asked_by(USERS, port, ours, questions, 2 * seconds, THINK_SECONDS)
                _add(report, f"{USERS:,} users, {mode}", many, 2 * seconds, value=many.failed, goal=Goal(most=0))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _add(
    report: Report,
    name: str,
    got: Answers,
    seconds: float,
    ratio: str = "",
    *,
    value: float | None = None,
    goal: Goal | None = None,
) -> None:
    rate = len(got.seconds) / seconds
    report.add(name, rate, got.quantile_ms(0.5), got.quantile_ms(0.99), got.failed, ratio, value=value, goal=goal)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    run(__doc__ or "", measure)
