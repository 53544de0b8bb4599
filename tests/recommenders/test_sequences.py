"""Histories as rectangles: the newest items, nobody lost, little padding."""

from __future__ import annotations

import numpy as np

from llmrec.recommenders.sequences import batches_of_like_length, padded
from llmrec.types import Ragged


def test_the_newest_items_are_kept_in_order() -> None:
    histories = Ragged.from_lists([[], [7], [1, 2, 3, 4]])
    assert padded(histories, np.array([2, 0, 1]), 3, filler=9).tolist() == [[2, 3, 4], [9, 9, 9], [7, 9, 9]]
    assert padded(histories, np.array([0]), 3, filler=9).tolist() == [[9]]  # a network wants at least one column


def test_every_user_comes_once_an_epoch() -> None:
    users, lengths = np.arange(5, 105), np.random.default_rng(0).integers(1, 50, 100)
    batches = list(batches_of_like_length(users, lengths, 7, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == users.tolist()
    assert max(len(batch) for batch in batches) == 7
    other = list(batches_of_like_length(users, lengths, 7, np.random.default_rng(2)))
    assert [batch.tolist() for batch in batches] != [batch.tolist() for batch in other]


def test_batches_hold_little_padding() -> None:
    users = np.arange(800)
    lengths = np.random.default_rng(0).integers(1, 50, 800)
    cells = sum(len(b) * lengths[b].max() for b in batches_of_like_length(users, lengths, 10, np.random.default_rng(0)))
    assert cells < 1.3 * lengths.sum()
