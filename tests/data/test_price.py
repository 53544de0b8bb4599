"""The price that a request in words names: which amounts are bounds, and which items they leave."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.price import Limit, comparable_limits, price_condition, price_limits, told


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("a gift for a runner under 30 dollars", [Limit("<", 30)]),
        ("pens at most $5", [Limit("<=", 5)]),
        ("no more than 12 USD", [Limit("<=", 12)]),
        ("not more than 12 usd", [Limit("<=", 12)]),
        ("Over £1,000.50", [Limit(">", 1000.5)]),
        ("at least $3 and under $9", [Limit("<", 9), Limit(">=", 3)]),
        ("a lamp between 10 and 20 dollars", [Limit(">=", 10), Limit("<=", 20)]),
        ("$20-$10 lamp", [Limit(">=", 10), Limit("<=", 20)]),
        ("less than 5€", [Limit("<", 5)]),
        ("", []),
        ("a book under 30 pages", []),
        ("a bag under 5 pounds", []),
        ("a $30 pen", []),
        ("a desk for 2 and 30 dollars", []),
        ("thunder 30 dollars", []),
    ],
)
def test_amounts_with_a_currency_and_a_bound_are_limits(text: str, limits: list[Limit]) -> None:
    assert price_limits(text) == limits


def test_only_items_within_the_price_are_left() -> None:
    columns = {"item_id": list("abcd"), "title": list("ABCD"), "price": [5.0, 30.0, None, 29.99]}
    catalog = Catalog(pa.table(columns))

    def rows(text: str) -> list[int]:
        condition = price_condition(text, catalog)
        assert condition is not None
        return catalog.where(condition).tolist()

    assert rows("a gift under 30 dollars") == [0, 3]
    assert rows("a gift up to 30 dollars") == [0, 1, 3]
    assert rows("between $10 and $30") == [1, 3]
    assert price_condition("a gift", catalog) is None


@pytest.mark.parametrize("price", [None, ["cheap"]])
def test_a_catalog_without_numbers_for_prices_has_no_condition(price: list[str] | None) -> None:
    columns = {"item_id": ["a"], "title": ["A"], **({} if price is None else {"price": price})}
    assert price_condition("under 30 dollars", Catalog(pa.table(columns))) is None


@pytest.mark.parametrize("kind", [pa.int16(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(12, 2)])
def test_every_kind_of_number_is_compared(kind: pa.DataType) -> None:
    most = 2**14 if kind == pa.int16() else 2**32  # dear in dollars, not in rupiahs
    catalog = Catalog(pa.table({"item_id": ["a", "b"], "title": ["A", "B"], "price": pa.array([2.0, most]).cast(kind)}))
    for text, rows in (("under $2.5", [0]), ("over $2.5", [1]), ("under $" + "9" * 400, [0, 1])):
        condition = price_condition(text, catalog)
        assert condition is not None
        assert catalog.where(condition).tolist() == rows


def test_bounds_are_told() -> None:
    catalog = Catalog(pa.table({"item_id": ["a"], "title": ["A"], "price": [1]}))
    assert told(comparable_limits("between $10 and $1,250.50", catalog)) == "price >= 10 and price <= 1250.5"
    assert told(comparable_limits("up to $16777217", catalog)) == "price <= 16777217"
    assert told(comparable_limits("a gift", catalog)) is None


@pytest.mark.parametrize("text", ["1" * 10_000, "1" * 5_000 + "." + "1" * 5_000, "under $" + "9" * 10_000])
def test_many_digits_take_no_time(text: str) -> None:
    began = time.perf_counter()
    price_limits(text)
    assert time.perf_counter() - began < 5  # minutes, where each digit is tried as a first and as a last one
