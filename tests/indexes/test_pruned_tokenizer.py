"""Pruned tokenizers: known texts stay the same tokens, any other text is still written and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from byte_pairs import byte_fallback, byte_level
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmrec.errors import ArtifactError
from llmrec.indexes.pruned_tokenizer import prune_tokenizer

KINDS = {"byte level": byte_level(), "byte fallback": byte_fallback()}
USED = ["the weather after another item", "a tile", "ear"]


def prune(kind: str) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase, np.ndarray]:
    whole = KINDS[kind]
    small, kept = prune_tokenizer(whole, {token for text in USED for token in whole(text)["input_ids"]})
    return whole, small, kept


@pytest.mark.parametrize("kind", KINDS)
def test_known_texts_are_the_same_tokens(kind: str) -> None:
    whole, small, kept = prune(kind)
    assert len(small) == len(kept) < len(whole)
    for text in USED:
        assert kept[small(text)["input_ids"]].tolist() == whole(text)["input_ids"]
        assert small.convert_ids_to_tokens(small(text)["input_ids"]) == whole.tokenize(text, add_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_stay_special(kind: str) -> None:
    whole, small, kept = prune(kind)
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        assert getattr(small, name) == getattr(whole, name)
        if getattr(whole, name) is not None:
            assert kept[getattr(small, f"{name}_id")] == getattr(whole, f"{name}_id")
    assert small.decode(small("ear </s>")["input_ids"], skip_special_tokens=True).strip() == "ear"


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_text_is_read_back(kind: str, text: str) -> None:
    whole, small, _ = prune(kind)
    expected, found = (each.decode(each(text, add_special_tokens=False)["input_ids"]) for each in (whole, small))
    assert found == expected


@given(text=st.lists(st.sampled_from("the weather after another item ear tile".split())).map(" ".join))
@settings(max_examples=60, deadline=None)
def test_other_texts_of_known_words_are_the_same_tokens(text: str) -> None:
    """In byte-level vocabularies words are cut apart first, so a text of known words is known."""
    whole = KINDS["byte level"]
    words = " the weather after another item ear tile".split(" ")
    pieces = [*words, *(f" {word}" for word in words)]
    small, kept = prune_tokenizer(whole, {token for piece in pieces for token in whole(piece)["input_ids"]})
    assert kept[small(text)["input_ids"]].tolist() == whole(text)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_and_read_as_any_other(kind: str, tmp_path: Path) -> None:
    _, small, _ = prune(kind)
    small.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == small.get_vocab()
    assert again(USED[0])["input_ids"] == small(USED[0])["input_ids"]


def test_pruning_again_changes_nothing() -> None:
    _, small, _ = prune("byte level")
    again, kept = prune_tokenizer(small, {token for text in USED for token in small(text)["input_ids"]})
    assert kept.tolist() == list(range(len(small)))
    assert again.get_vocab() == small.get_vocab()


def test_what_is_no_byte_pair_encoding_is_refused() -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(ArtifactError, match="WordLevel"):
        prune_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend), [0])
