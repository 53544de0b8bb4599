"""Alignment in rounds: the model as it is now proposes, rewards judge, DPO prefers the better ones, and again.

OneRec (Deng et al. 2025, https://arxiv.org/abs/2502.18965) calls it iterative preference alignment: in each round a
small share of the users is asked, since beams cost more than steps, and the reference is the model that the round began
with. A round is an ordinary training of `llmrec.trainers.dpo` on preferences between the model's own beams.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from transformers import PreTrainedModel, TrainerCallback

from llmrec import artifact
from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.errors import DataError
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.judged_items import JudgedItems
from llmrec.tasks.negatives.base import NONE, Choices
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.positions import Positions
from llmrec.tasks.preferences import Preferences
from llmrec.trainers.callbacks import EndedByOthers
from llmrec.trainers.dpo import PreferenceSettings, arithmetic_of
from llmrec.trainers.preference_samples import preference_dataset
from llmrec.trainers.rewards.base import RewardFunction
from llmrec.trainers.rewards.mixture import Mixture, Rewards, scored
from llmrec.trainers.rollouts import Questions

logger = logging.getLogger(__name__)

ROUND = "round.json"
MODEL = "model"


class Rounds(PreferenceSettings):
    """Settings of the stage, beside those of `PreferenceSettings`; `args` is that of one round.

    Args:
        rounds: how many. `patience` counts rounds.
        ask: after which histories the model is asked: those in front of `choices` of the train rows (`choices`), whose
            answers are known and which the model was trained on; or all that a user took (`now`), where only rewards
            that need no answer can judge.
        choices: drawn anew in each round; its `share` is that of the users of one round.
        beams: items that the model proposes. judged: which of them are preferred to which.
        rewards: one or several, each with its settings and a `weight`.
        nll_weight: see `PreferenceSettings`; not 0 here, because preferences between its own beams move a model fast.
    """

    one_process: ClassVar[bool] = True

    rounds: int = Field(3, ge=1)
    ask: Literal["choices", "now"] = "choices"
    choices: Positions = Positions(share=0.01)
    beams: int = Field(20, ge=2)
    judged: JudgedItems = Field(default_factory=JudgedItems)
    rewards: Rewards = [{"kind": "next_item"}]
    nll_weight: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _rounds_can_be_judged(self) -> Self:
        if self.ask == "now" and self.judged.chosen == "observed":
            raise ValueError("ask: now has no observed answer, since no train row comes later; set judged.chosen: best")
        if str(self.args.get("eval_strategy", "epoch")) == "steps":
            raise ValueError("args.eval_strategy: a round is evaluated at its end; set it to epoch, or to 'no'")
        return self

    def fingerprint(self) -> str:
        """That of the files which rewards read."""
        return Mixture.of(self.rewards).fingerprint()

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
        reward: RewardFunction | None = None,
    ) -> tuple[LLMRecommender, dict[str, Any]]:
        """Align a trained model; goes on from the last finished round in `output` and the checkpoints behind it.

        Args:
            model: one that was trained with these item tokens. reward: judges in place of the setting.
                The others are as in `SFT.train`.

        Returns:
            The recommender of the best round, and the log, with `rounds`: of each its `preferences`, the mean reward of
            what the model proposed first (`reward_of_first`) and at all (`reward_of_beams`), and its best validation.

        Raises:
            RecipeError: the model was not trained with these item tokens, or not on all items.
            DataError: a round has no preference to learn from, or a reward gives something else than numbers.
        """
        decoding = decoding or Decoding()
        self.config(output, seed)
        self.check_trained(model, task)
        judge = reward or Mixture.of(self.rewards).fit(task, train, seed)
        positives, ended = self.choices.positives(train), EndedByOthers()
        done: list[dict[str, Any]] = _finished_rounds(output)
        if done:
            model = LLMRecommender.from_pretrained(_folder(output, len(done)) / MODEL, dtype="auto").model
        recommender = LLMRecommender(model, task, decoding)
        while len(done) < self.rounds and not self._is_tired(done):
            number = len(done) + 1
            config = self.config(_folder(output, number) / "train", _seed_of(seed, number))
            before = self.before(model, task, decoding, config)
            with arithmetic_of(config):
                found, figures = self._preferences(before, train, positives, judge, exclude_seen, config.seed, number)
            rows = preference_dataset(task, train, found)
            once = self.model_copy(update={"patience": None})
            recommender, log = once.train_on(
                *(model, rows, before, config, valid, exclude_seen), callbacks=[*callbacks, ended]
            )
            model = recommender.model
            done.append({"preferences": len(found), **figures, **log})
            _keep(output, done, recommender)
            logger.info("round %d of %d: %s", number, self.rounds, {"best": log["best"], **figures})
            if ended.yes:
                break
        best = _best(done)
        if best != len(done):
            recommender = LLMRecommender.from_pretrained(_folder(output, best) / MODEL, dtype="auto")
            recommender.decoding = decoding
        return recommender, _log_of(done, best)

    def _preferences(
        self,
        before: LLMRecommender,
        train: Interactions,
        positives: Any,
        judge: RewardFunction,
        exclude_seen: bool,
        seed: int,
        number: int,
    ) -> tuple[Preferences, dict[str, float]]:
        """What the model proposes to this round's users, judged; and what it was worth."""
        users, positions = (
            self.choices.now(train, seed) if self.ask == "now" else self.choices.choose(train, positives, seed)
        )
        if not len(users):
            raise DataError(
                f"round {number}: no choice is left to ask about.",
                fix="Raise choices.share, or lower choices.min_history.",
            )
        asked = Questions(train, users, positions, positives).asked(range(len(users)))
        taken = asked.next_items()
        proposed = before.recommend(asked.histories, self.beams, exclude_seen).rows
        candidates = self.judged.candidates(proposed, taken)
        worth = scored(judge, asked, candidates)
        choices = Choices(train, before.task.items.index, users, positions, positives)
        which = np.broadcast_to(np.arange(len(users))[:, None], candidates.shape)
        is_wish = choices.is_positive(which.ravel().copy(), candidates.ravel()).reshape(candidates.shape)
        found = self.judged.build(users, positions, candidates, worth, is_wish)
        if not len(found):
            raise DataError(
                f"round {number}: no preference is left of {len(users):,} choices: the rewards call all candidates "
                "equally good.",
                fix="Raise beams or choices.share, or add a reward that tells them apart, such as recommender.",
            )
        of_proposed = np.where(proposed == taken[:, None], worth[:, :1], worth[:, 1:])
        return found, {
            "reward_of_first": round(float(of_proposed[:, 0].mean()), 6),
            "reward_of_beams": round(float(of_proposed[proposed != NONE].mean()), 6),
        }

    def _is_tired(self, done: list[dict[str, Any]]) -> bool:
        return self.patience is not None and bool(done) and len(done) - _best(done) >= self.patience


def _seed_of(seed: int, number: int) -> int:
    """Of a round: its users, its order, its dropout."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] % 2**31)


def _folder(output: Path, number: int) -> Path:
    return output / f"round-{number}"


def _finished_rounds(output: Path) -> list[dict[str, Any]]:
    """The logs of the rounds that are done, in their order."""
    found: list[dict[str, Any]] = []
    while (path := _folder(output, len(found) + 1) / ROUND).is_file():
        found.append(json.loads(path.read_text()))
    return found


def _keep(output: Path, done: list[dict[str, Any]], recommender: LLMRecommender) -> None:
    """The round's model and log; of the models before it only the best stays, and no checkpoint."""
    folder = _folder(output, len(done))
    recommender.save_pretrained(folder / MODEL)
    artifact.write_text(folder / ROUND, json.dumps(done[-1]))
    shutil.rmtree(folder / "train", ignore_errors=True)
    for number in range(1, len(done)):
        if number != _best(done):
            shutil.rmtree(_folder(output, number) / MODEL, ignore_errors=True)


def _best(done: list[dict[str, Any]]) -> int:
    """The number of the round to keep: the best on validation, of equal ones the first; the last where none was."""
    scores = [log["best"] for log in done]
    if any(score is None for score in scores):
        return len(done)
    return 1 + max(range(len(done)), key=lambda at: scores[at])


def _log_of(done: list[dict[str, Any]], best: int) -> dict[str, Any]:
    """One log of all rounds, as if they were one training; a round adds its steps to those before it."""
    history: list[dict[str, Any]] = []
    steps = 0
    for number, log in enumerate(done, 1):
        history += [{**entry, "step": entry["step"] + steps, "round": number} for entry in log["history"]]
        steps = max([steps, *(entry["step"] for entry in history)])
    of_rounds = [{name: value for name, value in log.items() if name != "history"} for log in done]
    return {
        "preferences": sum(log["preferences"] for log in done),
        "rounds": of_rounds,
        "best_round": best,
        "history": history,
        "best": done[best - 1]["best"],
    }
