"""Untrusted text to token ids that can never be control: no special token, no item token, whatever the text says."""

from __future__ import annotations

import json
from functools import lru_cache

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from llmrec.errors import ArtifactError


class PlainText:
    """A tokenizer's own words, without any token that was added to it.

    Args:
        tokenizer: a fast tokenizer.

    Raises:
        ArtifactError: the tokenizer is slow.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise ArtifactError("llmrec needs a fast tokenizer (one with a tokenizer.json). Choose another base model.")
        settings = json.loads(tokenizer.backend_tokenizer.to_str())
        settings["added_tokens"] = []
        settings["post_processor"] = None
        settings["truncation"] = settings["padding"] = None
        self._plain = Tokenizer.from_str(json.dumps(settings))
        self._forbidden = frozenset(tokenizer.added_tokens_decoder)
        self.encode = lru_cache(maxsize=100_000)(self._encode)

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """The token ids of many texts."""
        whole = [text.encode(errors="replace").decode() for text in texts]
        found = [encoding.ids for encoding in self._plain.encode_batch(whole, add_special_tokens=False)]
        return [self._checked(text, ids) for text, ids in zip(whole, found, strict=True)]

    def _encode(self, text: str) -> tuple[int, ...]:
        text = text.encode(errors="replace").decode()  # half of a surrogate pair, as broken JSON has, is no text
        return tuple(self._checked(text, self._plain.encode(text, add_special_tokens=False).ids))

    def _checked(self, text: str, ids: list[int]) -> list[int]:
        if self._forbidden.isdisjoint(ids):
            return ids
        # A vocabulary may hold the string of an added token itself: spell the text out.
        letters = (self._plain.encode(letter, add_special_tokens=False).ids for letter in text)
        return [token for letter in letters for token in letter if token not in self._forbidden]
