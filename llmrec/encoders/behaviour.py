"""Item vectors from behaviour: items that the same people take at about the same time lie close together.

Counts of co-occurrence in a window over each train history, weighted by positive pointwise mutual information and
factorised: the matrix that word2vec factorises implicitly, up to a shift (Levy and Goldberg, 2014), without training a
network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.base import Encoded, State
from llmrec.encoders.vectors import require_items, truncated_svd, unit_rows


class BehaviourEncoder(Component):
    """Truncated SVD of the positive PMI of co-occurrence, from train rows only.

    Args:
        window: two events of one user count as a pair when they are at most this many positions apart.
        dimensions: columns of the result; fewer where the matrix has a lower rank.
        min_count: an item with fewer train events gets a zero row (its neighbours would be chance).
        seed: of the SVD's random start.
    """

    window: int = Field(default=5, ge=1)
    dimensions: int = Field(default=64, ge=1)
    min_count: int = Field(default=1, ge=1)
    seed: int = 0

    def fit(self, catalog: Catalog, train: Interactions) -> Encoded:
        """Unit rows; zero for an item that train says nothing of."""
        require_items(len(catalog))
        weights = positive_pmi(cooccurrence(train, self.window, self.min_count))
        if weights.nnz == 0:
            return Encoded(np.zeros((len(catalog), 1), np.float32), {"width": np.array([1])})
        left, values, _ = truncated_svd(weights, self.dimensions, self.seed)
        # The square root is the weighting that Levy, Goldberg and Dagan (2015) recommend.
        return Encoded(unit_rows(left * np.sqrt(values)), {"width": np.array([len(values)])})

    def encode(self, catalog: Catalog, state: State) -> NDArray[np.float32]:
        """Zero rows: nobody has taken these items yet."""
        return np.zeros((len(catalog), int(state["width"][0])), np.float32)


def cooccurrence(train: Interactions, window: int, min_count: int = 1) -> Any:
    """How often two items stand within `window` positions of each other in one history.

    Returns:
        A symmetric SciPy CSR matrix `float64[N, N]`; the diagonal (an item with itself) is empty.
    """
    from scipy import sparse

    count = len(train.items)
    items, users = train.item_rows, train.user_rows
    frequent = np.bincount(items, minlength=count) >= min_count
    pairs = sparse.csr_matrix((count, count), dtype=np.float64)
    for distance in range(1, window + 1):
        left, right = items[:-distance], items[distance:]
        kept = (users[:-distance] == users[distance:]) & (left != right) & frequent[left] & frequent[right]
        ones = np.ones(int(kept.sum()))
        pairs = pairs + sparse.csr_matrix((ones, (left[kept], right[kept])), shape=(count, count))
    return (pairs + pairs.T).tocsr()


def positive_pmi(counts: Any) -> Any:
    """`max(0, log(p(i, j) / (p(i) p(j))))` of a symmetric matrix of counts, as a CSR matrix `float32[N, N]`."""
    from scipy import sparse

    pairs = counts.tocoo()
    margins = np.asarray(counts.sum(axis=0)).ravel()
    pmi = np.log(pairs.data * margins.sum() / (margins[pairs.row] * margins[pairs.col]))
    kept = pmi > 0
    return sparse.csr_matrix((pmi[kept].astype(np.float32), (pairs.row[kept], pairs.col[kept])), shape=counts.shape)
