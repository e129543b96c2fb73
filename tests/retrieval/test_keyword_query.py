from __future__ import annotations

import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.format import cjk
from retrieval.keyword_query import MAX_TERMS, TermStatistics, clauses
from retrieval.request import MAX_QUERY_CHARS, SearchRequest
from retrieval.search import search
from retrieval.snapshot import Snapshot
from tests.retrieval.conftest import Shelf
from tests.retrieval.library import Doc, Library, spec_of, unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("heat pump", ["heat", "pump"]),
        ("+heat pump", ["+heat", "pump"]),
        ('"heat pump" grid', ['"heat pump"', "grid"]),
        ('+"heat pump"', ['+"heat pump"']),
        ('"pump"', ["pump"]),
        ("re-use a+b", ["re", "use", "a", "b"]),
        (
            "body:heat -pump (a OR b) x^3 [1 TO 2] /re/ *",
            ["body", "heat", "pump", "a", "OR", "b", "x", "3", "1", "TO", "2", "re"],
        ),
        ('a "lone quote', ["a", "lone", "quote"]),
        ("+ ++ ?! \\", []),
        ("ÄPFEL 日本語 हिन्दी نمی\u200cشد Ⓐ😀b", ["ÄPFEL", "日本語", "हिन्दी", "نمی\u200cشد", "Ⓐ", "b"]),
        ("“curly” – dash", ["curly", "dash"]),
    ],
)
def test_text_is_words_musts_and_phrases_and_never_syntax(text: str, expected: list[str]) -> None:
    assert [clause.text for clause in clauses(text)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("東京都の鳥", ["東京", "京都", "都の", "の鳥"]),
        ('+東京都 "京都の鳥" 猫', ['+"東 京 都"', '"京 都 の 鳥"', "猫"]),
        ("ＧＲＥＢＥ　ｶﾂﾌﾞﾘ", ["GREBE", "カツ", "ツブ", "ブリ"]),  # noqa: RUF001
        ("+re-use 논병아리는", ['+"re use"', "논병", "병아", "아리", "리는"]),
        ("grebe鸟2024年", ["grebe", "鸟", "2024", "年"]),
        ("葛\U000e0100城市", ["葛城", "城市"]),
        ("，。「」・", []),  # noqa: RUF001
    ],
)
def test_in_cjk_a_run_of_characters_is_its_pairs_in_quotes_and_musts_in_a_row(text: str, expected: list[str]) -> None:
    assert [clause.text for clause in clauses(text, "cjk")] == expected


def ids(snapshot: Snapshot, query: str, **request: Any) -> list[int]:
    response = search(snapshot, SearchRequest(query=query, mode="keyword", **request))
    return sorted(key[0] for key in response.results.keys())  # noqa: SIM118


@pytest.mark.parametrize("fold", [True, False])
def test_accents_are_folded_in_documents_and_queries_where_the_spec_says_so(tmp_path: Path, fold: bool) -> None:
    spec = spec_of(text={"fields": {"title": 1.0, "body": 1.0}, "fold_accents": fold})
    library = Library(tmp_path, spec)
    library.add(Doc(id=1, bodies=("un café noir",)), Doc(id=2, bodies=("a cafe in town",)))
    with library.open() as snapshot:
        both = [1, 2]
        assert ids(snapshot, "cafe") == (both if fold else [2])
        assert ids(snapshot, "Café") == (both if fold else [1])
        assert ids(snapshot, '"cafe noir"') == ([1] if fold else [])


def test_musts_and_phrases_hold_and_words_are_stemmed(library: Library) -> None:
    library.add(
        Doc(id=1, bodies=("the heat pump of a house",)),
        Doc(id=2, bodies=("pump the heat",)),
        Doc(id=3, title="Pumps", bodies=("of all kinds",)),
        Doc(id=4, bodies=("row 5",)),
    )
    with library.open() as snapshot:
        assert ids(snapshot, "pumping") == [1, 2, 3]
        assert ids(snapshot, "+heat pump") == [1, 2]
        assert ids(snapshot, '"heat pump"') == [1]
        assert ids(snapshot, '+"heat pump" kinds') == [1]
        assert ids(snapshot, "the of") == []
        assert ids(snapshot, "+the kinds") == [3]
        assert ids(snapshot, "row:5 text_0:x") == [4]


WORDS_OF_MANY_SCRIPTS = (
    "हिन्दी",
    "தமிழ்நாடு",
    "ภาษาไทย",
    "ที่นี่",
    "re\u0301sume\u0301",
    "résumé",
    "İstanbul",
    "ΟΔΟΣ",
    "straße",
    "日本語",
    "العَرَبِيَّة",
    "نمی\u200cشد",
    "ⒶⒷ",
)


@pytest.mark.parametrize("language", ["none", "english"])
def test_a_text_is_found_by_itself_whatever_its_script(tmp_path: Path, language: str) -> None:
    library = Library(tmp_path, spec=spec_of(text={"fields": {"title": 2.0, "body": 1.0}, "language": language}))
    texts = [*WORDS_OF_MANY_SCRIPTS, *(f"about {word} and more" for word in WORDS_OF_MANY_SCRIPTS)]
    library.add(*(Doc(id=number, bodies=(text,)) for number, text in enumerate(texts)))
    with library.open() as snapshot:
        for number, word in enumerate(WORDS_OF_MANY_SCRIPTS):
            both = [number, number + len(WORDS_OF_MANY_SCRIPTS)]
            assert [ids(snapshot, query) for query in (word, f"+{word}", f'"{word}"')] == [both] * 3, word
            assert ids(snapshot, f'"about {word} and more"') == [both[1]], word


def test_turkish_has_its_own_small_letters(tmp_path: Path) -> None:
    for fold in (False, True):
        spec = spec_of(text={"fields": {"title": 1.0, "body": 1.0}, "language": "turkish", "fold_accents": fold})
        library = Library(tmp_path / str(fold), spec)
        library.add(Doc(id=1, bodies=("İstanbul'da yağmur",)), Doc(id=2, bodies=("ISPARTA gülleri",)))
        with library.open() as snapshot:
            assert [ids(snapshot, query) for query in ("istanbul", "İSTANBUL")] == [[1]] * 2
            assert [ids(snapshot, query) for query in ("ısparta", "Isparta")] == [[2]] * 2  # noqa: RUF001


SENTENCES = (
    "カイツブリは水の上に巣を作る鳥です。",
    "京都の水族館では、ペンギンが泳ぎます。",
    "東京都には猫のカフェが多い。",
    "凤头䴙䘵是一种会跳舞的水鸟。",
    "논병아리는 물 위에 둥지를 짓는 새입니다.",
    "A grebe (カイツブリ) dives.",
    "ﾈｺは寝る",
    "A社の製品は、第3章と3月5日にある",
    "葛\U000e0100城",
    "京、猫、都",
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("カイツブリ", [0, 5]),
        ("ｶｲﾂﾌﾞﾘ", [0, 5]),
        ("水鸟", [3]),
        ("둥지", [4]),
        ("논병아리", [4]),
        ("ネコ", [6]),
        ("猫", [2, 9]),
        ("水", [0, 1, 3]),
        ('"水の上"', [0]),
        ('"上の水"', []),
        ("+東京都", [2]),
        ("京都", [1, 2]),
        ("+京都の", [1]),
        ("+京都 +猫", [2]),
        ("+A社", [7]),
        ('"第3章" +3月5日', [7]),
        ("+月3", []),
        ("葛城", [8]),
        ('"京都"', [1, 2]),
        ("GREBES", []),
        ("grebe", [5]),
        ('"grebe カイツブリ dives"', [5]),
        ("犬", []),
    ],
)
def test_words_of_texts_without_spaces_are_found_in_cjk(tmp_path: Path, query: str, found: list[int]) -> None:
    library = Library(tmp_path, spec_of(text={"fields": {"title": 2.0, "body": 1.0}, "language": "cjk"}))
    library.add(*(Doc(id=number, bodies=(text,)) for number, text in enumerate(SENTENCES)))
    with library.open() as snapshot:
        assert ids(snapshot, query) == found


def test_a_query_is_cut_before_it_is_paired() -> None:
    for text in ("\ufdfa" * MAX_QUERY_CHARS, f'"{"鳥" * MAX_QUERY_CHARS}"', "鳥の" * MAX_QUERY_CHARS, "a " * 16_000):
        started = time.process_time()
        found = clauses(text, "cjk")
        assert sum(len(clause.words) for clause in found) <= MAX_TERMS
        assert time.process_time() - started < 0.5


CJK_LETTERS = "東京都水鳥カｶツーのが々논병"


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    st.lists(st.text(f"{CJK_LETTERS} a", min_size=1, max_size=8), min_size=1, max_size=8, unique=True),
    st.text(CJK_LETTERS, min_size=1, max_size=2),
)
def test_in_cjk_a_quoted_run_finds_the_texts_that_hold_it(texts: list[str], sought: str) -> None:
    """Of letters of one kind or of both, of one or of several: the oracle is Python's own ``in``."""
    texts = [*texts, *(f"{text}{sought}{text}" for text in texts)]
    with TemporaryDirectory() as folder:
        library = Library(Path(folder), spec_of(text={"fields": {"title": 1.0, "body": 1.0}, "language": "cjk"}))
        library.add(*(Doc(id=number, bodies=(text,)) for number, text in enumerate(texts)))
        with library.open() as snapshot:
            wanted = cjk.normalised(sought)
            expected = [number for number, text in enumerate(texts) if wanted in cjk.normalised(text)]
            assert ids(snapshot, f'"{sought}"', k=100) == expected


def test_a_word_in_parts_is_a_phrase_and_stop_words_keep_their_gap(library: Library) -> None:
    library.add(
        Doc(id=1, bodies=("re\u0301sume\u0301",)),
        Doc(id=2, bodies=("sume re",)),
        Doc(id=3, bodies=("heat of the pump",)),
        Doc(id=4, bodies=("heat pump",)),
    )
    with library.open() as snapshot:
        assert ids(snapshot, "re\u0301sume\u0301") == [1]
        assert ids(snapshot, '"heat of the pump"') == [3]
        assert ids(snapshot, '"heat pump"') == [4]


def test_a_boosted_field_weighs_more(library: Library) -> None:
    library.add(Doc(id=1, bodies=("otter",), title="heron"), Doc(id=2, bodies=("heron",), title="otter"))
    with library.open() as snapshot:
        response = search(snapshot, SearchRequest(query="otter", mode="keyword"))

    assert response.results.keys() == [(2,), (1,)]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(max_size=40) | st.text(alphabet='+-"*:^~[]{}()/\\ aANDOR', max_size=40))
def test_no_text_is_an_error(shelf: Shelf, text: str) -> None:
    if text.strip():
        search(shelf.snapshot, SearchRequest(query=text, mode="keyword"))


def test_few_passing_rows_restrict_the_query_and_many_deepen_it(shelf: Shelf) -> None:
    ways = {}
    for where in ("id = 120", "size < 90"):
        plan = search(shelf.snapshot, SearchRequest(query="solar", mode="keyword", filter=where)).plan
        assert plan.keyword is not None
        ways[where] = plan.keyword.way

    assert ways == {"id = 120": "restricted", "size < 90": "deepened"}


def test_deepening_turns_to_restricting_when_the_best_hits_do_not_pass(library: Library) -> None:
    many = [Doc(id=n, bodies=("otter otter otter",), colour="red") for n in range(700)]
    few = [Doc(id=n, bodies=("otter in a long text about rivers",), colour="blue") for n in range(700, 800)]
    library.add(*many, *few)
    with library.open() as snapshot:
        response = search(snapshot, SearchRequest(query="otter", mode="keyword", filter="colour = 'blue'", k=3))
        assert [key[0] for key in response.results.keys()] == [700, 701, 702]  # noqa: SIM118


def test_chunks_without_a_vector_are_found_by_words_only(library: Library) -> None:
    library.add(Doc(id=1, bodies=("otter",), vectors=(None,)), Doc(id=2, bodies=("heron",), vectors=(unit(1),)))
    with library.open() as snapshot:
        by_vector = search(snapshot, SearchRequest(vector=unit(1))).results.keys()
        by_words = search(snapshot, SearchRequest(query="otter", mode="keyword")).results.keys()

    assert (by_vector, by_words) == ([(2,)], [(1,)])


def test_statistics_add_up_and_weigh_words_as_they_are_together() -> None:
    """A word in 1 of 10 documents here and 7 of 30 there is one in 8 of 40."""
    here, there = TermStatistics(10, [[1], [0, 10]]), TermStatistics(30, [[7], [0, 30]])
    together = here + there
    assert together == TermStatistics(40, [[8], [0, 40]])
    word, phrase = together.weights_over(here)
    assert word == pytest.approx(math.log(1 + 32.5 / 8.5) / math.log(1 + 9.5 / 1.5))
    assert phrase == pytest.approx(
        (math.log(1 + 40.5 / 0.5) + math.log(1 + 0.5 / 40.5)) / (math.log(1 + 10.5 / 0.5) + math.log(1 + 0.5 / 10.5))
    )
    assert here.weights_over(here) == [1.0, 1.0]
