"""Draw items from a model's distribution, level by level, among the items that are open.

A step is what a served language model does under the logits processor: the log-probabilities of what may follow are
divided by the temperature, renormalised, cut off by `top_p`, and one is drawn. What a level's log-softmax runs over
(`Normalize`) therefore changes no draw.

All randomness of a prompt is drawn beforehand from its own generator. Its items depend on its seed and not on the other
prompts of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.engines.base import Engine, Normalize, Stepper
from llmrec.engines.distinct import distinct_nodes
from llmrec.engines.mask import AllowedItems, NodeMask
from llmrec.engines.top_k import check_lists
from llmrec.errors import DecodingError
from llmrec.indexes.trie import ROOT, Trie
from llmrec.types import Ragged, Rows

LEAST = -1e30
"""In place of NaN and -inf at a node that is open: whatever the model says, an open one is drawn."""


def sample(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    draws: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seeds: Sequence[int | None] | None = None,
    excluded: Ragged | None = None,
    candidates: Rows | Ragged | AllowedItems | None = None,
    beams: int = 20,
    normalize: Normalize = "codebook",
) -> NDArray[np.int32]:
    """Items as a model would write them.

    Args:
        prompts: `B` lists of token ids, none empty. draws: items for each, with replacement.
        temperature: log-probabilities of a step are divided by it; 0 gives the best item, by a search.
        top_p: of what may follow, only the most probable that together reach this share are drawn from.
        seeds: one for each prompt; None draws other items every time.
        excluded, candidates: see `Engine.decode`.
        beams, normalize: of the search at temperature 0; with at least as many beams as items it is exact.

    Returns:
        `int32[B, draws]` item rows; -1 where nothing is open. Of items that share a code each is as likely.

    Raises:
        DecodingError: a prompt is empty, or a number is not allowed.
    """
    _check(len(prompts), draws, temperature, top_p, seeds)
    if temperature == 0:
        best = engine.decode(prompts, 1, beams, normalize, excluded, candidates)
        return np.repeat(best.rows, draws, axis=1)
    check_lists(len(prompts), excluded=excluded, candidates=candidates)
    if not prompts:
        return np.empty((0, draws), np.int32)
    trie = engine.trie
    if isinstance(candidates, np.ndarray):
        candidates = engine.allow(candidates)
    mask = NodeMask.of(trie, engine.item_tokenizer.index.codes, excluded, candidates)
    chances = _chances(seeds or [None] * len(prompts), draws, trie.depth + 1).to(trie.code.device)
    with engine.stepper(prompts, "children") as stepper:  # the kind that is cheapest where only one node may follow
        leaves = _leaves(trie, stepper, mask, chances, temperature, top_p)
        return _items(trie, mask, leaves, chances[..., -1]).int().cpu().numpy()


def _leaves(trie: Trie, stepper: Stepper, mask: NodeMask, chances: Tensor, temperature: float, top_p: float) -> Tensor:
    """The ends of the drawn codes, `int64[B, n]`, the root where nothing is open.

    Args:
        chances: `float64[B, n, levels or more]` in [0, 1), one for each step.
    """
    here = torch.full(chances.shape[:2], ROOT, dtype=torch.int64, device=chances.device)
    goes_on, nobody = torch.ones_like(here, dtype=torch.bool), len(trie.code)
    # Nodes of each user, (B, T): draws that took the same way are at the same node, which is fed once.
    nodes = torch.full_like(here[:, :1], ROOT)
    children, real = trie.children(nodes)
    log_p = stepper.first(children, real)
    for level in range(trie.depth):
        is_open = real & mask.open_nodes(children)  # (B, T, C)
        at = torch.searchsorted(nodes, here).clamp(max=nodes.shape[1] - 1)[..., None].expand(-1, -1, real.shape[2])
        chosen = _drawn(_weights(log_p, is_open, temperature, top_p).gather(1, at), chances[..., level])  # (B, n)
        goes_on &= is_open.gather(1, at).any(-1)
        here = torch.where(goes_on, children.gather(1, at).gather(2, chosen[..., None]).squeeze(2), here)
        stops = trie.run_end(here)  # a single way to a leaf is certain
        here = torch.where(goes_on & trie.is_leaf(stops), stops, here)
        goes_on &= ~trie.is_leaf(here)
        if not bool(goes_on.any()):
            break
        nodes = distinct_nodes(here.masked_fill(~goes_on, ROOT), nobody)
        children, real = trie.children(nodes)
        log_p = stepper.extend(nodes.masked_fill(nodes == nobody, ROOT), nodes < nobody, children, real)
    return here


def _weights(log_p: Tensor, is_open: Tensor, temperature: float, top_p: float) -> Tensor:
    """`float64[..., C]`: how likely each child is, 0 for closed ones; rows need not add up to 1."""
    said = log_p.double().nan_to_num(nan=LEAST, neginf=LEAST).masked_fill(~is_open, -torch.inf)
    weights = ((said - said.amax(-1, keepdim=True)) / temperature).exp().nan_to_num(nan=0.0)  # NaN: nothing is open
    if top_p >= 1:
        return weights
    ordered, order = weights.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    enough = before >= top_p * ordered.sum(-1, keepdim=True)
    return weights.masked_fill(enough.gather(-1, order.argsort(-1)), 0.0)


def _drawn(weights: Tensor, chances: Tensor) -> Tensor:
    """`int64[B, n]`: a column of each row of weights `[B, n, C]`, by a number `[B, n]` in [0, 1).

    Never one of weight 0, unless all are.
    """
    sums = weights.cumsum(-1)
    total = sums[..., -1:]
    target = torch.minimum(chances[..., None] * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(sums, target, right=True).squeeze(-1).clamp(max=weights.shape[-1] - 1)


def _items(trie: Trie, mask: NodeMask, leaves: Tensor, chances: Tensor) -> Tensor:
    """`int64[B, n]`: an open item of each leaf, -1 at the root."""
    ended = trie.is_leaf(leaves)
    rows, real = trie.items(torch.where(ended, leaves, len(trie.code) - 1))  # (B, n, S)
    weights = (real & mask.open_items(rows)).double()
    return torch.where(ended, rows.gather(-1, _drawn(weights, chances)[..., None]).squeeze(-1), -1)


def _chances(seeds: Sequence[int | None], draws: int, steps: int) -> Tensor:
    """`float64[B, n, steps]` in [0, 1), of each prompt from its own seed."""
    found = []
    for seed in seeds:
        generator = torch.Generator()
        _ = generator.seed() if seed is None else generator.manual_seed(seed % 2**63)
        found.append(torch.rand(draws, steps, dtype=torch.float64, generator=generator))
    return torch.stack(found)


def _check(users: int, draws: int, temperature: float, top_p: float, seeds: Sequence[int | None] | None) -> None:
    if draws < 1:
        raise DecodingError(f"draws is {draws}; give at least 1.")
    if not 0 <= temperature < np.inf:
        raise DecodingError(f"the temperature is {temperature}; give a finite number from 0 on.")
    if not 0 < top_p <= 1:
        raise DecodingError(f"top_p is {top_p}; give a number above 0, at most 1.")
    if seeds is not None and len(seeds) != users:
        raise DecodingError(f"there are {len(seeds)} seeds for {users} prompts. Give one for each.")
