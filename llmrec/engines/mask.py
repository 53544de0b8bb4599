"""Which trie nodes a request may enter: seen items and non-candidates close the prefixes that lead only to them.

A beam therefore never walks into a dead end. What all users of a request share (a filter on the catalog, such as "in
stock") is a count a node, made once (`AllowedItems`); of each user's own exclusions only the closed nodes are stored: a
history closes a few dozen, whatever the size of the catalog.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.indexes.trie import Trie
from llmrec.types import Ragged, Rows


@dataclass(frozen=True)
class AllowedItems:
    """The only items that may be returned, for all users of a request.

    Args:
        is_allowed: `bool[N]`. counts: `int32[M]`, allowed items below each node.
    """

    is_allowed: Tensor
    counts: Tensor

    @classmethod
    def of(cls, trie: Trie, rows: Rows) -> AllowedItems:
        """Count from the leaves to the root; `O(N + M)`, so keep it when several requests share it."""
        is_allowed = torch.zeros(len(trie.item_rows), dtype=torch.bool, device=trie.code.device)
        is_allowed[torch.as_tensor(rows, dtype=torch.int64, device=trie.code.device)] = True
        return cls(is_allowed, trie.count_under(is_allowed))


@dataclass(frozen=True)
class NodeMask:
    """Closed nodes of a batch.

    Args:
        trie: the valid codes.
        allowed: what all users may have; everything when None.
        closed: `int64[n]`, sorted keys `user * M + node` of nodes whose allowed items are all excluded for that user.
        excluded: `int64[m]`, sorted keys `user * N + item`.
    """

    trie: Trie
    allowed: AllowedItems | None
    closed: Tensor
    excluded: Tensor

    @classmethod
    def of(
        cls, trie: Trie, codes: NDArray[np.int32], users: int, excluded: Ragged | None, allowed: AllowedItems | None
    ) -> NodeMask:
        """Propagate excluded items from the leaves to the root.

        Args:
            codes: `int32[N, L]`, of all items. users: `B`. excluded: `B` lists of item rows.
        """
        device, items, nodes = trie.code.device, len(codes), len(trie.code)
        if excluded is None or len(excluded.values) == 0:
            none = torch.empty(0, dtype=torch.int64, device=device)
            return cls(trie, allowed, none, none)
        keys = np.unique(np.repeat(np.arange(users), excluded.lengths) * items + excluded.values)
        item_keys = torch.from_numpy(keys).to(device)
        counted = item_keys if allowed is None else item_keys[allowed.is_allowed[item_keys % items]]
        ways = trie.ways(torch.from_numpy(codes[(counted % items).cpu().numpy()]).to(device).long())  # (n, L)
        user = (counted // items)[:, None].expand_as(ways)
        roots = torch.unique_consecutive(counted // items) * nodes
        root_counts = torch.bincount(counted // items, minlength=users)
        below, counts = torch.unique((user * nodes + ways)[ways >= 0], return_counts=True)
        below = torch.cat([roots, below])
        counts = torch.cat([root_counts[roots // nodes], counts])
        if allowed is None:
            start, end = trie.item_range(below % nodes)
            totals = end - start
        else:
            totals = allowed.counts[below % nodes]
        return cls(trie, allowed, below[counts >= totals].sort().values, item_keys)

    def open_nodes(self, nodes: Tensor) -> Tensor:
        """`bool[B, ...]`: whether user `b` may enter `nodes[b, ...]`."""
        is_open = ~_contains(self.closed, nodes, len(self.trie.code))
        return is_open if self.allowed is None else is_open & (self.allowed.counts[nodes] > 0)

    def open_items(self, rows: Tensor) -> Tensor:
        """`bool[B, ...]`: whether item `rows[b, ...]` may be returned to user `b`; -1 may not."""
        safe = rows.clamp(min=0)
        is_open = (rows >= 0) & ~_contains(self.excluded, safe, len(self.trie.item_rows))
        return is_open if self.allowed is None else is_open & self.allowed.is_allowed[safe]


def _contains(keys: Tensor, values: Tensor, size: int) -> Tensor:
    """Whether `b * size + values[b, ...]` is among the sorted keys."""
    user = torch.arange(len(values), device=values.device).view(-1, *[1] * (values.dim() - 1))
    return is_among(keys, user * size + values)


def is_among(keys: Tensor, wanted: Tensor) -> Tensor:
    """`bool[...]`: whether each of `int64[...]` is among the sorted keys."""
    if not len(keys):
        return torch.zeros_like(wanted, dtype=torch.bool)
    return keys[torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)] == wanted
