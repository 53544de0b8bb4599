"""An item index bound to one Hugging Face tokenizer: item rows <-> new vocabulary tokens, and text that stays text.

The token of code 12 on the first level is `<a_12>`, on the second `<b_12>`, and so on (the field's habit since TIGER
and LC-Rec). The tokens of a level have consecutive ids, so a level's codebook is one slice of the head.
"""

from __future__ import annotations

import copy
import json
import string
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llmrec.errors import ArtifactError, DecodingError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.trie import Trie
from llmrec.types import Rows

LETTERS = string.ascii_lowercase


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
        if not tokenizer.is_fast:
            raise ArtifactError("llmrec needs a fast tokenizer (one with a tokenizer.json). Choose another base model.")
        self.tokenizer, self.index = tokenizer, index
        self.level_starts: list[int] = []
        for level, size in enumerate(index.level_sizes):
            found = tokenizer.convert_tokens_to_ids(level_tokens(level, size))
            ids = [token for token in found if token is not None and token != tokenizer.unk_token_id]
            if not ids or ids != list(range(ids[0], ids[0] + size)):
                raise ArtifactError(
                    f"the tokenizer lacks the item tokens of level {level} ({level_tokens(level, 1)[0]} ...), or holds "
                    "them in another order. It belongs to another index."
                )
            self.level_starts.append(ids[0])
        self._plain = _without_added_tokens(tokenizer)
        self._forbidden = frozenset(tokenizer.added_tokens_decoder)
        self.encode_text = lru_cache(maxsize=100_000)(self._encode_text)

    @classmethod
    def bind(cls, tokenizer: PreTrainedTokenizerBase, index: ItemIndex) -> ItemTokenizer:
        """Add the index's tokens to a copy of the tokenizer.

        Raises:
            ArtifactError: the base vocabulary already knows one of them, or there are more levels than letters.
        """
        if len(index.level_sizes) > len(LETTERS):
            raise ArtifactError(f"an index of {len(index.level_sizes)} levels; at most {len(LETTERS)} can be written.")
        bound = copy.deepcopy(tokenizer)
        for level, size in enumerate(index.level_sizes):
            tokens = level_tokens(level, size)
            added = bound.add_tokens([AddedToken(t, normalized=False, special=False) for t in tokens])
            if added != size:
                raise ArtifactError(f"the base vocabulary already has {size - added} of {tokens[0]} ... {tokens[-1]}.")
        return cls(bound, index)

    @classmethod
    def load(cls, folder: Path) -> ItemTokenizer:
        """Read a model folder's tokenizer and `item_index/`."""
        return cls(AutoTokenizer.from_pretrained(folder), ItemIndex.load(folder / "item_index"))

    @property
    def levels(self) -> int:
        return len(self.index.level_sizes)

    @property
    def token_ids(self) -> NDArray[np.int64]:
        """All item token ids, level by level."""
        sizes = zip(self.level_starts, self.index.level_sizes, strict=True)
        return np.concatenate([np.arange(start, start + size) for start, size in sizes])

    @cached_property
    def trie(self) -> Trie:
        return Trie.of(self.index)

    def encode(self, rows: Rows | Sequence[int]) -> NDArray[np.int64]:
        """Item rows `[...]` to token ids `int64[..., L]`."""
        return self.index.codes[np.asarray(rows, np.int64)].astype(np.int64) + np.asarray(self.level_starts)

    def decode(self, ids: Sequence[int] | NDArray[np.int64]) -> list[int]:
        """The rows of the items whose code these `L` token ids are (several for a bucket).

        Raises:
            DecodingError: no item has this code.
        """
        if len(ids) != self.levels:
            raise DecodingError(f"{len(ids)} token ids are no code; a code has {self.levels}.")
        state = torch.tensor(0)
        for level, token in enumerate(ids):
            state = self.trie.step(state, torch.tensor(int(token) - self.level_starts[level]))
        return [int(row) for row in self.trie.items(state)[0] if row >= 0]

    def tokens(self, row: int) -> str:
        """The code of an item as people write it: `<a_12><b_201><c_7>`."""
        return "".join(f"<{LETTERS[level]}_{code}>" for level, code in enumerate(self.index.codes[row]))

    def _encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of untrusted text; never a special token and never an item token, whatever the text says."""
        text = text.encode(errors="replace").decode()  # half of a surrogate pair, as broken JSON has, is no text
        ids = self._plain.encode(text, add_special_tokens=False).ids
        if not self._forbidden.isdisjoint(ids):  # a vocabulary may hold the string itself: spell it out
            letters = (self._plain.encode(letter, add_special_tokens=False).ids for letter in text)
            ids = [token for letter in letters for token in letter if token not in self._forbidden]
        return tuple(ids)


def _without_added_tokens(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The same tokenizer without any added token, so that no text can match one."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings["added_tokens"] = []
    settings["post_processor"] = None
    settings["truncation"] = settings["padding"] = None
    return Tokenizer.from_str(json.dumps(settings))
