"""Fused distances are the weighted sum that the docstring promises, and new items land where their texts belong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.encoders.fusion import fuse
from llmrec.encoders.vectors import unit_rows
from llmrec.errors import DataError


def vectors(rows: int, columns: int, seed: int) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, columns)))


def squared_distances(points: np.ndarray) -> np.ndarray:
    return ((points[:, None].astype(np.float64) - points) ** 2).sum(axis=2)


@settings(max_examples=30, deadline=None)
@given(weight=st.floats(0, 1, exclude_min=True), seed=st.integers(0, 9))
def test_squared_distances_mix_by_weight(weight: float, seed: int) -> None:
    text, behaviour = vectors(6, 4, seed), vectors(6, 3, seed + 100)
    expected = (1 - weight) * squared_distances(text) + weight * squared_distances(behaviour)
    np.testing.assert_allclose(squared_distances(fuse(text, behaviour, weight)[0]), expected, atol=1e-5)


@pytest.mark.parametrize("weight", [-0.1, 0, 1.1, float("nan")])
def test_other_weights_are_refused(weight: float) -> None:
    with pytest.raises(DataError, match="share above 0, up to 1"):
        fuse(vectors(2, 2, 0), vectors(2, 2, 1), weight)


def test_no_behaviour_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="no item has behaviour"):
        fuse(vectors(3, 2, 0), np.zeros((3, 2), np.float32), 0.5)


def test_known_behaviour_is_kept_and_a_new_item_gets_that_of_its_kind() -> None:
    kinds = np.repeat([0, 1], 20)
    text = unit_rows(np.eye(2)[kinds] + np.random.default_rng(0).normal(scale=0.05, size=(40, 2)))
    behaviour = np.eye(2, dtype=np.float32)[1 - kinds]
    new = [0, 20]
    known = behaviour.copy()
    known[new] = 0
    complete, learned = fuse(text, known, 1)
    np.testing.assert_array_equal(np.delete(complete, new, axis=0), np.delete(behaviour, new, axis=0))
    np.testing.assert_allclose(complete[new], behaviour[new], atol=0.15)
    distances = squared_distances(fuse(text, known, 0.5)[0])
    for row in new:
        nearest = np.argsort(distances[row])[1:11]
        assert (kinds[nearest] == kinds[row]).all()
    later, _ = fuse(text[new], np.zeros((2, 2), np.float32), 1, learned)  # the same items, as if they came later
    np.testing.assert_allclose(later, complete[new], atol=1e-6)
