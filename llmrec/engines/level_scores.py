"""Log-probabilities of given items, level by level: why an item has its score.

    log_p = level_scores(engine, prompts, rows)  # (B, n, L)
    np.nansum(log_p, -1)                         # what `decode` says of these items

All prefixes of a user's items are fed in few passes, whatever the number of levels: an ancestor need only stand before
its descendants, and nodes are numbered from the root on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.engines.base import Engine, Normalize, Stepper
from llmrec.engines.distinct import distinct_nodes
from llmrec.indexes.trie import ROOT, Trie

NODES_AT_ONCE = 1024
"""Prefixes of a user that are fed in one pass; it bounds the memory of scoring a whole catalog."""


def level_scores(
    engine: Engine, prompts: Sequence[Sequence[int]], rows: NDArray[np.int32], normalize: Normalize = "codebook"
) -> NDArray[np.float32]:
    """`log p(code on this level | prompt and the levels before)` of given items.

    Args:
        prompts: `B` lists of token ids, none empty. rows: `int32[B, n]` item rows, -1 for none.
        normalize: what a level's log-softmax runs over.

    Returns:
        `float32[B, n, L]` in nats; NaN behind the end of a shorter code, and where there is no item. The sum over the
        levels of an item is its score in `Engine.decode`.

    Raises:
        DecodingError: a prompt is empty, or the model cannot be decoded.
    """
    codes, trie = engine.item_tokenizer.index.codes, engine.trie
    if not rows.size:
        return np.empty((*rows.shape, codes.shape[1]), np.float32)
    device = trie.code.device
    ways = trie.ways(torch.from_numpy(codes[rows.clip(min=0).ravel()]).to(device).long()).view(*rows.shape, -1)
    ways = ways.masked_fill(torch.from_numpy(rows < 0).to(device)[..., None], -1)
    with engine.stepper(prompts, normalize) as stepper:
        return _along(trie, stepper, ways).cpu().numpy()


def _along(trie: Trie, stepper: Stepper, ways: Tensor) -> Tensor:
    """`float32[B, n, L]`: what the model says of each node on ways `int64[B, n, L]`, NaN where there is none."""
    parents = torch.nn.functional.pad(ways[..., :-1], (1, 0), value=ROOT).masked_fill(ways < 0, -1).flatten(1)
    place = ways.flatten(1) - trie.child_range(parents.clamp(min=ROOT))[0]  # among the children of its parent
    found = torch.full(parents.shape, torch.nan, device=ways.device)

    def note(nodes: Tensor, said: Tensor) -> Tensor:
        """With what is said below nodes `int64[B, T]`, ascending."""
        at = torch.searchsorted(nodes, parents).clamp(max=nodes.shape[1] - 1)
        known = nodes.gather(1, at) == parents
        return torch.where(known, said.flatten(1).gather(1, torch.where(known, at * said.shape[2] + place, 0)), found)

    root = torch.full((len(ways), 1), ROOT, dtype=torch.int64, device=ways.device)
    found = note(root, stepper.first(*trie.children(root)))
    nobody = len(trie.code)  # a number behind all nodes
    for nodes in distinct_nodes(parents, nobody).split(NODES_AT_ONCE, 1):
        fed = nodes < nobody
        found = note(nodes.contiguous(), stepper.extend(nodes.masked_fill(~fed, ROOT), fed, *trie.children(nodes)))
    return found.view(ways.shape)
