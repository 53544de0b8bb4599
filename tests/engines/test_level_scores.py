"""What each level of a code adds to an item's score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from brute_force import brute_force
from fake_vllm import OneStep, patch_one_step
from worlds import TinyWorld, make_tiny_world, make_titled_world

from llmrec.engines import level_scores as module
from llmrec.engines.base import Engine
from llmrec.engines.level_scores import level_scores
from llmrec.engines.transformers import TransformersEngine
from llmrec.engines.vllm import VLLMEngine
from llmrec.errors import DecodingError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer

PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]
TITLES = ["abcdef", "abcxyz", "b", "bb", "bbbbbb", "xyz", "xyz"]

Make = Callable[[TinyWorld], Engine]


def everything(world: TinyWorld) -> np.ndarray:
    """All rows for each prompt, in three orders."""
    count = len(world.items.index)
    return np.stack([np.roll(np.arange(count, dtype=np.int32), shift) for shift in range(len(PROMPTS))])


def by_decode(engine: Engine, rows: np.ndarray, normalize: str) -> np.ndarray:
    found = engine.decode(PROMPTS, rows.shape[1], rows.shape[1] + 1, normalize)
    scores = [dict(zip(*pair, strict=True)) for pair in zip(found.rows.tolist(), found.scores.tolist(), strict=True)]
    return np.array([[scores[user][row] for row in some] for user, some in enumerate(rows.tolist())])


@pytest.mark.parametrize("normalize", ["codebook", "children", "vocab"])
def test_the_levels_of_an_item_add_up_to_its_score(make: Make, normalize: str) -> None:
    world = make_tiny_world(40, (5, 4, 5), seed=3)
    rows = everything(world)
    found = level_scores(make(world), PROMPTS, rows, normalize)
    assert found.shape == (3, 40, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(-1), by_decode(make(world), rows, normalize), atol=1e-4)
    for user, prompt in enumerate(PROMPTS):
        np.testing.assert_allclose(found[user].sum(-1), brute_force(world, prompt, normalize)[rows[user]], atol=1e-4)


def test_each_level_is_a_distribution_over_what_may_follow(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    found = np.exp(level_scores(engine, PROMPTS, np.tile(np.arange(20, dtype=np.int32), (3, 1)), "children"))
    codes = tiny_world.index.codes
    for level in range(codes.shape[1]):
        for prefix in np.unique(codes[:, :level], axis=0):
            below = np.flatnonzero((codes[:, :level] == prefix).all(1))
            first = [below[codes[below, level] == code][0] for code in np.unique(codes[below, level])]
            np.testing.assert_allclose(found[:, first, level].sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("normalize", ["codebook", "children", "vocab"])
def test_titles_end_where_they_end(make: Make, tmp_path: Path, normalize: str) -> None:
    world = make_titled_world(TITLES, tmp_path)
    rows = everything(world)
    found = level_scores(make(world), PROMPTS, rows, normalize)
    np.testing.assert_array_equal((~np.isnan(found)).sum(-1), world.index.lengths[rows])
    assert not np.isnan(found[..., 0]).any()
    np.testing.assert_allclose(np.nansum(found, -1), by_decode(make(world), rows, normalize), atol=5e-4)


def test_a_new_item_is_scored_as_its_stand_in(make: Make) -> None:
    world = make_tiny_world(6, (4, 3))
    codes = np.array([[0, 0], [3, 0], [2, 2], [3, 1], [1, 2]], np.int32)
    grown = ItemIndex(codes, (4, 3), stand_ins=np.array([[3, 0], [2, 2]], np.int32))
    world = world._replace(items=ItemTokenizer(world.items.tokenizer, grown))
    rows = everything(world)
    found = level_scores(make(world), PROMPTS, rows)
    np.testing.assert_allclose(found.sum(-1), by_decode(make(world), rows, "codebook"), atol=1e-4)


def test_places_without_an_item_and_repeated_items(make: Make, tiny_world: TinyWorld) -> None:
    rows = np.array([[3, -1, 3, 8], [-1, -1, -1, -1], [8, 8, 19, -1]], np.int32)
    found = level_scores(make(tiny_world), PROMPTS, rows)
    np.testing.assert_array_equal(np.isnan(found).all(-1), rows < 0)
    np.testing.assert_array_equal(found[0, 0], found[0, 2])
    every = level_scores(make(tiny_world), PROMPTS, np.tile(np.arange(20, dtype=np.int32), (3, 1)))
    for user, item in np.argwhere(rows >= 0):
        np.testing.assert_allclose(found[user, item], every[user, rows[user, item]], atol=1e-5)
    assert level_scores(make(tiny_world), PROMPTS, np.empty((3, 0), np.int32)).shape == (3, 0, 3)


def test_a_whole_code_is_one_pass_unless_it_is_long(
    tmp_path: Path, tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_one_step(monkeypatch)
    world = make_titled_world(TITLES, tmp_path)
    rows, backend = everything(world), OneStep(world)
    whole = level_scores(VLLMEngine(backend, world.items), PROMPTS, rows)
    assert backend.calls == 2  # after the prompts, and all prefixes
    monkeypatch.setattr(module, "NODES_AT_ONCE", 3)
    for engine in (VLLMEngine(backend, world.items), TransformersEngine(world.model, world.items)):
        np.testing.assert_allclose(level_scores(engine, PROMPTS, rows), whole, atol=1e-4)
    assert backend.calls > 4


def test_an_empty_prompt_is_refused(make: Make, tiny_world: TinyWorld) -> None:
    with pytest.raises(DecodingError, match="no token"):
        level_scores(make(tiny_world), [[1], []], np.array([[1], [2]], np.int32))
