"""Batches by tokens: everything once, within the budget, in an order of seed and epoch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.errors import RecipeError
from llmrec.trainers.batches import TokenBatches

LENGTHS = st.lists(st.integers(1, 50), max_size=60)


@given(LENGTHS, st.integers(50, 200), st.integers(0, 3), st.integers(0, 3))
def test_every_sample_comes_once_and_no_batch_is_too_large(
    lengths: list[int], budget: int, seed: int, epoch: int
) -> None:
    batches = TokenBatches(lengths, budget, seed)
    batches.set_epoch(epoch)
    drawn = list(batches)
    assert len(drawn) == len(batches)
    assert sorted(sample for batch in drawn for sample in batch) == list(range(len(lengths)))
    assert all(max(lengths[sample] for sample in batch) * len(batch) <= budget for batch in drawn)
    assert drawn == list(batches)


def test_the_order_changes_with_the_epoch() -> None:
    batches = TokenBatches([3] * 40, 30, seed=0)
    first = list(batches)
    batches.set_epoch(1)
    assert list(batches) != first


def test_a_sample_over_the_budget_is_named() -> None:
    with pytest.raises(RecipeError, match="a sample has 70 tokens"):
        TokenBatches([3, 70], 60, seed=0)
