"""The linear algebra that encoders share: rows of unit length, and a truncated SVD that gives the same bytes twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import DataError


def unit_rows(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """`float32[N, D]`, every row scaled to length one; a row of zeros stays zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    lengths[lengths == 0] = 1
    return np.asarray(vectors / lengths[:, None], np.float32)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Linear algebra on one thread: a BLAS that shares one product among cores may add in another order on each count.

    Callers that want the other cores give each of them whole products.
    """
    with _loaded_blas().limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _loaded_blas() -> Any:
    """The BLAS libraries of NumPy and SciPy; found once, for finding them takes longer than a small product."""
    import scipy.linalg  # noqa: F401  # brings SciPy's own BLAS into the process
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


class SVD(NamedTuple):
    """`matrix` is about `left * values @ right.T`: `float32[N, D]`, `float32[D]` largest first, `float32[M, D]`."""

    left: NDArray[np.float32]
    values: NDArray[np.float32]
    right: NDArray[np.float32]


def truncated_svd(matrix: Any, dimensions: int, seed: int) -> SVD:
    """The strongest singular vectors of a sparse matrix (randomised; Halko, Martinsson and Tropp, 2011).

    One BLAS thread, a fixed start and a fixed sign make the result independent of the number of cores.

    Args:
        matrix: a SciPy sparse matrix, `float32[N, M]`.
        dimensions: columns wanted; fewer come back when the rank is lower.
        seed: of the random start.
    """
    from sklearn.utils.extmath import randomized_svd

    dimensions = min(dimensions, *matrix.shape)
    with one_blas_thread():
        left, values, right = randomized_svd(matrix, dimensions, random_state=seed)
    rank = int((values > values[0] * 1e-5).sum())  # float32 keeps seven digits: what is below is rounding noise
    return SVD(*(np.asarray(part, np.float32) for part in (left[:, :rank], values[:rank], right[:rank].T)))


def require_items(count: int) -> None:
    """Raise `DataError` where a catalog has no row to encode."""
    if count == 0:
        raise DataError("the catalog has no item.", fix="Check the source and its filters (k-core).")
