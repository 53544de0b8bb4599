"""Which trie nodes a request may enter: seen items and non-candidates close the prefixes that lead only to them.

A beam therefore never walks into a dead end. What all users of a request share (a filter on the catalog, such as "in
stock") is a count a node, made once (`AllowedItems`). Of what is a user's own only a few nodes are stored, whatever the
size of the catalog: those that the history closes, or those on the ways to the user's own candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.errors import DecodingError
from llmrec.indexes.trie import Trie
from llmrec.types import Ragged, Rows


@dataclass(frozen=True)
class AllowedItems:
    """The only items that may be returned, for all users of a request.

    Args:
        trie: where they are counted. is_allowed: `bool[N]`. counts: `int32[M]`, allowed items below each node.
    """

    trie: Trie
    is_allowed: Tensor
    counts: Tensor

    @classmethod
    def of(cls, trie: Trie, rows: Rows) -> AllowedItems:
        """Count from the leaves to the root; `O(N + M)`, so keep it when several requests share it."""
        is_allowed = torch.zeros(len(trie.item_rows), dtype=torch.bool, device=trie.code.device)
        is_allowed[torch.as_tensor(rows, dtype=torch.int64, device=trie.code.device)] = True
        return cls(trie, is_allowed, trie.count_under(is_allowed))


@dataclass(frozen=True)
class Gate:
    """Which numbers below `size` are open to each user: a few that are listed, or all but those.

    Args:
        keys: `int64[n]`, sorted keys `user * size + number` of the listed ones. size: how many numbers there are.
        are_open: whether the listed ones are the only open ones, or the only closed ones.
    """

    keys: Tensor
    size: int
    are_open: bool

    def lets(self, numbers: Tensor) -> Tensor:
        """`bool[B, ...]`: whether `numbers[b, ...]` is open to user `b`."""
        user = torch.arange(len(numbers), device=numbers.device).view(-1, *[1] * (numbers.dim() - 1))
        return is_among(self.keys, user * self.size + numbers) == self.are_open


@dataclass(frozen=True)
class NodeMask:
    """Where the users of a batch may go.

    Args:
        trie: the valid codes.
        allowed: what all users may have; everything when None.
        nodes: with candidates of each user's own, the open nodes; otherwise those whose allowed items are all excluded.
        items: likewise the open items, or the excluded ones.
        ways: `int64[n]`, sorted keys `user * M + node` of the nodes on the ways to a user's own candidates, or to the
            allowed items that are excluded. counts: `int64[n]`, how many of these items stand below each.
    """

    trie: Trie
    allowed: AllowedItems | None
    nodes: Gate
    items: Gate
    ways: Tensor
    counts: Tensor

    @classmethod
    def of(
        cls,
        trie: Trie,
        codes: NDArray[np.int32],
        excluded: Ragged | None,
        candidates: AllowedItems | Ragged | None,
    ) -> NodeMask:
        """Propagate items from the leaves to the root; costs nothing that grows with the catalog.

        Args:
            codes: `int32[N, L]`, of all items. excluded: `B` lists of item rows that are closed.
            candidates: the only items allowed, of all users together or a list of rows for each.

        Raises:
            DecodingError: shared candidates were counted on another trie.
        """
        closed = np.empty(0, np.int64) if excluded is None else _keys(excluded, len(codes))
        if isinstance(candidates, Ragged):
            listed = np.setdiff1d(_keys(candidates, len(codes)), closed, assume_unique=True)
            ways, counts = _nodes_above(trie, codes, listed)
            return cls._gated(trie, codes, None, ways, listed, True, ways, counts)
        if candidates is not None and candidates.trie is not trie:
            raise DecodingError("these candidates were counted for another engine. Give their rows to this one anew.")
        counted = closed
        if candidates is not None:
            rows = torch.from_numpy(closed % len(codes)).to(trie.code.device)
            counted = closed[candidates.is_allowed[rows].cpu().numpy()]
        below, counts = _nodes_above(trie, codes, counted)
        number = below % len(trie.code)
        if candidates is None:
            start, end = trie.item_range(number)
            totals = end - start
        else:
            totals = candidates.counts[number]
        return cls._gated(trie, codes, candidates, below[counts >= totals], closed, False, below, counts)

    @classmethod
    def _gated(
        cls,
        trie: Trie,
        codes: NDArray[np.int32],
        allowed: AllowedItems | None,
        nodes: Tensor,
        items: NDArray[np.int64],
        are_open: bool,
        ways: Tensor,
        counts: Tensor,
    ) -> NodeMask:
        item_keys = torch.from_numpy(items).to(trie.code.device)
        gates = Gate(nodes, len(trie.code), are_open), Gate(item_keys, len(codes), are_open)
        return cls(trie, allowed, *gates, ways, counts)

    def open_nodes(self, nodes: Tensor) -> Tensor:
        """`bool[B, ...]`: whether user `b` may enter `nodes[b, ...]`, none of which is the root."""
        is_open = self.nodes.lets(nodes)
        return is_open if self.allowed is None else is_open & (self.allowed.counts[nodes] > 0)

    def open_items(self, rows: Tensor) -> Tensor:
        """`bool[B, ...]`: whether item `rows[b, ...]` may be returned to user `b`; -1 may not."""
        safe = rows.clamp(min=0)
        is_open = (rows >= 0) & self.items.lets(safe)
        return is_open if self.allowed is None else is_open & self.allowed.is_allowed[safe]

    def open_counts(self, nodes: Tensor) -> Tensor:
        """`int64[B, ...]`: how many items user `b` may be given below `nodes[b, ...]`, none of which is the root."""
        users = torch.arange(len(nodes), device=nodes.device).view(-1, *[1] * (nodes.dim() - 1))
        counted = torch.zeros_like(nodes)
        if len(self.ways):
            keys = users * len(self.trie.code) + nodes
            at = torch.searchsorted(self.ways, keys).clamp(max=len(self.ways) - 1)
            counted = torch.where(self.ways[at] == keys, self.counts[at], 0)
        if self.nodes.are_open:
            return counted
        if self.allowed is not None:
            return self.allowed.counts[nodes] - counted
        start, end = self.trie.item_range(nodes)
        return end - start - counted


def _keys(lists: Ragged, size: int) -> NDArray[np.int64]:
    """Sorted and distinct `user * size + value`."""
    return np.unique(np.repeat(np.arange(len(lists)), lists.lengths) * size + lists.values)


def _nodes_above(trie: Trie, codes: NDArray[np.int32], item_keys: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """The nodes on the ways to items, without the root.

    Args:
        codes: `int32[N, L]`. item_keys: `user * N + item`, distinct.

    Returns:
        `int64[n]`, sorted keys `user * M + node`, and how many of the user's items stand below each.
    """
    users, items = np.divmod(item_keys, len(codes))
    device = trie.code.device
    ways = trie.ways(torch.from_numpy(codes[items]).to(device).long())  # (n, L)
    keys = torch.from_numpy(users).to(device)[:, None] * len(trie.code) + ways
    nodes, counts = torch.unique(keys[ways >= 0], return_counts=True)
    return nodes, counts


def is_among(keys: Tensor, wanted: Tensor) -> Tensor:
    """`bool[...]`: whether each of `int64[...]` is among the sorted keys."""
    if not len(keys):
        return torch.zeros_like(wanted, dtype=torch.bool)
    return keys[torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)] == wanted
