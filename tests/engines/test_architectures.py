"""On every architecture: what decoding finds is what one plain forward pass an item says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import make_model
from brute_force import brute_force
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import TinyWorld, make_tiny_world

from llmrec.engines.transformers import TransformersEngine
from llmrec.types import Ragged

TOLERANCE = 1e-4  # nats; float32

PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]
NORMALIZE = ["codebook", "children", "vocab"]
EVERYWHERE = ["llama", "qwen3", "gemma", "gemma3_text", "mistral", "gpt_neox", "gpt2"]
# Gemma 2 caps its attention, which only eager attention does.
CASES = [(kind, attention) for kind in EVERYWHERE for attention in ("sdpa", "eager")] + [("gemma2", "eager")]
RELATIVES = ["qwen2", "smollm3", "granite", "cohere", "olmo3", "phi", "phi3", "opt", "qwen3_moe", "mixtral"]


def world_of(kind: str, attention: str, world: TinyWorld, seed: int = 0, **changes: object) -> TinyWorld:
    """The same items with a model of another architecture."""
    return world._replace(model=make_model(kind, len(world.items.tokenizer), seed, attention, **changes))


def assert_equals_brute_force(world: TinyWorld, normalize: str, tolerance: float = TOLERANCE) -> None:
    """All items, in order, from all ragged prompts at once."""
    count = len(world.index)
    found = TransformersEngine(world.model, world.items).decode(PROMPTS, count, count, normalize)
    assert found.exact.all()
    for user, prompt in enumerate(PROMPTS):
        expected = brute_force(world, prompt, normalize)
        assert sorted(found.rows[user].tolist()) == list(range(count))
        np.testing.assert_allclose(found.scores[user], expected[found.rows[user]], atol=tolerance)
        np.testing.assert_allclose(found.scores[user], np.sort(expected)[::-1], atol=tolerance)


@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize(("kind", "attention"), CASES)
def test_it_equals_brute_force(tiny_world: TinyWorld, kind: str, attention: str, normalize: str) -> None:
    assert_equals_brute_force(world_of(kind, attention, tiny_world), normalize)


@pytest.mark.parametrize("kind", RELATIVES)
def test_relatives_do_too(tiny_world: TinyWorld, kind: str) -> None:
    assert_equals_brute_force(world_of(kind, "sdpa", tiny_world), "vocab")


def test_so_do_attention_sinks(tiny_world: TinyWorld) -> None:
    assert_equals_brute_force(world_of("gpt_oss", "eager", tiny_world), "vocab")


@pytest.mark.parametrize(("kind", "attention"), CASES)
@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 50),
    item_count=st.integers(1, 16),
    sizes=st.lists(st.integers(3, 5), min_size=1, max_size=4).map(tuple),
    beams=st.integers(1, 6),
    normalize=st.sampled_from(NORMALIZE),
    data=st.data(),
)
def test_any_trie_any_mask(
    kind: str,
    attention: str,
    seed: int,
    item_count: int,
    sizes: tuple[int, ...],
    beams: int,
    normalize: str,
    data: st.DataObject,
) -> None:
    plain = make_tiny_world(min(item_count, int(np.prod(sizes))), sizes, seed)
    world, count = world_of(kind, attention, plain, seed), len(plain.index)
    rows = st.lists(st.integers(0, count - 1), max_size=count)
    excluded = [np.array(data.draw(rows), np.int32) for _ in PROMPTS]
    candidates = data.draw(st.none() | rows.map(lambda chosen: np.unique(np.array(chosen, np.int32))))
    k = data.draw(st.integers(1, count + 2))
    closed = Ragged.from_lists(excluded)
    engine = TransformersEngine(world.model, world.items)
    few = engine.decode(PROMPTS, k, beams, normalize, closed, candidates)
    all_of_them = engine.decode(PROMPTS, k, count, normalize, closed, candidates)
    assert all_of_them.exact.all()
    for user, prompt in enumerate(PROMPTS):
        allowed = set(range(count) if candidates is None else candidates.tolist()) - set(excluded[user].tolist())
        expected = brute_force(world, prompt, normalize)
        best = sorted((expected[row] for row in allowed), reverse=True)[:k]
        np.testing.assert_allclose(all_of_them.scores[user, : len(best)], best, atol=TOLERANCE)
        assert (all_of_them.rows[user, len(best) :] == -1).all()
        returned = [int(row) for row in few.rows[user] if row >= 0]
        assert len(set(returned)) == len(returned)
        assert set(returned) <= allowed
        np.testing.assert_allclose(few.scores[user, : len(returned)], expected[returned], atol=TOLERANCE)
        if few.exact[user]:
            np.testing.assert_allclose(expected[returned], best, atol=TOLERANCE)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["mistral", "gemma3_text", "olmo3", "phi3"])
def test_beams_do_not_fill_a_sliding_window(tiny_world: TinyWorld, kind: str, attention: str) -> None:
    """The window just holds 8 + 3 tokens; 20 beams at 2 levels are many more columns, but no more positions."""
    world = world_of(kind, attention, tiny_world, sliding_window=11)
    assert_equals_brute_force(world, "codebook")


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_learned_positions_are_used_to_the_last(tiny_world: TinyWorld, kind: str) -> None:
    name = "n_positions" if kind == "gpt2" else "max_position_embeddings"
    world = world_of(kind, "sdpa", tiny_world, **{name: 11})
    assert_equals_brute_force(world, "codebook")


@pytest.mark.parametrize(("kind", "attention"), CASES)
def test_known_beginnings_change_nothing(tiny_world: TinyWorld, kind: str, attention: str) -> None:
    """Prompts that continue what is in the cache already, the shared words or a whole earlier prompt."""
    world = world_of(kind, attention, tiny_world)
    engine = TransformersEngine(world.model, world.items, shared_prompt=[3, 4], cached_tokens=100)
    engine.decode([[3, 4, 5, 6]], 20, 20)
    prompts = [[3, 4, 5], [3, 4, 9, 8, 7], [3, 4, 5, 6, 7, 8, 9, 10]]
    found = engine.decode(prompts, 20, 20)
    for user, prompt in enumerate(prompts):
        expected = brute_force(world, prompt, "codebook")
        np.testing.assert_allclose(found.scores[user], expected[found.rows[user]], atol=TOLERANCE)


@pytest.mark.parametrize(("kind", "attention"), CASES)
def test_bfloat16_stays_near_float32(kind: str, attention: str) -> None:
    """Scores of 12 items on random weights: within 0.1 nats, 0.03 in the mean (seen: at most .036 and .009)."""
    world = world_of(kind, attention, make_tiny_world(12, (3, 4), 1), seed=1, initializer_range=0.15)
    exact = np.stack([brute_force(world, prompt, "codebook") for prompt in PROMPTS])
    world.model.to(torch.bfloat16)
    found = TransformersEngine(world.model, world.items).decode(PROMPTS, 12, 12)
    errors = np.abs(np.take_along_axis(exact, found.rows.astype(np.int64), 1) - found.scores)
    assert errors.max() < 0.1
    assert errors.mean() < 0.03
