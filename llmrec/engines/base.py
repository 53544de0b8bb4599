"""The contract of an engine: prompts in, the most probable items out.

What is not a search for items asks the model through a `Stepper` (`llmrec.engines.level_scores`,
`llmrec.engines.sample`) or a `ListStepper` (`llmrec.engines.lists`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from torch import Tensor

from llmrec.engines.bias import ItemBias
from llmrec.engines.mask import AllowedItems
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.trie import Trie
from llmrec.types import Ragged, Rows, ScoredItems

Normalize = Literal["codebook", "children", "vocab"]
"""What a level's log-softmax runs over: the level's codebook (default), the valid children of the prefix (the scores of
all items then sum to 1), or the whole vocabulary."""


class Stepper(Protocol):
    """What a model says of the nodes of a trie, for the prompts of one batch.

    No node is fed twice for one user: what stands below it would count it twice among what it has read.
    """

    def first(self, children: Tensor, real: Tensor) -> Tensor:
        """What the model says after the prompts.

        Args:
            children: `int64[B, 1, C]`, the nodes below the root. real: `bool[B, 1, C]`, false on padding.

        Returns:
            `float32[B, 1, C]`, the log-probability of each child after its parent in nats, -inf on padding.
        """
        ...

    def extend(self, nodes: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """Feed nodes to the model; all their ancestors were fed before, or stand before them in the same call.

        Args:
            nodes: `int64[B, T]`. fed: `bool[B, T]`, false on padding.
            children: `int64[B, T, C]`, the nodes below them. real: `bool[B, T, C]`, false on padding.

        Returns:
            `float32[B, T, C]`, as `first`.
        """
        ...


class ListStepper(Protocol):
    """What a model says of the nodes of a trie where items follow each other, for the prompts of one batch.

    Unlike in a `Stepper` a node may be fed many times, behind different lists; so what it stands behind is said.
    Whatever is fed gets a number of its user's, counted over all calls: the first call feeds the numbers 0 to T - 1.
    """

    def first(self, children: Tensor, real: Tensor) -> Tensor:
        """See `Stepper.first`."""
        ...

    def extend(self, nodes: Tensor, behind: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """Feed nodes to the model; below a leaf the next item begins.

        Args:
            nodes: `int64[B, T]`. behind: `int64[B, T]`, the number of what stands before each, from an earlier call;
                -1 for the prompt. fed: `bool[B, T]`, false on padding, which gets a number too.
            children: `int64[B, T, C]`, the nodes below them, below a leaf those of the root. real: `bool[B, T, C]`.

        Returns:
            `float32[B, T, C]`, as `first`.
        """
        ...


class Engine(Protocol):
    """Decodes items for one model and one item tokenizer; the score is `log p(item | prompt)` in nats."""

    @property
    def item_tokenizer(self) -> ItemTokenizer:
        """Codes and tokens of the items."""
        ...

    @property
    def trie(self) -> Trie:
        """The valid codes, on the device where steppers want nodes."""
        ...

    def allow(self, rows: Rows) -> AllowedItems:
        """Candidates that many calls of `decode` share, counted once."""
        ...

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        k: int,
        beams: int,
        normalize: Normalize = "codebook",
        excluded: Ragged | None = None,
        candidates: Rows | Ragged | AllowedItems | None = None,
        length_penalty: float = 0.0,
        bias: ItemBias | None = None,
        most_beams: int = 0,
    ) -> ScoredItems:
        """The best k items after each prompt.

        Args:
            prompts: `B` lists of token ids, none empty. k: items wanted. beams: prefixes kept at each level.
            excluded: `B` lists of item rows that must not be returned.
            candidates: the only items allowed; all if None. As rows or `AllowedItems` they are those of all users; as
                `B` lists of rows each user has their own, which costs nothing that grows with the catalog.
            length_penalty: scores are divided by (tokens of the code) to this power; 0 leaves them as they are.
            bias: other scores of the items, mixed in.
            most_beams: lists that are not proven are searched again with four times the beams, and so on up to this
                many; 0 answers after the first search.

        Raises:
            DecodingError: a prompt is empty, a number of lists or of items is not allowed, or the model cannot be
                decoded.
        """
        ...

    def stepper(
        self, prompts: Sequence[Sequence[int]], normalize: Normalize = "codebook"
    ) -> AbstractContextManager[Stepper]:
        """What the model says after prompts, to be asked step by step until the context is left.

        Raises:
            DecodingError: a prompt is empty, or the model cannot be decoded.
        """
        ...

    def list_stepper(
        self, prompts: Sequence[Sequence[int]], length: int, normalize: Normalize = "codebook"
    ) -> AbstractContextManager[ListStepper]:
        """The same for lists of up to `length` items.

        Raises:
            DecodingError: a prompt is empty, or the model cannot be decoded so far.
        """
        ...
