"""Beam search over the trie. It knows nodes and log-probabilities, no model and no tokens.

The score of a code is the sum of its levels' log-probabilities, so a prefix is never worse than what follows from it.
That gives a proof: if no prefix that was cut scored above the k-th item found, the list is the true top k.

Codes may differ in length. A code that is complete leaves the beams for the list of found items, and a run (see
`llmrec.indexes.trie`) is followed to its end in one step, whatever its length. Where all codes are equally long, beams
are compared level by level, as in every other beam search; following runs there would save no pass, because other beams
need every level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmrec.engines.base import Normalize, Stepper
from llmrec.engines.bias import NodeBias
from llmrec.engines.mask import NodeMask
from llmrec.indexes.trie import ROOT, Trie
from llmrec.types import ScoredItems


@dataclass(frozen=True)
class Ranking:
    """How scores are compared.

    Args:
        normalize: what a level's log-softmax runs over. length_penalty: a code of `n` levels is ranked by its
            log-probability over `n ** length_penalty`, as in `transformers`; 0 is the plain log-probability.
    """

    normalize: Normalize = "codebook"
    length_penalty: float = 0.0

    def keys(self, scores: Tensor, lengths: Tensor | int) -> Tensor:
        """What `scores` are ranked by, given the number of levels behind each."""
        if not self.length_penalty:
            return scores
        return scores / torch.as_tensor(lengths, device=scores.device).clamp(min=1) ** self.length_penalty


def search(
    trie: Trie,
    stepper: Stepper,
    users: int,
    k: int,
    beams: int,
    ranking: Ranking,
    mask: NodeMask,
    bias: NodeBias | None = None,
) -> ScoredItems:
    """The best k items of each user.

    Args:
        trie: the valid codes. stepper: the model. users: `B`. beams: incomplete prefixes kept, at least 1.
        ranking: how scores are compared. mask: the nodes and items each user may reach.
        bias: what nodes add to a score. It is the same for all nodes of a run, since the same items are below them.
    """
    device = trie.code.device
    found = Found.none(users, k, device)
    best_cut = torch.full((users,), -torch.inf, device=device)
    scores = torch.zeros(users, 1, device=device)
    children, real = trie.children(torch.full((users, 1), ROOT, dtype=torch.int64, device=device))
    log_p = stepper.first(children, real)
    longest_run = 0 if trie.equal_lengths and ranking.normalize != "children" else trie.longest_run
    while True:
        nodes = children.flatten(1)  # (B, K * C)
        is_open = (real & mask.open_nodes(children)).flatten(1)
        said_so_far = (scores[..., None] + log_p).flatten(1)
        totals = said_so_far if bias is None else said_so_far + bias.at(nodes)
        totals = totals.masked_fill(~is_open, -torch.inf)
        # A leaf is complete, and so is a run to a leaf where what can only go on one way costs nothing.
        stops = trie.run_end(nodes) if ranking.normalize == "children" else nodes
        complete = trie.is_leaf(stops)
        if bool(complete.any()):
            found = found.best_with(stops, totals.masked_fill(~complete, -torch.inf), trie, ranking)
            totals = totals.masked_fill(complete, -torch.inf)
        # Nothing behind a prefix scores above it, so one that is not above the k-th item found has no chance left.
        totals = totals.masked_fill(ranking.keys(totals, trie.depth) <= found.last[:, None], -torch.inf)
        if not bool((totals > -torch.inf).any()):
            return found.items(trie, mask, best_cut)
        chosen = _top(ranking.keys(totals, trie.depths(nodes)), beams)
        best_cut = torch.maximum(best_cut, ranking.keys(_left_out(totals, chosen), trie.depth))
        kept = totals.gather(1, chosen) > -torch.inf  # (B, K)
        scores = said_so_far.gather(1, chosen)
        steps = _steps(trie, nodes.gather(1, chosen).masked_fill(~kept, ROOT), kept, longest_run)
        below, is_child = trie.children(steps.nodes)  # (B, T, C)
        said = stepper.extend(steps.nodes, steps.fed, below, is_child)
        # Along a run there is one child, whose log-probability is added; the last node fed has the next choices.
        forced = said[..., 0].masked_fill(~steps.fed | steps.last, 0.0)  # (B, T)
        scores = scores.scatter_add(1, steps.beam, forced)
        at = steps.last_of_beam[..., None].expand(-1, -1, below.shape[-1])  # (B, K, C)
        children, log_p = below.gather(1, at), said.gather(1, at)
        real = is_child.gather(1, at) & kept[..., None]


@dataclass(frozen=True)
class Steps:
    """What is fed for the kept beams: of each its node and the run behind it, packed to the left.

    Args:
        nodes: `int64[B, T]`. fed: `bool[B, T]`, false on padding. beam: `int64[B, T]`, whose each is.
        last: `bool[B, T]`, whether it is the last of its beam. last_of_beam: `int64[B, K]`, where that stands.
    """

    nodes: Tensor
    fed: Tensor
    beam: Tensor
    last: Tensor
    last_of_beam: Tensor


def _steps(trie: Trie, nodes: Tensor, kept: Tensor, longest_run: int) -> Steps:
    """The nodes `int64[B, K]` with their runs; a leaf at the end of a run need not be fed, only scored."""
    chain, valid, here = [nodes], [kept], nodes
    for _ in range(longest_run):
        start, end = trie.child_range(here)
        goes_on = valid[-1] & (end - start == 1)
        here = torch.where(goes_on, start, here)
        goes_on = goes_on & ~trie.is_leaf(here)
        if not bool(goes_on.any()):
            break
        chain.append(here)
        valid.append(goes_on)
    grid, on = torch.stack(chain, -1), torch.stack(valid, -1)  # (B, K, R)
    lengths = on.sum(-1)  # (B, K)
    flat_on = on.flatten(1)
    order = (~flat_on).int().argsort(dim=1, stable=True)[:, : int(lengths.sum(1).max())]
    fed = flat_on.gather(1, order)
    ends = lengths.cumsum(1) - 1  # (B, K), where each beam's last node stands
    beam = (order // grid.shape[-1]).masked_fill(~fed, 0)
    places = torch.arange(order.shape[1], device=nodes.device).expand(len(nodes), -1)
    last = fed & (ends.gather(1, beam) == places)
    packed = grid.flatten(1).gather(1, order).masked_fill(~fed, ROOT)
    return Steps(packed, fed, beam, last, ends.clamp(min=0))


@dataclass(frozen=True)
class Found:
    """Complete codes so far, the best `k` of each user.

    Args:
        leaves: `int64[B, k]`. keys: `float32[B, k]`, what they are ranked by, -inf where there is none.
    """

    leaves: Tensor
    keys: Tensor

    @classmethod
    def none(cls, users: int, k: int, device: torch.device) -> Found:
        """Nothing yet."""
        return cls(
            torch.full((users, k), ROOT, dtype=torch.int64, device=device),
            torch.full((users, k), -torch.inf, device=device),
        )

    @property
    def last(self) -> Tensor:
        """`float32[B]`: the k-th best, -inf while there are fewer."""
        return self.keys[:, -1]

    def best_with(self, leaves: Tensor, scores: Tensor, trie: Trie, ranking: Ranking) -> Found:
        """With more leaves `int64[B, n]` and their scores, -inf where one does not count; ties go by node number."""
        k = self.leaves.shape[1]
        new = ranking.keys(scores, trie.depths(leaves))
        if new.shape[1] > k:  # few of the many children; equal ones in the order of the trie
            best = _top(new, k)
            leaves, new = leaves.gather(1, best), new.gather(1, best)
        leaves, keys = torch.cat([self.leaves, leaves], 1), torch.cat([self.keys, new], 1)
        order = leaves.argsort(dim=1, stable=True)
        order = order.gather(1, _top(keys.gather(1, order), k))
        return Found(leaves.gather(1, order), keys.gather(1, order))

    def items(self, trie: Trie, mask: NodeMask, best_cut: Tensor) -> ScoredItems:
        """Leaves to items: buckets in fixed order, closed items dropped, the first k kept."""
        k, alive = self.leaves.shape[1], self.keys > -torch.inf
        rows, valid = trie.items(torch.where(alive, self.leaves, len(trie.code) - 1))  # (B, k, S)
        valid = valid & alive[..., None] & mask.open_items(rows)
        spread = self.keys[..., None].expand(rows.shape).masked_fill(~valid, -torch.inf).flatten(1)
        rows = rows.masked_fill(~valid, -1).flatten(1)
        best = _top(spread, k)
        top_scores, top_rows = spread.gather(1, best), rows.gather(1, best)
        exact = (top_scores[:, -1] >= best_cut) | (best_cut == -torch.inf)
        return ScoredItems(top_rows.int().cpu().numpy(), top_scores.float().cpu().numpy(), exact.cpu().numpy())


def _top(keys: Tensor, width: int) -> Tensor:
    """The best `width` columns, `int64[B, W]`; a stable sort: equal keys keep column order on every machine."""
    return keys.argsort(dim=1, descending=True, stable=True)[:, :width]


def _left_out(totals: Tensor, chosen: Tensor) -> Tensor:
    """`(B,)`: the best score that was not chosen."""
    return totals.scatter(1, chosen, -torch.inf).amax(1)
