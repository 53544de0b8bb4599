"""Balanced clusters: nobody has more than an even share, and what the balance gave is not taken back."""

import hashlib

import numpy as np
import pytest
from contracts.index_contract import ITEMS, clustered_world
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from threads import on_threads

from llmrec.indexes import balanced
from llmrec.indexes.balanced import balanced_kmeans, even_labels
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.collisions import make_unique, nearest_free
from llmrec.indexes.kmeans import kmeans
from llmrec.indexes.rqkmeans import RQKMeansIndex, residual_kmeans


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def crowded(count: int, dimensions: int = 8) -> np.ndarray:
    """Half of the points in one corner, the others in fifteen."""
    draws = rng()
    corners = draws.normal(scale=4, size=(16, dimensions))
    where = np.where(draws.random(count) < 0.5, 0, draws.integers(16, size=count))
    return (corners[where] + draws.normal(size=(count, dimensions))).astype(np.float32)


def build(**settings: object) -> ItemIndex:
    world = clustered_world()
    return RQKMeansIndex.parse({"encoder": {"kind": "tfidf"}, **settings}).build(world.catalog, world.train)


def test_worked_example() -> None:
    # Plain k-means: {0, 1, 2} and {10}. Two fit in a cluster: 1 lies on its centroid, 0 and 2 at distance one, so the
    # later row, 2, goes on to 10. The means are then 0.5 and 6, and nothing moves any more.
    points = column(0, 1, 2, 10)
    plain = kmeans(points, 2, rng())
    assert sorted(np.bincount(plain.labels).tolist()) == [1, 3]
    clusters = balanced_kmeans(points, 2, rng())
    assert sorted(clusters.centroids.ravel().tolist()) == [0.5, 6]
    assert clusters.labels[0] == clusters.labels[1] != clusters.labels[2] == clusters.labels[3]
    np.testing.assert_allclose(clusters.distances, [0.25, 0.25, 16, 16])


def test_the_closest_stay_and_the_others_ask_again() -> None:
    # All but 9 ask for 0. 1 and 2 are closest. Of 3, 4 and 5 the closest two to 10, which has one place beside 9, ...
    labels = even_labels(column(3, 4, 5, 1, 2, 9), column(0, 10, -100))
    assert labels.tolist() == [2, 2, 1, 0, 0, 1]  # ... get it: 5; and 3 and 4 have only the far one left


@settings(max_examples=60, deadline=None)
@given(
    points=arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.integers(-2, 2)),
    k=st.integers(1, 9),
    seed=st.integers(0, 3),
)
def test_nobody_has_more_than_an_even_share(points: np.ndarray, k: int, seed: int) -> None:
    clusters = balanced_kmeans(points, k, rng(seed), iterations=5)
    assert clusters.labels.shape == (len(points),)
    assert np.bincount(clusters.labels, minlength=k).shape == (k,)
    assert np.bincount(clusters.labels).max() <= -(-len(points) // k)
    chosen = ((points - clusters.centroids[clusters.labels]) ** 2).sum(axis=1)
    np.testing.assert_allclose(clusters.distances, chosen, atol=1e-4)


def test_nothing_changes_where_clusters_are_even_by_themselves() -> None:
    points = np.repeat(np.eye(4, dtype=np.float32) * 10, 25, axis=0) + rng().normal(size=(100, 4)).astype(np.float32)
    plain, even = kmeans(points, 4, rng()), balanced_kmeans(points, 4, rng())
    np.testing.assert_array_equal(plain.labels, even.labels)
    np.testing.assert_array_equal(plain.centroids, even.centroids)


def test_iterations_bring_the_centroids_to_their_share() -> None:
    points = crowded(2000)
    start = kmeans(points, 16, rng()).centroids
    labels = even_labels(points, start)
    forced = float(((points - start[labels]) ** 2).sum())
    assert float(balanced_kmeans(points, 16, rng()).distances.sum()) < 0.8 * forced


def test_fifty_thousand_points_twice_the_same() -> None:
    points = crowded(50_000)
    first, second = (balanced_kmeans(points, 64, rng(), iterations=3) for _ in range(2))
    assert np.bincount(first.labels).max() == -(-50_000 // 64)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.centroids, second.centroids)


def test_a_sample_finds_the_centroids_and_all_points_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balanced, "ENOUGH", 500)
    monkeypatch.setattr(balanced, "SAMPLE", 10)
    points = crowded(3001)
    clusters = balanced_kmeans(points, 16, rng())
    assert np.bincount(clusters.labels, minlength=16).max() <= 188  # 3001 / 16 = 187.6
    whole = float(balanced_kmeans(points[:500], 16, rng()).distances.mean())
    assert float(clusters.distances.mean()) < 1.5 * whole


def test_every_level_is_used_evenly() -> None:
    index = build(levels=[4, 6], balanced=True)
    assert [level["perplexity"] for level in index.provenance["levels"][:2]] == [4, 6]  # 60 items: 15 and 10 a code
    plain = build(levels=[4, 6])
    assert plain.provenance["levels"][0]["perplexity"] < 3.9
    assert index.provenance["reconstruction_error"][-1] > plain.provenance["reconstruction_error"][-1]


def test_the_reported_error_is_that_of_the_balanced_codes() -> None:
    vectors = crowded(300)
    clusters = residual_kmeans(vectors, [6, 6], 0, 10, balanced_kmeans)
    index = RQKMeansIndex(encoder={"kind": "tfidf"}, levels=[6, 6], iterations=10, balanced=True)
    learned = index.fit_quantizer(vectors)
    assert learned.codes is not None
    np.testing.assert_array_equal(learned.codes, np.column_stack([level.labels for level in clusters]))
    rebuilt = sum(level.centroids[level.labels] for level in clusters)
    np.testing.assert_allclose(((vectors - rebuilt) ** 2).sum(axis=1), clusters[-1].distances, rtol=1e-3, atol=1e-3)


def test_nearest_starts_from_the_codes_that_it_is_given() -> None:
    points, codebook = column(0, 0.1, 0.2, 5), column(0, 1, 5)
    assert nearest_free(points[[0, 1, 3]], [codebook], np.array([[1], [0], [2]], np.int32)).ravel().tolist() == [
        1,
        0,
        2,
    ]
    # Two were given code 1. 0.2 is closer to it and stays; 0 goes to the nearest code left, its own nearest.
    assert nearest_free(points[[0, 2]], [codebook], np.array([[1], [1]], np.int32)).ravel().tolist() == [0, 1]


def test_an_item_that_must_leave_its_prefix_is_encoded_anew_below() -> None:
    codebooks = [column(0, 10), column(-1, 1)]
    # Three items were given prefix 0, which holds two. 4 is farthest and goes to 10; 4 - 10 is nearest to -1 there,
    # whatever it was given below the old prefix.
    codes = nearest_free(column(-1, 1, 4), codebooks, np.array([[0, 0], [0, 1], [0, 1]], np.int32))
    assert codes.tolist() == [[0, 0], [0, 1], [1, 0]]


def digest(collisions: str) -> str:
    """Of every bit of a build; more points than a chunk of distances holds."""
    points = crowded(10_000)
    index = RQKMeansIndex(encoder={"kind": "tfidf"}, levels=[32, 400], iterations=3, balanced=True)
    learned = index.fit_quantizer(points)
    assert learned.codes is not None
    codes, _ = make_unique(learned.codes, points, learned.codebooks, collisions)
    return hashlib.sha256(b"".join(array.tobytes() for array in (learned.codes, codes, *learned.codebooks))).hexdigest()


PROBE = """
import os
from indexes.test_balanced import digest
from llmrec.indexes import balanced
os.cpu_count = lambda: int(os.environ["OMP_NUM_THREADS"])  # so many chunks at once
balanced.SAMPLE, balanced.ENOUGH = 100, 0  # the first level learns from a sample, as in a catalog of millions
print(digest("digit"), digest("nearest"))
"""


def test_another_number_of_threads_gives_the_same_bytes() -> None:
    first, second = (on_threads(threads, "-c", PROBE).split() for threads in (1, 3))
    assert len(set(first)) == 2
    assert first == second


@pytest.mark.parametrize("collisions", ["nearest", "sinkhorn"])
def test_resolving_collisions_keeps_the_balance_of_the_upper_levels(collisions: str) -> None:
    index = build(levels=[4, 20], balanced=True, collisions=collisions)
    assert np.bincount(index.codes[:, 0]).tolist() == [ITEMS // 4] * 4
    assert index.collisions == 0
