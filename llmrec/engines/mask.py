"""Which trie nodes a request may enter: seen items and non-candidates close the prefixes that lead only to them.

A beam therefore never walks into a dead end. Only the closed nodes of each user are stored (a history closes a few
dozen nodes, whatever the size of the catalog).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmrec.indexes.trie import Trie
from llmrec.types import Ragged, Rows


@dataclass(frozen=True)
class NodeMask:
    """Closed nodes of a batch.

    Args:
        closed_for_all: `bool[M]`, nodes without any candidate.
        closed: `int64[n]`, sorted keys `user * M + node` of nodes whose candidates are all excluded for that user.
        excluded: `int64[m]`, sorted keys `user * N + item`.
        is_candidate: `bool[N]`.
    """

    closed_for_all: Tensor
    closed: Tensor
    excluded: Tensor
    is_candidate: Tensor

    @classmethod
    def of(cls, trie: Trie, users: int, excluded: Ragged | None, candidates: Rows | None) -> NodeMask:
        """Propagate excluded items and candidates from the leaves to the root."""
        device, items, nodes = trie.code.device, len(trie.item_rows), len(trie.code)
        is_candidate = torch.ones(items, dtype=torch.bool, device=device)
        if candidates is not None:
            is_candidate.zero_()
            is_candidate[torch.as_tensor(candidates, dtype=torch.int64, device=device)] = True
        totals = trie.count_under(is_candidate)
        if excluded is None or len(excluded.values) == 0:
            empty = torch.empty(0, dtype=torch.int64, device=device)
            return cls(totals == 0, empty, empty, is_candidate)
        lengths = torch.as_tensor(excluded.lengths, device=device)
        user = torch.repeat_interleave(torch.arange(users, device=device), lengths)
        item_keys = torch.unique(user * items + torch.as_tensor(excluded.values, dtype=torch.int64, device=device))
        counted = item_keys[is_candidate[item_keys % items]]
        user, node = counted // items, trie.leaf_of_item[counted % items]
        above = []
        while len(node):  # codes differ in length, so some reach the root earlier
            above.append(user * nodes + node)
            node = trie.parent[node]
            user, node = user[node >= 0], node[node >= 0]
        keys, counts = torch.unique(torch.cat(above), return_counts=True) if above else (item_keys[:0], item_keys[:0])
        return cls(totals == 0, keys[counts >= totals[keys % nodes]], item_keys, is_candidate)

    def open_nodes(self, nodes: Tensor) -> Tensor:
        """`bool[B, ...]`: whether user `b` may enter `nodes[b, ...]`."""
        return ~self.closed_for_all[nodes] & ~_contains(self.closed, nodes, len(self.closed_for_all))

    def open_items(self, rows: Tensor) -> Tensor:
        """`bool[B, ...]`: whether item `rows[b, ...]` may be returned to user `b`; -1 may not."""
        safe = rows.clamp(min=0)
        return (rows >= 0) & self.is_candidate[safe] & ~_contains(self.excluded, safe, len(self.is_candidate))


def _contains(keys: Tensor, values: Tensor, size: int) -> Tensor:
    """Whether `b * size + values[b, ...]` is among the sorted keys."""
    if not len(keys):
        return torch.zeros_like(values, dtype=torch.bool)
    user = torch.arange(len(values), device=values.device).view(-1, *[1] * (values.dim() - 1))
    wanted = user * size + values
    return keys[torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)] == wanted
