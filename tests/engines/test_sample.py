"""Drawn items: their frequencies, what is never drawn, and what a seed means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from brute_force import brute_force
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import TinyWorld, make_tiny_model, make_tiny_tokenizer, make_tiny_world, make_titled_world

from llmrec.engines.base import Engine
from llmrec.engines.level_scores import level_scores
from llmrec.engines.sample import _drawn, sample
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import DecodingError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.types import Ragged

PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]
SEEDS = [1, 2, 3]
DRAWS = 20_000

Make = Callable[[TinyWorld], Engine]


def chances_by_hand(
    world: TinyWorld, engine: Engine, temperature: float = 1.0, top_p: float = 1.0, allowed: set[int] | None = None
) -> np.ndarray:
    """`float64[B, N]`: every step worked out for every item on its own, for codes without buckets."""
    codes, count = world.items.index.codes, len(world.items.index)
    rows = np.tile(np.arange(count, dtype=np.int32), (len(PROMPTS), 1))
    log_p = level_scores(engine, PROMPTS, rows, "children").astype(np.float64)
    is_open = np.isin(np.arange(count), list(range(count) if allowed is None else allowed))
    found = np.ones((len(PROMPTS), count)) * is_open
    for user in range(len(PROMPTS)):
        for row in np.flatnonzero(is_open):
            for level in range(int(world.items.index.lengths[row])):
                siblings = np.flatnonzero(is_open & (codes[:, :level] == codes[row, :level]).all(1))
                first = {int(codes[item, level]): item for item in siblings}
                weights = {code: np.exp(log_p[user, item, level] / temperature) for code, item in first.items()}
                total, before, kept = sum(weights.values()), 0.0, {}
                for code in sorted(weights, key=lambda code: -weights[code]):
                    if before < top_p * total:
                        kept[code] = weights[code]
                    before += weights[code]
                found[user, row] *= kept.get(int(codes[row, level]), 0.0) / sum(kept.values())
    return found


def assert_frequencies(rows: np.ndarray, expected: np.ndarray) -> None:
    """Within five standard deviations, and never what has no chance."""
    for user, chances in enumerate(expected):
        seen = np.bincount(rows[user], minlength=len(chances)) / rows.shape[1]
        assert (seen[chances == 0] == 0).all()
        assert (np.abs(seen - chances) <= 5 * np.sqrt(chances * (1 - chances) / rows.shape[1]) + 1e-12).all()


def test_frequencies_are_the_probabilities_of_items(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    rows = sample(engine, PROMPTS, DRAWS, seeds=SEEDS)
    assert rows.shape == (3, DRAWS)
    assert rows.dtype == np.int32
    assert_frequencies(rows, np.exp([brute_force(tiny_world, prompt, "children") for prompt in PROMPTS]))


@pytest.mark.parametrize(("temperature", "top_p"), [(0.5, 1.0), (2.0, 1.0), (1.0, 0.6), (1.5, 0.8), (0.7, 1e-6)])
def test_temperature_and_top_p(make: Make, tiny_world: TinyWorld, temperature: float, top_p: float) -> None:
    engine = make(tiny_world)
    rows = sample(engine, PROMPTS, DRAWS, temperature, top_p, SEEDS)
    assert_frequencies(rows, chances_by_hand(tiny_world, engine, temperature, top_p))


def test_only_open_items_are_drawn_and_share_what_the_others_had(make: Make, tiny_world: TinyWorld) -> None:
    engine, own = make(tiny_world), [2, 3, 5, 7, 11, 13, 17]
    excluded = Ragged.from_lists([[3, 4, 17]] * 3)
    expected = chances_by_hand(tiny_world, engine, allowed=set(own) - {3, 4, 17})
    rows = np.array(own, np.int32)
    for candidates in (rows, engine.allow(rows), Ragged.from_lists([rows] * 3)):
        assert_frequencies(sample(engine, PROMPTS, DRAWS, 1, 1, SEEDS, excluded, candidates), expected)


def test_titles(make: Make, tmp_path: Path) -> None:
    world = make_titled_world(["abcdef", "abcxyz", "b", "bb", "bbbbbb", "xyz", "xyzzy"], tmp_path)
    engine = make(world)
    assert_frequencies(sample(engine, PROMPTS, DRAWS, seeds=SEEDS), chances_by_hand(world, engine))
    some = sample(engine, PROMPTS, DRAWS, seeds=SEEDS, candidates=np.array([1, 2, 4], np.int32))
    assert_frequencies(some, chances_by_hand(world, engine, allowed={1, 2, 4}))


def test_items_that_share_a_code_are_as_likely() -> None:
    index = ItemIndex(np.array([[1, 0], [0, 2], [1, 0], [0, 1], [1, 0]], np.int32), (2, 3))
    items = ItemTokenizer.bind(make_tiny_tokenizer(), index)
    engine = TransformersEngine(make_tiny_model(len(items.tokenizer)), items)
    code = np.exp(level_scores(engine, PROMPTS, np.array([[0]] * 3, np.int32), "children").sum(-1))[:, 0]
    rows = sample(engine, PROMPTS, DRAWS, seeds=SEEDS, excluded=Ragged.from_lists([[], [2], [0, 2, 4]]))
    for user, bucket in enumerate([[0, 2, 4], [0, 4], []]):
        seen = np.bincount(rows[user], minlength=5) / DRAWS
        np.testing.assert_allclose(seen[bucket], code[user] / max(len(bucket), 1), atol=0.02)
        assert seen[[row for row in (0, 2, 4) if row not in bucket]].sum() == 0


def test_a_seed_gives_its_items_whoever_else_asks(make: Make, tiny_world: TinyWorld) -> None:
    engine = make(tiny_world)
    together = sample(engine, PROMPTS, 50, seeds=SEEDS)
    np.testing.assert_array_equal(sample(engine, PROMPTS, 50, seeds=SEEDS), together)
    backwards = sample(engine, PROMPTS[::-1], 50, seeds=SEEDS[::-1])
    np.testing.assert_array_equal(backwards[::-1], together)
    np.testing.assert_array_equal(sample(engine, PROMPTS[1:2], 50, seeds=[2])[0], together[1])
    same_prompt = sample(engine, PROMPTS[:1] * 3, 50, seeds=[1, 2, -(2**70)])
    assert len({tuple(row) for row in same_prompt.tolist()}) == 3
    unseeded = [sample(engine, PROMPTS, 50).tolist() for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_at_temperature_zero_it_is_the_best_item(make: Make) -> None:
    """Not the greedy walk, whose first step may lead away from it."""
    world = make_tiny_world(40, (5, 4, 5), seed=3)
    for normalize in ("codebook", "children", "vocab"):
        best = [int(brute_force(world, prompt, normalize).argmax()) for prompt in PROMPTS]
        rows = sample(make(world), PROMPTS, 2, 0.0, beams=40, normalize=normalize)
        assert rows.tolist() == [[row, row] for row in best]
    some = sample(make(world), PROMPTS, 2, 0.0, candidates=Ragged.from_lists([[7], [], [9]]))
    assert some.tolist() == [[7, 7], [-1, -1], [9, 9]]


def test_the_smallest_temperature_takes_the_best_step(make: Make, tiny_world: TinyWorld) -> None:
    engine = make(tiny_world)
    steps = chances_by_hand(tiny_world, engine, top_p=1e-9).argmax(1)
    np.testing.assert_array_equal(sample(engine, PROMPTS, 30, 1e-320), np.repeat(steps[:, None], 30, 1))


def test_nothing_open_gives_no_item(make: Make, tiny_world: TinyWorld) -> None:
    everything = Ragged.from_lists([range(20), [], range(19)])
    rows = sample(make(tiny_world), PROMPTS, 4, seeds=SEEDS, excluded=everything)
    assert rows[0].tolist() == [-1] * 4
    assert (rows[1] >= 0).all()
    assert rows[2].tolist() == [19] * 4
    assert sample(make(tiny_world), [], 4).shape == (0, 4)


def test_a_broken_model_draws_open_items_all_the_same(tiny_world: TinyWorld) -> None:
    world = make_tiny_world()
    world.model.lm_head.weight.data.fill_(torch.nan)
    rows = sample(TransformersEngine(world.model, world.items), PROMPTS, 9, candidates=np.array([4, 8], np.int32))
    assert set(rows.ravel().tolist()) <= {4, 8}


@given(
    st.lists(st.sampled_from([0.0, 1e-300, 0.1, 1.0, 3e8]), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True)
)
@settings(deadline=None)
def test_what_has_no_weight_is_never_drawn(weights: list[float], chance: float) -> None:
    for number in (chance, 0.0, 1 - 2**-53):
        column = int(_drawn(torch.tensor([[weights]], dtype=torch.float64), torch.tensor([[number]]).double()))
        assert weights[column] > 0 or not any(weights)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"draws": 0}, "draws is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"top_p": 1.5}, r"top_p is 1\.5"),
        ({"seeds": [1]}, "1 seeds for 3 prompts"),
        ({"candidates": Ragged.from_lists([[1]])}, "candidates holds 1 lists for 3 prompts"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tiny_world: TinyWorld, given: dict[str, object], says: str) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    with pytest.raises(DecodingError, match=says):
        sample(engine, PROMPTS, **given)  # type: ignore[arg-type]
    with pytest.raises(DecodingError, match="no token"):
        sample(engine, [[]])
