"""The set of valid codes as arrays: which code may follow a prefix, and which items stand at its end.

Nodes are numbered level by level in code order, so the children of a node are a contiguous range and the number of a
child is also the number of the edge that leads to it. Everything is immutable, a plain function from state tensors to
state tensors, on any device.

    root 0 ── a_3 ── 1 ── b_0 ── 3 -> items 17
                      └── b_7 ── 4 -> items 2
           └─ a_9 ── 2 ── b_7 ── 5 -> items 8, 40   (a bucket: two items share an imported code)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import DecodingError
from llmrec.indexes.base import ItemIndex

ROOT = 0


@dataclass(frozen=True)
class Trie:
    """CSR arrays over `M` nodes; build with `Trie.of`.

    Args:
        first_child: `int64[M + 1]`; the children of node `n` are nodes `first_child[n]` to `first_child[n + 1] - 1`
            (leaves have none).
        code: `int32[M]`, the code on the edge into a node, -1 for the root.
        parent: `int64[M]`, -1 for the root.
        level_start: `L + 2` node numbers; the nodes of depth `d` are `level_start[d]` to `level_start[d + 1] - 1`.
        item_rows: `int32[N]`, items in code order (row order inside a bucket).
        first_item: `int64[leaves + 1]`; the items of leaf `j` (counted from the first leaf) are
            `item_rows[first_item[j]:first_item[j + 1]]`.
        leaf_of_item: `int64[N]`, the leaf node of each item row.
    """

    first_child: Tensor
    code: Tensor
    parent: Tensor
    level_start: tuple[int, ...]
    item_rows: Tensor
    first_item: Tensor
    leaf_of_item: Tensor

    @classmethod
    def of(cls, index: ItemIndex) -> Trie:
        """Build by sorting the codes; `O(N log N)`."""
        codes = index.codes
        items, levels = codes.shape
        order = np.lexsort(tuple(codes[:, level] for level in reversed(range(levels)))) if levels else np.arange(items)
        in_order = codes[order]
        changed = np.zeros(items, bool)
        changed[:1] = True
        level_start, node_codes, parents = [0, 1], [np.array([-1], np.int32)], [np.array([-1], np.int64)]
        node_of_item = np.zeros(items, np.int64)  # the node, one level up, of each item in code order
        for level in range(levels):
            changed[1:] |= in_order[1:, level] != in_order[:-1, level]
            starts = np.flatnonzero(changed)
            node_codes.append(in_order[starts, level])
            parents.append(node_of_item[starts])
            node_of_item = level_start[-1] + np.cumsum(changed) - 1
            level_start.append(level_start[-1] + len(starts))
        parent = np.concatenate(parents)
        first_child = np.searchsorted(parent[1:], np.arange(len(parent) + 1)) + 1
        leaf_of_item = np.empty(items, np.int64)
        leaf_of_item[order] = node_of_item
        first_item = np.append(np.flatnonzero(changed), items)
        return cls(
            torch.from_numpy(first_child.astype(np.int64)),
            torch.from_numpy(np.concatenate(node_codes).astype(np.int32)),
            torch.from_numpy(parent),
            tuple(level_start),
            torch.from_numpy(order.astype(np.int32)),
            torch.from_numpy(first_item.astype(np.int64)),
            torch.from_numpy(leaf_of_item),
        )

    @property
    def depth(self) -> int:
        return len(self.level_start) - 2

    def to(self, device: torch.device | str) -> Trie:
        """The same trie with its arrays on a device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Trie(**{**vars(self), **tensors})

    def children(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The children of each node, padded to the widest.

        Args:
            states: `int64[...]` node numbers.

        Returns:
            `int64[..., C]` child nodes (their codes are `trie.code[children]`) and `bool[..., C]`, false on padding
            (where the child is the root).
        """
        start, count = self.first_child[states], self.first_child[states + 1] - self.first_child[states]
        width = int(count.max()) if count.numel() else 0
        steps = torch.arange(width, device=states.device)
        valid = steps < count[..., None]
        return torch.where(valid, start[..., None] + steps, ROOT), valid

    def step(self, states: Tensor, codes: Tensor) -> Tensor:
        """Follow one edge from each node.

        Args:
            states: `int64[...]` nodes. codes: `int64[...]` the code to follow.

        Returns:
            `int64[...]` child nodes.

        Raises:
            DecodingError: a node has no such child. An unknown prefix is never answered by an unconstrained one.
        """
        children, valid = self.children(states)
        match = valid & (self.code[children] == codes[..., None])
        if not bool(match.any(-1).all()):
            raise DecodingError("a code is not in the trie: no item starts with this prefix.")
        return children.gather(-1, match.int().argmax(-1, keepdim=True)).squeeze(-1)

    def items(self, leaves: Tensor) -> tuple[Tensor, Tensor]:
        """The item rows at each leaf, padded to the largest bucket.

        Args:
            leaves: `int64[...]` leaf nodes.

        Returns:
            `int64[..., S]` item rows in fixed order, and `bool[..., S]`, false on padding (where the row is -1).
        """
        leaf = leaves - self.level_start[-2]
        start, count = self.first_item[leaf], self.first_item[leaf + 1] - self.first_item[leaf]
        steps = torch.arange(int(count.max()) if count.numel() else 0, device=leaves.device)
        valid = steps < count[..., None]
        rows = self.item_rows[torch.where(valid, start[..., None] + steps, 0)].long()
        return torch.where(valid, rows, -1), valid

    def item_counts(self, rows: Tensor) -> Tensor:
        """How many of these (distinct) items stand under each node, `int32[M]`."""
        counts = torch.zeros(len(self.code), dtype=torch.int32, device=rows.device)
        nodes = self.leaf_of_item[rows]
        for _ in range(self.depth + 1):
            counts.index_add_(0, nodes, torch.ones_like(nodes, dtype=torch.int32))
            nodes = self.parent[nodes].clamp(min=0)
        return counts
