"""Preference alignment on a toy world whose answer is known."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from circle import QUICK, base_model, circle, make_task
from torch import Tensor
from torch.nn import functional
from transformers import TrainerCallback
from worlds import TinyWorld

from llmrec.data.split import Split
from llmrec.errors import RecipeError
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.dpo import DPO, PreferenceTrainer
from llmrec.trainers.item_rows import train_item_rows_only
from llmrec.trainers.preference_samples import REFERENCE, preference_dataset
from llmrec.trainers.samples import IGNORED
from llmrec.trainers.sft import SFT

ARGS = {**QUICK, "num_train_epochs": 2, "learning_rate": 5e-3, "beta": 0.5}
SAMPLED = {"per_user": 3, "negatives": {"kind": "uniform", "count": 3}}


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


def settings(**changes: Any) -> DPO:
    return DPO.parse({"preferences": SAMPLED, "lora": {"r": 4}, **changes, "args": {**ARGS, **changes.get("args", {})}})


def make_trainer(start: Trained, folder: Path, **changes: Any) -> PreferenceTrainer:
    dpo, model = settings(**changes), start.copy()
    ranker = LLMRecommender(model, start.task, Decoding())
    found = dpo.preferences.build(start.split.train, start.task.items.index, 0, ranker)
    if dpo.tuning == "full":
        train_item_rows_only(model, start.task.items)
    rows = preference_dataset(start.task, start.split.train, found)
    return PreferenceTrainer(model, dpo.config(folder, 0), start.task, dpo, rows, start.split.valid, Decoding(), True)


def margins(recommender: LLMRecommender, start: Trained) -> np.ndarray:
    """By how much the next item on the circle scores above all others, after the last train items."""
    histories = [start.split.train.history(user)[:-1] for user in range(20)]
    scores = recommender.score(histories)
    right = np.array([start.split.train.history(user)[-1] for user in range(20)])
    return scores[np.arange(20), right] - scores.mean(1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "dpo"},
        {"loss": "trl"},
        {"loss": "trl", "args": {"loss_type": ["ipo", "sft"], "loss_weights": [1.0, 0.1]}},
        {"tuning": "full"},
        {"tuning": "full", "batch_tokens": 200, "item_rows_lr": 1e-3},
        {"over": "vocab", "args": {"gradient_accumulation_steps": 2}},
        {"preferences": {"per_user": None, "negatives": [{"kind": "beams", "count": 2}, {"kind": "popularity"}]}},
        {"args": {"precompute_ref_log_probs": True}},
        {"args": {"gradient_checkpointing": True}},
    ],
    ids=str,
)
def test_the_chosen_item_gains_on_the_others(start: Trained, tmp_path: Path, changes: dict[str, Any]) -> None:
    before = margins(LLMRecommender(start.copy(), start.task), start)
    train, valid = start.split.train, start.split.valid
    recommender, log = settings(**changes).train(start.copy(), start.task, train, valid, tmp_path, seed=0)
    assert margins(recommender, start).mean() > before.mean() + 0.3
    noted = [entry["rewards/margins"] for entry in log["history"] if "rewards/margins" in entry]
    assert np.mean(noted[-3:]) > np.mean(noted[:3])
    assert log["preferences"] > 0
    assert log["best"] is not None
    found = recommender.recommend(start.split.test.histories, 5)
    assert (found.rows >= 0).all()


@pytest.mark.parametrize("changes", [{}, {"tuning": "full"}, {"loss": "trl"}], ids=str)
def test_the_first_loss_is_that_of_a_coin(start: Trained, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Before any step the model is its own reference: log(1 + R) for S-DPO, log 2 for a pair."""
    trainer = make_trainer(start, tmp_path, **changes)
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    assert loss == pytest.approx(np.log(2 if changes.get("loss") else 4), abs=1e-4)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("over", ["level", "vocab"])
def test_the_reference_stays_where_it_was(tiny_world: TinyWorld, tmp_path: Path, tied: bool, over: str) -> None:
    """Adapter and item rows have moved; with the adapter off, every log-probability is the one of before."""
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    sft = SFT(args={**QUICK, "num_train_epochs": 1})
    base = base_model(tie_word_embeddings=tied)
    model = sft.train(base, task, split.train, split.valid, tmp_path / "sft", seed=0)[0].model
    trainer = make_trainer(Trained(task, split, model), tmp_path / "dpo", over=over)
    batch = next(iter(trainer.get_train_dataloader()))
    before = trainer._reference(batch)
    trainer.train()
    trainer.model.train()
    policy = trainer.model(**batch).log_probs.sum(-1)
    assert (policy - before).abs().max() > 0.05
    rows = trainer.bare_model.get_output_embeddings().token_adapter
    moved = rows.trainable_tokens_delta["default"] - rows.base_layer.weight[torch.from_numpy(task.items.token_ids)]
    assert moved.abs().max() > 1e-3
    assert torch.equal(trainer._reference(batch), before)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_no_second_model_is_in_memory(start: Trained, tmp_path: Path, tuning: str) -> None:
    trainer = make_trainer(start, tmp_path, tuning=tuning)
    assert trainer.ref_model is None
    assert (REFERENCE in trainer.train_dataset.column_names) == (tuning == "full")


def pairs_by_hand(trainer: PreferenceTrainer, batch: dict[str, Tensor]) -> Tensor:
    """The sigmoid loss of every pair."""
    ratios = trainer.model(**batch).log_probs.sum(-1) - trainer._reference(batch)
    real = (batch["targets"] != IGNORED).any(-1)[:, 1:]
    return -functional.logsigmoid(trainer.beta * (ratios[:, :1] - ratios[:, 1:]))[real]


def test_trl_s_sigmoid_is_dpo_over_the_pairs(start: Trained, tmp_path: Path) -> None:
    trainer = make_trainer(start, tmp_path / "trl", loss="trl", lora={"r": 4, "init_lora_weights": False})
    own = make_trainer(start, tmp_path / "own", loss="dpo", lora={"r": 4, "init_lora_weights": False})
    own.model.load_state_dict(trainer.model.state_dict())
    batch = next(iter(trainer.get_train_dataloader()))
    expected = pairs_by_hand(trainer, batch).mean()
    assert (expected - np.log(2)).abs() > 1e-3
    found = trainer.compute_loss(trainer.model, dict(batch))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(own.compute_loss(own.model, dict(batch)), expected)  # three negatives each

    def gradients(loss: Tensor, model: Any) -> list[Tensor]:
        model.zero_grad()
        loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    first = gradients(found, trainer.model)
    second = gradients(own.compute_loss(own.model, dict(batch)), own.model)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert trainer._metrics["train"]["mean_token_accuracy"]


def test_with_one_negative_all_three_are_the_same(start: Trained, tmp_path: Path) -> None:
    one = {"per_user": 2, "negatives": {"kind": "uniform", "count": 1}}
    found = []
    for loss in ("s_dpo", "dpo", "trl"):
        trainer = make_trainer(start, tmp_path / loss, loss=loss, preferences=one, lora={"init_lora_weights": False})
        batch = next(iter(trainer.get_train_dataloader()))
        found.append(trainer.compute_loss(trainer.model, dict(batch)).item())
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    assert found[2] == pytest.approx(found[0], abs=1e-6)


@pytest.mark.parametrize("loss", ["dpo", "s_dpo"])
def test_the_loss_on_the_chosen_item_is_added_by_its_weight(start: Trained, tmp_path: Path, loss: str) -> None:
    changed: dict[str, Any] = {"loss": loss, "lora": {"r": 4, "init_lora_weights": False}}
    plain = make_trainer(start, tmp_path / "plain", **changed)
    weighted = make_trainer(start, tmp_path / "weighted", nll_weight=0.7, **changed)
    weighted.model.load_state_dict(plain.model.state_dict())
    batch = next(iter(plain.get_train_dataloader()))
    nll = -plain.model(**batch).log_probs[:, 0].mean()  # three levels each
    expected = plain.compute_loss(plain.model, dict(batch)) + 0.7 * nll
    torch.testing.assert_close(weighted.compute_loss(weighted.model, dict(batch)), expected)


def test_choices_of_a_user_share_a_row(start: Trained) -> None:
    dpo = settings(preferences={"per_user": None, "negatives": {"kind": "uniform", "count": 2}})
    train = start.split.train
    found = dpo.preferences.build(train, start.task.items.index, 0)
    rows = preference_dataset(start.task, train, found)
    assert len(rows) == len(train.users)
    assert sum(map(len, rows["starts"])) == len(found)
    user = len(train.users) - 1  # rows go from the last user to the first
    assert rows[0]["prompt"] == start.task.prompt(train.history(user)[:-1])
    for number, (seen, codes) in enumerate(zip(rows[0]["starts"], rows[0]["codes"], strict=True)):
        position = len(train.history(user)) - 1 - number
        assert rows[0]["prompt"][:seen] == start.task.prompt(train.history(user)[:position])
        assert codes[0] == start.task.items.encode(int(train.history(user)[position]))
        assert len(codes) == 3


class Killed(Exception):
    pass


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_killed_run_continues_to_the_same_weights(start: Trained, tmp_path: Path, tuning: str) -> None:
    began = []

    class KillInTheSecondEpoch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.epoch > 1.3:
                raise Killed

    class Note(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            began.append(state.global_step)

    dpo, train, valid = settings(tuning=tuning), start.split.train, start.split.valid
    whole, _ = dpo.train(start.copy(), start.task, train, valid, tmp_path / "whole", seed=0)
    with pytest.raises(Killed):
        dpo.train(start.copy(), start.task, train, valid, tmp_path / "cut", 0, callbacks=[KillInTheSecondEpoch()])
    assert list((tmp_path / "cut").glob("checkpoint-*"))
    shutil.copytree(tmp_path / "cut" / "checkpoint-5", tmp_path / "cut" / "checkpoint-9")
    (tmp_path / "cut" / "checkpoint-9" / "trainer_state.json").write_text('{"epoch": 1')  # half of one
    again, log = dpo.train(start.copy(), start.task, train, valid, tmp_path / "cut", seed=0, callbacks=[Note()])
    assert began == [5]  # the last whole checkpoint
    assert len([entry for entry in log["history"] if "eval_ndcg@10" in entry]) == 2
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"args": {"loss_type": "ipo"}}, r"args\.loss_type is for loss: trl"),
        ({"loss": "trl", "nll_weight": 1}, "nll_weight is not for loss: trl"),
        ({"args": {"ld_alpha": 0.5}}, "ld_alpha weighs the longer"),
        ({"tuning": "full", "args": {"precompute_ref_log_probs": False}}, "keeps no second model in memory"),
        ({"args": {"betta": 1}}, r"align\.args: .*betta"),
        ({"args": {"max_length": 5}}, r"align\.args\.max_length: llmrec sets this itself"),
        ({"preferences": {"negatives": {"kind": "beem"}}}, r"no negatives 'beem'\. Did you mean 'beams'"),
        ({"preferences": {"per_usr": 1}}, r"preferences\.per_usr: unknown setting\. Did you mean 'per_user'"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        settings(**changes).config(tmp_path, 0)


def test_a_base_model_is_refused(start: Trained, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="it was not trained with these item tokens"):
        settings().train(base_model(), start.task, start.split.train, start.split.valid, tmp_path, seed=0)
