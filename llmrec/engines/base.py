"""The contract of an engine: prompts in, the most probable items out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from llmrec.engines.bias import ItemBias
from llmrec.engines.mask import AllowedItems
from llmrec.types import Ragged, Rows, ScoredItems

Normalize = Literal["codebook", "children", "vocab"]
"""What a level's log-softmax runs over: the level's codebook (default), the valid children of the prefix (the scores of
all items then sum to 1), or the whole vocabulary."""


class Engine(Protocol):
    """Decodes items for one model and one item tokenizer; the score is `log p(item | prompt)` in nats."""

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        k: int,
        beams: int,
        normalize: Normalize = "codebook",
        excluded: Ragged | None = None,
        candidates: Rows | AllowedItems | None = None,
        length_penalty: float = 0.0,
        bias: ItemBias | None = None,
        most_beams: int = 0,
    ) -> ScoredItems:
        """The best k items after each prompt.

        Args:
            prompts: `B` lists of token ids, none empty. k: items wanted. beams: prefixes kept at each level.
            excluded: `B` lists of item rows that must not be returned. candidates: the only rows allowed; all if None.
            length_penalty: scores are divided by (tokens of the code) to this power; 0 leaves them as they are.
            bias: other scores of the items, mixed in.
            most_beams: lists that are not proven are searched again with four times the beams, and so on up to this
                many; 0 answers after the first search.

        Raises:
            DecodingError: a prompt is empty, or the model cannot be decoded.
        """
        ...
