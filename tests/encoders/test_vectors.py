"""Unit rows, and a truncated SVD that is right and repeatable."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from llmrec.encoders.vectors import truncated_svd, unit_rows


def test_unit_rows_worked_example() -> None:
    rows = unit_rows(np.array([[3, 4], [0, 0], [0, -2]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0, -1]], rtol=1e-6)


@given(arrays(np.float32, (5, 3), elements=st.floats(-1e10, 1e10, width=32).filter(lambda x: x == 0 or abs(x) > 1e-10)))
def test_every_row_has_length_one_or_zero(vectors: np.ndarray) -> None:
    lengths = np.linalg.norm(unit_rows(vectors), axis=1)
    np.testing.assert_allclose(lengths, vectors.any(axis=1), atol=1e-5)


def test_svd_stops_at_the_rank_and_loses_nothing() -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 30))).astype(np.float32)
    left, values, _ = truncated_svd(sparse.csr_matrix(matrix), dimensions=20, seed=0)
    assert left.shape == (40, 3)
    assert (np.diff(values) <= 0).all()
    scaled = left * values
    np.testing.assert_allclose(scaled @ scaled.T, matrix @ matrix.T, atol=1e-3)


def test_svd_gives_the_same_bytes_for_the_same_seed() -> None:
    matrix = sparse.random(200, 100, 0.05, "csr", np.float32, rng=0)
    first, second = (truncated_svd(matrix, 10, seed=3)[0].tobytes() for _ in range(2))
    assert first == second
