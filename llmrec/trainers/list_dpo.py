"""Preference alignment of whole lists: the model proposes lists, a reward judges them, DPO prefers the better ones.

OneRec (Deng et al., 2025) aligns a model that writes sessions by pairs of its own best and worst session. A list is
here one long code, trained as the code of an item is (see `llmrec.trainers.dpo`): the prompt once, one branch a list.
This is one round; several stages of `kind: list_dpo` behind each other are several.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from transformers import PreTrainedModel, TrainerCallback

from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.errors import DataError
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.list_preferences import JudgedLists
from llmrec.tasks.lists import ListData
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.dpo import PreferenceSettings, arithmetic_of
from llmrec.trainers.preference_samples import preference_dataset
from llmrec.trainers.rewards.base import Asked
from llmrec.trainers.rewards.lists import ListReward, ListRewardFunction, scored_lists


class ListDPO(PreferenceSettings):
    """Settings of the stage, beside those of `PreferenceSettings`.

    Args:
        lists: after which histories, and how long. beams: lists that the model proposes after each.
        judged: which of them are preferred to which. reward: how good a list is.
        nll_weight: not 0 here; without it lists became worse (docs/lists.md).
    """

    lists: ListData = Field(default_factory=ListData)
    beams: int = Field(20, ge=2)
    judged: JudgedLists = Field(default_factory=JudgedLists)
    reward: ListReward = Field(default_factory=ListReward)
    nll_weight: float = Field(1.0, ge=0)

    def fingerprint(self) -> str:
        """That of the files which rewards come from."""
        return self.reward.fingerprint()

    def train(
        self,
        model: PreTrainedModel,
        task: NextItemTask,
        train: Interactions,
        valid: Examples,
        output: Path,
        seed: int,
        decoding: Decoding | None = None,
        exclude_seen: bool = True,
        callbacks: Sequence[TrainerCallback] = (),
        reward: ListRewardFunction | None = None,
    ) -> tuple[LLMRecommender, dict[str, Any]]:
        """Align a trained model; resumes from the last checkpoint in `output` if there is one.

        Args:
            model: one that was trained with these item tokens. reward: judges in place of the setting.
                The others are as in `SFT.train`; validation ranks single items.

        Returns:
            The recommender (of the best evaluation), and the log, with the number of `preferences` and the mean reward
            of the lists that the model proposed first (`reward_of_best_list`) and at all (`reward_of_lists`).

        Raises:
            RecipeError: the model was not trained with these item tokens, or not on all items.
            DataError: no list is left to learn from, or the reward gives something else than numbers.
        """
        config = self.config(output, seed)
        ranker = self.before(model, task, decoding or Decoding(), config)
        moments = self.lists.build(train, seed)
        histories = moments.histories
        with arithmetic_of(config):
            found = ranker.recommend_lists(
                histories, self.lists.length, self.beams, exclude_seen, progress=not config.disable_tqdm
            )
        asked, proposals = Asked(histories, moments.observed), self.judged.proposals(moments, found.rows)
        worth = scored_lists(reward or self.reward.fit(task, train, seed), asked, proposals)
        preferences = self.judged.build(moments, proposals, worth)
        if not len(preferences):
            raise DataError(
                f"no preference is left of {len(moments):,} lists: the reward calls all proposals equally good.",
                fix="Raise beams or per_user, or give the reward a second part, such as diversity.",
            )
        of_model = worth[:, -found.rows.shape[1] :]
        rows = preference_dataset(task, train, preferences)
        recommender, log = self.train_on(model, rows, ranker, config, valid, exclude_seen, callbacks)
        rewards = {
            "reward_of_best_list": float(of_model[:, 0].mean()),
            "reward_of_lists": float(np.mean(of_model[found.rows[..., 0] >= 0])),
        }
        return recommender, {"preferences": len(preferences), **rewards, **log}
