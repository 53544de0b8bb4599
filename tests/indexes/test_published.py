"""Published codes are taken as they are, and what is wrong with a file is said with its row and column."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sids.csv", "item_id,sid\nx,<a_12><b_0>\n007,<a_3><b_7>\ny,<a_12><b_0>\n"),
        ("sids.csv", "\ufeffsource,sid,item_id\nP,<a_12><b_0>,x\nP,<a_3><b_7>,007\nP,<a_12><b_0>,y\n"),
        ("set.index.json", '{"x": ["<a_12>", "<b_0>"], "007": ["<a_3>", "<b_7>"], "y": ["<a_12>", "<b_0>"]}'),
        ("id2sid.json", '\ufeff{"x": "<a_12><b_0>", "007": "<a_3> <b_7>", "y": "<a_12><b_0>"}'),
        ("item2sid.json", '{"x": "<a_012><b_000>", "007": "<a_003><b_007>", "y": "<a_012><b_000>"}'),
        ("opq.sem_ids", '{"x": [12, 0], "007": [3, 7], "y": [12, 0]}'),
        (
            "openonerec.json",
            '{"x": "<|sid_begin|><s_a_12><s_b_0><|sid_end|>", "007": "<s_a_3><s_b_7>", "y": "<s_a_12><s_b_0>"}',
        ),
    ],
)
def test_all_forms_give_one_index(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert build(tmp_path / name).digest == build(written(tmp_path, table())).digest


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.uint16()), pa.list_(pa.int64(), 2)])
def test_a_table_of_numbers_gives_the_same_index(tmp_path: Path, kind: pa.DataType) -> None:
    """OpenOneRec's mapping from `pid` to `sid`."""
    numbers = pa.table({"pid": [1, 2, 3], "domain": ["v"] * 3, "sid": pa.array([[12, 0], [3, 7], [12, 0]], kind)})
    index = build(written(tmp_path, numbers), ids=["1", "2", "3"])
    assert index.digest == build(written(tmp_path, table())).digest


def test_categories_of_pandas_are_text(tmp_path: Path) -> None:
    encoded = pa.table({name: column.dictionary_encode() for name, column in zip("si", table().columns, strict=True)})
    path = written(tmp_path, encoded.rename_columns(["item_id", "sid"]))
    assert build(path).codes.tolist() == [[12, 0], [3, 7], [12, 0]]


def test_codes_may_differ_in_length(tmp_path: Path) -> None:
    index = build(written(tmp_path, table(["<a_1>", "<a_0><b_4><c_2>", "<a_0><b_3>"])))
    assert index.codes.tolist() == [[1, -1, -1], [0, 4, 2], [0, 3, -1]]
    assert index.level_sizes == (2, 5, 3)
    assert index.lengths.tolist() == [1, 3, 2]


@pytest.mark.parametrize("levels", [2, 3])
def test_no_code_may_begin_another(tmp_path: Path, levels: int) -> None:
    longer = "<a_1><b_0><c_5>"[: 5 * levels]
    message = rf"the code '<a_1>' of item 'y' is the beginning of the code '{longer}' of item 'x'. Give all items"
    with pytest.raises(DataError, match=message) as error:
        build(written(tmp_path, table([longer, "<a_0>", "<a_1>"])))
    assert error.value.row == 2


def test_equal_short_codes_are_a_bucket(tmp_path: Path) -> None:
    index = build(written(tmp_path, table(["<a_1>", "<a_1>", "<a_0><b_0>"])))
    assert index.collisions == index.provenance["collisions"]["after"]["colliding"] == 1


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
        (["<a_1><b_2>", "<b_1><a_2>", "<a_0><b_0>"], 1, r"one number a level, .* a, b, c ... in this order"),
        (["<b_1><a_2>", "<b_1><a_3>", "<b_0><a_0>"], 0, r"\(3 such codes\); expected one number a level"),
        (["<a_1><b_2>", "<a_1><c_2>", "<a_0><b_0>"], 1, r"'<a_1><c_2>' .* in this order"),
        (["<a_1><b_2>", "<|sid_begin|><s_a_1><s_b_2>", "<a_0><b_0>"], 1, r"expected tokens such as"),
        (["<a_1><b_2>", "<a_1><s_b_2>", "<a_0><b_0>"], 1, r"expected tokens such as"),
        (["<a_1>", "<a_1>" * 50, "<a_0>"], 1, r"<a_1><a_1>.*\.\.\. \(1 such codes\); expected one number a level"),
    ],
)
def test_malformed_codes_are_named(tmp_path: Path, codes: list[str | None], row: int, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        build(written(tmp_path, table(codes)))
    assert (error.value.row, error.value.column) == (row, "sid")


@pytest.mark.parametrize(
    ("codes", "row", "shown"),
    [
        ([[1, 2], [1, -2], [0, 0]], 1, r"\[1, -2\]"),
        ([[1, 2], [1, 2], [2**31, 0]], 2, r"\[2147483648, 0\]"),
        ([[1, 2], [], [0, 0]], 1, r"\[\]"),
        ([[1, 2], None, [0, 0]], 1, r"None"),
        ([[1, 2], [1, None], [0, 0]], 1, r"\[1, None\]"),
        ([[0], [1] * 27, [2]], 1, r"\[1, 1, .*\.\.\."),
    ],
)
def test_malformed_numbers_are_named(tmp_path: Path, codes: list[list[int] | None], row: int, shown: str) -> None:
    numbers = pa.table({"item_id": IDS, "sid": pa.array(codes, pa.list_(pa.int64()))})
    message = rf"item '{IDS[row]}' has the code {shown} .*expected a list of 1 to 26 whole numbers from 0 to 999999999"
    with pytest.raises(DataError, match=message) as error:
        build(written(tmp_path, numbers))
    assert (error.value.row, error.value.column) == (row, "sid")


def test_a_number_that_asks_for_too_many_tokens_is_refused(tmp_path: Path) -> None:
    message = r"the largest number of level b is 999999999. .* 3 items may have 1048576. Number the codes of each level"
    with pytest.raises(DataError, match=message):
        build(written(tmp_path, table(["<a_1><b_999999999>", "<a_1><b_2>", "<a_0><b_0>"])))


def test_a_token_for_every_item_is_allowed(tmp_path: Path) -> None:
    ids = [str(row) for row in range(3)]
    assert build(written(tmp_path, table([f"<a_{row}>" for row in range(3)], ids)), ids=ids).level_sizes == (3,)


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
        ("set.index.json", '{"x": 5}', r"item 'x' has 5. Expected the same for all items: .*numbers from 0 on"),
        ("set.index.json", '{"x": [12, -7]}', r"item 'x' has \[12, -7\]. Expected"),
        ("set.index.json", '{"x": [12, 7.0]}', r"item 'x' has \[12, 7.0\]. Expected"),
        ("set.index.json", '{"x": [12, true]}', r"item 'x' has \[12, True\]. Expected"),
        ("set.index.json", '{"x": [12, 9223372036854775808]}', r"item 'x' has \[12, 9223372036854775808\]. Expected"),
        ("set.index.json", '{"x": [12, "<b_7>"]}', r"item 'x' has \[12, '<b_7>'\]. Expected"),
        ("set.index.json", '{"x": [["<a_1>"]]}', r"item 'x' has \[\['<a_1>'\]\]. Expected"),
        ("set.index.json", '{"x": []}', r"item 'x' has \[\]. Expected"),
        ("set.index.json", '{"x": {"sid": "<a_1>"}}', r"item 'x' has .*. Expected"),
        ("set.index.json", '{"x": "<a_1>", "y": ["<a_1>"]}', r"item 'y' has \['<a_1>'\]. Expected the same for all"),
        ("set.index.json", '{"x": ["<a_1", ">"]}', r"item 'x' has the code '<a_1 >'"),
        ("set.index.json", '{"x": [NaN]}', r"cannot be read \(NaN is no JSON value"),
        ("set.index.json", '{"x": "<a_1>", "x": "<a_2>"}', r"the id 'x' appears twice"),
        ("set.index.json", '{"\\ud800": "<a_1>"}', r"cannot be read"),
        ("set.index.json", "[" * 100_000, r"cannot be read \(set.index.json is nested too deeply"),
        ("set.index.json", '{"x": ' + "9" * 5000 + "}", r"cannot be read"),
        ("set.index.json", "{}", r"holds no code"),
        ("sids.csv", "", r"cannot be read"),
        ("sids.csv", "item_id,sid,sid\nx,<a_1>,<a_2>\n", r"2 columns are named 'sid'. Keep one of them"),
        ("sids.txt", "", r"ends in .parquet, .csv, .json, .sem_ids"),
        ("missing.csv", None, r"does not exist"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        build(tmp_path / name)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("item_id", pa.array([1.0, 2.0, float("nan")]), r"column 'item_id': the column holds values of type double"),
        ("item_id", pa.array([["x"], ["007"], ["y"]]), r"column 'item_id': the column holds values of type list"),
        ("sid", pa.array([{"a": 1}, {"a": 2}, {"a": 3}]), r"column 'sid': the column holds values of type struct"),
        ("sid", pa.array([[1.0], [2.0], [float("nan")]]), r"column 'sid': the codes are lists of double"),
        ("item_id", pa.array([None, "007", "y"]), r"the id is empty"),
    ],
)
def test_columns_that_hold_something_else(tmp_path: Path, column: str, values: pa.Array, message: str) -> None:
    content = table()
    path = written(tmp_path, content.set_column(content.column_names.index(column), column, values))
    with pytest.raises(DataError, match=message):
        build(path)


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
