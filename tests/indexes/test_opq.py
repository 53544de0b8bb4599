"""Optimized product quantization: the rotation is one, it helps, and every block stands for itself."""

import numpy as np
import pytest
from contracts.index_contract import clustered_world
from threads import on_threads

from llmrec.indexes.kmeans import kmeans
from llmrec.indexes.opq import OPQIndex, balanced_rotation, blocks, learned_rotation
from llmrec.indexes.quantized import residual_codes

TFIDF = {"kind": "tfidf", "dimensions": 32}


def correlated(count: int = 600, dimensions: int = 12) -> np.ndarray:
    """Three strong directions that all columns share, and a little noise."""
    rng = np.random.default_rng(0)
    strong = rng.normal(size=(count, 3)) @ rng.normal(size=(3, dimensions))
    return (strong + 0.1 * rng.normal(size=(count, dimensions))).astype(np.float32)


def error_of(points: np.ndarray, levels: list[int], **settings: int) -> float:
    """The share of the squared length that the codes leave out."""
    learned = OPQIndex(encoder=TFIDF, levels=levels, **settings).fit_quantizer(points)
    return residual_codes(learned.latents, learned.codebooks)[1][-1]


@pytest.mark.parametrize(
    "dimensions", [12, 11, 3, 2]
)  # blocks full, with a gap, of one column, fewer columns than blocks
@pytest.mark.parametrize("rotations", [0, 3])
def test_a_rotation_keeps_all_lengths_and_angles(dimensions: int, rotations: int) -> None:
    points = correlated(dimensions=dimensions)
    learned = OPQIndex(encoder=TFIDF, levels=[8, 8, 8], rotations=rotations).fit_quantizer(points)
    rotation = learned.state["rotation"]
    assert rotation.shape == (dimensions, 3 * -(-dimensions // 3))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(dimensions), atol=1e-5)
    np.testing.assert_allclose(learned.latents @ learned.latents.T, points @ points.T, rtol=1e-3, atol=1e-3)


def test_the_rotation_beats_blocks_of_the_columns_as_they_are() -> None:
    points, rng = correlated(), np.random.default_rng(0)
    halves = [kmeans(np.ascontiguousarray(points[:, columns]), 16, rng) for columns in blocks(12, 2)]
    plain = sum(float(half.distances.sum()) for half in halves) / float((points**2).sum())
    assert error_of(points, [16, 16]) < 0.5 * plain


def test_turns_lower_the_error_of_the_first_rotation() -> None:
    rng = np.random.default_rng(1)
    corners = rng.choice([-1.0, 1.0], size=(800, 8)) @ np.linalg.qr(rng.normal(size=(8, 8)))[0]  # no axis is stronger
    points = (corners + 0.05 * rng.normal(size=(800, 8))).astype(np.float32)
    assert error_of(points, [16, 16], rotations=30) < 0.5 * error_of(points, [16, 16], rotations=0)


def test_axes_are_dealt_by_the_product_of_their_variances() -> None:
    # Variances 16, 8, 4, 2: 16 to the first block, 8 to the second, which stays the smaller one and gets 4; 2 is left
    # for the first. Products 32 and 32; sums 18 and 12, so the first block comes first.
    points = np.vstack([np.diag([4, 8**0.5, 2, 2**0.5]), -np.diag([4, 8**0.5, 2, 2**0.5])]).astype(np.float32)
    np.testing.assert_allclose(np.abs(balanced_rotation(points, 2)), np.eye(4)[:, [0, 3, 1, 2]], atol=1e-6)


def test_the_strongest_block_is_first() -> None:
    points = correlated() * np.array([1, 1, 5] * 4, np.float32)
    turned = points @ balanced_rotation(points, 3)
    variances = [float(turned[:, columns].var(axis=0).sum()) for columns in blocks(12, 3)]
    assert variances == sorted(variances, reverse=True)


def test_every_level_takes_the_nearest_of_its_own_block() -> None:
    world = clustered_world()
    index = OPQIndex(encoder=TFIDF, levels=[8, 5, 3], rotations=4).build(world.catalog, world.train)
    space = OPQIndex(encoder=TFIDF)._space().fit(world.catalog, world.train)
    latents = space.vectors @ index.state["quantizer.rotation"]
    for level, columns in enumerate(blocks(latents.shape[1], 3)):
        codebook = index.state[f"codebook.{level}"]
        assert not np.delete(codebook, np.r_[columns], axis=1).any()
        distances = ((latents[:, None, columns] - codebook[None, :, columns]) ** 2).sum(axis=2)  # (N, K)
        chosen = distances[np.arange(len(latents)), index.codes[:, level]]
        np.testing.assert_allclose(chosen, distances.min(axis=1), atol=1e-5)


def test_the_order_of_the_levels_says_nothing() -> None:
    learned = OPQIndex(encoder=TFIDF, levels=[8, 8, 8]).fit_quantizer(correlated())
    codes = residual_codes(learned.latents, learned.codebooks)[0]
    backwards = residual_codes(learned.latents, learned.codebooks[::-1])[0]
    np.testing.assert_array_equal(codes, backwards[:, ::-1])


def test_without_turns_there_are_no_codebooks_yet() -> None:
    rotation, codebooks = learned_rotation(correlated(), [4, 4], seed=0, iterations=5, rotations=0)
    assert (rotation.shape, codebooks) == ((12, 12), [])


def test_points_all_alike() -> None:
    learned = OPQIndex(encoder=TFIDF, levels=[4, 4]).fit_quantizer(np.ones((5, 3), np.float32))
    codes, errors = residual_codes(learned.latents, learned.codebooks)
    assert len(np.unique(codes, axis=0)) == 1
    assert errors[-1] < 1e-6


PROBE = """
import hashlib
import numpy as np
from llmrec.indexes.opq import OPQIndex
from llmrec.indexes.quantized import residual_codes
rng = np.random.default_rng(0)
points = (rng.normal(size=(3000, 48)) @ rng.normal(size=(48, 48))).astype(np.float32)
learned = OPQIndex(encoder={"kind": "tfidf"}, levels=[16, 16], rotations=4, iterations=5).fit_quantizer(points)
codes, _ = residual_codes(learned.latents, learned.codebooks)
print(hashlib.sha256(codes.tobytes() + learned.state["rotation"].tobytes()).hexdigest())
"""


def test_same_bytes_on_another_number_of_threads() -> None:
    assert len({on_threads(threads, "-c", PROBE) for threads in (1, 3)}) == 1
