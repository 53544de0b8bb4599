"""Other scores of the items, mixed into the search: another recommender, a business boost, nearness in text.

An item's fused score is `log p(item) + weight * log q(item)`, where `q` is the softmax of the other scores over all
items. A node of the trie is worth `weight * log q(node)`, and `q(node)` is the sum of `q` over the items below it
(`logsumexp` on the way up). It only falls on the way down, as the model's own score does. So a prefix still bounds all
that follows it, the search sees the other scores from the first step on, and at a leaf both parts are exact: no second
engine and no list to rerank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.errors import DecodingError
from llmrec.indexes.trie import ROOT, Trie


@dataclass(frozen=True)
class ItemBias:
    """Other scores and their weight.

    Args:
        scores: `float32[N]` for all users or `float32[B, N]`; `-inf` closes an item, NaN is not allowed.
        weight: at least 0; 0 changes nothing.

    Raises:
        DecodingError: the weight is negative or not finite, or a score is NaN or `+inf`.
    """

    scores: NDArray[np.float32]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < np.inf:
            raise DecodingError(f"the weight of the item scores is {self.weight}; give a finite number from 0 on.")
        if np.isnan(self.scores).any() or np.isposinf(self.scores).any():
            raise DecodingError("an item score is NaN or +inf. Give finite numbers, or -inf for 'never'.")

    def of_users(self, users: NDArray[np.int64]) -> ItemBias:
        """For some users of the batch."""
        return self if self.scores.ndim == 1 else ItemBias(self.scores[users], self.weight)

    def on(self, trie: Trie, users: int) -> NodeBias | None:
        """What every node is worth.

        Raises:
            DecodingError: the scores are not one an item.
        """
        items = len(trie.item_rows)
        if self.scores.shape not in ((items,), (users, items)):
            raise DecodingError(
                f"item scores have the shape {self.scores.shape}; allowed are {(items,)}, the same for all users, and "
                f"{(users, items)}."
            )
        if self.weight == 0:
            return None
        device = trie.code.device
        scores = torch.as_tensor(self.scores, dtype=torch.float32, device=device).reshape(-1, items)
        values = torch.full((len(scores), len(trie.code)), -torch.inf, device=device)
        _add_up(values, scores[:, trie.item_rows.long()], _leaves_in_order(trie))
        for depth in reversed(range(trie.depth)):
            level, start, end = trie.level_start[depth : depth + 3]
            parents = trie.parents(torch.arange(start, end, device=device))
            _add_up(values[:, level:start], values[:, start:end], parents - level)
        totals = values[:, ROOT : ROOT + 1].clone()
        worth = self.weight * (values - totals)
        return NodeBias(torch.where(values == -torch.inf, -torch.inf, worth))


@dataclass(frozen=True)
class NodeBias:
    """Args: values: `float32[1 or B, M]`, what every node adds to a score."""

    values: Tensor

    def at(self, nodes: Tensor) -> Tensor:
        """`float32[B, n]` at nodes `int64[B, n]`."""
        return self.values.expand(len(nodes), -1).gather(1, nodes)


def _leaves_in_order(trie: Trie) -> Tensor:
    """`int64[N]`: the leaf of every place in `item_rows`."""
    if trie.item_spans is None:
        return torch.arange(trie.level_start[-2], trie.level_start[-1], device=trie.code.device)
    nodes = torch.arange(len(trie.code), device=trie.code.device)
    leaves = nodes[trie.is_leaf(nodes)]
    start, end = trie.item_range(leaves)
    order = start.argsort()
    return torch.repeat_interleave(leaves[order], (end - start)[order])


def _add_up(values: Tensor, parts: Tensor, into: Tensor) -> None:
    """`logsumexp` of `parts` `float32[B, n]` into columns `into` of `values`, which are -inf before."""
    top = values.scatter_reduce(1, into.expand(len(parts), -1), parts, "amax")
    safe = top.masked_fill(top == -torch.inf, 0.0)
    sums = torch.zeros_like(values).index_add_(1, into, (parts - safe[:, into]).exp())
    touched = torch.zeros(values.shape[1], dtype=torch.bool, device=values.device)
    touched[into] = True
    values.copy_(torch.where(touched, safe + sums.log(), values))
