"""The set of valid codes as arrays: which code may follow a prefix, and which items stand at its end.

Nodes are numbered level by level in code order, so the children of a node are a contiguous range and the number of a
child is also the number of the edge that leads to it. The items below a node are a contiguous range too, which answers
"is this node an ancestor of that one?" by comparing two numbers. Everything is immutable, a plain function from state
tensors to state tensors, on any device.

    root 0 ── a_3 ── 1 ── b_0 ── 3 -> items 17
                      └── b_7 ── 4 -> items 2
           └─ a_9 ── 2 ── b_7 ── 5 -> items 8, 40   (a bucket: two items share an imported code)

Codes may differ in length. Then leaves stand on different levels, and a stretch of nodes with a single child each (a
*run*: the rest of a title, once no other title begins like it) can be followed in one step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import ArtifactError, DecodingError
from llmrec.indexes.base import END, ItemIndex

ROOT = 0


@dataclass(frozen=True)
class Trie:
    """CSR arrays over `M` nodes; build with `Trie.of`.

    Args:
        first_child: `int64[M + 1]`; the children of node `n` are nodes `first_child[n]` to `first_child[n + 1] - 1`
            (leaves have none).
        code: `int32[M]`, the code on the edge into a node, -1 for the root.
        scored_as: `int32[M]`, the code whose probability counts for that edge: `code`, or that of a stand-in on the way
            to items that the model has not seen.
        parent: `int64[M]`, -1 for the root.
        level_start: `L + 2` node numbers; the nodes of depth `d` are `level_start[d]` to `level_start[d + 1] - 1`.
        item_rows: `int32[N]`, items in code order (row order inside a bucket).
        first_item: `int64[M]`; the items below node `n` are `item_rows[first_item[n]:first_item[n] + item_count[n]]`.
        item_count: `int64[M]`.
        leaf_of_item: `int64[N]`, the leaf node of each item row.
        run_end: `int64[M]`, the node where a walk along single children stops: the first one, beginning with the node
            itself, that is a leaf or has several children.
        longest_run: most steps from a node to its `run_end`.
    """

    first_child: Tensor
    code: Tensor
    scored_as: Tensor
    parent: Tensor
    level_start: tuple[int, ...]
    item_rows: Tensor
    first_item: Tensor
    item_count: Tensor
    leaf_of_item: Tensor
    run_end: Tensor
    longest_run: int

    @classmethod
    def of(cls, index: ItemIndex) -> Trie:
        """Build by sorting the codes; `O(N log N)`.

        Raises:
            ArtifactError: the code of an item begins the longer code of another, so no search could tell them apart.
        """
        codes = index.codes
        items, levels = codes.shape
        order = np.lexsort(tuple(codes[:, level] for level in reversed(range(levels)))) if levels else np.arange(items)
        in_order = codes[order]
        changed = np.zeros(items, bool)
        changed[:1] = True
        level_start, node_codes, parents = [0, 1], [np.array([-1], np.int32)], [np.array([-1], np.int64)]
        firsts, counts = [np.array([0])], [np.array([items])]
        leaf = np.zeros(items, np.int64)  # the deepest node so far of each item in code order
        for level in range(levels):
            changed[1:] |= in_order[1:, level] != in_order[:-1, level]
            starts = np.flatnonzero(changed)
            sizes = np.diff(np.append(starts, items))
            goes_on = in_order[starts, level] != END
            starts, sizes = starts[goes_on], sizes[goes_on]
            node_codes.append(in_order[starts, level])
            parents.append(leaf[starts])
            firsts.append(starts)
            counts.append(sizes)
            leaf[in_order[:, level] != END] = level_start[-1] + np.repeat(np.arange(len(starts)), sizes)
            level_start.append(level_start[-1] + len(starts))
        parent = np.concatenate(parents)
        first_child = np.searchsorted(parent[1:], np.arange(len(parent) + 1)) + 1
        if items and (inner := np.flatnonzero(first_child[leaf + 1] > first_child[leaf])).size:
            row = int(order[inner[0]])
            raise ArtifactError(
                f"the code {codes[row].tolist()} of item row {row} begins the code of another item. Codes of different "
                "lengths need an end that only the end can have. Rebuild the index."
            )
        leaf_of_item = np.empty(items, np.int64)
        leaf_of_item[order] = leaf
        code = np.concatenate(node_codes).astype(np.int32)
        run_end, longest_run = _runs(first_child, level_start)
        return cls(
            torch.from_numpy(first_child.astype(np.int64)),
            torch.from_numpy(code),
            torch.from_numpy(_scored_as(index, code, parent, leaf_of_item)),
            torch.from_numpy(parent),
            tuple(level_start),
            torch.from_numpy(order.astype(np.int32)),
            torch.from_numpy(np.concatenate(firsts).astype(np.int64)),
            torch.from_numpy(np.concatenate(counts).astype(np.int64)),
            torch.from_numpy(leaf_of_item),
            torch.from_numpy(run_end),
            longest_run,
        )

    @property
    def depth(self) -> int:
        """Levels of the longest code."""
        return len(self.level_start) - 2

    def to(self, device: torch.device | str) -> Trie:
        """The same trie with its arrays on a device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Trie(**{**vars(self), **tensors})

    def depths(self, nodes: Tensor) -> Tensor:
        """`int64[...]`: how many codes lead to each node, 0 for the root."""
        starts = torch.tensor(self.level_start[1:-1], device=nodes.device)
        return torch.bucketize(nodes, starts, right=True)

    def is_leaf(self, nodes: Tensor) -> Tensor:
        """`bool[...]`: whether a node ends a code."""
        return self.first_child[nodes] == self.first_child[nodes + 1]

    def is_under(self, nodes: Tensor, ancestors: Tensor) -> Tensor:
        """`bool[...]`: whether each node is the ancestor itself or stands below it (the two broadcast)."""
        offset = self.first_item[nodes] - self.first_item[ancestors]
        inside = (offset >= 0) & (offset < self.item_count[ancestors])
        return inside & (self.depths(ancestors) <= self.depths(nodes))

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
        start, count = self.first_item[leaves], self.item_count[leaves]
        steps = torch.arange(int(count.max()) if count.numel() else 0, device=leaves.device)
        valid = steps < count[..., None]
        rows = self.item_rows[torch.where(valid, start[..., None] + steps, 0)].long()
        return torch.where(valid, rows, -1), valid

    def count_under(self, chosen: Tensor) -> Tensor:
        """How many chosen items (`bool[N]`) stand under each node, `int64[M]`."""
        before = torch.nn.functional.pad(chosen[self.item_rows.long()].long().cumsum(0), (1, 0))
        return before[self.first_item + self.item_count] - before[self.first_item]


def _scored_as(index: ItemIndex, code: np.ndarray, parent: np.ndarray, leaf_of_item: np.ndarray) -> np.ndarray:
    """The code of every node, or of the stand-in where only new items stand below it (the first such item's)."""
    scored_as = code.copy()
    if index.stand_ins is None:
        return scored_as
    known = np.zeros(len(code), bool)
    trained = len(index.trained)
    nodes = leaf_of_item[:trained]
    while len(nodes):
        known[nodes] = True
        nodes = np.unique(parent[nodes])
        nodes = nodes[nodes >= 0]
    new = np.arange(len(index.stand_ins))[::-1]  # of several assignments to a node the last one stays
    nodes, levels = leaf_of_item[trained:][new], index.lengths[trained:][new] - 1
    while len(nodes):
        unseen = ~known[nodes]
        scored_as[nodes[unseen]] = index.stand_ins[new[unseen], levels[unseen]]
        nodes, levels = parent[nodes], levels - 1
        new, nodes, levels = (values[levels >= 0] for values in (new, nodes, levels))
    return scored_as


def _runs(first_child: np.ndarray, level_start: list[int]) -> tuple[np.ndarray, int]:
    """`run_end` and `longest_run`, from the deepest level up."""
    nodes = len(first_child) - 1
    run_end, steps = np.arange(nodes), np.zeros(nodes, np.int64)
    for start, end in zip(reversed(level_start[:-1]), reversed(level_start[1:]), strict=True):
        level = np.arange(start, end)
        single = level[first_child[level + 1] - first_child[level] == 1]
        run_end[single] = run_end[first_child[single]]
        steps[single] = steps[first_child[single]] + 1
    return run_end, int(steps.max(initial=0))
