"""An item index bound to one Hugging Face tokenizer: item rows <-> token ids, and text that stays text.

The token of code 12 on the first level is `<a_12>`, on the second `<b_12>`, and so on (the field's habit since TIGER
and LC-Rec). The tokens of a level have consecutive ids, so a level's codebook is one slice of the head. An index of
titles writes items in the words of the base vocabulary instead; only the mark of an item's end is new.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llmrec.errors import ArtifactError, DecodingError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.plain_text import PlainText
from llmrec.indexes.spelling import LETTERS, require_letters
from llmrec.indexes.trie import Trie


def level_tokens(level: int, size: int) -> list[str]:
    """The token strings of one level: `<a_0>, <a_1>, ...` for level 0."""
    return [f"<{LETTERS[level]}_{code}>" for code in range(size)]


class ItemTokenizer:
    """Item tokens in a tokenizer's vocabulary.

    Build with `bind` (adds the tokens) or `load` (finds them).

    Args:
        tokenizer: a fast tokenizer that holds the item tokens.
        index: the codes.

    Raises:
        ArtifactError: the tokenizer is slow, or an item token is missing or out of order.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, index: ItemIndex) -> None:
        plain = PlainText(tokenizer)
        self.encode_text, self.encode_texts = plain.encode, plain.encode_all
        self.tokenizer, self.index = tokenizer, index
        self.codebooks = _find_pieces(tokenizer, index.pieces) if index.pieces else _find_levels(tokenizer, index)
        """The token ids of every codebook, `int64[V]` each: one a level, or one for all levels of a text index."""
        self.book_of_level = np.zeros(self.levels, np.int64) if self.is_text else np.arange(self.levels)
        self.book_starts = np.cumsum([0, *map(len, self.codebooks)])[:-1]
        """Where each codebook begins in `token_ids`."""
        self.places = lru_cache(maxsize=8)(self._places)
        """By torch device, `int64[vocabulary]`: where a token id stands in `token_ids`, -1 for other words."""

    @classmethod
    def bind(cls, tokenizer: PreTrainedTokenizerBase, index: ItemIndex) -> ItemTokenizer:
        """Add the index's tokens to a copy of the tokenizer.

        Raises:
            ArtifactError: the base vocabulary already knows one of them, or there are more levels than letters.
        """
        bound = copy.deepcopy(tokenizer)
        for tokens in _new_tokens(index):
            added = bound.add_tokens([AddedToken(t, normalized=False, special=False) for t in tokens])
            if added != len(tokens):
                missing = len(tokens) - added
                raise ArtifactError(f"the base vocabulary already has {missing} of {tokens[0]} ... {tokens[-1]}.")
        return cls(bound, index)

    @classmethod
    def load(cls, folder: Path) -> ItemTokenizer:
        """Read a model folder's tokenizer and `item_index/`."""
        return cls(AutoTokenizer.from_pretrained(folder), ItemIndex.load(folder / "item_index"))

    @property
    def is_text(self) -> bool:
        """Whether items are written in words that the base model knows."""
        return self.index.pieces is not None

    @property
    def levels(self) -> int:
        """Tokens of the longest code."""
        return len(self.index.level_sizes)

    @property
    def token_ids(self) -> NDArray[np.int64]:
        """All token ids that an item's code may have, codebook by codebook."""
        return np.concatenate(self.codebooks)

    @property
    def new_token_ids(self) -> NDArray[np.int64]:
        """Those that the base vocabulary lacked: all, or the end mark of a text index; the last of `token_ids`."""
        return self.codebooks[0][-1:] if self.is_text else self.token_ids

    def rows_of(self, codebook: int) -> slice | torch.Tensor:
        """The rows of a codebook in an embedding or a head: a slice where they are one."""
        ids = self.codebooks[codebook]
        return torch.from_numpy(ids) if self.is_text else slice(int(ids[0]), int(ids[-1]) + 1)

    def _places(self, device: torch.device) -> torch.Tensor:
        found = torch.full((max(len(self.tokenizer), int(self.token_ids.max()) + 1),), -1)
        found[torch.from_numpy(self.token_ids)] = torch.arange(len(self.token_ids))
        return found.to(device)

    @cached_property
    def trie(self) -> Trie:
        return Trie.of(self.index)

    def encode(self, row: int) -> list[int]:
        """The token ids of an item's code."""
        codes = self.index.codes[row]
        return [int(self.codebooks[self.book_of_level[level]][code]) for level, code in enumerate(codes[codes >= 0])]

    def decode(self, ids: Sequence[int] | NDArray[np.int64]) -> list[int]:
        """The rows of the items whose code these token ids are (several for a bucket).

        Raises:
            DecodingError: no item has this code.
        """
        state, places = torch.tensor(0), self.places(torch.device("cpu"))
        for level, token in enumerate(ids):
            book = self.book_of_level[level] if level < self.levels else 0
            code = int(places[token] - self.book_starts[book]) if 0 <= token < len(places) else -1
            if level >= self.levels or not 0 <= code < len(self.codebooks[book]):
                raise DecodingError(f"token {token} at place {level} is no code of an item.")
            state = self.trie.step(state, torch.tensor(code))
        if not bool(self.trie.is_leaf(state)):
            raise DecodingError(f"{len(ids)} token ids are the beginning of a code; a code has up to {self.levels}.")
        return [int(row) for row in self.trie.items(state)[0] if row >= 0]

    def tokens(self, row: int) -> str:
        """The code of an item as people write it: `<a_12><b_201><c_7>`, or the words of its title."""
        codes = self.index.codes[row]
        if self.index.pieces is not None:
            return str(self.tokenizer.decode(self.encode(row)[:-1]))
        return "".join(f"<{LETTERS[level]}_{code}>" for level, code in enumerate(codes[codes >= 0]))


def _new_tokens(index: ItemIndex) -> list[list[str]]:
    """What `bind` adds to a vocabulary."""
    if index.pieces is not None:
        return [[index.pieces[-1]]]
    require_letters(len(index.level_sizes))
    return [level_tokens(level, size) for level, size in enumerate(index.level_sizes)]


def _find_levels(tokenizer: PreTrainedTokenizerBase, index: ItemIndex) -> tuple[NDArray[np.int64], ...]:
    codebooks = []
    for level, tokens in enumerate(_new_tokens(index)):
        found = tokenizer.convert_tokens_to_ids(tokens)
        ids = [token for token in found if token is not None and token != tokenizer.unk_token_id]
        if not ids or ids != list(range(ids[0], ids[0] + len(tokens))):
            raise ArtifactError(
                f"the tokenizer lacks the item tokens of level {level} ({tokens[0]} ...), or holds them in another "
                "order. It belongs to another index."
            )
        codebooks.append(np.asarray(ids, np.int64))
    return tuple(codebooks)


def _find_pieces(tokenizer: PreTrainedTokenizerBase, pieces: tuple[str, ...]) -> tuple[NDArray[np.int64], ...]:
    found = tokenizer.convert_tokens_to_ids(list(pieces))
    for piece, token in zip(pieces, found, strict=True):
        if token is None or (token == tokenizer.unk_token_id and piece != tokenizer.unk_token):
            raise ArtifactError(
                f"the tokenizer lacks the piece {piece!r} of the titles. Build the index with the tokenizer of the "
                "base model: index.tokenizer and model.name must agree."
            )
    return (np.asarray(found, np.int64),)
