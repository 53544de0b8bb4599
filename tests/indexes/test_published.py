"""Published codes are taken as they are, and what is wrong with a file is said with its row and column."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import DataError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.published import PublishedIndex

IDS = ["x", "007", "y"]
CODES = ["<a_12><b_0>", "<a_3><b_7>", "<a_12><b_0>"]


def build(path: Path, source: str | None = None, ids: list[str] = IDS) -> ItemIndex:
    catalog = Catalog(pa.table({"item_id": ids, "title": ids}))
    train = Interactions.from_columns(pa.array(["u"]), pa.array(ids[:1]), np.zeros(1, np.int64), catalog.items)
    return PublishedIndex(path=path, source=source).build(catalog, train)


def table(codes: list[str | None] = CODES, ids: list[str] = IDS, **more: list[str]) -> pa.Table:
    return pa.table({"item_id": ids, "sid": pa.array(codes, pa.string()), **more})


def written(folder: Path, content: pa.Table) -> Path:
    parquet.write_table(content, folder / "sids.parquet")
    return folder / "sids.parquet"


def test_a_bucket_stays_a_bucket_and_is_counted(tmp_path: Path) -> None:
    index = build(written(tmp_path, table()))
    assert index.codes.tolist() == [[12, 0], [3, 7], [12, 0]]
    assert index.level_sizes == (13, 8)
    assert index.collisions == 1
    assert index.provenance["collisions"]["after"] == {"colliding": 1, "largest_group": 2}


def test_the_three_forms_give_one_index(tmp_path: Path) -> None:
    csv.write_csv(table(), tmp_path / "sids.csv")
    tokens = {"x": ["<a_12>", "<b_0>"], "007": ["<a_3>", "<b_7>"], "y": ["<a_12>", "<b_0>"]}
    (tmp_path / "set.index.json").write_text(json.dumps(tokens))
    paths = [written(tmp_path, table()), tmp_path / "sids.csv", tmp_path / "set.index.json"]
    assert len({build(path).digest for path in paths}) == 1


def test_rows_follow_the_catalog_not_the_file(tmp_path: Path) -> None:
    index = build(written(tmp_path, table()), ids=["007", "x"])
    assert index.codes.tolist() == [[3, 7], [12, 0]]
    assert index.collisions == 0  # the other item of the bucket is not in this catalog
    assert index.level_sizes == (13, 8)


def test_one_of_several_sets(tmp_path: Path) -> None:
    both = table([*CODES, "<a_0>", "<a_1>", "<a_2>"], IDS * 2, source=["P"] * 3 + ["Q"] * 3)
    path = written(tmp_path, both)
    assert build(path, "Q").codes.tolist() == [[0], [1], [2]]
    assert build(path, "P").level_sizes == (13, 8)
    with pytest.raises(DataError, match=r"holds 2 sets of codes. Set source to one of: \['P', 'Q'\]"):
        build(path)
    with pytest.raises(DataError, match=r"no codes of source 'R'. Known: P, Q"):
        build(path, "R")


def test_one_named_set_needs_no_source(tmp_path: Path) -> None:
    assert build(written(tmp_path, table(source=["P"] * 3))).collisions == 1


def test_a_source_where_the_file_has_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'source' to find 'P' in. Leave it out"):
        build(written(tmp_path, table()), "P")


@pytest.mark.parametrize(
    ("codes", "row", "message"),
    [
        (["<a_1><b_2>", "<a_1>b_2", "<a_0><b_0>"], 1, r"item '007' has the code '<a_1>b_2'"),
        (["<a_1><b_2>", "", "<a_0><b_0>"], 1, r"has the code '' .*expected tokens such as"),
        (["<a_1><b_2>", None, "<a_0><b_0>"], 1, r"has the code None"),
        (["<a_1><b_2>", "<a_1><b_99999999999>", "<a_0><b_0>"], 1, r"<b_99999999999>"),
        (["<a_1><b_2>", "<a_1><b_-2>", "<a_0><b_0>"], 1, r"<b_-2>"),
        (["<a_1><b_2>", "<a_1><b_2>", "<a_0>"], 2, r"'<a_0>' \(1 such codes\); expected 2 levels, a, b, in this order"),
        (["<a_1><b_2>", "<b_1><a_2>", "<a_0><b_0>"], 1, r"expected 2 levels, a, b, in this order"),
        (["<b_1><a_2>", "<b_1><a_3>", "<b_0><a_0>"], 0, r"\(3 such codes\); expected 2 levels, a, b, in this order"),
    ],
)
def test_malformed_codes_are_named(tmp_path: Path, codes: list[str | None], row: int, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        build(written(tmp_path, table(codes)))
    assert (error.value.row, error.value.column) == (row, "sid")


def test_a_missing_item_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no code for item 'z' \(1 of 4 .* has ids such as 'x'"):
        build(written(tmp_path, table()), ids=[*IDS, "z"])


def test_an_item_with_two_codes_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the id 'x' appears twice. Keep one code an item"):
        build(written(tmp_path, table(ids=["x", "007", "x"])))


def test_a_wrong_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'sid'. Did you mean 'sids'\?"):
        build(written(tmp_path, table().rename_columns(["item_id", "sids"])))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sids.parquet", "not parquet", r"cannot be read"),
        ("set.index.json", "{", r"cannot be read"),
        ("set.index.json", "[1]", r"holds a list. Expected an object"),
        ("set.index.json", '{"x": "<a_1>"}', r"item 'x' has '<a_1>'. Expected a list of tokens"),
        ("set.index.json", "{}", r"holds no code"),
        ("sids.csv", "", r"cannot be read"),
        ("sids.txt", "", r"ends in .parquet, .csv, .json"),
        ("missing.csv", None, r"does not exist"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        build(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source", "items", "distinct", "levels"),
    [
        ("amazon14_office", "APAO-rq-kmeans", 2420, 2415, 4),
        ("amazon14_beauty", "LETTER", 12101, 12088, 4),
        ("amazon14_beauty", "APAO-rq-kmeans", 12101, 12089, 4),
        ("amazon18_industrial_minionerec", "MiniOneRec", 3686, 3670, 3),
    ],
)
def test_real_codes(shared_data: Path, name: str, source: str, items: int, distinct: int, levels: int) -> None:
    catalog = Catalog(parquet.read_table(shared_data / name / "items.parquet"))
    events = parquet.read_table(shared_data / name / "interactions.parquet").slice(0, 10)
    train = Interactions.from_columns(
        events["user_id"], events["item_id"], events["position"].to_numpy(), catalog.items
    )
    index = PublishedIndex(path=shared_data / name / "published_sids.parquet", source=source).build(catalog, train)
    assert index.codes.shape == (items, levels)
    assert index.collisions == index.provenance["collisions"]["before"]["colliding"] == items - distinct
