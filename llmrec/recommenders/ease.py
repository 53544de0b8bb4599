"""EASE: the best linear map from what people took to what they took, in closed form (Steck, 2019).

"Embarrassingly Shallow Autoencoders for Sparse Data", https://arxiv.org/abs/1905.03375. No order, no training loop, and
on dense data hard to beat.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.data.interactions import Interactions
from llmrec.encoders.vectors import one_blas_thread
from llmrec.errors import DataError
from llmrec.recommenders.item_graph import below_zero, history_weights
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.types import Ragged

BYTES_A_PAIR = 16
"""While it learns: a float64 matrix that becomes its own inverse, and two float32 matrices."""

ITEMS_AT_ONCE = 1024


class EASE(ScoringRecommender):
    """`argmin |X - X B|^2 + regularization |B|^2` over `B` with a zero diagonal; an item's score is its row of `h B`.

    With `P = (X'X + regularization I)^-1` the solution is `B[i, j] = -P[i, j] / P[j, j]`. `X` says who took what, once.

    Args:
        regularization: the larger, the more a weight must be supported; the paper takes hundreds. The fewer events an
            item has, the less of it.
        max_gigabytes: a catalog that needs more memory than this to learn is refused, before anything is computed:
            `16 N^2` bytes (12,000 items 2.3 GB, 50,000 items 40 GB). A saved one has `4 N^2`.
    """

    regularization: float = Field(default=100.0, gt=0)
    max_gigabytes: float = Field(default=8.0, gt=0)

    kind: ClassVar[str] = "ease"

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        """`weights float32[N, N]`, and `backoff` for an empty history.

        Raises:
            DataError: the catalog is too large for `max_gigabytes`.
        """
        from scipy import sparse
        from scipy.linalg import lapack

        size, once = len(train.items), train.without_repeats()
        if (needed := BYTES_A_PAIR * size**2 / 1e9) > self.max_gigabytes:
            most = int((self.max_gigabytes * 1e9 / BYTES_A_PAIR) ** 0.5)
            raise DataError(
                f"EASE on {size:,} items needs {needed:,.1f} GB, max_gigabytes is {self.max_gigabytes:g}.",
                fix=f"Keep at most {most:,} items (split.min_item_events), raise max_gigabytes, or take itemknn, which "
                "is sparse.",
            )
        shape = (len(train.users), size)
        taken = sparse.csr_matrix((np.ones(len(once)), (once.user_rows, once.item_rows)), shape=shape)
        gram = np.empty((size, size), order="F")
        for start in range(0, size, ITEMS_AT_ONCE):
            columns = slice(start, start + ITEMS_AT_ONCE)
            gram[:, columns] = (taken.T @ taken[:, columns]).toarray()
        gram[np.diag_indices(size)] += self.regularization
        with one_blas_thread():  # the same bytes on any number of cores
            factor, failed = lapack.dpotrf(gram, lower=0, overwrite_a=1)
            inverse, failed_too = lapack.dpotri(factor, lower=0, overwrite_c=1)  # in place: the upper triangle
        if failed or failed_too:
            raise DataError("the item matrix cannot be inverted.", fix="Raise the regularization.")
        diagonal = inverse.diagonal().astype(np.float32)
        weights = np.triu(inverse.astype(np.float32), 1)
        del gram, factor, inverse
        weights += weights.T
        weights /= -diagonal
        return {"weights": weights, "backoff": below_zero(train)}

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        """`float32[B, N]`: sums of weights, which may be negative; popularity for an empty history."""
        weights = self._arrays["weights"]
        scores = np.asarray(history_weights(histories, len(weights)).sign() @ weights, np.float32)
        scores[histories.lengths == 0] = self._arrays["backoff"]
        return scores
