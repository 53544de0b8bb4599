"""Other scores of the items are mixed in exactly: the fused list is that of adding both for every item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from brute_force import brute_force
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import TinyWorld, make_tiny_world

from llmrec.engines.bias import ItemBias
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import DecodingError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.trie import Trie
from llmrec.types import Ragged

PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 50),
    weight=st.sampled_from([0.0, 0.3, 1.0, 4.0]),
    each_user=st.booleans(),
    normalize=st.sampled_from(["codebook", "children", "vocab"]),
    beams=st.integers(1, 20),
    data=st.data(),
)
def test_a_fused_list_is_that_of_the_summed_scores(
    seed: int, weight: float, each_user: bool, normalize: str, beams: int, data: st.DataObject
) -> None:
    world = make_tiny_world(16, (4, 3, 4), seed)
    rng = np.random.default_rng(seed)
    other = rng.normal(size=(len(PROMPTS), 16) if each_user else 16).astype(np.float32) * 3
    excluded = Ragged.from_lists([np.array(sorted(data.draw(st.sets(st.integers(0, 15)))), np.int32) for _ in PROMPTS])
    k = data.draw(st.integers(1, 16))
    found = TransformersEngine(world.model, world.items).decode(
        PROMPTS, k, beams, normalize, excluded, bias=ItemBias(other, weight)
    )
    for user, prompt in enumerate(PROMPTS):
        expected = brute_force(world, prompt, normalize) + weight * log_softmax(other[user] if each_user else other)
        expected[excluded[user]] = -np.inf
        rows = found.rows[user][found.rows[user] >= 0]
        np.testing.assert_allclose(found.scores[user][: len(rows)], expected[rows], atol=5e-4)
        if found.exact[user] or beams >= 16:
            best = np.sort(expected[expected > -np.inf])[::-1][:k]
            np.testing.assert_allclose(found.scores[user][: len(best)], best, atol=5e-4)


def test_weight_zero_changes_nothing(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    plain = engine.decode(PROMPTS, 5, 3)
    other = ItemBias(np.linspace(-9, 9, 20).astype(np.float32), 0.0)
    fused = engine.decode(PROMPTS, 5, 3, bias=other)
    np.testing.assert_array_equal(plain.rows, fused.rows)
    np.testing.assert_array_equal(plain.scores, fused.scores)


def test_it_leads_the_beams_not_only_the_last_step(tiny_world: TinyWorld) -> None:
    """With one beam the favourite is found, though the model alone would not enter its prefix."""
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    worst = int(np.argmin(brute_force(tiny_world, PROMPTS[0], "codebook")))
    other = np.zeros(20, np.float32)
    other[worst] = 50
    assert engine.decode(PROMPTS[:1], 1, 1).rows[0, 0] != worst
    assert engine.decode(PROMPTS[:1], 1, 1, bias=ItemBias(other)).rows[0, 0] == worst


def test_minus_infinity_is_never(tiny_world: TinyWorld) -> None:
    other = np.full(20, -np.inf, np.float32)
    other[[3, 7]] = 0
    found = TransformersEngine(tiny_world.model, tiny_world.items).decode(PROMPTS, 5, 5, bias=ItemBias(other, 0.5))
    assert {tuple(sorted(rows)) for rows in found.rows.tolist()} == {(-1, -1, -1, 3, 7)}


@pytest.mark.parametrize(
    "codes",
    [
        [[0, 1], [0, 2], [1, 0], [1, 0]],  # a bucket
        [[0, 1, 2], [0, 1, 3], [1, END, END], [2, 0, END]],  # codes of different lengths
    ],
)
def test_a_node_is_worth_the_items_below_it(codes: list[list[int]]) -> None:
    array = np.array(codes, np.int32)
    trie = Trie.of(ItemIndex(array, (4,) * array.shape[1]))
    scores = np.array([0.5, -1, 2, 0.1], np.float32)
    worth = ItemBias(scores, 2.0).on(trie, 1)
    assert worth is not None
    for node in range(len(trie.code)):
        start, end = trie.item_range(torch.tensor(node))
        rows = trie.item_rows[int(start) : int(end)].numpy()
        below = np.logaddexp.reduce(log_softmax(scores)[rows])
        assert float(worth.values[0, node]) == pytest.approx(2 * below, abs=1e-5)


def test_scores_that_cannot_be_mixed_are_refused(tiny_world: TinyWorld, tmp_path: Path) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    with pytest.raises(DecodingError, match="weight"):
        ItemBias(np.zeros(20, np.float32), -1)
    with pytest.raises(DecodingError, match="NaN"):
        ItemBias(np.full(20, np.nan, np.float32))
    with pytest.raises(DecodingError, match=r"shape \(19,\).*\(20,\)"):
        engine.decode(PROMPTS, 2, 2, bias=ItemBias(np.zeros(19, np.float32)))
