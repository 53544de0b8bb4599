"""Files that anybody may have written: reading one gives a sound index, or an error that says what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.numpy import save, save_file

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import ArtifactError, LlmrecError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.export import WRITERS, export_index
from llmrec.indexes.files import most_tokens
from llmrec.indexes.published import PublishedIndex
from llmrec.indexes.trie import Trie

CODES = np.array([[0, 1], [2, 0], [1, 1], [2, 0]], np.int32)
STATE = {"codebook.0": np.ones((3, 2), np.float32), "words": np.arange(5, dtype=np.uint8)}
INDEX = ItemIndex(CODES, (3, 2), {"kind": "test", "settings": {"levels": [3, 2]}}, STATE)
TITLES = ItemIndex(np.array([[0, 2, END], [0, 1, 2]], np.int32), (3, 3, 3), {}, pieces=("pen", "red", "<|end|>"))
IDS = ["0", "1", "2", "3"]

fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def assert_sound(index: ItemIndex) -> None:
    """What the rest of the package relies on."""
    assert index.codes.dtype == np.int32
    assert index.codes.shape[1] == len(index.level_sizes) > 0
    assert all(type(size) is int and size > 0 for size in index.level_sizes)
    assert index.pieces is not None or sum(index.level_sizes) <= most_tokens(len(index))
    here = index.codes != END
    assert ((index.codes >= END) & (index.codes < np.asarray(index.level_sizes))).all()
    assert here[:, 0].all()
    assert (here[:, :-1] >= here[:, 1:]).all()
    assert isinstance(index.provenance, dict)
    assert all(isinstance(array, np.ndarray) for array in index.state.values())
    try:
        assert Trie.of(index).item_rows.numel() == len(index)
    except ArtifactError:  # a code begins another, which only the trie looks for
        assert not here.all()


def load_or_refuse(folder: Path) -> None:
    try:
        index = ItemIndex.load(folder)
    except LlmrecError:
        return
    assert_sound(index)
    index.save(folder)
    assert ItemIndex.load(folder).digest == index.digest


def build_or_refuse(path: Path, ids: list[str] = IDS) -> None:
    catalog = Catalog(pa.table({"item_id": ids, "title": ids}))
    train = Interactions.from_columns(pa.array(["u"]), pa.array(ids[:1]), np.zeros(1, np.int64), catalog.items)
    try:
        index = PublishedIndex(path=path).build(catalog, train)
    except LlmrecError:
        return
    assert_sound(index)
    assert len(index) == len(ids)


# Fuzzing: the files of an index folder

BYTES = st.binary(max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
SIZES = st.lists(st.integers(-1, 4) | st.sampled_from([10**12, 2**31, 2**63, 3.0, True, "3", None]), max_size=3)
NUMBERS = [
    b"0",
    b"-1",
    b"1e9",
    b"99999999999999999999",
    b"NaN",
    b"null",
    b"true",
    b'"',
    b"[",
    b"{",
    b"}",
    b"]",
    b"\xff",
]


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """One change of a valid file: bits are turned, the end is lost, or something is put in or taken out."""
    where, what = draw(st.floats(0, 1)), draw(st.sampled_from(["flip", "cut", "insert", "replace", "swap"]))
    bit, count, text = draw(st.integers(0, 7)), draw(st.integers(1, 8)), draw(st.sampled_from(NUMBERS))

    def change(content: bytes) -> bytes:
        place = min(int(where * len(content)), max(len(content) - 1, 0))
        before, after = content[:place], content[place:]
        if what == "flip":
            return before + bytes([after[0] ^ (1 << bit)]) + after[1:] if after else content
        if what == "swap":
            return before + after[count : 2 * count] + after[:count] + after[2 * count :]
        return before + {"cut": b"", "insert": text + after, "replace": text + after[count:]}[what]

    return change


@pytest.mark.parametrize("index", [INDEX, TITLES], ids=["codes", "titles"])
@pytest.mark.parametrize("name", ["codes.safetensors", "index.json", "state.safetensors"])
@settings(fuzz, max_examples=80)
@given(changes=st.lists(damage(), min_size=1, max_size=3), noise=st.none() | BYTES)
def test_a_damaged_folder(
    folder: Path, index: ItemIndex, name: str, changes: list[Callable[[bytes], bytes]], noise: bytes | None
) -> None:
    (folder / "state.safetensors").unlink(missing_ok=True)
    index.save(folder)
    content = (folder / name).read_bytes() if (folder / name).exists() else save(STATE)
    for change in changes:
        content = change(content)
    (folder / name).write_bytes(content if noise is None else noise)
    load_or_refuse(folder)


@settings(fuzz, max_examples=100)
@given(
    change=st.fixed_dictionaries(
        {},
        optional={
            "level_sizes": SIZES | JSON,
            "provenance": JSON,
            "pieces": JSON | st.lists(st.text(max_size=2)),
            "digest": JSON,
        },
    )
)
@example(change={"pieces": "abc"})
@example(change={"pieces": ["\ud800", "b", "c"], "level_sizes": [3, 3]})
@example(change={"level_sizes": [10**12, 2]})
@example(change={"level_sizes": [3, 10**4000]})
def test_any_value_in_the_head(folder: Path, change: dict[str, Any]) -> None:
    """The digest is set anew, as who means harm would do."""
    (folder / "state.safetensors").unlink(missing_ok=True)
    INDEX.save(folder)
    head = {**json.loads((folder / "index.json").read_text()), **change}
    if "digest" not in change:
        try:
            pieces = tuple(head["pieces"]) if "pieces" in head else None
            head["digest"] = ItemIndex(CODES, tuple(head["level_sizes"]), {}, {}, pieces).digest
        except (LlmrecError, TypeError):
            pass
    try:
        (folder / "index.json").write_text(json.dumps(head))
    except ValueError:  # Python itself writes no number of 4000 digits and more
        (folder / "index.json").write_text(json.dumps(change).replace("10", "9" * 5000))
    load_or_refuse(folder)


@settings(fuzz, max_examples=60)
@given(
    kind=st.sampled_from([np.int32, np.int64, np.float32, np.float64, np.uint8, np.bool_]),
    shape=st.lists(st.integers(0, 3), max_size=3),
    fill=st.sampled_from([0, 1, -1, -2, 3, float("nan"), float("inf")]),
)
def test_any_array(folder: Path, kind: Any, shape: list[int], fill: float) -> None:
    INDEX.save(folder)
    with np.errstate(invalid="ignore"):
        array = np.full(shape, fill, np.float64).astype(kind)
    save_file({"codes": array}, folder / "codes.safetensors")
    save_file({"codebook.0": array}, folder / "state.safetensors")
    head = json.loads((folder / "index.json").read_text())
    try:
        head["digest"] = ItemIndex(array, (3, 2)).digest
    except LlmrecError:
        pass
    (folder / "index.json").write_text(json.dumps(head))
    load_or_refuse(folder)


# Fuzzing: published files

FORMS = [(form, suffix) for form, writers in WRITERS.items() for suffix in writers if form != "id2sid"]


@pytest.mark.parametrize(("form", "suffix"), FORMS)
@settings(fuzz, max_examples=40)
@given(changes=st.lists(damage(), min_size=1, max_size=3), noise=st.none() | BYTES)
def test_a_damaged_published_file(
    folder: Path, form: Any, suffix: str, changes: list[Callable[[bytes], bytes]], noise: bytes | None
) -> None:
    path = folder / f"codes{suffix}"
    export_index(ItemIndex(CODES, (3, 2)), Vocabulary(IDS), path, form)
    content = path.read_bytes()
    for change in changes:
        content = change(content)
    path.write_bytes(content if noise is None else noise)
    build_or_refuse(path)


TOKENS = st.from_regex(r"<(s_)?[abz]_-?\d{1,12}>", fullmatch=True) | st.sampled_from(
    ["", " ", "<|sid_begin|>", "<a_1>", "x"]
)
VALUES = (
    st.lists(TOKENS, max_size=3) | st.lists(TOKENS, max_size=3).map("".join) | st.lists(st.integers(-1, 2**31)) | JSON
)


@settings(fuzz, max_examples=150)
@given(content=st.dictionaries(st.sampled_from([*IDS, "", "\ud800"]), VALUES, max_size=4) | JSON)
def test_any_json(folder: Path, content: Any) -> None:
    path = folder / "any.json"
    path.write_text(json.dumps(content))
    build_or_refuse(path, [name for name in IDS if isinstance(content, dict) and name in content] or IDS)


@settings(fuzz, max_examples=60)
@given(
    rows=st.lists(st.tuples(st.sampled_from(IDS) | st.none(), VALUES), max_size=4),
    names=st.permutations(["item_id", "sid", "pid", "source", "sid"]),
)
def test_any_table(folder: Path, rows: list[tuple[str | None, Any]], names: list[str]) -> None:
    try:
        columns = [pa.array([row[column] for row in rows]) for column in (0, 1)]
        parquet.write_table(pa.table(columns, names[:2]), folder / "any.parquet")
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        return  # no table can hold these values
    build_or_refuse(folder / "any.parquet")
