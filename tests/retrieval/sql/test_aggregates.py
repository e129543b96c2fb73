"""Sums of decimals are those that Python's decimals make, on one machine and on several."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal, localcontext

import pytest

from retrieval.snapshot import Snapshot
from tests.retrieval.library import Doc, Library, spec_of
from tests.retrieval.sql.conftest import ask, refusal

pytestmark = pytest.mark.usefixtures("wherever")

SHIFT = 10**28
"""What brings an amount of the tests near 38 digits."""


@pytest.fixture(scope="module")
def docs() -> list[Doc]:
    chosen = random.Random(0)
    amounts = [None, *(Decimal(chosen.randint(-(10**9), 10**9)).scaleb(-2) for _ in range(99))]
    return [
        Doc(id=at, colour=chosen.choice(["red", "blue", None]), size=chosen.randint(-5_000, 5_000), amount=amount)
        for at, amount in enumerate(amounts)
    ]


@pytest.fixture(scope="module")
def sold(docs: list[Doc], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    library = Library(tmp_path_factory.mktemp("sold"), spec_of(columns=["colour", "size", "amount"]))
    library.add(*docs[:40])
    library.add(*docs[40:])
    with library.open() as snapshot:
        yield snapshot


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """Amounts whose sums leave 38 digits, as `amount * SHIFT`, in red; and leave them half-way, in blue."""
    library = Library(tmp_path_factory.mktemp("large"), spec_of(columns=["colour", "amount"]))
    most = Decimal("99999999.00")
    library.add(Doc(id=1, colour="red", amount=most), Doc(id=2, colour="blue", amount=most))
    library.add(
        Doc(id=3, colour="red", amount=most),
        Doc(id=4, colour="blue", amount=most),
        Doc(id=5, colour="blue", amount=-most),
        Doc(id=6, colour="blue", amount=Decimal("0.07")),
        Doc(id=7, colour="green"),
    )
    with library.open() as snapshot:
        yield snapshot


@pytest.mark.parametrize("shift", [1, 10**22], ids=["small", "of nearly 38 digits"])
def test_a_sum_of_products_is_exact_and_a_decimal(sold: Snapshot, docs: list[Doc], shift: int) -> None:
    expected: dict[str | None, Decimal] = defaultdict(Decimal)
    with localcontext(prec=60):
        for doc in docs:
            if doc.amount is not None and doc.size is not None:
                expected[doc.colour] += doc.amount * doc.size * shift

    text = "SELECT colour, sum(amount * size * :shift) FROM docs GROUP BY colour"
    grouped = ask(sold, text, shift=shift)
    (whole,) = ask(sold, "SELECT sum(amount * size * :shift) FROM docs", shift=shift).rows

    assert grouped.columns[1].type == "DECIMAL(38, 2)"
    assert dict(grouped.rows) == expected
    with localcontext(prec=60):
        assert whole == (sum(expected.values()),)


def test_a_sum_of_decimals_beyond_38_digits_is_an_error_and_not_another_number(large: Snapshot) -> None:
    for text in (
        "SELECT sum(amount * :shift) FROM docs WHERE colour = 'red'",
        "SELECT colour, sum(amount * :shift) FROM docs GROUP BY colour",
        "SELECT sum(-amount * :shift) FROM docs WHERE colour = 'red'",
    ):
        error = refusal(large, text, shift=SHIFT)
        assert (error.code, error.message) == ("filter_failed", "a sum does not fit 38 digits")
        assert error.hint == "write sum(CAST(... AS DOUBLE))"


def test_a_sum_that_leaves_38_digits_half_way_is_told_as_it_is(large: Snapshot) -> None:
    text = "SELECT colour, sum(amount * :shift) FROM docs WHERE colour <> 'red' GROUP BY colour ORDER BY colour"

    assert ask(large, text, shift=SHIFT).rows == [
        ("blue", Decimal("99999999.07") * SHIFT),
        ("green", None),
    ]


def test_what_is_reckoned_of_sums_stays_a_decimal(sold: Snapshot, docs: list[Doc]) -> None:
    total = sum((doc.amount * (doc.size or 0) for doc in docs if doc.amount is not None), Decimal())

    answer = ask(
        sold, "SELECT sum(amount * size) * 1.19 - sum(amount), coalesce(sum(amount * size), 0), -sum(amount) FROM docs"
    )

    paid = sum((doc.amount for doc in docs if doc.amount is not None), Decimal())
    assert answer.rows == [(total * Decimal("1.19") - paid, total, -paid)]
    assert [column.type for column in answer.columns] == ["DECIMAL(38, 4)", "DECIMAL(38, 2)", "DECIMAL(20, 2)"]
