"""Recommend the neighbours of what was taken: items that the same people took (Sarwar et al., 2001).

Tuned as in Ferrari Dacrema et al., 2019 ("Are We Really Making Much Progress?"), where this outdid most neural
recommenders of its day.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm.auto import tqdm

from llmrec.data.interactions import Interactions
from llmrec.recommenders.item_graph import below_zero, from_arrays, graph_scores, history_weights, to_arrays
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.types import Ragged

ITEMS_AT_ONCE = 1024


class ItemKNN(ScoringRecommender):
    """Shrunk cosine between the sets of users of two items; an item's score is the sum over the history.

    `similarity(i, j) = users of both / (sqrt(users of i * users of j) + shrinkage)`. Items that are nobody's neighbour
    follow, by popularity, with scores of at most 0.

    Args:
        neighbours: of every item of the history, only so many nearest items get a score. Of equal ones the more
            popular is nearer, then the lower item row.
        shrinkage: users that a similarity must outweigh; the larger, the less a single common user proves.
        decay: an event of age `a` in the history weighs `decay ** a`. The published form is 1, where order is nothing.
    """

    neighbours: int = Field(default=100, ge=1)
    shrinkage: float = Field(default=10.0, ge=0)
    decay: float = Field(default=1.0, gt=0, le=1)

    kind: ClassVar[str] = "itemknn"

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        """The neighbours as a sparse matrix by history item, and the back-off.

        Memory: `12 N neighbours` bytes, and the similarities of 1,024 items while they are sorted.
        """
        from scipy import sparse

        size, once = len(train.items), train.without_repeats()
        shape = (len(train.users), size)
        taken = sparse.csr_matrix((np.ones(len(once), np.float32), (once.user_rows, once.item_rows)), shape=shape)
        lengths = np.sqrt(np.asarray(taken.sum(axis=0), np.float64)).ravel()
        backoff, by_item, parts = below_zero(train), taken.T.tocsr(), []
        for start in tqdm(range(0, size, ITEMS_AT_ONCE), desc="itemknn", unit="chunk", delay=2, leave=False):
            common = (by_item[start : start + ITEMS_AT_ONCE] @ taken).tocoo()  # (chunk, N)
            owners = common.row + start
            similar = common.data / (lengths[owners] * lengths[common.col] + self.shrinkage)
            others = owners != common.col
            parts.append(_nearest(owners[others], common.col[others], similar[others], backoff, self.neighbours))
        owners, items, similar = (np.concatenate(part) for part in zip(*parts, strict=True))
        graph = sparse.csr_matrix((similar, (owners, items)), shape=(size, size))
        return {**to_arrays(graph), "backoff": backoff}

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        """`float32[B, N]`: sums of similarities, above 0; the back-off, of at most 0, for all other items."""
        backoff = self._arrays["backoff"]
        graph = from_arrays(self._arrays, len(backoff))
        return graph_scores(history_weights(histories, len(backoff), self.decay), graph, backoff)


def _nearest(
    owners: NDArray[np.int64],
    items: NDArray[np.int32],
    similar: NDArray[np.float64],
    popular: NDArray[np.float32],
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """The triples (owner, item, similarity) that are among the `count` most similar of their owner."""
    order = np.lexsort((items, -popular[items], -similar, owners))
    starts = np.searchsorted(owners[order], owners[order])  # where the owner's items begin
    order = order[np.arange(len(order)) - starts < count]
    return owners[order], items[order], similar[order]
