from __future__ import annotations

from connectors.snowflake_signal import ChangeSignal


def test_a_token_is_read_once_a_window_ends_at_or_after_its_first_sight() -> None:
    signal = ChangeSignal()
    signal.note("b", 100)
    signal.note("b", 150)

    assert [signal.waiting(version) for version in (99, 100, 101)] == [100, None, None]


def test_a_smaller_token_is_news_like_any_other() -> None:
    signal = ChangeSignal()
    signal.note("9", 100)

    assert signal.is_news("10")
    signal.note("10", 200)
    assert signal.is_news("9")
    signal.note("9", 300)
    assert [signal.waiting(version) for version in (0, 100, 200, 300)] == [100, 200, 300, None]


def test_who_saw_a_token_earlier_is_believed() -> None:
    signal, other = ChangeSignal(), ChangeSignal()
    other.note("b", 100)
    signal.note("b", 180)

    signal.note(token=other.last()["token"], now=other.last()["seen"])

    assert signal.waiting(120) is None


def test_changes_that_never_pause_do_not_keep_the_oldest_waiting() -> None:
    signal = ChangeSignal()
    for number in range(100):
        signal.note(str(number), 1000 + number)

    assert signal.waiting(1010) == 1011
    signal.forget(1098)
    assert (signal.waiting(1098), signal.waiting(1099)) == (1099, None)
