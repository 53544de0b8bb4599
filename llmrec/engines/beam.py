"""Beam search over the trie. It knows codes and log-probabilities, no model and no tokens.

The score of a code is the sum of its levels' log-probabilities, so a prefix is never worse than what follows from it.
That gives a proof: if no prefix that was cut scored above the k-th item found, the list is the true top k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from llmrec.engines.base import Normalize
from llmrec.engines.mask import NodeMask
from llmrec.indexes.trie import ROOT, Trie
from llmrec.types import ScoredItems


@dataclass(frozen=True)
class LevelLogits:
    """What the model says at one level.

    Args:
        logits: `float32[B, K, V_l]` over the level's codebook.
        log_normalizer: `float32[B, K]`, `logsumexp` over the whole vocabulary; only for `normalize: vocab`.
    """

    logits: Tensor
    log_normalizer: Tensor | None = None


class Stepper(Protocol):
    """The model's side of the search."""

    def first(self) -> LevelLogits:
        """Level 0 after the prompts, `K = 1`."""
        ...

    def next(self, level: int, parents: Tensor, codes: Tensor) -> LevelLogits:
        """Extend the beams.

        Args:
            level: the level to predict. parents: `int64[B, K]`, the beam of the last call that each beam continues.
            codes: `int64[B, K]`, the code it added on level `level - 1`.
        """
        ...


def search(
    trie: Trie, stepper: Stepper, users: int, k: int, beams: int, normalize: Normalize, mask: NodeMask
) -> ScoredItems:
    """The best k items of each user.

    Args:
        trie: the valid codes. stepper: the model. users: `B`. beams: prefixes kept a level, at least 1.
        normalize: see `Normalize`. mask: the nodes and items each user may reach.
    """
    device = trie.code.device
    states = torch.full((users, 1), ROOT, dtype=torch.int64, device=device)
    scores = torch.zeros(users, 1, device=device)
    scores[~mask.open_nodes(states)] = -torch.inf
    best_cut = torch.full((users,), -torch.inf, device=device)
    said = stepper.first()
    for level in range(trie.depth):
        children, real = trie.children(states)  # (B, K, C)
        codes = (
            trie.code[children].long().clamp(0, said.logits.shape[-1] - 1)
        )  # padding and dead beams are masked below
        log_p = _log_probabilities(said, codes, real, normalize)
        reachable = real & mask.open_nodes(children)
        total = (scores[..., None] + log_p).masked_fill(~reachable, -torch.inf)  # (B, K, C)
        width = max(beams, k) if level == trie.depth - 1 else beams
        flat = total.flatten(1)
        scores, chosen = _top(flat, width)
        best_cut = torch.maximum(best_cut, _best_left_out(flat, chosen))
        parents = chosen // children.shape[-1]
        states = children.flatten(1).gather(1, chosen)
        if level + 1 < trie.depth:
            said = stepper.next(level + 1, parents, trie.code[states].clamp(min=0).long())
    return _expand(trie, states, scores, k, mask, best_cut)


def _log_probabilities(said: LevelLogits, codes: Tensor, real: Tensor, normalize: Normalize) -> Tensor:
    """`float32[B, K, C]`: log-probability of each child under the chosen normalisation."""
    picked = said.logits.gather(-1, codes)
    if normalize == "children":
        return picked.masked_fill(~real, -torch.inf).log_softmax(-1).nan_to_num(nan=-torch.inf)
    if normalize == "vocab":
        if said.log_normalizer is None:
            raise ValueError("normalize='vocab' needs the log-normalizer of the whole vocabulary from the stepper")
        return picked - said.log_normalizer[..., None]
    return picked - said.logits.logsumexp(-1, keepdim=True)


def _top(flat: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best `width` columns, `(B, W)`; a stable sort, so that equal scores keep column order on every machine."""
    order = flat.sort(dim=1, descending=True, stable=True)
    return order.values[:, :width], order.indices[:, :width]


def _best_left_out(flat: Tensor, chosen: Tensor) -> Tensor:
    """`(B,)`: the best score that was not chosen."""
    return flat.scatter(1, chosen, -torch.inf).amax(1)


def _expand(trie: Trie, leaves: Tensor, scores: Tensor, k: int, mask: NodeMask, best_cut: Tensor) -> ScoredItems:
    """Leaves to items: buckets in fixed order, closed items dropped, the first k kept."""
    first_leaf = trie.level_start[-2]
    alive = scores > -torch.inf
    rows, valid = trie.items(torch.where(alive, leaves, first_leaf))  # (B, W, S)
    valid = valid & alive[..., None] & mask.open_items(rows)
    spread = scores[..., None].expand(rows.shape).masked_fill(~valid, -torch.inf).flatten(1)
    rows = rows.masked_fill(~valid, -1).flatten(1)
    if spread.shape[1] < k:
        missing = k - spread.shape[1]
        spread = torch.nn.functional.pad(spread, (0, missing), value=-torch.inf)
        rows = torch.nn.functional.pad(rows, (0, missing), value=-1)
    best = spread.sort(dim=1, descending=True, stable=True)
    top_scores, top_rows = best.values[:, :k], rows.gather(1, best.indices[:, :k])
    exact = (top_scores[:, -1] >= best_cut) | (best_cut == -torch.inf)
    return ScoredItems(top_rows.int().cpu().numpy(), top_scores.float().cpu().numpy(), exact.cpu().numpy())
