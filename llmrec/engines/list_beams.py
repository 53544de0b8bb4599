"""What the search for lists keeps: lists so far, prefixes of their next items, and the longer lists found.

Every user's are a row of tensors; `llmrec.engines.lists` has the search itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from llmrec.engines.base import ListStepper
from llmrec.engines.mask import NodeMask
from llmrec.indexes.trie import ROOT, Trie


@dataclass(frozen=True)
class Lists:
    """Lists of `j` items, `W` for each user, best first.

    Args:
        scores: `float32[B, W]`, -inf where there is no list. rows: `int64[B, W, j]`, -1 behind the end of a list that
            found no further item. leaves: `int64[B, W, j]`, where the items' codes end, -1 likewise.
        behind: `int64[B, W]`, the number (see `ListStepper`) of what the last leaf stands behind.
    """

    scores: Tensor
    rows: Tensor
    leaves: Tensor
    behind: Tensor

    @classmethod
    def empty(cls, users: int, device: torch.device) -> Lists:
        """One list without an item for each user."""
        nothing = torch.empty(users, 1, 0, dtype=torch.int64, device=device)
        return cls(torch.zeros(users, 1, device=device), nothing, nothing, torch.full_like(nothing.sum(-1), -1))

    def full_nodes(self, trie: Trie, mask: NodeMask) -> Tensor:
        """`int64[B, W, j * L]`: nodes below which every open item is in the list already; -1 for others."""
        here, ways = self.leaves.clamp(min=ROOT), []
        for _ in range(trie.depth):
            ways.append(here)
            here = torch.where(here > ROOT, trie.parents(here), ROOT)
        nodes = torch.cat(ways, -1)
        held = (nodes[..., None] == nodes[..., None, :]).sum(-1)  # a node stands once on the way to each item below it
        return nodes.masked_fill((nodes == ROOT) | (held < mask.open_counts(nodes)), -1)

    def with_next(self, found: Found) -> Lists:
        """Each found list is one of these and one more item; a user for whom there is none keeps these as they are."""
        width = found.scores.shape[1]
        stays = found.scores[:, :1] == -torch.inf

        def grown(mine: Tensor, new: Tensor) -> Tensor:  # (B, W, j), (B, width)
            longer = mine.gather(1, found.owner[..., None].expand(-1, -1, mine.shape[2]))
            kept = pad(mine, (0, 0, 0, width), value=-1)[:, :width]
            return torch.cat([torch.where(stays[..., None], kept, longer), new.masked_fill(stays, -1)[..., None]], -1)

        kept_scores = pad(self.scores, (0, width), value=-torch.inf)[:, :width]
        scores = torch.where(stays, kept_scores, found.scores)
        return Lists(scores, grown(self.rows, found.rows), grown(self.leaves, found.leaves), found.behind)


class Walk:
    """A stepper, and how much it was fed: it tells the numbers."""

    def __init__(self, trie: Trie, stepper: ListStepper) -> None:
        self.trie, self.stepper, self.fed = trie, stepper, 0

    def begin(self, lists: Lists) -> Beams:
        """The first level of the items that may come next."""
        alive = lists.scores > -torch.inf
        if lists.leaves.shape[2]:
            alive = alive & (lists.leaves[..., -1] >= 0)
        root = torch.full_like(lists.behind, ROOT)
        children, real = self.trie.children(root)
        real = real & alive[..., None]
        owner = torch.arange(root.shape[1], device=root.device).expand_as(root)
        if not lists.leaves.shape[2]:
            return Beams(lists.scores, owner, lists.behind, root, children, real, self.stepper.first(children, real))
        log_p = self.stepper.extend(lists.leaves[..., -1].clamp(min=ROOT), lists.behind, alive, children, real)
        return Beams(lists.scores, owner, self._numbers(root), root, children, real, log_p)

    def go_on(self, beams: Beams, chosen: Tensor, scores: Tensor) -> Beams:
        """The level below the chosen children, `int64[B, K]` in `beams.children` laid flat, of these scores."""
        alive, parent = scores > -torch.inf, chosen // beams.children.shape[2]
        nodes = beams.children.flatten(1).gather(1, chosen).masked_fill(~alive, ROOT)
        children, real = self.trie.children(nodes)
        real = real & alive[..., None]
        log_p = self.stepper.extend(nodes, beams.number.gather(1, parent), alive, children, real)
        return Beams(scores, beams.owner.gather(1, parent), self._numbers(nodes), nodes, children, real, log_p)

    def _numbers(self, nodes: Tensor) -> Tensor:
        numbers = torch.arange(self.fed, self.fed + nodes.shape[1], device=nodes.device).expand_as(nodes)
        self.fed += nodes.shape[1]
        return numbers


@dataclass(frozen=True)
class Beams:
    """Prefixes of next items.

    Args:
        scores: `float32[B, K]`. owner: `int64[B, K]`, which list each goes on with. number: `int64[B, K]`, by which the
            stepper knows it. nodes: `int64[B, K]`.
        children: `int64[B, K, C]`, the nodes below, `real`: `bool[B, K, C]` and `log_p`: `float32[B, K, C]` of each.
    """

    scores: Tensor
    owner: Tensor
    number: Tensor
    nodes: Tensor
    children: Tensor
    real: Tensor
    log_p: Tensor

    def totals(self, trie: Trie, mask: NodeMask, full: Tensor) -> Tensor:
        """`float32[B, K * C]`: the score of each child, -inf where it is closed.

        Args:
            full: `Lists.full_nodes`.
        """
        full = full.gather(1, self.owner[..., None].expand(-1, -1, full.shape[2]))  # (B, K, n)
        start, end = (bound[..., None] for bound in trie.child_range(self.nodes))
        width = self.children.shape[2]
        place = torch.where((start <= full) & (full < end), full - start, width)
        is_full = torch.zeros_like(pad(self.real, (0, 1))).scatter_(2, place, True)[..., :width]
        is_open = self.real & mask.open_nodes(self.children) & ~is_full
        return (self.scores[..., None] + self.log_p).masked_fill(~is_open, -torch.inf).flatten(1)


@dataclass(frozen=True)
class Found:
    """Lists with one more item, the best so far of each user: `[B, n]` each, as `Lists` and `Beams` have them."""

    scores: Tensor
    owner: Tensor
    leaves: Tensor
    rows: Tensor
    behind: Tensor

    @classmethod
    def none(cls, users: int, width: int, device: torch.device) -> Found:
        """Nothing yet."""
        empty = torch.zeros(users, width, dtype=torch.int64, device=device)
        return cls(torch.full((users, width), -torch.inf, device=device), empty, empty, empty, empty - 1)

    def best_with(
        self, leaves: Tensor, scores: Tensor, beams: Beams, lists: Lists, trie: Trie, mask: NodeMask
    ) -> tuple[Found, Tensor]:
        """With more leaves `int64[B, K * C]`, -inf where one does not count; and `(B,)`, the best score left out."""
        width = self.scores.shape[1]
        chosen = top(scores, width)
        parent, alive = chosen // beams.children.shape[2], scores.gather(1, chosen) > -torch.inf
        owner = beams.owner.gather(1, parent)
        rows, real = trie.items(torch.where(alive, leaves.gather(1, chosen), len(trie.code) - 1))  # (B, n, S)
        held = lists.rows.gather(1, owner[..., None].expand(-1, -1, lists.rows.shape[2]))  # (B, n, j)
        real = real & alive[..., None] & mask.open_items(rows) & ~(rows[..., None] == held[..., None, :]).any(-1)

        def each(of_leaf: Tensor) -> Tensor:
            return of_leaf[..., None].expand(rows.shape).flatten(1)

        new = Found(
            each(scores.gather(1, chosen)).masked_fill(~real.flatten(1), -torch.inf),
            each(owner),
            each(leaves.gather(1, chosen)),
            rows.flatten(1),
            each(beams.number.gather(1, parent)),
        )
        both = [torch.cat(pair, 1) for pair in zip(vars(self).values(), vars(new).values(), strict=True)]
        best = top(both[0], width)
        cut = torch.maximum(left_out(scores, chosen), left_out(both[0], best))
        return Found(*(part.gather(1, best) for part in both)), cut


def top(scores: Tensor, width: int) -> Tensor:
    """The best `width` columns, `int64[B, W]`; a stable sort: equal scores keep column order on every machine."""
    return scores.argsort(dim=1, descending=True, stable=True)[:, :width]


def left_out(scores: Tensor, chosen: Tensor) -> Tensor:
    """`(B,)`: the best score that was not chosen."""
    return scores.scatter(1, chosen, -torch.inf).amax(1)
