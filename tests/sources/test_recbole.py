"""Atomic files are read by their typed headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrec.errors import DataError
from llmrec.sources.recbole import RecBoleSource

EVENTS = "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\t01\t4\t2.0\nu\t02\t\t1\n"
ITEMS = (
    "item_id:token\tmovie_title:token_seq\tgenre:token_seq\tprice:float\tvector:float_seq\n"
    '01\tThe "Big\tDrama War\t1.5\t0.1 0.2\n02\tSmall\t\t\t\n'
)


def write(folder: Path, events: str = EVENTS, items: str = ITEMS) -> Path:
    (folder / "shop.inter").write_text(events)
    (folder / "shop.item").write_text(items)
    return folder


def test_worked_example(tmp_path: Path) -> None:
    data = RecBoleSource(root=write(tmp_path), name="shop").load()
    assert data.catalog.table.to_pylist() == [
        {"item_id": "01", "title": 'The "Big', "genre": "Drama War", "price": 1.5},
        {"item_id": "02", "title": "Small", "genre": "", "price": None},
    ]
    assert data.interactions.history(0).tolist() == [1, 0]
    assert str(data.interactions.table["rating"].to_pylist()) == "[nan, 4.0]"


def test_name_is_that_of_the_folder_unless_given(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    write(folder)
    assert len(RecBoleSource(root=folder).load().interactions) == 2
    with pytest.raises(DataError, match=r"shopp\.inter: there is no such file. Did you mean 'shop\.inter'"):
        RecBoleSource(root=folder, name="shopp").load()


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    source = RecBoleSource(root=write(tmp_path), name="shop", columns={"title": "genre", "keep": ("price",)})
    table = source.load().catalog.table
    assert table.column_names == ["item_id", "title", "price"]
    assert table["title"].to_pylist() == ["Drama War", "(untitled item)"]


def test_untyped_headers_and_bad_numbers_are_named(tmp_path: Path) -> None:
    source = RecBoleSource(root=write(tmp_path, items="item_id\ttitle:token\n01\tPen\n"), name="shop")
    with pytest.raises(DataError, match=r"shop\.item: the header 'item_id' names no type.*token_seq"):
        source.load()
    write(tmp_path, events=EVENTS.replace("2.0", "noon"))
    with pytest.raises(DataError, match=r"shop\.inter, row 0 .*'timestamp': 'noon' is not a number"):
        source.load()


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    source = RecBoleSource(root=write(tmp_path), name="shop")
    before = source.fingerprint()
    write(tmp_path, items=ITEMS.replace("Small", "Tiny"))
    assert source.fingerprint() != before
