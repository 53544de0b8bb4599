"""Behaviour vectors: hand-counted pairs, hand-worked PMI, communities that come out close, and no leak."""

import numpy as np
import pyarrow as pa
import pytest
from contracts.index_contract import ITEMS, clustered_world
from scipy import sparse

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.behaviour import BehaviourEncoder, cooccurrence, positive_pmi

ITEM_IDS = ["a", "b", "c", "d"]
CATALOG = Catalog(pa.table({"item_id": ITEM_IDS, "title": ITEM_IDS}))


def histories(*walks: str) -> Interactions:
    return Interactions.from_columns(
        pa.array([f"u{user}" for user, walk in enumerate(walks) for _ in walk]),
        pa.array([item for walk in walks for item in walk]),
        np.asarray([step for walk in walks for step in range(len(walk))], np.int64),
        CATALOG.items,
    )


def test_pairs_are_counted_inside_the_window_and_inside_a_history() -> None:
    train = histories("abc", "ba")  # c and b are neighbours in the table, of two users
    assert cooccurrence(train, window=1).toarray().tolist() == [
        [0, 2, 0, 0],
        [2, 0, 1, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
    ]
    assert cooccurrence(train, window=9).toarray()[0].tolist() == [0, 2, 1, 0]


def test_a_repeated_item_is_no_pair_with_itself() -> None:
    assert cooccurrence(histories("aab"), window=2).toarray()[0].tolist() == [0, 2, 0, 0]


def test_rare_items_are_left_out() -> None:
    assert cooccurrence(histories("abc", "ab"), window=2, min_count=2).toarray()[1].tolist() == [2, 0, 0, 0]


def test_pmi_worked_example() -> None:
    counts = sparse.csr_matrix(np.array([[0, 4, 1], [4, 0, 0], [1, 0, 0]], np.float64))
    # Margins 5, 4, 1 of 10: pmi(0, 1) = log(4 * 10 / (5 * 4)) = log 2, pmi(0, 2) = log(1 * 10 / (5 * 1)) = log 2.
    two = np.log(2)
    np.testing.assert_allclose(positive_pmi(counts).toarray(), [[0, two, two], [two, 0, 0], [two, 0, 0]], rtol=1e-6)


def test_pmi_below_zero_is_zero() -> None:
    counts = sparse.csr_matrix(np.array([[0, 9, 1], [9, 0, 9], [1, 9, 0]], np.float64))
    assert positive_pmi(counts)[0, 2] == 0  # log(1 * 38 / (10 * 10)) < 0


def test_items_of_the_same_people_lie_close() -> None:
    world = clustered_world()
    vectors = BehaviourEncoder(dimensions=8).fit(world.catalog, world.train).vectors
    similarity = vectors @ vectors.T
    same = np.equal.outer(world.topics, world.topics)
    assert similarity[same].mean() > 0.5
    assert similarity[~same].max() < 0.1


def test_an_unseen_item_is_zero_and_others_have_length_one() -> None:
    vectors = BehaviourEncoder().fit(CATALOG, histories("abc", "ab")).vectors
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0], atol=1e-6)


def test_histories_of_one_item_say_nothing() -> None:
    vectors = BehaviourEncoder().fit(CATALOG, histories("a", "b", "cc")).vectors
    assert len(vectors) == 4
    assert not vectors.any()


def test_the_same_seed_gives_the_same_bytes() -> None:
    world = clustered_world()
    first, second = (BehaviourEncoder(seed=5).fit(world.catalog, world.train).vectors.tobytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("window", [1, 5])
def test_what_lies_behind_the_split_is_not_seen(window: int) -> None:
    worlds = [clustered_world(other_future) for other_future in (False, True)]
    first, second = (BehaviourEncoder(window=window).fit(world.catalog, world.train).vectors for world in worlds)
    assert first.shape[0] == ITEMS
    np.testing.assert_array_equal(first, second)
