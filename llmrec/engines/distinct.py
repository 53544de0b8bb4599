"""Which nodes are fed where several items or draws of a user share a prefix: each once."""

from __future__ import annotations

from torch import Tensor

from llmrec.indexes.trie import ROOT


def distinct_nodes(nodes: Tensor, nobody: int) -> Tensor:
    """Each user's nodes once, ancestors before descendants.

    Args:
        nodes: `int64[B, m]`; the root, and what is below 0, does not count. nobody: a number above all nodes.

    Returns:
        `int64[B, T]`, ascending, with `nobody` behind the last of a user.
    """
    ordered = nodes.masked_fill(nodes <= ROOT, nobody).sort(1).values
    again = ordered[:, 1:] == ordered[:, :-1]
    ordered[:, 1:].masked_fill_(again, nobody)
    ordered = ordered.sort(1).values
    return ordered[:, : int((ordered < nobody).sum(1).max())].contiguous()
