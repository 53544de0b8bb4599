"""What somebody might think of to make the reader of an index hang, run out of memory or believe nonsense."""

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.numpy import save

from llmrec.data.catalog import Catalog
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import ArtifactError, DataError, LlmrecError
from llmrec.indexes import published_files
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.provenance import items_digest
from llmrec.indexes.published import PublishedIndex

CODES = np.array([[0, 1], [2, 0], [1, 1], [2, 0]], np.int32)
INDEX = ItemIndex(CODES, (3, 2), {"kind": "test"}, {"codebook.0": np.ones((3, 2), np.float32)})
TITLES = ItemIndex(np.array([[0, 2, END], [0, 1, 2]], np.int32), (3, 3, 3), {}, pieces=("pen", "red", "<|end|>"))
IDS = ["0", "1", "2", "3"]


def broken(folder: Path, name: str, content: bytes) -> Path:
    INDEX.save(folder)
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    return folder


def safetensors(head: bytes | dict[str, Any], content: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + content


HUGE = {"dtype": "I32", "shape": [1_250_000_000, 2], "data_offsets": [0, 10**10]}
THIN = {"dtype": "I32", "shape": [10**12, 0], "data_offsets": [0, 0]}
SMALL_FLOAT = {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("codes.safetensors", safetensors({"codes": HUGE})),
        ("codes.safetensors", safetensors({"codes": THIN})),
        ("codes.safetensors", struct.pack("<Q", 10**10) + b"{}"),
        ("codes.safetensors", safetensors(b"[" * 200_000)),
        ("codes.safetensors", safetensors({"other": {**HUGE, "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4)),
        ("state.safetensors", safetensors({"codebook.0": HUGE})),
        ("state.safetensors", safetensors({"codebook.0": SMALL_FLOAT}, b"\1")),
        ("state.safetensors", save({"codebook.0": np.array([1, np.nan], np.float32)})),
        ("state.safetensors", b""),
        ("index.json", b"[" * 100_000),
        ("index.json", b'{"level_sizes": ' + b"9" * 5000 + b"}"),
        ("index.json", b'{"level_sizes": [3, 2], "provenance": {"x": NaN}}'),
        ("index.json", b'{"level_sizes": [3, 2], "provenance": {"x": 1e999}}'),
        ("index.json", b'{"level_sizes": [3, 2], "provenance": ' + b'{"x":' * 40 + b"1" + b"}" * 41),
        ("index.json", b'{"level_sizes": [3, 2], "provenance": ["kind"]}'),
        ("index.json", b'{"level_sizes": [3, 2]}'),
        ("index.json", "{}".encode("utf-16")),
        ("index.json", b"{\0}"),
    ],
)
def test_a_hostile_folder_is_refused_without_memory(tmp_path: Path, name: str, content: bytes) -> None:
    folder = broken(tmp_path, name, content)
    tracemalloc.start()
    with pytest.raises(ArtifactError, match=r"is not a readable item index .*Rebuild it"):
        ItemIndex.load(folder)
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([3, 10**12], r"more than 1048576 new tokens, the most that 4 items may have"),
        ([2**19] * 2 + [1], r"do not fit 3 levels"),
        ([True, 2], r"size of level 0 is no whole number from 1 on but a bool"),
        ([3.0, 2], r"but a float"),
        (["3", 2], r"but a str"),
        ([3, 0], r"size of level 1"),
        ([3, -(10**9)], r"size of level 1"),
        ([], r"do not fit 0 levels"),
        ("32", r"its level_sizes are a str, not a list"),
    ],
)
def test_level_sizes_that_cannot_be(tmp_path: Path, sizes: Any, message: str) -> None:
    head = {"level_sizes": sizes, "provenance": {}, "digest": INDEX.digest}
    with pytest.raises(ArtifactError, match=message):
        ItemIndex.load(broken(tmp_path, "index.json", json.dumps(head).encode()))


def test_how_large_levels_may_be() -> None:
    """A million tokens for anybody, more only for as many items: an index may give each item a token of its own."""
    one_item = np.zeros((1, 2), np.int32)
    assert len(ItemIndex(one_item, (2**20 - 1, 1))) == 1
    with pytest.raises(ArtifactError, match="new tokens"):
        ItemIndex(one_item, (2**20, 1))
    items = 2**19
    assert len(ItemIndex(np.arange(items, dtype=np.int32)[:, None], (4 * items,))) == items


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (["pen", "pen", "<|end|>"], r"texts, none of them twice"),
        (["pen", 7, "<|end|>"], r"texts, none of them twice"),
        (["pen", "\ud800", "<|end|>"], r"a piece of the titles is no text"),
        (["pen", "<|end|>"], r"2 pieces do not fit"),
        ("abc", r"its pieces are a str, not a list"),
    ],
)
def test_pieces_that_cannot_be(tmp_path: Path, pieces: Any, message: str) -> None:
    TITLES.save(tmp_path)
    head = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**head, "pieces": pieces}))
    with pytest.raises(ArtifactError, match=message):
        ItemIndex.load(tmp_path)


@pytest.mark.parametrize("name", ["codes.safetensors", "index.json", "state.safetensors"])
def test_something_else_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    """A pipe or a device would be read forever."""
    INDEX.save(tmp_path)
    path = tmp_path / name
    for make in (
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(path),
    ):
        path.rmdir() if path.is_dir() else path.unlink()
        make()
        with pytest.raises(ArtifactError, match=rf"\({name} is (no ordinary file|missing)\)"):
            ItemIndex.load(tmp_path)


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    """The cache of the Hugging Face Hub is made of them."""
    INDEX.save(tmp_path / "blobs")
    for path in list((tmp_path / "blobs").iterdir()):
        (tmp_path / path.name).symlink_to(path)
    assert ItemIndex.load(tmp_path).digest == INDEX.digest


def test_a_head_that_is_too_large_is_not_opened(tmp_path: Path) -> None:
    INDEX.save(tmp_path)
    os.truncate(tmp_path / "index.json", 2**40)  # a sparse file
    with pytest.raises(ArtifactError, match=r"index.json has 1099511627776 bytes, at most 67108864 are read"):
        ItemIndex.load(tmp_path)


@pytest.mark.parametrize("provenance", [{}, {"settings": 5}, {"kind": "rqkmeans"}, {"kind": ["x"], "settings": {}}])
def test_an_index_that_does_not_say_how_it_was_made_cannot_grow(provenance: dict[str, Any]) -> None:
    index = ItemIndex(CODES, (3, 2), {**provenance, "items": items_digest(Vocabulary(IDS))})
    with pytest.raises(LlmrecError):
        index.add(Catalog(pa.table({"item_id": [*IDS, "new"], "title": [*IDS, "new"]})))


def test_a_published_file_that_would_be_read_forever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "codes.json")
    indexer = PublishedIndex(path=tmp_path / "codes.json")
    with pytest.raises(DataError, match="no ordinary file"):
        indexer.fingerprint()
    with pytest.raises(DataError, match="no ordinary file"):
        published_files.read_published(indexer.path, None)


def test_a_published_file_that_is_too_large_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "codes.json").touch()
    os.truncate(tmp_path / "codes.json", 2**40)
    with pytest.raises(DataError, match=r"at most 2147483648 are read"):
        published_files.read_published(tmp_path / "codes.json", None)


def test_a_table_that_claims_more_rows_than_its_bytes_can_hold(tmp_path: Path) -> None:
    rows = published_files.FREE_ROWS + 1
    same = pa.table({"item_id": pa.repeat("x", rows), "sid": pa.repeat("<a_1>", rows)})
    parquet.write_table(same, tmp_path / "codes.parquet")
    with pytest.raises(DataError, match=r"bytes claim to hold 1048577 rows"):
        published_files.read_published(tmp_path / "codes.parquet", None)


def test_a_table_that_unpacks_to_far_more_than_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_files, "FREE_BYTES", 2**20)
    long = pa.table({"item_id": ["x"], "sid": ["<a_1>" * 10**6]})
    parquet.write_table(long, tmp_path / "codes.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(DataError, match=r"bytes claim to hold 1 rows"):
        published_files.read_published(tmp_path / "codes.parquet", None)
