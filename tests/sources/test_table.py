"""Two tables of the user become clean data, and every wrong value is named by table, row and column."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from llmrec.errors import DataError, RecipeError
from llmrec.registry import build
from llmrec.sources.base import Dataset
from llmrec.sources.table import TableSource, from_frames

EVENTS = {"user_id": ["b", "a", "b"], "item_id": ["7", "12", "12"], "timestamp": [20, 5, 10], "rating": [1.0, 2.5, 5.0]}
ITEMS = {"item_id": ["7", "12"], "title": ["Pens &amp; Ink", 'Tape,\n"clear"'], "brand": ["Bic", None]}


def contents(data: Dataset) -> tuple[object, ...]:
    events = data.interactions
    return data.catalog.table.to_pylist(), events.users.ids.to_pylist(), events.table.to_pydict(), list(events.offsets)


def changed(table: dict[str, list], **columns: list) -> dict[str, list]:
    return {**table, **columns}


def refused(events: object = EVENTS, items: object = ITEMS, **settings: object) -> DataError:
    with pytest.raises(DataError) as caught:
        from_frames(events, items, **settings)
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(pa.table(EVENTS), tmp_path / "interactions.parquet")
    pq.write_table(pa.table(ITEMS), tmp_path / "items.parquet")
    return tmp_path


def test_worked_example(folder: Path) -> None:
    data = TableSource(root=folder).load()
    assert data.catalog.table.to_pylist() == [
        {"item_id": "7", "title": "Pens & Ink", "brand": "Bic"},
        {"item_id": "12", "title": 'Tape, "clear"', "brand": ""},
    ]
    assert data.interactions.items is data.catalog.items
    assert data.interactions.users.ids.to_pylist() == ["b", "a"]
    assert [h.tolist() for h in data.interactions.histories] == [[1, 0], [1]]
    assert data.interactions.table["rating"].to_pylist() == [5.0, 1.0, 2.5]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_text_files_say_the_same_as_parquet(folder: Path, suffix: str) -> None:
    options = csv.WriteOptions(delimiter="\t" if suffix == ".tsv" else ",")
    compression = "gzip" if suffix.endswith(".gz") else None
    for name, table in (("e", EVENTS), ("i", ITEMS)):
        with pa.output_stream(folder / f"{name}{suffix}", compression=compression) as out:
            csv.write_csv(pa.table(table), out, options)
    source = TableSource(root=folder, interactions=Path(f"e{suffix}"), items=Path(f"i{suffix}"))
    assert contents(source.load()) == contents(TableSource(root=folder).load())


def string_views(table: dict[str, list]) -> pa.Table:
    """What polars exports."""
    made = pa.table(table)
    kinds = [pa.string_view() if field.type == pa.string() else field.type for field in made.schema]
    return pa.table([column.cast(kind) for column, kind in zip(made.columns, kinds, strict=True)], made.column_names)


def shuffled_back(table: dict[str, list]) -> datasets.Dataset:
    """A `datasets.Dataset` whose rows are stored in another order than they are shown."""
    rows = list(range(len(table["item_id"])))[::-1]
    stored = {name: values[::-1] for name, values in table.items()}
    return datasets.Dataset.from_dict(stored).select(rows)


@pytest.mark.parametrize(
    "frame",
    [
        pa.table,
        pd.DataFrame,
        datasets.Dataset.from_dict,
        dict,
        lambda table: pa.table(table).to_pylist(),
        lambda table: pa.table(table).to_batches()[0],
        lambda table: pd.DataFrame(table)[::-1].sort_index(),
        lambda table: pa.RecordBatchReader.from_batches(pa.table(table).schema, pa.table(table).to_batches()),
        string_views,
        shuffled_back,
    ],
)
def test_frames_of_any_kind_say_the_same(folder: Path, frame: object) -> None:
    assert contents(from_frames(frame(EVENTS), frame(ITEMS))) == contents(TableSource(root=folder).load())


def test_ids_are_text_whatever_their_type() -> None:
    numbers = from_frames(changed(EVENTS, item_id=[7, 12, 12]), changed(ITEMS, item_id=[7.0, 12.0]))
    assert numbers.catalog.items.ids.to_pylist() == ["7", "12"]
    categories = pd.DataFrame(EVENTS).astype({"user_id": "category", "item_id": "category"})
    assert contents(from_frames(categories, ITEMS)) == contents(from_frames(EVENTS, ITEMS))


@pytest.mark.parametrize(
    ("times", "read"),
    [
        ([3, 1, 2], [3, 1, 2]),
        ([3.0, 1.0, 2.0], [3, 1, 2]),
        (["3", "+1", " 2.0 "], [3, 1, 2]),
        (["3e2", "1", "2.0"], [300, 1, 2]),
        ([dt.date(1970, 1, 2), dt.date(1970, 1, 1), dt.date(1970, 1, 1)], [86_400_000_000, 0, 0]),
        (["1970-01-02", "1970-01-01 00:00:01", "1970-01-01T00:00:00.5"], [86_400_000_000, 1_000_000, 500_000]),
        (["1970-01-01T01:00:00+01:00", "1970-01-01T00:00:02Z", "1970-01-01 00:00Z"], [0, 2_000_000, 0]),
        (list(pd.to_datetime(["1970-01-01 00:00:01"] * 3)), [1_000_000] * 3),
    ],
)
def test_times_of_any_kind(times: list, read: list[int]) -> None:
    events = changed(EVENTS, user_id=["x", "y", "z"], timestamp=times)  # one event a user keeps the order of the input
    assert from_frames(events, ITEMS).interactions.table["time"].to_pylist() == read


def test_position_is_the_time_where_there_is_no_timestamp() -> None:
    events = {"user_id": ["a", "a"], "item_id": ["7", "12"], "position": [1, 0]}
    assert from_frames(events, ITEMS).interactions.history(0).tolist() == [1, 0]
    both = events | {"timestamp": [0, 1]}
    assert from_frames(both, ITEMS).interactions.history(0).tolist() == [0, 1]
    assert from_frames(both, ITEMS, columns={"time": "position"}).interactions.history(0).tolist() == [1, 0]


def test_column_map_and_kept_columns() -> None:
    events = {"who": ["a"], "sku": ["x"], "when": [1], "stars": [3]}
    items = {"asin": ["x"], "label": ["Pen"], "tags": [["blue", None, "fine"]], "price": [1.5], "item_id": ["other"]}
    names = {"user": "who", "item": "sku", "catalog_item": "asin", "time": "when", "rating": "stars", "title": "label"}
    data = from_frames(events, items, columns=names)
    assert data.catalog.table.to_pylist() == [{"item_id": "x", "title": "Pen", "tags": "blue, fine", "price": 1.5}]
    assert data.interactions.table["rating"].to_pylist() == [3.0]
    kept = from_frames(events, items, columns=names | {"keep": ("price",)})
    assert kept.catalog.table.column_names == ["item_id", "title", "price"]


def test_columns_that_are_no_text_are_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    data = from_frames(EVENTS, changed(ITEMS, box=[{"a": 1}, {"a": 2}]))
    assert "box" not in data.catalog.table.column_names
    assert "column 'box' of type struct" in caplog.text


def test_texts_are_cleaned_and_cut() -> None:
    data = from_frames(EVENTS, changed(ITEMS, brand=["<b>Acme</b> and sons", None]), max_chars=9)
    assert data.catalog.table["brand"].to_pylist() == ["Acme and", ""]


def test_items_without_title_are_named_by_their_other_texts(caplog: pytest.LogCaptureFixture) -> None:
    data = from_frames(EVENTS, changed(ITEMS, title=[" <br> ", None]))
    assert data.catalog.table["title"].to_pylist() == ["(untitled item) Bic", "(untitled item)"]
    assert "2 items have no title" in caplog.text


def test_ratings_may_be_missing() -> None:
    ratings = from_frames(changed(EVENTS, rating=["4", "", "2.5"]), ITEMS).interactions.table["rating"].to_pylist()
    assert str(ratings) == "[2.5, 4.0, nan]"
    unrated = {name: values for name, values in EVENTS.items() if name != "rating"}
    assert from_frames(unrated, ITEMS).interactions.table.column_names == ["item", "time"]


def test_repeats_stay_unless_dropped() -> None:
    events = {"user_id": ["a"] * 3, "item_id": ["7", "12", "7"], "position": [0, 1, 2]}
    assert from_frames(events, ITEMS).interactions.history(0).tolist() == [0, 1, 0]
    assert from_frames(events, ITEMS, repeats="drop_later").interactions.history(0).tolist() == [0, 1]


def test_unknown_items_are_an_error_or_dropped(caplog: pytest.LogCaptureFixture) -> None:
    events = changed(EVENTS, item_id=["7", "99", "12"])
    error = refused(events)
    assert (error.row, error.column) == (1, "item_id")
    assert "'99'" in str(error)
    assert "unknown_items: drop" in str(error)
    data = from_frames(events, ITEMS, unknown_items="drop")
    assert data.interactions.users.ids.to_pylist() == ["b"]
    assert data.interactions.table["rating"].to_pylist() == [5.0, 1.0]
    assert "1 of 3 events" in caplog.text
    assert "first item is '7'" in str(refused(changed(EVENTS, item_id=["x"] * 3), unknown_items="drop"))


def test_rows_that_say_the_same_are_merged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    items = {
        "item_id": ["7", "12", "7"],
        "title": ["Pen", "Tape", "Pen "],
        "brand": ["", None, None],
        "p": [1.0, 2.0, 1.0],
    }
    data = from_frames(EVENTS, items)
    assert data.catalog.table["title"].to_pylist() == ["Pen", "Tape"]
    assert "1 repeated rows" in caplog.text
    error = refused(EVENTS, changed(items, p=[1.0, 2.0, 3.0]))
    assert (error.row, error.column) == (2, "p")
    assert "item '7'" in str(error)
    assert "row 0 says 1.0, row 2 says 3.0" in str(error)


@pytest.mark.parametrize(
    ("events", "row", "column", "says"),
    [
        (changed(EVENTS, user_id=["b", None, "b"]), 1, "user_id", "null or NaN"),
        (changed(EVENTS, user_id=[1.0, 2.0, float("nan")]), 2, "user_id", "null or NaN"),
        (changed(EVENTS, user_id=["b", "", "b"]), 1, "user_id", "the id is empty"),
        (changed(EVENTS, user_id=[1.0, 2.5, 3.0]), 1, "user_id", "2.5 is not a whole number"),
        (changed(EVENTS, user_id=[1.0, 2.0**60, 3.0]), 1, "user_id", "not a whole number that a float can hold"),
        (changed(EVENTS, user_id=[True, False, True]), None, "user_id", "type bool"),
        (changed(EVENTS, item_id=["7", "12", None]), 2, "item_id", "null or NaN"),
        (changed(EVENTS, timestamp=[1, None, 3]), 1, "timestamp", "null or NaN"),
        (changed(EVENTS, timestamp=[1.0, float("inf"), 3.0]), 1, "timestamp", "inf is not a whole number"),
        (changed(EVENTS, timestamp=[1.0, 2.0, 3.25]), 2, "timestamp", "integer milliseconds"),
        (changed(EVENTS, timestamp=["1", "2", "soon"]), 2, "timestamp", "'soon' is not a number"),
        (changed(EVENTS, timestamp=["soon", "2", "3"]), 0, "timestamp", "'soon' is neither a whole number nor an ISO"),
        (changed(EVENTS, timestamp=["2024-01-01", "31.12.", "3"]), 1, "timestamp", "'31.12.' is not an ISO date"),
        (changed(EVENTS, timestamp=["2024-01-01T00:00Z", "2024-01-01T00:00", "3"]), 1, "timestamp", "with a time zone"),
        (changed(EVENTS, timestamp=["1", "", "3"]), 1, "timestamp", "'' is not a number"),
        (changed(EVENTS, timestamp=[[1], [2], [3]]), None, "timestamp", "type list"),
        (changed(EVENTS, rating=["1", "good", "3"]), 1, "rating", "'good' is not a number"),
    ],
)
def test_bad_values_are_named(events: dict, row: int | None, column: str, says: str) -> None:
    error = refused(events)
    assert (error.where, error.row, error.column) == ("interactions", row, column)
    assert says in str(error)
    if row is not None:
        assert f"row {row} (the first is row 0)" in str(error)


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (changed(ITEMS, item_id=["7", None]), "items, row 1 (the first is row 0), column 'item_id'"),
        ({"item_id": ["7"], "titel": ["Pen"]}, "no column 'title'; the columns are ['item_id', 'titel']. Did you mean"),
        ({"item": ["7"], "title": ["Pen"]}, "no column 'item_id'"),
        ({"item_id": [], "title": []}, "the table of items is empty"),
        (changed(ITEMS, title=[{"a": 1}, {"a": 2}]), "titles are of type struct"),
        (None, "llmrec needs both tables"),
        ("items.csv", "a str is no table"),
        (changed(ITEMS, title=["Pen", 3]), "one type each"),
        (changed(ITEMS, title=["Pen", "\ud800"]), "valid text"),
        (pd.DataFrame(changed(ITEMS, title=["Pen", 3])), "column title"),
        (pa.Table.from_arrays([pa.array(["7"])] * 3, names=["item_id", "title", "title"]), "2 columns named 'title'"),
    ],
)
def test_bad_items_are_named(items: object, says: str) -> None:
    assert says in str(refused(EVENTS, items))


def test_a_gigantic_title_is_refused_by_row() -> None:
    error = refused(items=changed(ITEMS, title=["Pen", "x" * 2_000_000]))
    assert (error.row, error.column) == (1, "title")
    assert "2,000,000 bytes" in str(error)


def test_missing_columns_and_empty_events() -> None:
    error = str(refused({"user": ["a"], "item_id": ["7"], "timestamp": [1]}))
    assert "no column 'user_id'; the columns are ['user', 'item_id', 'timestamp']. Did you mean" in error
    assert "Name it with columns.user." in error
    assert "no column 'timestamp'" in str(refused({"user_id": ["a"], "item_id": ["7"]}))
    assert "interactions is empty" in str(refused({"user_id": [], "item_id": [], "timestamp": []}))


def test_settings_are_checked_and_taught(folder: Path) -> None:
    assert isinstance(build("source", {"kind": "table", "root": str(folder)}), TableSource)
    with pytest.raises(RecipeError, match="Did you mean 'root'"):
        build("source", {"kind": "table", "rot": str(folder)})
    with pytest.raises(RecipeError, match=r"columns\.usr: unknown setting. Did you mean 'user'"):
        build("source", {"kind": "table", "root": str(folder), "columns": {"usr": "a"}})
    with pytest.raises(RecipeError, match="give root"):
        build("source", {"kind": "table", "items": "items.parquet"})
    with pytest.raises(RecipeError, match=r"repeat: unknown setting. Did you mean 'repeats'"):
        from_frames(EVENTS, ITEMS, repeat="keep")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "users", "items", "events"),
    [
        ("amazon14_office", 4905, 2420, 53258),
        ("amazon14_beauty", 22363, 12101, 198502),
        ("ml-latest-small", 671, 9125, 100004),
    ],
)
def test_real_data_have_the_counts_of_their_source(
    shared_data: Path, name: str, users: int, items: int, events: int
) -> None:
    data = TableSource(root=shared_data / name).load()
    assert (len(data.interactions.users), len(data.catalog), len(data.interactions)) == (users, items, events)
    titles = data.catalog.table["title"].to_pylist()
    assert all(title and title == " ".join(title.split()) and "&amp;" not in title for title in titles)
