"""Another recommender as the judge: which of the proposed items would it put higher?

OneRec (Deng et al. 2025, https://arxiv.org/abs/2502.18965) judges by a model that was trained for ranking, MiniOneRec
(https://arxiv.org/abs/2510.24431) by the scores of a SASRec. What a score means differs from one recommender to the
next, so the reward is a rank.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from llmrec import artifact
from llmrec.component import Component
from llmrec.data.interactions import Interactions
from llmrec.errors import ArtifactError, RecipeError
from llmrec.registry import build, resolve
from llmrec.tasks.negatives.base import Rows2D
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked, RewardFunction
from llmrec.types import Ragged, Rows


class OtherRecommender(Component):
    """The share of the other items of its group that a recommender scores below an item, in [0, 1].

    Args:
        model: a recommender with its settings, such as `{kind: sasrec, epochs: 30}`, fitted on the train rows.
        folder: or the folder of a finished one, of any kind, which must have been trained on no more than these rows.
    """

    model: dict[str, Any] | None = None
    folder: Path | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.model is None) == (self.folder is None):
            raise ValueError("give either model (a recommender that is fitted here) or folder (a finished one)")
        if self.model is not None:
            kind = str(self.model.get("kind"))
            if not hasattr(resolve("recommender", kind), "fit"):
                raise ValueError(f"model: '{kind}' cannot be fitted here; give the folder of a finished one")
            self._built()
        return self

    def fit(self, task: NextItemTask, train: Interactions, seed: int) -> RewardFunction:
        """See `Reward.fit`.

        Raises:
            ArtifactError: the folder knows other items.
        """
        judge = self._load() if self.model is None else self._built(seed).fit(train, task.catalog)
        if list(judge.catalog.items.ids) != list(task.catalog.items.ids):
            raise ArtifactError(f"rewards: {self.folder} knows other items than the data. Give one of the same data.")

        def score(asked: Asked, items: Rows2D) -> NDArray[np.float32]:
            return shares_below(scores_of(judge, asked.histories, items))

        return score

    def fingerprint(self) -> str:
        """That of the folder's content."""
        return "" if self.folder is None else artifact.digest(self.folder)

    def _built(self, seed: int = 0) -> Any:
        assert self.model is not None
        found = build("recommender", self.model, "rewards.model")
        takes_seed = "seed" in type(found).model_fields and "seed" not in self.model
        return found.model_copy(update={"seed": seed}) if takes_seed else found

    def _load(self) -> Any:
        from llmrec.recommenders.base import Recommender

        assert self.folder is not None
        if not self.folder.is_dir():
            raise RecipeError(f"rewards.folder: there is no folder {self.folder}. Give one made by 'llmrec run'.")
        return Recommender.from_pretrained(self.folder)


def scores_of(judge: Any, histories: Ragged, items: Rows2D) -> NDArray[np.float64]:
    """A recommender's own scores of some items after each history, `float64[B, n]`; NaN where there is none.

    Args:
        judge: a `Recommender`. items: `int32[B, n]`, -1 for none; one may stand in several places.
    """
    candidates: list[Rows] = [np.unique(row[row >= 0]) for row in items]
    most = max(map(len, candidates), default=0)
    found = np.full(items.shape, np.nan)
    if most == 0:
        return found
    answer = judge.recommend(histories, most, False, Ragged.from_lists(candidates))
    for line, (rows, scores) in enumerate(zip(answer.rows, answer.scores, strict=True)):
        of_item = dict(zip(rows.tolist(), scores.tolist(), strict=True))
        found[line] = [of_item.get(row, np.nan) if row >= 0 else np.nan for row in items[line].tolist()]
    return found


def shares_below(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Of each group, `float64[B, n]` with NaN for none, the share of the others with a lower score, `float32[B, n]`."""
    below = (scores[:, None, :] < scores[:, :, None]).sum(2)  # comparisons with NaN are false
    others = np.maximum((~np.isnan(scores)).sum(1, keepdims=True) - 1, 1)
    return (below / others).astype(np.float32)
