"""Reasons name what raised a score, and nothing that is not in the history or the list."""

from __future__ import annotations

import re

import numpy as np
import pytest
from circle import QUICK, base_model, circle, make_task
from worlds import TinyWorld

from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.reasons import reasons
from llmrec.trainers.sft import SFT


@pytest.fixture(scope="module")
def walker(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> LLMRecommender:
    """Knows that item r + 1 follows item r."""
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    work = tmp_path_factory.mktemp("walker")
    return SFT(args=QUICK).train(base_model(), task, split.train, split.valid, work, seed=0)[0]


def test_the_item_before_it_is_the_reason_for_the_next(walker: LLMRecommender) -> None:
    size, right = len(walker.catalog), 0
    for start in range(size):
        history = [(start + step) % size for step in range(3)]
        (reason,) = reasons(walker, history, [(start + 3) % size], most=1)
        right += reason.because == ((start + 2) % size,)
        assert all(gain > 0 for gain in reason.gains)
    assert right >= 0.6 * size


def test_a_gain_is_what_the_score_loses_without_the_item(walker: LLMRecommender) -> None:
    history, item = np.array([4, 9, 5], np.int32), np.array([6], np.int32)
    (reason,) = reasons(walker, history, item)
    for row, gain in zip(reason.because, reason.gains, strict=True):
        without = history[history != row]
        both = walker.score([history, without], np.array([[6], [6]], np.int32))[:, 0]
        assert gain == pytest.approx(both[0] - both[1], abs=1e-4)
    assert list(reason.gains) == sorted(reason.gains, reverse=True)


def test_only_titles_of_the_history_and_the_list_are_named(walker: LLMRecommender) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        history = rng.integers(0, len(walker.catalog), rng.integers(0, 14)).astype(np.int32)
        found = walker.recommend([history], 5).rows[0]
        for reason in reasons(walker, history, found):
            named = set(re.findall("“(.+?)”", reason.text))
            allowed = {walker.catalog.title(int(row)) for row in (*history, *found) if row >= 0}
            assert named <= allowed
            assert walker.catalog.title(reason.item) in named
            assert len(set(reason.because)) == len(reason.because) <= 2


def test_without_a_history_nobody_is_told_what_they_took(walker: LLMRecommender) -> None:
    (reason,) = reasons(walker, [], [3])
    assert reason.because == ()
    assert "because" not in reason.text
    assert reasons(walker, [1], [-1]) == []
