"""What is saved of an index comes back, and what was tampered with does not."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from llmrec.errors import ArtifactError
from llmrec.indexes.base import ItemIndex


@pytest.fixture
def index() -> ItemIndex:
    return ItemIndex(np.array([[0, 1], [2, 0], [1, 1]], np.int32), (3, 2), {"kind": "test"})


def test_round_trip(index: ItemIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "a" / "b")
    loaded = ItemIndex.load(tmp_path / "a" / "b")
    np.testing.assert_array_equal(loaded.codes, index.codes)
    assert (loaded.level_sizes, loaded.provenance, loaded.digest) == ((3, 2), {"kind": "test"}, index.digest)


def test_the_same_index_saves_the_same_bytes(index: ItemIndex, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        index.save(tmp_path / folder)
    for name in ("codes.safetensors", "index.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_changed_codes_are_refused(index: ItemIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    save_file({"codes": index.codes[::-1].copy()}, tmp_path / "codes.safetensors")
    with pytest.raises(ArtifactError, match="differ from those that were saved"):
        ItemIndex.load(tmp_path)


def test_codes_of_another_type_are_refused(index: ItemIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    save_file({"codes": index.codes.astype(np.float32) + np.float32(0.25)}, tmp_path / "codes.safetensors")
    with pytest.raises(ArtifactError, match="int32"):
        ItemIndex.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"level_sizes": [3, 3]},
        {"level_sizes": [3]},
        {"level_sizes": [2, 2]},
        {"level_sizes": "three"},
        {"digest": "0" * 64},
        {"digest": None},
    ],
)
def test_a_changed_head_is_refused(index: ItemIndex, tmp_path: Path, change: dict[str, object]) -> None:
    index.save(tmp_path)
    head = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**head, **change}))
    with pytest.raises(ArtifactError, match=r"[Rr]ebuild"):
        ItemIndex.load(tmp_path)


@pytest.mark.parametrize("name", ["codes.safetensors", "index.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1, 2]", b"\xff\xfe not json"])
def test_a_missing_or_damaged_file_is_refused(
    index: ItemIndex, tmp_path: Path, name: str, content: bytes | None
) -> None:
    index.save(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match="not a readable item index"):
        ItemIndex.load(tmp_path)


@pytest.mark.parametrize(
    ("codes", "sizes", "message"),
    [
        ([[0, 1], [3, 0]], (3, 2), r"item row 1 has code 3 on level 0, allowed is 0 to 2"),
        ([[0, -2]], (3, 2), r"code -2 on level 1"),
        ([[-1, -1]], (3, 2), r"code -1 on level 0"),  # a code has at least one level
        ([[0, -1, 1]], (3, 2, 2), r"code 1 on level 2"),  # nothing comes behind the end
        ([[0, 1]], (3,), r"do not fit 1 levels"),
        ([0, 1], (3,), r"do not fit"),
    ],
)
def test_codes_outside_their_levels_are_refused(codes: list[object], sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        ItemIndex(np.array(codes, np.int32), sizes)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_collisions_count_the_items_behind_the_first(codes: list[tuple[int, int]]) -> None:
    assert ItemIndex(np.array(codes, np.int32), (3, 3)).collisions == len(codes) - len(set(codes))


def test_the_digest_tells_indexes_apart() -> None:
    codes = np.array([[0, 1], [1, 0]], np.int32)
    digests = {
        ItemIndex(codes, (2, 2)).digest,
        ItemIndex(codes[::-1].copy(), (2, 2)).digest,
        ItemIndex(codes, (2, 3)).digest,
        ItemIndex(codes.reshape(1, 4), (2, 2, 2, 2)).digest,
    }
    assert len(digests) == 4
    assert ItemIndex(codes, (2, 2), {"kind": "other"}).digest in digests  # the digest is that of the codes
