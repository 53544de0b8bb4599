"""k-means against brute force and worked examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmrec.indexes import kmeans as module
from llmrec.indexes.kmeans import first_centroids, kmeans, nearest, subtract


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_two_groups_on_a_line() -> None:
    clusters = kmeans(column(0, 1, 2, 10, 11, 12), 2, rng())
    assert sorted(clusters.centroids.ravel().tolist()) == [1, 11]
    np.testing.assert_array_equal(clusters.distances, [1, 0, 1, 1, 0, 1])
    assert len(set(clusters.labels[:3].tolist())) == len(set(clusters.labels[3:].tolist())) == 1


def test_separate_blobs_are_found_whatever_the_seed() -> None:
    centres = np.eye(6, dtype=np.float32) * 10
    truth = np.repeat(np.arange(6), 30)
    points = centres[truth] + rng().normal(scale=0.1, size=(180, 6)).astype(np.float32)
    for seed in range(5):
        labels = kmeans(points, 6, rng(seed)).labels
        assert len(set(zip(truth.tolist(), labels.tolist(), strict=True))) == 6


def test_a_tie_goes_to_the_lowest_code() -> None:
    labels, distances = nearest(column(1, 5), column(2, 0, 2))
    assert labels.tolist() == [0, 0]
    assert distances.tolist() == [1, 9]


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    points, centroids = rng().normal(size=(2, 500, 4)).astype(np.float32)
    expected = ((points[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)
    for chunk in (7, 500, 8192):
        monkeypatch.setattr(module, "CHUNK", chunk)
        labels, distances = nearest(points, centroids)
        np.testing.assert_array_equal(labels, expected.argmin(axis=1))
        np.testing.assert_allclose(distances, expected.min(axis=1), rtol=1e-4, atol=1e-6)


def test_more_codes_than_distinct_points() -> None:
    points = np.repeat(column(3, 7), 5, axis=0)
    clusters = kmeans(points, 6, rng())
    assert clusters.distances.tolist() == [0] * 10
    assert len(set(clusters.labels.tolist())) == 2
    assert np.isin(clusters.centroids, [3, 7]).all()  # the codes left over are copies, never garbage


def test_an_empty_code_moves_to_the_farthest_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = column(0, 0.5, 1, 100, 101, 102, 300)
    monkeypatch.setattr(module, "first_centroids", lambda *_: column(0, 0, 0))  # two codes start without a point
    clusters = kmeans(points, 3, rng())
    assert sorted(clusters.centroids.ravel().tolist()) == [0.5, 101, 300]


def test_the_start_draws_distinct_points_and_from_a_sample_of_many() -> None:
    points = np.repeat(np.arange(1000, dtype=np.float32), 2)[:, None]
    start = first_centroids(points, 8, rng())
    assert len(np.unique(start)) == 8
    assert np.isin(start, points).all()


def test_of_very_many_points_a_sample_finds_the_centroids(monkeypatch: pytest.MonkeyPatch) -> None:
    points = rng().normal(size=(20_000, 8)).astype(np.float32)
    whole = kmeans(points, 16, rng())
    monkeypatch.setattr(module, "SAMPLE", 100)
    monkeypatch.setattr(module, "ENOUGH", 0)
    sampled, again = kmeans(points, 16, rng()), kmeans(points, 16, rng())
    np.testing.assert_array_equal(sampled.labels, again.labels)
    np.testing.assert_array_equal(sampled.labels, nearest(points, sampled.centroids)[0])  # all points, not the sample
    assert not np.array_equal(sampled.centroids, whole.centroids)
    assert sampled.distances.mean() < 1.05 * whole.distances.mean()


def test_a_hundred_thousand_points_are_never_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    start = module.first_centroids
    monkeypatch.setattr(
        module, "first_centroids", lambda points, *rest: seen.append(len(points)) or start(points, *rest)
    )
    points = rng().normal(size=(100_001, 2)).astype(np.float32)
    kmeans(points[:100_000], 2, rng(), iterations=1)
    kmeans(points, 2, rng(), iterations=1)
    kmeans(points, 100, rng(), iterations=1)  # 2048 points a code are more than there are
    assert seen == [100_000, 100_000, 100_001]


def test_what_is_left_for_the_next_level_is_found_in_place() -> None:
    points, centroids = column(1, 5, 7), column(0, 6)
    subtract(points, centroids, np.array([0, 1, 1], np.int32))
    assert points.ravel().tolist() == [1, -1, 1]


@settings(max_examples=50, deadline=None)
@given(
    points=arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.integers(-4, 4)),
    k=st.integers(1, 8),
    seed=st.integers(0, 3),
)
def test_every_point_has_its_nearest_centroid_and_every_centroid_is_a_mean(
    points: np.ndarray, k: int, seed: int
) -> None:
    clusters = kmeans(points, k, rng(seed), iterations=100)
    distances = ((points[:, None] - clusters.centroids) ** 2).sum(axis=2)
    chosen = distances[np.arange(len(points)), clusters.labels]
    np.testing.assert_allclose(chosen, distances.min(axis=1), atol=1e-4)
    np.testing.assert_allclose(clusters.distances, chosen, atol=1e-4)
    for code in set(clusters.labels.tolist()):
        mean = points[clusters.labels == code].mean(axis=0)
        np.testing.assert_allclose(clusters.centroids[code], mean, atol=1e-4)
