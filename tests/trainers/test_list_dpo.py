"""Alignment of whole lists on a toy world whose answer is known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from circle import QUICK, base_model, circle, make_task
from transformers import TrainerCallback
from worlds import TinyWorld

from llmrec.data.split import Split
from llmrec.errors import DataError, RecipeError
from llmrec.evaluation.metrics import ndcg
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.list_preferences import ListPreferences
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.completions import add_completion_scores
from llmrec.trainers.list_dpo import ListDPO
from llmrec.trainers.preference_samples import PackChoices, preference_dataset
from llmrec.trainers.rewards.base import Asked
from llmrec.trainers.sft import SFT

ARGS = {**QUICK, "num_train_epochs": 2, "learning_rate": 5e-3, "beta": 0.5}


class Trained(NamedTuple):
    task: NextItemTask
    split: Split
    model: Any

    def copy(self) -> Any:
        return copy.deepcopy(self.model)


@pytest.fixture(scope="module")
def start(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model that knows the circle a little."""
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    sft = SFT(args={**QUICK, "num_train_epochs": 2})
    recommender, _ = sft.train(base_model(), task, split.train, split.valid, tmp_path_factory.mktemp("sft"), seed=0)
    return Trained(task, split, recommender.model)


def settings(**changes: Any) -> ListDPO:
    given = {"lists": {"length": 3, "per_user": 2}, "beams": 8, "lora": {"r": 4}, **changes}
    return ListDPO.parse({**given, "args": {**ARGS, **changes.get("args", {})}})


def train(start: Trained, folder: Path, dpo: ListDPO, **more: Any) -> tuple[LLMRecommender, dict[str, Any]]:
    return dpo.train(start.copy(), start.task, start.split.train, start.split.valid, folder, seed=0, **more)


def test_a_list_is_trained_by_the_score_that_it_is_decoded_by(start: Trained) -> None:
    """Of every option of every choice, also of those that share a prompt."""
    found = LLMRecommender(start.copy(), start.task).recommend_lists(
        [start.split.train.history(user)[:position] for user in (3, 7) for position in (2, 4)], 3, count=5
    )
    users, positions = np.repeat(np.array([3, 7], np.int32), 2), np.tile(np.array([2, 4], np.int32), 2)
    rows = preference_dataset(start.task, start.split.train, ListPreferences(users, positions, found.rows))
    assert len(rows) == 2
    model = start.copy()
    add_completion_scores(model, start.task.items, "level")
    batch = PackChoices(0, 5)([rows[0], rows[1]])
    with torch.no_grad():
        said = model(**batch).log_probs.sum(-1)
    np.testing.assert_allclose(said, found.scores[::-1], atol=1e-4)  # the latest choice of the last user comes first


@pytest.mark.parametrize("changes", [{}, {"judged": {"chosen": "best"}}, {"tuning": "full"}], ids=str)
def test_lists_get_better(start: Trained, tmp_path: Path, changes: dict[str, Any]) -> None:
    """By the reward, after the histories of training, and after those that are a step longer."""
    dpo = settings(args={"num_train_epochs": 3}, **changes)
    moments = dpo.lists.build(start.split.train, 0)

    def figures(model: LLMRecommender) -> list[float]:
        lists = model.recommend_lists(moments.histories, 3).rows[:, 0]
        longer = model.recommend_lists(start.split.valid.histories, 2).rows[:, 0]
        last = np.array([history[-1] for history in start.split.valid.histories])
        right = longer == (last[:, None] + [1, 2]) % 20
        return [float(ndcg(lists, moments.observed, 3).mean()), float(right.mean())]

    before = figures(LLMRecommender(start.copy(), start.task))
    recommender, log = train(start, tmp_path, dpo)
    after = figures(recommender)
    assert after[0] > before[0] + 0.02
    assert after[1] > before[1] + 0.02
    assert log["reward_of_best_list"] == pytest.approx(before[0], abs=1e-3)
    assert 0 < log["preferences"] <= len(moments)
    noted = [entry["rewards/margins"] for entry in log["history"] if "rewards/margins" in entry]
    assert np.mean(noted[-3:]) > np.mean(noted[:3]) + 0.1
    found = recommender.recommend_lists(start.split.test.histories, 4, count=3)
    assert (found.rows >= 0).all()


def test_a_function_may_judge(start: Trained, tmp_path: Path) -> None:
    """Lists without one item are wanted, and come."""
    asked_for: list[Asked] = []

    def without_item_7(asked: Asked, lists: np.ndarray) -> np.ndarray:
        asked_for.append(asked)
        return -(lists == 7).any(-1).astype(np.float32)

    histories = start.split.valid.histories
    dpo = settings(judged={"chosen": "best"}, args={"num_train_epochs": 6, "eval_strategy": "no"}, beams=20)
    before = LLMRecommender(start.copy(), start.task).recommend_lists(histories, 3, count=4).rows
    recommender, _ = train(start, tmp_path, dpo, reward=without_item_7)
    after = recommender.recommend_lists(histories, 3, count=4).rows
    assert (after == 7).any(-1).mean() < 0.5 * (before == 7).any(-1).mean()
    train_rows = start.split.train
    for history, observed in zip(asked_for[0].histories, asked_for[0].observed, strict=True):
        whole = [*history, *observed]
        assert any(whole == train_rows.history(user)[: len(whole)].tolist() for user in range(40))


def test_where_all_lists_are_as_good_nothing_is_learned(start: Trained, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="equally good"):
        train(start, tmp_path, settings(), reward=lambda asked, lists: np.ones(lists.shape[:2], np.float32))


class Killed(Exception):
    pass


def test_a_killed_run_continues_to_the_same_weights(start: Trained, tmp_path: Path) -> None:
    class KillInTheSecondEpoch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.epoch > 1.3:
                raise Killed

    whole, log = train(start, tmp_path / "whole", settings())
    with pytest.raises(Killed):
        train(start, tmp_path / "cut", settings(), callbacks=[KillInTheSecondEpoch()])
    assert list((tmp_path / "cut").glob("checkpoint-*"))
    again, log_again = train(start, tmp_path / "cut", settings())
    assert log["reward_of_lists"] == log_again["reward_of_lists"]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lists": {"lenght": 3}}, r"lists\.lenght: unknown setting\. Did you mean 'length'"),
        ({"judged": {"chosen": "worst"}}, "judged"),
        ({"reward": {"ndcg": 0}}, "every weight is 0"),
        ({"args": {"loss_type": "ipo"}}, r"args\.loss_type is for loss: trl"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        settings(**changes)


def test_decoding_is_that_of_the_stage(start: Trained, tmp_path: Path) -> None:
    recommender, _ = train(start, tmp_path, settings(args={"num_train_epochs": 1}), decoding=Decoding(beams=3))
    assert recommender.decoding.beams == 3
