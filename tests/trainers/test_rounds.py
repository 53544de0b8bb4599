"""Alignment in rounds on a toy world: who is asked, what is learned, which round is kept, what a kill leaves."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from circle import QUICK, base_model, circle, make_task
from transformers import TrainerCallback
from worlds import TinyWorld

from llmrec.data.split import Split
from llmrec.errors import DataError, RecipeError
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked
from llmrec.trainers.rounds import Rounds
from llmrec.trainers.sft import SFT

JUDGE = {"kind": "recommender", "model": {"kind": "markov"}}


@pytest.fixture(scope="module")
def start(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[NextItemTask, Split, Any]:
    """A model that knows the circle a little."""
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    sft = SFT(args={**QUICK, "num_train_epochs": 2})
    model = sft.train(base_model(), task, split.train, split.valid, tmp_path_factory.mktemp("sft"), seed=0)[0].model
    return task, split, model


def rounds(**changes: Any) -> Rounds:
    args = {**QUICK, "num_train_epochs": 1, "learning_rate": 3e-3, "beta": 0.5, **changes.pop("args", {})}
    settings = {"tuning": "full", "rounds": 2, "choices": {"share": 0.5, "per_user": 3}, "beams": 8, "rewards": [JUDGE]}
    return Rounds.parse({**settings, **changes, "args": args}, "align")


def align(start: tuple[NextItemTask, Split, Any], output: Path, how: Rounds, **more: Any) -> Any:
    task, split, model = start
    return how.train(copy.deepcopy(model), task, split.train, split.valid, output, more.pop("seed", 0), **more)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tuning": "lora", "lora": {"r": 4}},
        {"judged": {"chosen": "best", "rejected": 5}},
        {"ask": "now", "judged": {"chosen": "best"}},
        {"loss": "dpo", "nll_weight": 0.2, "rewards": [{"kind": "next_item"}, {**JUDGE, "weight": 0.5}]},
    ],
    ids=str,
)
def test_what_the_judge_calls_good_is_proposed_first(start: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    everyone = {"choices": {"share": 1.0, "per_user": 2}, "args": {"num_train_epochs": 4}, "rounds": 3}
    _, log = align(start, tmp_path, rounds(**{**everyone, **changes}))
    assert log["rounds"][-1]["reward_of_first"] > log["rounds"][0]["reward_of_first"]
    assert len(log["rounds"]) == 3
    assert log["preferences"] == sum(each["preferences"] for each in log["rounds"]) > 0
    assert log["best"] == max(each["best"] for each in log["rounds"])
    steps = [entry["step"] for entry in log["history"]]
    assert steps == sorted(steps)


def test_each_round_draws_other_users_and_asks_the_model_as_it_is_then(start: Any, tmp_path: Path) -> None:
    seen: list[Asked] = []
    proposed: list[np.ndarray] = []

    def judge(asked: Asked, items: np.ndarray) -> np.ndarray:
        seen.append(asked)
        proposed.append(items)
        return -np.abs(items.astype(np.float32) - 3)

    how = rounds(choices={"share": 0.3}, judged={"chosen": "best"}, args={"num_train_epochs": 8})
    align(start, tmp_path, how, reward=judge)
    assert len(seen) == 2
    histories = [sorted(tuple(history.tolist()) for history in asked.histories) for asked in seen]
    assert histories[0] != histories[1]
    near = [float(np.abs(items[items >= 0] - 3).mean()) for items in proposed]
    assert near[1] < near[0]  # the second proposals come from the model that the first round changed


def test_asked_now_the_history_is_all_that_was_taken(start: Any, tmp_path: Path) -> None:
    seen: list[Asked] = []

    def judge(asked: Asked, items: np.ndarray) -> np.ndarray:
        seen.append(asked)
        return items.astype(np.float32)

    align(start, tmp_path, rounds(ask="now", rounds=1, judged={"chosen": "best"}, choices={"share": 1.0}), reward=judge)
    train = start[1].train
    assert [h.tolist() for h in seen[0].histories] == [train.history(u).tolist() for u in range(len(train.users))]
    assert not seen[0].observed.values.size


def test_the_best_round_is_kept_and_patience_counts_rounds(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.25, 0.9])
    train_on = Rounds.train_on
    weights: list[dict[str, torch.Tensor]] = []

    def scripted(self: Rounds, *args: Any, **more: Any) -> Any:
        recommender, log = train_on(self, *args, **more)
        weights.append(copy.deepcopy(recommender.model.state_dict()))
        return recommender, {**log, "best": next(scores)}

    monkeypatch.setattr(Rounds, "train_on", scripted)
    recommender, log = align(start, tmp_path, rounds(rounds=9, patience=2))
    assert [each["best"] for each in log["rounds"]] == [0.1, 0.3, 0.2, 0.25]
    assert (log["best"], log["best_round"]) == (0.3, 2)
    for name, value in recommender.model.state_dict().items():
        assert torch.equal(value, weights[1][name]), name
    kept = sorted(path.parent.name for path in tmp_path.glob("round-*/model"))
    assert kept == ["round-2", "round-4"]  # the best and the newest: the disk does not fill


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_killed_run_continues_to_the_same_weights(start: Any, tmp_path: Path, tuning: str, at: int) -> None:
    class Kill(TrainerCallback):
        """In the second epoch of a round, behind its first checkpoint."""

        rounds = 0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.rounds += 1

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.rounds == at and state.epoch > 1:
                raise Killed

    how = rounds(tuning=tuning, rounds=2, args={"num_train_epochs": 2})
    whole, of_whole = align(start, tmp_path / "whole", how)
    with pytest.raises(Killed):
        align(start, tmp_path / "cut", how, callbacks=[Kill()])
    assert len(list((tmp_path / "cut").glob("round-*/round.json"))) == at - 1
    again, log = align(start, tmp_path / "cut", how)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert [each["best"] for each in log["rounds"]] == [each["best"] for each in of_whole["rounds"]]


def test_a_run_whose_rounds_are_done_only_reads(start: Any, tmp_path: Path) -> None:
    first, _ = align(start, tmp_path, rounds())

    class Never(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            raise AssertionError("trained again")

    again, _ = align(start, tmp_path, rounds(), callbacks=[Never()])
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    shutil.rmtree(tmp_path)


def test_a_callback_that_ends_a_round_ends_them_all(start: Any, tmp_path: Path) -> None:
    class Enough(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = True

    _, log = align(start, tmp_path, rounds(rounds=5, args={"num_train_epochs": 3}), callbacks=[Enough()])
    assert len(log["rounds"]) == 1


def test_rewards_that_call_all_alike_are_told(start: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"round 1: no preference is left of .* equally good"):
        align(start, tmp_path, rounds(), reward=lambda asked, items: np.ones(items.shape))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ask": "now"}, r"set judged\.chosen: best"),
        ({"args": {"eval_strategy": "steps"}}, "a round is evaluated at its end"),
        ({"rewards": {"kind": "next_itm"}}, "Did you mean 'next_item'"),
        ({"judged": {"rejcted": 1}}, r"judged\.rejcted: unknown setting\. Did you mean 'rejected'"),
        ({"args": {"betta": 1}}, r"align\.args: .*betta"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        rounds(**changes).config(tmp_path, 0)
