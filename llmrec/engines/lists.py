"""The best lists of several items: a beam search whose trie starts again after every item.

    found = decode_lists(engine, prompts, lists=3, length=5, beams=20)

A list is written as its items' codes one after another, so `log p(list)` is the sum over its items, each after the
prompt and the items before it: what comes into a list depends on what stands in it already. No item comes twice. Lists
are compared item by item: after each, the best `beams` of a user's lists go on.

What follows from a prefix never scores above it, here too: if nothing that was dropped, at any item, scored above the
n-th list found, then these are the n best of all ordered lists (see `llmrec.engines.beam`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llmrec.engines.base import Engine, ListStepper, Normalize
from llmrec.engines.list_beams import Found, Lists, Walk, left_out, top
from llmrec.engines.mask import AllowedItems, NodeMask
from llmrec.engines.top_k import check_request
from llmrec.errors import DecodingError
from llmrec.indexes.trie import Trie
from llmrec.types import Ragged, Rows, ScoredLists


def decode_lists(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    lists: int,
    length: int,
    beams: int,
    normalize: Normalize = "codebook",
    excluded: Ragged | None = None,
    candidates: Rows | Ragged | AllowedItems | None = None,
) -> ScoredLists:
    """The best lists after each prompt.

    Args:
        prompts: `B` lists of token ids, none empty. lists: how many are wanted. length: items of each.
        beams: lists kept after each item, and prefixes of their next items at each level; at least `lists` are.
        normalize, excluded, candidates: see `Engine.decode`.

    Returns:
        Lists of different items, shorter where fewer are allowed. Two of them may hold the same items in another order.

    Raises:
        DecodingError: a prompt is empty, a number is not allowed, or the model cannot be decoded so far.
    """
    check_request(prompts, lists, beams, excluded, candidates)
    if length < 1:
        raise DecodingError(f"length is {length}. Ask for lists of at least one item.")
    if not prompts:
        return ScoredLists(np.empty((0, lists, length), np.int32), np.empty((0, lists), np.float32), np.empty(0, bool))
    if isinstance(candidates, np.ndarray):
        candidates = engine.allow(candidates)
    mask = NodeMask.of(engine.trie, engine.item_tokenizer.index.codes, excluded, candidates)
    with engine.list_stepper(prompts, length, normalize) as stepper:
        return search(engine.trie, stepper, len(prompts), lists, length, max(beams, lists), mask)


def search(
    trie: Trie, stepper: ListStepper, users: int, lists: int, length: int, beams: int, mask: NodeMask
) -> ScoredLists:
    """See `decode_lists`.

    Args:
        users: `B`. beams: at least `lists`. mask: the nodes and items each user may reach.
    """
    walk = Walk(trie, stepper)
    best_cut = torch.full((users,), -torch.inf, device=trie.code.device)
    found = Lists.empty(users, trie.code.device)
    for place in range(length):
        found, cut = _longer(walk, found, mask, beams, lists if place == length - 1 else beams)
        best_cut = torch.maximum(best_cut, cut)
    scores = found.scores.masked_fill(found.rows[..., 0] < 0, -torch.inf)
    rows = found.rows.masked_fill((scores == -torch.inf)[..., None], -1)
    exact = (scores[:, -1] >= best_cut) | (best_cut == -torch.inf)
    return ScoredLists(rows.int().cpu().numpy(), scores.float().cpu().numpy(), exact.cpu().numpy())


def _longer(walk: Walk, lists: Lists, mask: NodeMask, width: int, keep: int) -> tuple[Lists, Tensor]:
    """The best `keep` lists with one more item, and `(B,)`, the best score of what was dropped on the way.

    Args:
        width: prefixes kept at each level.
    """
    trie, full = walk.trie, lists.full_nodes(walk.trie, mask)
    found = Found.none(len(lists.scores), keep, full.device)
    beams, best_cut = walk.begin(lists), torch.full_like(lists.scores[:, 0], -torch.inf)
    while True:
        totals, nodes = beams.totals(trie, mask, full), beams.children.flatten(1)
        complete = trie.is_leaf(nodes)
        if bool(complete.any()):
            ended = totals.masked_fill(~complete, -torch.inf)
            found, cut = found.best_with(nodes, ended, beams, lists, trie, mask)
            best_cut, totals = torch.maximum(best_cut, cut), totals.masked_fill(complete, -torch.inf)
        # Nothing behind a prefix scores above it, so one that is not above the last list found has no chance left.
        hopeless = totals <= found.scores[:, -1:]
        best_cut = torch.maximum(best_cut, totals.masked_fill(~hopeless, -torch.inf).amax(1))
        totals = totals.masked_fill(hopeless, -torch.inf)
        going_on = int((totals > -torch.inf).sum(1).max())
        if not going_on:
            return lists.with_next(found), best_cut
        chosen = top(totals, min(width, going_on))
        best_cut = torch.maximum(best_cut, left_out(totals, chosen))
        beams = walk.go_on(beams, chosen, totals.gather(1, chosen))
