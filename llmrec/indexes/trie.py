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

What can be found by a short walk is not stored: ten million items on four levels take about 11 bytes an item
(`benchmarks/trie_scale.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.errors import DecodingError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.trie_build import TrieArrays, build_arrays

ROOT = 0

Codes = NDArray[np.int32]

MOST_TABLE_CELLS = 2**18
"""Cells of one level's dense table (1 MB); two levels of 256 fit, a third does not."""

ROWS_AT_ONCE = 2**20
"""Items whose way through the trie is in memory at once."""


@dataclass(frozen=True)
class Trie:
    """CSR arrays over `M` nodes, of which `I` are not on the last level; build with `Trie.of`.

    Args:
        first_child: `int32[I + 1]`; the children of node `n < I` are nodes `first_child[n]` to `first_child[n + 1] - 1`
            (leaves have none).
        code: `int16[M]`, `int32[M]` where a codebook is larger: the code on the edge into a node, -1 for the root.
        level_start: `L + 2` node numbers; the nodes of depth `d` are `level_start[d]` to `level_start[d + 1] - 1`.
        level_starts: the same without its ends, `int64[L]`.
        item_rows: `int32[N]`, items in code order (row order inside a bucket).
        item_spans: `int32[M, 2]`; the items below node `n` are `item_spans[n, 1]` rows of `item_rows` from
            `item_spans[n, 0]` on. None where every leaf is on the last level and has one item: they can be counted.
        table: `int32[U, W]`, of the upper nodes: the child with each code, -1 where there is none.
        stand_in: as `code`: the code whose probability counts for an edge on the way to items that the model has not
            seen; None where there is no such item.
        fan_out: most children of a node.
        longest_run: most steps from a node to its `run_end`.
        equal_lengths: whether every code has as many levels.
    """

    first_child: Tensor
    code: Tensor
    level_start: tuple[int, ...]
    level_starts: Tensor
    item_rows: Tensor
    item_spans: Tensor | None
    table: Tensor
    stand_in: Tensor | None
    fan_out: int
    longest_run: int
    equal_lengths: bool

    @classmethod
    def of(cls, index: ItemIndex) -> Trie:
        """Build by sorting the codes; `O(N log N)`.

        Raises:
            ArtifactError: the code of an item begins the longer code of another, so no search could tell them apart.
        """
        built = build_arrays(index.codes, index.level_sizes)
        trie = cls(
            torch.from_numpy(built.first_child),
            torch.from_numpy(built.code),
            built.level_start,
            torch.tensor(built.level_start[1:-1]),
            torch.from_numpy(built.item_rows),
            None if built.item_spans is None else torch.from_numpy(built.item_spans),
            _upper_table(built, index.level_sizes),
            None,
            built.fan_out,
            built.longest_run,
            built.equal_lengths,
        )
        if index.stand_ins is None:
            return trie
        return replace(
            trie, stand_in=_stand_in(trie, index.trained, index.codes[len(index.trained) :], index.stand_ins)
        )

    @property
    def depth(self) -> int:
        """Levels of the longest code."""
        return len(self.level_start) - 2

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def to(self, device: torch.device | str) -> Trie:
        """The same trie with its arrays on a device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Trie(**{**vars(self), **tensors})

    def depths(self, nodes: Tensor) -> Tensor:
        """`int64[...]`: how many codes lead to each node, 0 for the root."""
        return torch.bucketize(nodes, self.level_starts, right=True)

    def scored_as(self, nodes: Tensor) -> Tensor:
        """`int64[...]`: the code whose probability counts for the edge into each node."""
        return (self.code if self.stand_in is None else self.stand_in)[nodes].long()

    def child_range(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """`int64[...]` twice: the first child of each node, and the number behind its last one; equal for a leaf."""
        last = len(self.first_child) - 1
        return self.first_child[nodes.clamp(max=last)].long(), self.first_child[(nodes + 1).clamp(max=last)].long()

    def is_leaf(self, nodes: Tensor) -> Tensor:
        """`bool[...]`: whether a node ends a code."""
        start, end = self.child_range(nodes)
        return start == end

    def parents(self, nodes: Tensor) -> Tensor:
        """`int64[...]`: the parent of each node, -1 for the root."""
        return torch.searchsorted(self.first_child, nodes.int(), right=True) - 1

    def run_end(self, nodes: Tensor) -> Tensor:
        """Where a walk along single children stops: the first node, the given one included, that does not have one.

        Args:
            nodes: `int64[...]`.

        Returns:
            `int64[...]`, leaves or nodes with several children.
        """
        for _ in range(self.longest_run):
            start, end = self.child_range(nodes)
            single = end - start == 1
            if not bool(single.any()):
                break
            nodes = torch.where(single, start, nodes)
        return nodes

    def item_range(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """`int64[...]` twice: the items below each node are `item_rows[start:end]`."""
        if self.item_spans is not None:
            spans = self.item_spans[nodes].long()
            return spans[..., 0], spans[..., 0] + spans[..., 1]
        first, last, inner = nodes, nodes, len(self.first_child) - 1
        for _ in range(self.depth):
            first = torch.where(first < inner, self.first_child[first.clamp(max=inner)].long(), first)
            below = self.first_child[(last + 1).clamp(max=inner)].long() - 1
            last = torch.where(last < inner, below, last)
        leaves = self.level_start[-2]
        return first - leaves, last + 1 - leaves

    def children(self, states: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
        """The children of each node, padded to the widest, or to `width`.

        Args:
            states: `int64[...]` node numbers. width: at least the most children any of them has; a known one, such as
                `fan_out`, spares a wait for the GPU.

        Returns:
            `int64[..., C]` child nodes (their codes are `trie.code[children]`) and `bool[..., C]`, false on padding
            (where the child is the root).
        """
        start, end = self.child_range(states)
        count = end - start
        if width is None:
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
        found = self.find(states, codes)
        if not bool((found >= 0).all()):
            raise DecodingError("a code is not in the trie: no item starts with this prefix.")
        return found

    def find(self, states: Tensor, codes: Tensor) -> Tensor:
        """`step` for codes that may be any: -1 where a node has no such child.

        On a GPU it does not wait for the device, so that a server can ask at each step.
        """
        if states.is_cpu and bool((states < len(self.table)).all()):
            return self._lookup(states, codes)
        return self._bisect(states, codes)

    def _lookup(self, states: Tensor, codes: Tensor) -> Tensor:
        """The child with each code, -1 where there is none; for upper nodes."""
        inside = (codes >= 0) & (codes < self.table.shape[1])
        return torch.where(inside, self.table[states, torch.where(inside, codes, 0)].long(), -1)

    def _bisect(self, states: Tensor, codes: Tensor) -> Tensor:
        """The same for any node: siblings are sorted by code."""
        low, end = self.child_range(states)
        high, last = end, len(self.code) - 1
        for _ in range(self.fan_out.bit_length()):
            middle = (low + high) // 2
            is_open = low < high
            is_left = is_open & (self.code[middle.clamp(max=last)] < codes)
            high = torch.where(is_open & ~is_left, middle, high)
            low = torch.where(is_left, middle + 1, low)
        return torch.where((low < end) & (self.code[low.clamp(max=last)] == codes), low, -1)

    def ways(self, codes: Tensor) -> Tensor:
        """The nodes on the way to each code.

        Args:
            codes: `int64[n, L]`, `END` behind shorter ones.

        Returns:
            `int64[n, L]`, a node a level, -1 behind the end of a code; the last that is not -1 is the leaf.

        Raises:
            DecodingError: a code is not in the trie.
        """
        here, way = torch.zeros(len(codes), dtype=torch.int64, device=codes.device), torch.full_like(codes, -1)
        for level in range(codes.shape[1]):
            alive = codes[:, level] != END
            here = here.masked_scatter(alive, self.step(here[alive], codes[alive, level]))
            way[:, level] = torch.where(alive, here, -1)
        return way

    def items(self, leaves: Tensor) -> tuple[Tensor, Tensor]:
        """The item rows at each leaf, padded to the largest bucket.

        Args:
            leaves: `int64[...]` leaf nodes.

        Returns:
            `int64[..., S]` item rows in fixed order, and `bool[..., S]`, false on padding (where the row is -1).
        """
        start, end = self.item_range(leaves)
        count = end - start
        steps = torch.arange(int(count.max()) if count.numel() else 0, device=leaves.device)
        valid = steps < count[..., None]
        rows = self.item_rows[torch.where(valid, start[..., None] + steps, 0)].long()
        return torch.where(valid, rows, -1), valid

    def count_under(self, chosen: Tensor) -> Tensor:
        """How many chosen items (`bool[N]`) stand under each node, `int32[M]`."""
        in_order = chosen[self.item_rows.long()].int()
        if self.item_spans is not None:
            before = torch.nn.functional.pad(in_order.cumsum(0), (1, 0))
            start, size = self.item_spans.long().unbind(1)
            return (before[start + size] - before[start]).int()
        levels = [in_order]
        for depth in reversed(range(self.depth)):
            before = torch.nn.functional.pad(levels[0].cumsum(0, dtype=torch.int32), (1, 0))
            bounds = self.first_child[self.level_start[depth] : self.level_start[depth + 1] + 1].long()
            levels.insert(0, (before[bounds[1:] - bounds[0]] - before[bounds[:-1] - bounds[0]]))
        return torch.cat(levels)


def _upper_table(built: TrieArrays, level_sizes: tuple[int, ...]) -> Tensor:
    """The dense table of the first levels, as long as each stays under `MOST_TABLE_CELLS`."""
    starts, nodes = built.level_start, 0
    for level, size in enumerate(level_sizes):
        if (starts[level + 1] - starts[level]) * size > MOST_TABLE_CELLS:
            break
        nodes, width = starts[level + 1], max(level_sizes[: level + 1])
    if not nodes:
        return torch.empty(0, 0, dtype=torch.int32)
    table = torch.full((nodes, width), -1, dtype=torch.int32)
    first = torch.from_numpy(built.first_child[: nodes + 1]).long()
    children = torch.arange(1, int(first[-1]))
    parents = torch.repeat_interleave(torch.arange(nodes), first.diff())
    table[parents, torch.from_numpy(built.code)[children].long()] = children.int()
    return table


def _stand_in(trie: Trie, trained: Codes, new: Codes, stand_ins: Codes) -> Tensor:
    """The code of every node, or of the stand-in where only new items stand below it (the first such item's)."""
    known = np.zeros(len(trie.code), bool)
    for part in torch.from_numpy(trained).split(ROWS_AT_ONCE):
        way = trie.ways(part.long())
        known[way[way >= 0].numpy()] = True
    ways = trie.ways(torch.from_numpy(new).long()).numpy()[::-1]  # of several assignments to a node the last one stays
    unseen = (ways >= 0) & ~known[ways]
    scored = trie.code.numpy().copy()
    scored[ways[unseen]] = stand_ins[::-1][unseen]
    return torch.from_numpy(scored)
