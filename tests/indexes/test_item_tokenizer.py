"""Items are tokens of their own, and text never becomes one of them or a control token."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from worlds import TinyWorld, make_tiny_tokenizer

from llmrec.base_models import load_tokenizer
from llmrec.errors import ArtifactError, DecodingError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer

CODES = np.array([[0, 1], [2, 0], [2, 1], [2, 0]], np.int32)  # the last two of [2, 0] share a bucket
INDEX = ItemIndex(CODES, (3, 2))
CONTROL = [
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<a_1>",
    "<b_0>",
    "<a_",
    "_1>",
    "<|im_",
    "|>",
    "<|",
    "\x02",
    "\n",
]


def texts(letters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Control tokens and pieces of them between any other text."""
    return st.lists(st.sampled_from(CONTROL) | st.text(letters, max_size=6), max_size=8).map("".join)


@pytest.fixture(scope="module")
def bound() -> ItemTokenizer:
    return ItemTokenizer.bind(make_tiny_tokenizer(), INDEX)


@pytest.fixture(scope="module")
def smollm() -> ItemTokenizer:
    """The tokenizer that the demo uses, with this file's items."""
    return ItemTokenizer.bind(load_tokenizer("HuggingFaceTB/SmolLM2-135M-Instruct"), INDEX)


def check_that_text_stays_text(items: ItemTokenizer, text: str) -> None:
    ids = items.encode_text(text)
    assert not set(ids) & set(items.tokenizer.all_special_ids)
    assert not set(ids) & set(items.token_ids.tolist())
    assert not set(ids) & set(items.tokenizer.added_tokens_decoder)
    assert items.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text.encode(errors="replace").decode()


@settings(deadline=None)
@given(texts(st.characters()))
def test_text_is_never_control(bound: ItemTokenizer, text: str) -> None:
    check_that_text_stays_text(bound, text)


@pytest.mark.slow
@settings(deadline=None)
@given(texts(st.characters(exclude_categories=["Cc", "Cs"], max_codepoint=0x3FFFF)))
def test_text_is_never_control_for_a_real_tokenizer(smollm: ItemTokenizer, text: str) -> None:
    """Without a few control characters and the unused planes of Unicode, whose bytes SmolLM2's vocabulary lacks."""
    check_that_text_stays_text(smollm, text)


@pytest.mark.slow
@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="ascii"), max_size=20))
def test_plain_text_is_tokenized_as_usual(smollm: ItemTokenizer, text: str) -> None:
    """Without an added token in it, a text has the ids that the base model was trained with."""
    if not any(token.content in text for token in smollm.tokenizer.added_tokens_decoder.values()):
        assert list(smollm.encode_text(text)) == smollm.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_tokenizer_itself_would_obey_the_text(bound: ItemTokenizer) -> None:
    """What `encode_text` is for: the ordinary call reads the same words as control tokens."""
    obeyed = bound.tokenizer("<|im_end|><a_1>", add_special_tokens=False)["input_ids"]
    assert obeyed == [bound.tokenizer.eos_token_id, int(bound.token_ids[1])]
    assert len(bound.encode_text("<|im_end|><a_1>")) == len("<|im_end|><a_1>")


def test_a_control_token_that_merges_would_spell_is_taken_apart() -> None:
    """A vocabulary may reach a special token through ordinary merges; removing the added token is not enough then."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate([*letters, "<e", "<e>"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("<", "e"), ("<e", ">")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<e>"])
    items = ItemTokenizer.bind(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<e>"), INDEX)
    assert len(items.encode_text("a<e>é")) == 6  # six bytes
    check_that_text_stays_text(items, "a<e>é")


def test_a_code_is_one_token_a_level(bound: ItemTokenizer) -> None:
    first = len(make_tiny_tokenizer())
    assert [ids.tolist() for ids in bound.codebooks] == [[first, first + 1, first + 2], [first + 3, first + 4]]
    assert bound.token_ids.tolist() == list(range(first, first + 5))
    assert [bound.encode(0), bound.encode(2)] == [[first, first + 4], [first + 2, first + 4]]
    assert bound.tokens(0) == "<a_0><b_1>"
    assert bound.tokenizer(bound.tokens(2), add_special_tokens=False)["input_ids"] == bound.encode(2)


def test_items_come_back_from_their_ids(bound: ItemTokenizer, tiny_world: TinyWorld) -> None:
    assert [bound.decode(bound.encode(row)) for row in range(4)] == [[0], [1, 3], [2], [1, 3]]
    items, rows = tiny_world.items, range(len(tiny_world.index))
    assert [items.decode(items.encode(row)) for row in rows] == [[row] for row in rows]


@pytest.mark.parametrize(
    "ids",
    [
        lambda items: [*items.encode(0), 1, 0],  # <a_1><b_1>: no item has it
        lambda items: items.encode(0)[::-1],  # the levels the wrong way round
        lambda items: [5, 6],  # words
        lambda items: items.encode(0)[:1],  # a prefix
        lambda items: [*items.encode(0), 5],  # a code and a word
    ],
)
def test_ids_that_are_no_item_are_refused(bound: ItemTokenizer, ids: Callable[[ItemTokenizer], list[int]]) -> None:
    with pytest.raises(DecodingError):
        bound.decode(ids(bound))


def test_the_given_tokenizer_is_left_as_it_was() -> None:
    tokenizer = make_tiny_tokenizer()
    before = tokenizer.backend_tokenizer.to_str()
    items = ItemTokenizer.bind(tokenizer, INDEX)
    assert tokenizer.backend_tokenizer.to_str() == before
    assert len(items.tokenizer) == len(tokenizer) + 5


def test_items_are_bound_once(bound: ItemTokenizer) -> None:
    with pytest.raises(ArtifactError, match=r"already has 3 of <a_0> \.\.\. <a_2>"):
        ItemTokenizer.bind(bound.tokenizer, INDEX)


def test_more_levels_than_letters_are_refused() -> None:
    with pytest.raises(ArtifactError, match="27 levels; at most 26"):
        ItemTokenizer.bind(make_tiny_tokenizer(), ItemIndex(np.zeros((1, 27), np.int32), (1,) * 27))


def save(items: ItemTokenizer, folder: Path) -> None:
    items.tokenizer.save_pretrained(folder)
    items.index.save(folder / "item_index")


def test_a_folder_gives_the_same_ids(bound: ItemTokenizer, tmp_path: Path) -> None:
    save(bound, tmp_path)
    loaded = ItemTokenizer.load(tmp_path)
    assert loaded.token_ids.tolist() == bound.token_ids.tolist()
    assert loaded.encode_text("é <|im_end|><a_1>") == bound.encode_text("é <|im_end|><a_1>")
    assert [loaded.encode(row) for row in range(4)] == [bound.encode(row) for row in range(4)]
    assert loaded.index.digest == INDEX.digest


@pytest.mark.parametrize("sizes", [(4, 2), (3, 3), (3, 2, 1)], ids=["wider", "wider below", "deeper"])
def test_an_index_of_another_tokenizer_is_refused(bound: ItemTokenizer, tmp_path: Path, sizes: tuple[int, ...]) -> None:
    save(bound, tmp_path)
    ItemIndex(np.zeros((1, len(sizes)), np.int32), sizes).save(tmp_path / "item_index")
    with pytest.raises(ArtifactError, match="belongs to another index"):
        ItemTokenizer.load(tmp_path)


def test_a_tokenizer_without_items_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"lacks the item tokens of level 0 \(<a_0>"):
        ItemTokenizer(make_tiny_tokenizer(), INDEX)


def test_item_tokens_in_another_order_are_refused(bound: ItemTokenizer, tmp_path: Path) -> None:
    """Ids of a level must follow each other: the engine takes a level's logits as one slice."""
    save(bound, tmp_path)
    path = tmp_path / "tokenizer.json"
    text = path.read_text().replace("<a_0>", "<a_?>").replace("<a_1>", "<a_0>").replace("<a_?>", "<a_1>")
    path.write_text(json.dumps(json.loads(text)))
    with pytest.raises(ArtifactError, match="another order"):
        ItemTokenizer.load(tmp_path)
