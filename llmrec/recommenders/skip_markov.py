"""A Markov chain with skips: what followed the last few items, soon or a little later.

The first-order counter (`markov`) sees one item and its direct followers. On sparse data most pairs were seen once or
never, so counting pairs a few steps apart, as the sequential rules of Ludewig and Jannach (2018) do, says more.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.data.interactions import Interactions
from llmrec.recommenders.item_graph import below_zero, from_arrays, graph_scores, history_weights, to_arrays
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.types import Ragged


class SkipMarkov(ScoringRecommender):
    """`score(j) = sum over ages a < order of decay^a * count(h[a] -> j)`, with `h[a]` the history's item of age `a`.

    `count(i -> j)` sums `decay^(d - 1)` over the train pairs in which `j` came `d` steps after `i`, `d` at most
    `order`. Items that never followed come after these, by popularity, with scores of at most 0. With `order` 1 this
    ranks as `markov` with `ties: popularity`.

    Args:
        order: how many items the chain looks back, in train pairs and in the history.
        decay: what each further step costs, in (0, 1]; 1 counts all alike.
        normalise: divide the counts of an item by a power of their sum: 0 leaves them, 1 makes probabilities of them,
            so that an item that many things follow says no more than one that few follow.
    """

    order: int = Field(default=5, ge=1)
    decay: float = Field(default=0.5, gt=0, le=1)
    normalise: float = Field(default=0.5, ge=0, le=1)

    kind: ClassVar[str] = "skip_markov"

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        """The counts as a sparse matrix by earlier item, and the back-off. Memory: 12 bytes a distinct pair."""
        from scipy import sparse

        size, items, users = len(train.items), train.item_rows, train.user_rows
        graph = sparse.csr_matrix((size, size), dtype=np.float64)
        for distance in range(1, self.order + 1):
            kept = users[:-distance] == users[distance:]
            before, after = items[:-distance][kept], items[distance:][kept]
            weights = np.full(len(before), self.decay ** (distance - 1))
            graph = graph + sparse.csr_matrix((weights, (before, after)), shape=(size, size))
        sums = np.asarray(graph.sum(axis=1)).ravel()
        scale = np.power(np.where(sums > 0, sums, 1), -self.normalise)
        return {**to_arrays((sparse.diags(scale) @ graph).tocsr()), "backoff": below_zero(train)}

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        """`float32[B, N]`: above 0 for items that followed one of the last `order` items, of at most 0 for others."""
        backoff = self._arrays["backoff"]
        weights = history_weights(histories, len(backoff), self.decay, last=self.order)
        return graph_scores(weights, from_arrays(self._arrays, len(backoff)), backoff)
