"""ALS: factors of users and items for counts without ratings (Hu, Koren and Volinsky, 2008), learned by `implicit`.

"Collaborative Filtering for Implicit Feedback Datasets". Only the training needs the package (`pip install
'llmrec[als]'`): a user's factors follow from their history in closed form, so a saved model is plain arrays.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.data.interactions import Interactions
from llmrec.encoders.vectors import one_blas_thread
from llmrec.errors import MissingExtraError
from llmrec.recommenders.item_graph import below_zero
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.recommenders.text_knn import in_fixed_batches
from llmrec.types import Ragged


class ALS(ScoringRecommender):
    """`min sum c (p - x . y)^2 + regularization (|x|^2 + |y|^2)`, with `p` and `c` as below; the score is `x . y`.

    What a user took has the preference `p = 1` and the confidence `c = alpha`; all else `p = 0`, `c = 1`. A history is
    folded in: its `x` is the minimum for fixed item factors `y`. What is repeated counts once.

    Args:
        factors: dimensions. regularization, alpha: see the formula. iterations: of alternating solutions.
        seed: of the first factors; one thread learns, so that the same seed gives the same bytes.
    """

    factors: int = Field(default=64, ge=1)
    regularization: float = Field(default=1.0, gt=0)
    alpha: float = Field(default=10.0, ge=1)
    iterations: int = Field(default=15, ge=1)
    seed: int = Field(default=0, ge=0)

    kind: ClassVar[str] = "als"

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        """`factors float32[N, F]`, and `backoff` for an empty history.

        Raises:
            MissingExtraError: `implicit` is not installed.
        """
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError:
            raise MissingExtraError("implicit", "als", "training ALS") from None
        from scipy import sparse

        once = train.without_repeats()
        shape = (len(train.users), len(train.items))
        taken = sparse.csr_matrix((np.ones(len(once), np.float32), (once.user_rows, once.item_rows)), shape=shape)
        model = AlternatingLeastSquares(
            self.factors, self.regularization, self.alpha,
            iterations=self.iterations, num_threads=1, random_state=self.seed,
        )  # fmt: skip
        with one_blas_thread():
            model.fit(taken, show_progress=False)
        return {"factors": np.asarray(model.item_factors, np.float32), "backoff": below_zero(train)}

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        """`float32[B, N]`: products of factors; popularity for an empty history."""
        items = self._arrays["factors"].astype(np.float64)
        ridge = items.T @ items + self.regularization * np.eye(items.shape[1])  # (F, F)
        users = np.zeros((len(histories), items.shape[1]), np.float32)
        with one_blas_thread():
            for user, history in enumerate(histories):
                mine = items[np.unique(history)]  # (n, F)
                users[user] = np.linalg.solve(ridge + (self.alpha - 1) * mine.T @ mine, self.alpha * mine.sum(axis=0))
        scores = in_fixed_batches(users, self._arrays["factors"])
        scores[histories.lengths == 0] = self._arrays["backoff"]
        return scores
