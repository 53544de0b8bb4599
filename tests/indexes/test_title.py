"""Items written as their titles: unique, readable, never a control token, and room for titles that come later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import make_tiny_tokenizer

from llmrec.base_models import load_tokenizer
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import ArtifactError, DecodingError, RecipeError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.title import END_OF_ITEM, TitleIndex


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A byte-level tokenizer on disk: every ASCII character is a token."""
    folder = tmp_path_factory.mktemp("letters")
    make_tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def catalog_of(*titles: str) -> Catalog:
    return Catalog(pa.table({"item_id": [f"i{row}" for row in range(len(titles))], "title": list(titles)}))


def no_events(catalog: Catalog) -> Interactions:
    return Interactions.from_columns(pa.array(["u"]), catalog.items.ids[:1], np.zeros(1, np.int64), catalog.items)


def build(tokenizer: str, *titles: str, **changes: object) -> tuple[ItemIndex, ItemTokenizer]:
    catalog = catalog_of(*titles)
    index = TitleIndex.parse({"tokenizer": tokenizer, **changes}).build(catalog, no_events(catalog))
    return index, ItemTokenizer.bind(load_tokenizer(tokenizer), index)


def test_a_code_is_the_title_and_an_end(letters: str) -> None:
    index, items = build(letters, "Pen", "Pen blue")
    assert [items.tokens(row) for row in range(2)] == ["Pen", "Pen blue"]
    assert index.lengths.tolist() == [4, 9]
    assert index.codes[0, 4:].tolist() == [END] * 5
    assert items.tokenizer.convert_ids_to_tokens(items.encode(0)) == ["P", "e", "n", END_OF_ITEM]
    assert items.new_token_ids.tolist() == [len(make_tiny_tokenizer())]
    assert [items.decode(items.encode(row)) for row in range(2)] == [[0], [1]]
    with pytest.raises(DecodingError, match="beginning of a code"):
        items.decode(items.encode(0)[:-1])  # "Pen" alone also begins "Pen blue"


def test_equal_titles_are_numbered_and_no_number_hits_a_real_title(letters: str) -> None:
    index, items = build(letters, "Pen", "Pen (2)", "Pen", "", "  ", "Pen")
    assert [items.tokens(row) for row in range(6)] == [
        "Pen", "Pen (2)", "Pen (3)", "untitled", "untitled (2)", "Pen (4)",
    ]  # fmt: skip
    assert index.collisions == 0
    assert index.provenance["collisions"]["before"] == {"colliding": 3, "largest_group": 3}


def test_titles_are_cut_and_still_told_apart(letters: str) -> None:
    index, items = build(letters, "Paper A4", "Paper A5", max_tokens=5)
    assert [items.tokens(row) for row in range(2)] == ["Paper", "Paper (2)"]
    assert index.collisions == 0


@settings(max_examples=40, deadline=None)
@given(titles=st.lists(st.text(alphabet="ab<|im_end>_1é ", max_size=8), min_size=1, max_size=12))
def test_any_titles_make_a_trie_without_control_tokens(letters: str, titles: list[str]) -> None:
    index, items = build(letters, *titles)
    assert index.collisions == 0
    control = set(items.tokenizer.all_special_ids)
    for row in range(len(titles)):
        ids = items.encode(row)
        assert ids[-1] == items.new_token_ids[0]
        assert not set(ids[:-1]) & (control | {int(items.new_token_ids[0])})
        assert items.decode(ids) == [row]


def test_later_titles_are_spelled_in_the_pieces_that_are_there(letters: str) -> None:
    index, _ = build(letters, "Pen", "Pencil")
    grown = index.add(catalog_of("Pen", "Pencil", "Qué", "Pen", "Pencil case"))
    items = ItemTokenizer.bind(load_tokenizer(letters), grown)
    np.testing.assert_array_equal(grown.codes[:2], index.codes)
    assert grown.codes.shape[1] == index.codes.shape[1]  # no longer than the longest title: 6 letters and the end
    assert [items.tokens(row) for row in range(2, 5)] == ["Qué", "Pe (2)", "Pe (3)"]
    assert grown.collisions == 0


def test_later_titles_without_room_for_a_number_are_refused(letters: str) -> None:
    index, _ = build(letters, "Pen")
    with pytest.raises(RecipeError, match="Build it again"):
        index.add(catalog_of("Pen", "Pen"))


def test_another_tokenizer_is_refused(letters: str) -> None:
    index, _ = build(letters, "Pen")
    strange = ItemIndex(index.codes, index.level_sizes, {}, pieces=("pen", *index.pieces[1:]))
    with pytest.raises(ArtifactError, match=r"lacks the piece 'pen'.*must agree"):
        ItemTokenizer.bind(load_tokenizer(letters), strange)


def test_saved_and_loaded_with_its_pieces(letters: str, tmp_path: Path) -> None:
    index, _ = build(letters, "Pen", "Paper")
    index.save(tmp_path)
    loaded = ItemIndex.load(tmp_path)
    assert loaded.pieces == index.pieces
    assert loaded.digest == index.digest
