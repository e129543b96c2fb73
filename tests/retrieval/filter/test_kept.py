import pytest

from retrieval.filter.kept import KEPT_CHARACTERS, kept


def test_what_is_made_of_a_short_text_is_kept_by_all_arguments() -> None:
    asked: list[tuple[str, int]] = []

    @kept(8)
    def made(text: str, factor: int) -> list[str]:
        asked.append((text, factor))
        return [text] * factor

    short = "a" * KEPT_CHARACTERS
    assert made(short, 1) is made(short, 1)
    assert made(short, 2) == [short, short]
    assert asked == [(short, 1), (short, 2)]


def test_nothing_is_kept_of_a_long_text_or_of_an_error() -> None:
    asked: list[str] = []

    @kept(8)
    def made(text: str) -> list[str]:
        asked.append(text)
        if text == "wrong":
            raise ValueError(text)
        return [text]

    long = "a" * (KEPT_CHARACTERS + 1)
    assert made(long) is not made(long)
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            made("wrong")
    assert asked == [long, long, "wrong", "wrong"]


def test_the_last_ones_are_kept_and_the_name_and_text_stay() -> None:
    asked: list[str] = []

    @kept(2)
    def made(text: str) -> str:
        """Make something."""
        asked.append(text)
        return text

    for text in ("a", "b", "c", "c", "a"):
        made(text)
    assert asked == ["a", "b", "c", "a"]
    assert (made.__name__, made.__doc__) == ("made", "Make something.")
