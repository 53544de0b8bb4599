"""A language model that answers with one list in place of a ranking: its k items are chosen together.

Evaluation, files of users and the command line know of `Recommender.recommend` alone; through this class they ask for
lists and need not know.

    evaluate(AsLists(recommender), split.test, ks=[5], metrics=["ndcg", "recall"])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.hub import Pushed
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.llm import LLMRecommender
from llmrec.types import Candidates, PreparedCandidates, Ragged, Rows, ScoredItems


class AsLists(Recommender):
    """The best list of each history.

    Args:
        recommender: the language model.
    """

    kind: ClassVar[str] = LLMRecommender.kind

    def __init__(self, recommender: LLMRecommender) -> None:
        self.recommender = recommender

    @property
    def catalog(self) -> Catalog:
        """The items that can be recommended."""
        return self.recommender.catalog

    @property
    def log_probabilities(self) -> bool:
        """Never: a score is of the whole list."""
        return False

    def recommend(
        self,
        histories: Ragged | Sequence[Rows],
        k: int = 10,
        exclude_seen: bool = True,
        candidates: Candidates | None = None,
        exclude: Ragged | None = None,
    ) -> ScoredItems:
        """The best list of k items after each history; see `Recommender.recommend`.

        Returns:
            Items in the order of the list. Each has the score of the whole list, `log p(list | history)`; `exact` says
            whether it is proven to be the best list. The first items of a longer list need not be the best shorter one.
        """
        found = self.recommender.recommend_lists(histories, k, 1, exclude_seen, candidates, exclude)
        rows = found.rows[:, 0]
        return ScoredItems(rows, np.where(rows >= 0, found.scores, np.float32(-np.inf)), found.exact)

    def prepare_candidates(self, candidates: Rows) -> PreparedCandidates:
        """See `Recommender.prepare_candidates`."""
        return self.recommender.prepare_candidates(candidates)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the language model's folder; how it is asked is not in it."""
        self.recommender.save_pretrained(folder)

    def push_to_hub(self, repository: str, **how: Any) -> Pushed:
        """Upload the language model's folder."""
        return self.recommender.push_to_hub(repository, **how)
