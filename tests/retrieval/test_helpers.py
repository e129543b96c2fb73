from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from retrieval.helpers import ALONE, Helpers


@pytest.fixture
def helpers() -> Iterator[Helpers]:
    helpers = Helpers(3)
    yield helpers
    helpers.close()


def _together(n: int) -> Callable[[int], int]:
    """Return work that ends when ``n`` pieces of it run at once."""
    met = threading.Barrier(n)

    def work(at: int) -> int:
        met.wait(timeout=20)
        return at

    return work


def test_free_threads_help(helpers: Helpers) -> None:
    with helpers.working():
        assert helpers.each(_together(3), 3) == [0, 1, 2]


def test_each_piece_is_done_once_and_results_are_in_order(helpers: Helpers) -> None:
    done: list[int] = []

    def work(at: int) -> int:
        done.append(at)
        time.sleep(0.001 * (at % 3))
        return 2 * at

    with helpers.working():
        assert helpers.each(work, 50) == list(range(0, 100, 2))
        assert helpers.each(work, 0) == []
    assert sorted(done) == list(range(50))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_full_machine_gives_nobody_help(threads: int) -> None:
    helpers = Helpers(threads)
    own = threading.get_ident()
    with helpers.working(), helpers.working(), helpers.working():
        assert helpers.each(lambda _: threading.get_ident(), 8) == 8 * [own]
        with helpers.beside(threading.get_ident) as result:
            assert result() == own
    helpers.close()


def test_who_helped_is_free_again(helpers: Helpers) -> None:
    with helpers.working():
        for _ in range(20):
            assert helpers.each(_together(3), 3) == [0, 1, 2]
    assert helpers._busy == 0


def test_work_beside_the_own(helpers: Helpers) -> None:
    met = threading.Barrier(2)
    with helpers.working(), helpers.beside(lambda: met.wait(timeout=20)) as result:
        met.wait(timeout=20)
        assert result() in (0, 1)


def test_the_end_waits_for_a_helper_at_work(helpers: Helpers) -> None:
    began, ended = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        time.sleep(0.1)
        ended.set()

    with helpers.working(), helpers.beside(work):
        began.wait(timeout=20)
    assert ended.is_set()


def test_what_fails_is_raised_and_ends_the_rest(helpers: Helpers) -> None:
    done: list[int] = []

    def work(at: int) -> int:
        if at == 3:
            raise ValueError("three")
        time.sleep(0.005)
        done.append(at)
        return at

    with helpers.working(), pytest.raises(ValueError, match="three"):
        helpers.each(work, 1000)
    assert len(done) < 100
    assert helpers._busy == 0


def test_what_fails_beside_is_raised_where_it_is_asked_for(helpers: Helpers) -> None:
    def work() -> None:
        raise ValueError("beside")

    with helpers.working(), helpers.beside(work) as result, pytest.raises(ValueError, match="beside"):
        result()


def test_after_the_close_there_is_no_help() -> None:
    helpers = Helpers(4)
    helpers.close()
    with helpers.working():
        assert helpers.each(lambda at: at, 3) == [0, 1, 2]
    assert helpers._busy == 0


def test_what_is_not_worth_a_helper_is_done_where_it_is_asked_for(helpers: Helpers) -> None:
    with helpers.working(), helpers.beside(threading.get_ident, worth=False) as result:
        assert result() == threading.get_ident()


def test_what_no_thread_could_be_started_for_is_done_once(helpers: Helpers, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with helpers.working():
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with helpers.beside(lambda: done.append(1)) as result:
            result()
        monkeypatch.setattr(threading.Thread, "start", start)
        assert helpers.each(_together(2), 2) == [0, 1]  # a helper takes what was left behind, and then this
    assert done == [1]
    assert helpers._busy == 0


def test_alone_nobody_helps() -> None:
    own = threading.get_ident()
    with ALONE.working():
        assert ALONE.each(lambda _: threading.get_ident(), 3) == 3 * [own]
