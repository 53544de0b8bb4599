"""What is exported is what other projects read, byte by byte; read again, it is the same index."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import ArtifactError, DataError, LlmrecError, RecipeError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.export import WRITERS, Format, export_index
from llmrec.indexes.provenance import items_digest
from llmrec.indexes.published import PublishedIndex

FORMS = [(form, suffix) for form in get_args(Format) for suffix in WRITERS[form]]
ITEMS = Vocabulary(["0", 'say "é",\n', "2"])
INDEX = ItemIndex(np.array([[12, 7], [3, END], [12, 7]], np.int32), (13, 8), {"items": items_digest(ITEMS)})


def read(path: Path, items: Vocabulary, source: str | None = None) -> ItemIndex:
    catalog = Catalog(pa.table({"item_id": items.ids, "title": items.ids}))
    train = Interactions.from_columns(pa.array(["u"]), items.ids[:1], np.zeros(1, np.int64), catalog.items)
    return PublishedIndex(path=path, source=source).build(catalog, train)


def same(one: ItemIndex, other: ItemIndex) -> bool:
    return one.digest == other.digest and one.collisions == other.collisions


@pytest.mark.parametrize(("form", "suffix"), FORMS)
def test_what_is_written_can_be_read(tmp_path: Path, form: Format, suffix: str) -> None:
    export_index(INDEX, ITEMS, tmp_path / f"codes{suffix}", form)
    assert same(read(tmp_path / f"codes{suffix}", ITEMS), INDEX)
    assert INDEX.collisions == 1


@pytest.mark.parametrize(
    ("form", "values"),
    [
        ("lcrec", [["<a_12>", "<b_7>"], ["<a_3>"], ["<a_12>", "<b_7>"]]),
        ("id2sid", [["<a_12>", "<b_7>"], ["<a_3>"], ["<a_12>", "<b_7>"]]),
        ("text", ["<a_12><b_7>", "<a_3>", "<a_12><b_7>"]),
        ("sem_ids", [[12, 7], [3], [12, 7]]),
        (
            "openonerec",
            [f"<|sid_begin|>{code}<|sid_end|>" for code in ("<s_a_12><s_b_7>", "<s_a_3>", "<s_a_12><s_b_7>")],
        ),
    ],
)
def test_json_forms(tmp_path: Path, form: Format, values: list[object]) -> None:
    export_index(INDEX, ITEMS, tmp_path / "codes.json", form)
    text = (tmp_path / "codes.json").read_text()
    assert json.loads(text) == dict(zip(ITEMS.ids.to_pylist(), values, strict=True))
    assert len(text.splitlines()) == 2 + len(ITEMS)  # an item a line


def test_the_table(tmp_path: Path) -> None:
    export_index(INDEX, ITEMS, tmp_path / "codes.csv", "table")
    assert (tmp_path / "codes.csv").read_text().startswith('"item_id","sid"\n"0","<a_12><b_7>"\n')
    export_index(INDEX, ITEMS, tmp_path / "codes.parquet", "table")
    assert parquet.read_table(tmp_path / "codes.parquet")["sid"].to_pylist() == ["<a_12><b_7>", "<a_3>", "<a_12><b_7>"]


@pytest.mark.parametrize(
    ("ids", "kind"),
    [(["7", "-3", "40"], pa.int64()), (["7", "07", "40"], pa.string()), (["7", "x", "40"], pa.string())],
)
def test_the_mapping_table_of_openonerec(tmp_path: Path, ids: list[str], kind: pa.DataType) -> None:
    """Ids become numbers where nothing is lost by it."""
    path = tmp_path / "pid2sid.parquet"
    index = ItemIndex(INDEX.codes, INDEX.level_sizes)
    export_index(index, Vocabulary(ids), path, "openonerec")
    content = parquet.read_table(path)
    assert content.column_names == ["pid", "sid"]
    assert content.schema.field("pid").type == kind
    assert content["sid"].to_pylist() == [[12, 7], [3], [12, 7]]
    assert same(read(path, Vocabulary(ids)), index)


@st.composite
def indexes(draw: st.DrawFn) -> tuple[ItemIndex, Vocabulary]:
    ids = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6, unique=True))
    levels = draw(st.integers(1, 4))
    codes = [draw(st.lists(st.integers(0, 3), min_size=levels, max_size=levels)) for _ in ids]
    array = np.array(codes, np.int32)
    if draw(st.booleans()):  # shorter codes, which begin with a number of their own
        short = np.arange(len(ids)) % 2 == 1
        array[short, 0], array[short, 1:] = 4, END
    sizes = tuple(int(size) for size in np.maximum(array.max(axis=0), 0) + 1)
    return ItemIndex(array, sizes), Vocabulary(ids)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.mark.parametrize(("form", "suffix"), FORMS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=indexes())
def test_any_index_comes_back(folder: Path, form: Format, suffix: str, made: tuple[ItemIndex, Vocabulary]) -> None:
    index, items = made
    used = (index.codes != END).any(axis=0)
    index = ItemIndex(index.codes[:, used].copy(), tuple(np.asarray(index.level_sizes)[used].tolist()))
    export_index(index, items, folder / f"codes{suffix}", form)
    assert same(read(folder / f"codes{suffix}", items), index)


def test_more_items_than_are_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.indexes.export.CHUNK", 2)
    test_json_forms(tmp_path, "sem_ids", [[12, 7], [3], [12, 7]])


def test_a_file_that_is_there_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "codes.json"
    path.parent.mkdir()
    path.write_text("x" * 10_000)
    export_index(INDEX, ITEMS, path, "lcrec")
    assert same(read(path, ITEMS), INDEX)
    assert [file.name for file in path.parent.iterdir()] == ["codes.json"]


def test_an_index_of_titles_has_no_codes_to_give(tmp_path: Path) -> None:
    titles = ItemIndex(np.array([[0, 1]], np.int32), (2, 2), pieces=("pen", "<|item_end|>"))
    with pytest.raises(ArtifactError, match=r"index of titles cannot be exported.*another kind, such as rqkmeans"):
        export_index(titles, Vocabulary(["x"]), tmp_path / "codes.json", "lcrec")


def test_an_index_for_other_items_is_refused(tmp_path: Path) -> None:
    for items in (Vocabulary(["0", "1"]), Vocabulary(["2", "1", "0"])):
        with pytest.raises(ArtifactError, match=r"are not the 3 that this index was built for"):
            export_index(INDEX, items, tmp_path / "codes.json", "lcrec")


def test_more_levels_than_letters_are_refused(tmp_path: Path) -> None:
    index = ItemIndex(np.zeros((1, 27), np.int32), (1,) * 27)
    with pytest.raises(ArtifactError, match=r"27 levels; at most 26 can be written"):
        export_index(index, Vocabulary(["x"]), tmp_path / "codes.json", "lcrec")


@pytest.mark.parametrize(
    ("name", "form", "error", "message"),
    [
        ("codes.json", "lcrek", RecipeError, r"no format 'lcrek'. Did you mean 'lcrec'\?"),
        ("codes.parquet", "lcrec", DataError, r"End its name in .json"),
        ("codes.json", "table", DataError, r"End its name in .parquet or .csv"),
        ("folder.json", "lcrec", ArtifactError, r"cannot be written"),
    ],
)
def test_files_that_cannot_be_written(
    tmp_path: Path, name: str, form: Format, error: type[LlmrecError], message: str
) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(error, match=message):
        export_index(INDEX, ITEMS, tmp_path / name, form)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.json"]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "suffix"), FORMS)
@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("amazon14_office", "APAO-rq-kmeans"),
        ("amazon14_beauty", "LETTER"),
        ("amazon14_beauty", "APAO-rq-kmeans"),
        ("amazon18_industrial_minionerec", "MiniOneRec"),
    ],
)
def test_real_codes_come_back(
    shared_data: Path, tmp_path: Path, name: str, source: str, form: Format, suffix: str
) -> None:
    path = shared_data / name / "published_sids.parquet"
    published = parquet.read_table(path)
    items = Vocabulary(published.filter(pc.equal(published["source"], source))["item_id"])
    index = read(path, items, source)
    assert index.collisions > 0
    export_index(index, items, tmp_path / f"codes{suffix}", form)
    again = read(tmp_path / f"codes{suffix}", items)
    assert same(again, index)
    assert again.provenance["collisions"] == index.provenance["collisions"]
