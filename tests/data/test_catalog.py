"""A catalog gives titles, records and texts by item row."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.filters import Condition, read_condition
from llmrec.errors import DataError

CATALOG = Catalog(
    pa.table({"item_id": ["x", "y"], "title": ["Pen", "Tape"], "brand": ["Bic", ""], "price": [1.5, None]})
)


def test_by_row() -> None:
    assert CATALOG.items.row("y") == 1
    assert CATALOG.title(1) == "Tape"
    assert CATALOG.record(0) == {"item_id": "x", "title": "Pen", "brand": "Bic", "price": 1.5}
    assert CATALOG.take(np.array([1, 0])).table["title"].to_pylist() == ["Tape", "Pen"]


def test_texts_skip_what_is_empty() -> None:
    assert CATALOG.texts(("title", "brand", "price")) == ["Pen. Bic. 1.5", "Tape"]


SHOP = Catalog(
    pa.table(
        {
            "item_id": ["a", "b", "c", "d", "e"],
            "title": ["Red", "Blue", "Green", "Grey", "Black"],
            "brand": pa.array(["OPI", "Smith, Sons", None, "OPI", ""]).dictionary_encode(),
            "in_stock": [True, False, None, False, True],
            "price": [29.5, 30.0, None, 12.0, 30.5],
            "pages": [1, 2, None, 2, 3],
            "categories": [["nail", "red"], ["nail"], None, [], ["hair", "hair"]],
            "sold": pa.array([0, 86_400, None, 0, 1], pa.timestamp("s")),
        }
    )
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"brand": "OPI"}, [0, 3]),
        ({"brand": "OPI", "in_stock": True}, [0]),
        ({"brand": ["OPI", "Smith, Sons", "nobody"]}, [0, 1, 3]),
        ({"brand": ""}, [4]),
        ({"brand": None}, [2]),
        ({"brand": [None, ""]}, [2, 4]),
        ({"brand": []}, []),
        ({"brand": "nobody"}, []),
        ({"in_stock": False}, [1, 3]),
        ({"in_stock": np.True_}, [0, 4]),
        ({"price": 30}, [1]),
        ({"pages": 2}, [1, 3]),
        ({"pages": 2.0}, [1, 3]),
        ({"pages": np.array([1, 3])}, [0, 4]),
        ({"categories": "nail"}, [0, 1]),
        ({"categories": ("red", "hair")}, [0, 4]),
        ({"categories": None}, [2]),
        ({"sold": datetime(1970, 1, 2)}, [1]),
        (pc.field("price") < 30, [0, 3]),
        (~(pc.field("price") < 30), [1, 4]),
        (pc.field("in_stock"), [0, 4]),
        ((pc.field("pages") == 2) & (pc.field("brand") == "OPI"), [3]),
        (pc.is_null(pc.field("price")), [2]),
        (pc.field("price") > 1000, []),
    ],
    ids=str,
)
def test_items_that_satisfy_a_condition(condition: Condition, rows: list[int]) -> None:
    in_one_piece = SHOP.where(condition)
    assert in_one_piece.tolist() == rows
    assert in_one_piece.dtype == np.int32
    halves = Catalog(pa.concat_tables([SHOP.table.slice(0, 2), SHOP.table.slice(2)]))
    assert halves.where(condition).tolist() == rows


def test_an_empty_catalog_has_no_items_that_fit() -> None:
    empty = Catalog(SHOP.table.slice(0, 0))
    assert [empty.where(c).tolist() for c in ({"brand": "OPI"}, {"categories": "x"}, pc.field("price") < 3)] == [[]] * 3


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"brnad": "OPI"}, "no column 'brnad'.*Did you mean 'brand'"),
        (pc.field("prize") < 30, "no column 'prize'.*Did you mean 'price'"),
        ({"brand": 7}, r"'brand': it holds values of type string, and 7 \(int\) is none.*such as 'OPI'"),
        ({"price": "30"}, r"'price': it holds values of type double, and '30' \(str\) is none.*such as 29\.5"),
        ({"pages": 2.5}, "'pages'.*2.5"),
        ({"pages": True}, "'pages'.*True"),
        ({"pages": 2**70}, "'pages'"),
        ({"price": True}, "'price'.*True"),
        ({"in_stock": 1}, "'in_stock': it holds values of type bool.*such as True"),
        ({"in_stock": "true"}, "'in_stock'"),
        ({"categories": ["nail", 3]}, "'categories': it holds values of type string, and 3"),
        (pc.field("price") < "30", r"\(price < \"30\"\) cannot be evaluated.*pages \(int64\)"),
        (pc.field("price") + 1, "gives double, not true or false"),
        ("brand=OPI", "a str is no condition"),
    ],
    ids=str,
)
def test_a_condition_that_cannot_be_is_explained(condition: Condition, words: str) -> None:
    with pytest.raises(DataError, match=words):
        SHOP.where(condition)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("brand=OPI", [0, 3]),
        ("brand=Smith, Sons", [1]),
        ("brand=", [4]),
        ("brand=a=b", []),
        ("in_stock=true", [0, 4]),
        ("in_stock=False", [1, 3]),
        ("price=30", [1]),
        ("price=29.5", [0]),
        ("pages=2", [1, 3]),
        ("categories=nail", [0, 1]),
        ("sold=1970-01-02", [1]),
    ],
)
def test_a_typed_value_is_read_as_its_column_s_type(text: str, rows: list[int]) -> None:
    assert SHOP.where(read_condition(SHOP.table, text)).tolist() == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("brand", "'brand' is no condition. Write COLUMN=VALUE"),
        ("brnad=OPI", "Did you mean 'brand'"),
        ("in_stock=yes", "'in_stock'.*'yes' is none"),
        ("pages=2.5", "'pages': it holds values of type int64, and '2.5' is none"),
        ("price=", "'price'.*'' is none"),
    ],
)
def test_a_typed_condition_that_cannot_be_is_explained(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_condition(SHOP.table, text)


def test_unknown_field_is_named() -> None:
    with pytest.raises(DataError, match=r"'brnad'.*Did you mean 'brand'"):
        CATALOG.texts(("brnad",))
    with pytest.raises(DataError, match="no column 'title'"):
        Catalog(pa.table({"item_id": ["x"]}))
