"""Files are read as they are, and a file that is missing, damaged or endless is named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from llmrec.errors import DataError
from llmrec.sources import files
from llmrec.sources.table import TableSource

EVENTS = {"user_id": ["b", "a"], "item_id": ["7", "12"], "timestamp": [20, 4]}
ITEMS = {"item_id": ["7", "12"], "title": ["Pens", "Tape"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(pa.table(EVENTS), tmp_path / "interactions.parquet")
    pq.write_table(pa.table(ITEMS), tmp_path / "items.parquet")
    return tmp_path


def test_leading_zeros_survive_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("\ufeffuser_id,item_id,position\n007,01,0\n")
    (tmp_path / "items.csv").write_text("item_id,title\n01,Pen\n")
    data = TableSource(root=tmp_path).load()
    assert (data.interactions.users[0], data.catalog.items[0]) == ("007", "01")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("interactions.csv", "", "Empty CSV"),
        ("interactions.csv", "user_id,item_id,timestamp\n", "interactions is empty"),
        ("interactions.csv", "user_id,item_id,timestamp\na,7,1\na,7\n", "Expected 3 columns, got 2"),
        ("interactions.csv", 'user_id,item_id,timestamp\na,"7,1\n', "a quote"),
        (
            "interactions.csv",
            "user_id,item_id,timestamp\na,7,1\na,,2\n",
            "row 1 (the first is row 0), column 'item_id'",
        ),
        ("interactions.csv", "user_id,item_id,timestamp\ncaf\udce9,7,1\n", "not UTF-8"),
        ("interactions.parquet", "user_id,item_id,timestamp\n", "no parquet table"),
    ],
)
def test_damaged_files_are_named(folder: Path, name: str, text: str, says: str) -> None:
    (folder / "interactions.parquet").unlink()
    (folder / name).write_bytes(text.encode("utf8", "surrogateescape"))
    with pytest.raises(DataError) as caught:
        TableSource(root=folder).load()
    assert caught.value.where == str(folder / name)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("item_id,title\n7,Pen\n12," + "x" * 5000 + "\n", "line 3 is longer than 1,000 bytes"),
        ('item_id,title\n7,"Pen\n' + "12,Tape\n" * 1000, "a quote that opens a value is never closed"),
    ],
)
def test_endless_rows_of_a_text_file_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.setattr(files, "_LONGEST_LINE", 1000)
    (folder / "items.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        TableSource(root=folder, items=Path("items.csv")).load()
    assert says in str(caught.value)


def test_another_encoding_can_be_named(folder: Path) -> None:
    (folder / "items.csv").write_bytes("item_id,title\n7,Caf\u00e9\n12,Tape\n".encode("latin-1"))
    source = TableSource(root=folder, items=Path("items.csv"), encoding="latin-1")
    assert source.load().catalog.title(0) == "Caf\u00e9"


def test_missing_files_are_named_with_the_closest(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"log: there is no such file. Known: interactions\.parquet, items\.parquet"):
        TableSource(root=folder, interactions=Path("log")).load()
    with pytest.raises(DataError, match=r"Did you mean 'interactions\.parquet'\?"):
        TableSource(root=folder, interactions=Path("interaction.parquet")).load()
    with pytest.raises(DataError, match="no such folder"):
        TableSource(root=folder / "nowhere").load()
    (tmp_path / "items.xlsx").touch()
    with pytest.raises(DataError, match=r"'\.xlsx' is not known. Use one of \.parquet"):
        TableSource(root=folder, items=Path("items.xlsx")).load()


def test_fingerprint_follows_the_content(folder: Path, tmp_path: Path) -> None:
    source = TableSource(root=folder)
    before = source.fingerprint()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("interactions.parquet", "items.parquet"):
        (copy / name).write_bytes((folder / name).read_bytes())
    assert TableSource(root=copy).fingerprint() == before
    pq.write_table(pa.table({**EVENTS, "timestamp": [20, 5]}), folder / "interactions.parquet")
    assert source.fingerprint() != before


@pytest.mark.parametrize("name", ["histories.parquet", "histories.csv"])
def test_a_large_table_is_read_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One row group, or one text, of which only a small share is ever in memory."""
    monkeypatch.setattr(files, "_LONGEST_LINE", 1 << 16)
    rows = 200_000
    lists = [[f"item-{(user * 7919 + place) % 50_021}" for place in range(12)] for user in range(rows)]
    if name.endswith("parquet"):
        table = pa.table({"user": range(rows), "history": lists, "other": ["x"] * rows})
        pq.write_table(table, tmp_path / name, row_group_size=rows)
    else:
        table = pa.table({"user": range(rows), "history": [",".join(ids) for ids in lists], "other": ["x"] * rows})
        csv.write_csv(table, tmp_path / name)
    size, wanted = table.nbytes, table["history"].slice(rows - 1)[0].as_py()
    del table, lists
    before, peak, found = pa.total_allocated_bytes(), 0, 0
    for batch in files.iter_batches(tmp_path / name, ("history", "user"), rows=100):
        assert batch.schema.names == ["history", "user"]
        assert 0 < len(batch) <= 100
        peak, found, last = max(peak, pa.total_allocated_bytes() - before), found + len(batch), batch["history"][-1]
    assert found == rows == files.count_rows(tmp_path / name, ("user", "history"))
    assert last.as_py() == wanted
    assert peak < size / 6


def test_parts_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        pq.write_table(pa.table({"n": [number]}), tmp_path / f"part-{number}.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".part-3.parquet").write_text("half")
    assert [batch["n"][0].as_py() for batch in files.iter_batches(tmp_path, ["n"], rows=5)] == [0, 1, 2]
    assert files.count_rows(tmp_path, ["n"]) == 3


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_missing_column_is_named_with_the_closest(tmp_path: Path, name: str) -> None:
    table = pa.table({"user": ["a"], "histori": ["1"]})
    csv.write_csv(table, tmp_path / name) if name == "a.csv" else pq.write_table(table, tmp_path / name)
    for read in (lambda: files.count_rows(tmp_path / name, ["history"]), lambda: next(
        files.iter_batches(tmp_path / name, ["history"], 5)
    )):  # fmt: skip
        with pytest.raises(DataError, match=r"no column 'history'\. Did you mean 'histori'"):
            read()


@pytest.mark.parametrize(("name", "says"), [("a.parquet", "no parquet table"), ("a.csv", "got 1"), ("", "no parquet")])
def test_damage_is_named_when_parts_are_read(tmp_path: Path, name: str, says: str) -> None:
    if name:
        (tmp_path / name).write_text("user,history\na,1\nb\n")
    with pytest.raises(DataError, match=says):
        list(files.iter_batches(tmp_path / name, ["user", "history"], 5))
