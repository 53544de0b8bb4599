"""GRPO on a toy world whose answer is known: the loss by hand, rollouts that are items, going on after a kill."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch
from circle import QUICK, base_model, circle, make_task
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOTrainer
from worlds import TinyWorld, make_titled_world

from llmrec.data.interactions import Interactions
from llmrec.data.split import Split
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import RecipeError
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.grpo import GRPO, PolicyTrainer, _rewards_for_trl
from llmrec.trainers.item_rows import train_item_rows_only
from llmrec.trainers.rollouts import Questions
from llmrec.trainers.sft import SFT, _show_bias

GROUP = 4
ARGS = {**QUICK, "num_train_epochs": 2, "learning_rate": 3e-3, "num_generations": GROUP, "beta": 0.04}


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


def settings(**changes: Any) -> GRPO:
    args = {**ARGS, **changes.get("args", {})}
    if changes.get("tuning") == "full":
        args.pop("beta")
    return GRPO.parse({"choices": {"per_user": 2}, "lora": {"r": 4}, **changes, "args": args})


def make_trainer(start: Trained, folder: Path, **changes: Any) -> PolicyTrainer:
    grpo, model, train = settings(**changes), start.copy(), start.split.train
    positives = grpo.choices.positives(train)
    questions = Questions(train, *grpo.choices.choose(train, positives, 0), positives)
    if grpo.tuning == "full":
        train_item_rows_only(model, start.task.items)
    config = grpo.config(folder, 0)
    rewards = _rewards_for_trl(grpo.rewards, questions, start.task, train, 0, config.num_generations)
    return PolicyTrainer(model, config, start.task, grpo, questions, rewards, start.split.valid, Decoding(), True)


def batch_of(trainer: PolicyTrainer) -> dict[str, Tensor]:
    """A batch of rollouts, as the training loop makes it."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    found: dict[str, Tensor] = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    return found


def reward_of(recommender: LLMRecommender, start: Trained) -> float:
    """How likely the model is to write the next item on the circle, among all items."""
    train = start.split.train
    scores = recommender.score([train.history(user)[:-1] for user in range(40)])
    chances = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    return float(chances[np.arange(40), [train.history(user)[-1] for user in range(40)]].mean())


def figures(log: dict[str, Any], name: str) -> list[float]:
    return [entry[name] for entry in log["history"] if name in entry and "eval_ndcg@10" not in entry]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rollouts": "samples", "args": {"temperature": 1.3}},
        {"tuning": "full"},
        {"tuning": "full", "item_rows_lr": 3e-4, "args": {"num_iterations": 2, "learning_rate": 1e-3}},
        {"over": "vocab", "args": {"gradient_accumulation_steps": 2}},
        {"args": {"steps_per_generation": 4, "loss_type": "dr_grpo"}},
        {"args": {"loss_type": "grpo", "importance_sampling_level": "sequence", "gradient_checkpointing": True}},
        {"args": {"entropy_coef": 0.01, "loss_type": "bnpo"}},
    ],
    ids=str,
)
def test_the_reward_rises(start: Trained, tmp_path: Path, changes: dict[str, Any]) -> None:
    before = reward_of(LLMRecommender(start.copy(), start.task), start)
    recommender, log = settings(**{"choices": {"per_user": 3}, **changes}).train(
        start.copy(), start.task, start.split.train, start.split.valid, tmp_path, seed=0
    )
    noted = figures(log, "rewards/next_item/mean")
    third = len(noted) // 3
    assert np.mean(noted[-third:]) > np.mean(noted[:third])
    assert reward_of(recommender, start) > 1.2 * before
    assert (log["choices"], log["stopped"]) == (120, None)
    assert log["best"] is not None
    assert all(np.isfinite(figures(log, "loss")))
    assert bool(figures(log, "kl")) == (changes.get("tuning") != "full")
    assert not [name for entry in log["history"] for name in entry if name.startswith("completions/")]
    assert (recommender.recommend(start.split.test.histories, 5).rows >= 0).all()


@pytest.mark.parametrize("source", ["beams", "samples"])
def test_no_rollout_is_an_invalid_item(start: Trained, tmp_path: Path, source: str) -> None:
    """Whatever the weights are: here they are wild. None was seen, and beams of one group differ."""
    trainer = make_trainer(start, tmp_path, rollouts=source)
    with torch.no_grad():
        for parameter in trainer.bare_model.parameters():
            parameter.add_(torch.randn_like(parameter))
    asked, codes = trainer.rollouts.questions, {tuple(start.task.items.encode(row)): row for row in range(20)}
    numbers = np.repeat(np.arange(len(asked)), GROUP)
    found = trainer.rollouts.of(numbers, trainer.policy)
    for number, code, item in zip(numbers, found["completion_ids"], found["item"], strict=True):
        assert codes[tuple(code)] == item
        assert item not in asked.asked([number]).histories[0]
    groups = np.reshape(found["item"], (-1, GROUP))
    different = {len(set(group)) for group in groups.tolist()}
    assert different == {GROUP} if source == "beams" else min(different) < GROUP
    prompts = [start.task.prompt(asked.asked([number]).histories[0]) for number in numbers]
    assert found["prompt_ids"] == prompts


@pytest.mark.parametrize("source", ["beams", "samples"])
def test_the_likeliest_stands_first(start: Trained, tmp_path: Path, source: str) -> None:
    trainer = make_trainer(start, tmp_path, rollouts=source)
    found = trainer.rollouts.of(np.repeat(np.arange(30), GROUP), trainer.policy)
    rows = np.reshape(found["item"], (-1, GROUP)).astype(np.int32)
    scores = trainer.policy.score(trainer.rollouts.questions.asked(np.arange(30)).histories, rows)
    assert (np.diff(scores, axis=1) <= 1e-5).all()


def test_what_is_asked_and_observed() -> None:
    """The history ends before the choice; what follows is the choice and what the user wished later."""
    items = Vocabulary(pa.array([f"i{row}" for row in range(9)]))
    taken = pa.array(["i1", "i2", "i3", "i4", "i5", "i6", "i7"])
    train = Interactions.from_columns(pa.array(list("aaaabbb")), taken, np.arange(7), items)
    questions = Questions(train, np.array([0, 1]), np.array([1, 2]), np.array([1, 1, 0, 1, 1, 1, 1], bool))
    asked = questions.asked([1, 0])
    assert [list(rows) for rows in asked.histories] == [[5, 6], [1]]
    assert [list(rows) for rows in asked.observed] == [[7], [2, 4]]


def by_hand(trainer: PolicyTrainer, batch: dict[str, Tensor], over: str) -> Tensor:
    """The DAPO loss of GRPO with its divergence, in double precision, from one sequence a rollout."""
    items, model = trainer.task.items, copy.deepcopy(trainer.model).double()
    del model.get_base_model().forward  # that of training, which knows the model it was made for
    prompts, codes = batch["prompt_ids"], batch["completion_ids"]

    def log_probs() -> Tensor:
        found = []
        for prompt, mask, code in zip(prompts, batch["prompt_mask"], codes, strict=True):
            ids = torch.cat([prompt[mask.bool()], code])
            logits = model(input_ids=ids[None]).logits[0, int(mask.sum()) - 1 : -1]
            of_code = []
            for level, token in enumerate(code):
                book = torch.from_numpy(items.codebooks[level])
                here = logits[level] / trainer.args.temperature
                of_code.append(here[token] - (here if over == "vocab" else here[book]).logsumexp(0))
            found.append(torch.stack(of_code))
        return torch.stack(found)

    policy = log_probs()
    with torch.no_grad(), model.disable_adapter():
        reference = log_probs()
    advantages = batch["advantages"].double()[:, None]
    ratio = torch.exp(policy - policy.detach())
    divergence = torch.exp(reference - policy) - (reference - policy) - 1
    loss = -ratio * advantages + trainer.beta * divergence * ratio  # TRL's use_bias_correction_kl
    total = loss.sum() / policy.numel()
    total.backward()
    trainer.hand_gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}  # type: ignore[attr-defined]
    return total


@pytest.mark.parametrize("over", ["level", "vocab"])
@pytest.mark.parametrize("source", ["beams", "samples"])
def test_the_loss_is_that_of_the_formula(start: Trained, tmp_path: Path, over: str, source: str) -> None:
    """Value and every gradient, with a policy that is not its reference."""
    changes: dict[str, Any] = {"args": {"temperature": 0.7}} if source == "samples" else {}
    changes |= {"over": over, "rollouts": source, "rewards": {"kind": "collaborative"}}
    trainer = make_trainer(start, tmp_path, lora={"r": 4, "init_lora_weights": False}, **changes)
    with torch.no_grad():  # item rows, too, have moved
        trainer.bare_model.get_output_embeddings().token_adapter.trainable_tokens_delta["default"].mul_(1.1)
    batch = batch_of(trainer)
    assert batch["advantages"].abs().max() > 0.5
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    expected = by_hand(trainer, batch, over)
    assert trainer._metrics["train"]["kl"][-1] > 1e-3
    torch.testing.assert_close(loss.double(), expected, atol=1e-6, rtol=1e-5)
    found = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    assert found.keys() == trainer.hand_gradients.keys()
    for name, gradient in trainer.hand_gradients.items():
        torch.testing.assert_close(found[name].double(), gradient, atol=1e-6, rtol=1e-3, msg=lambda m, n=name: n + m)


def test_rewards_and_advantages_by_hand(start: Trained, tmp_path: Path) -> None:
    """1 for the next item; a rank penalty beside a hit; the group's mean and deviation."""
    trainer = make_trainer(start, tmp_path, rewards=[{"kind": "next_item"}, {"kind": "rank_penalty", "weight": 0.5}])
    batch = batch_of(trainer)
    shares = 1 / np.log2(np.arange(2, 2 + GROUP))
    for prompt, mask, codes, found in zip(
        batch["prompt_ids"][::GROUP], batch["prompt_mask"][::GROUP], batch["completion_ids"].view(-1, GROUP, 3),
        batch["advantages"].view(-1, GROUP), strict=True,
    ):  # fmt: skip
        last = max(range(20), key=lambda row: _ends_with(prompt[mask.bool()].tolist(), start.task.items.encode(row)))
        hit = np.array([code.tolist() == start.task.items.encode((last + 1) % 20) for code in codes])
        rewards = np.where(hit, 1.0, -0.5 * shares / shares.sum() if hit.any() else 0.0)
        expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def _ends_with(ids: list[int], code: list[int]) -> bool:
    return ids[-len(code) :] == code


def test_over_vocab_it_is_trl_s_own(start: Trained, tmp_path: Path) -> None:
    """TRL's figures from one sequence a rollout, and ours from one row a group."""
    trainer = make_trainer(start, tmp_path, over="vocab", lora={"r": 4, "init_lora_weights": False})
    batch = batch_of(trainer)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    kept = batch["completion_ids"].shape[1]
    _show_bias(trainer.bare_model)  # TRL reads it
    ours = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, kept, GROUP, compute_entropy=True)
    by_trl = GRPOTrainer._get_per_token_logps_and_entropies
    theirs = by_trl(trainer, trainer.model, ids, mask, kept, compute_entropy=True)
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours[1], theirs[1], atol=1e-5, rtol=1e-4)


def test_codes_of_different_lengths(tmp_path: Path) -> None:
    """Titles: a mask behind the shorter ones, in rollouts, loss and reference."""
    titles = ["red tea", "red tea cup", "blue cup", "blue tea", "green", "green tea pot", "pot"]
    world = make_titled_world(titles, tmp_path)
    split, task = circle(world.catalog, length=6), make_task(world.catalog, world.items)
    sft = SFT(args={**QUICK, "num_train_epochs": 1})
    model = sft.train(base_model(), task, split.train, split.valid, tmp_path / "sft", seed=0)[0].model
    trainer = make_trainer(Trained(task, split, model), tmp_path, over="vocab", lora={"init_lora_weights": False})
    batch = batch_of(trainer)
    assert len(set(batch["completion_mask"].sum(1).tolist())) > 1
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    kept = batch["completion_ids"].shape[1]
    _show_bias(trainer.bare_model)  # TRL reads it
    ours = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, kept, GROUP)[0]
    theirs = GRPOTrainer._get_per_token_logps_and_entropies(trainer, trainer.model, ids, mask, kept)[0]
    real = batch["completion_mask"].bool()
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=1e-4)
    assert torch.isfinite(trainer.compute_loss(trainer.model, batch))


def test_groups_stay_whole_in_every_micro_batch(start: Trained, tmp_path: Path) -> None:
    trainer = make_trainer(start, tmp_path, args={"steps_per_generation": 3})
    batch_of(trainer)
    assert trainer._buffered_inputs is not None
    assert len(trainer._buffered_inputs) == 3
    for batch in trainer._buffered_inputs:
        prompts = batch["prompt_ids"].view(-1, GROUP, batch["prompt_ids"].shape[1])
        assert (prompts == prompts[:, :1]).all()
        assert len({tuple(prompt[0].tolist()) for prompt in prompts}) == 2


def test_no_second_model_is_in_memory(start: Trained, tmp_path: Path) -> None:
    assert make_trainer(start, tmp_path).ref_model is None


def test_the_reference_stays_where_it_was(start: Trained, tmp_path: Path) -> None:
    """Adapter and item rows have moved; what training calls the reference is the model of before."""
    trainer = make_trainer(start, tmp_path)
    first = batch_of(trainer)
    ids = torch.cat([first["prompt_ids"], first["completion_ids"]], 1)
    mask = torch.cat([first["prompt_mask"], first["completion_mask"]], 1)
    trainer.train()
    with torch.no_grad(), trainer.model.disable_adapter():
        again = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, 3)[0]
    with torch.no_grad():
        policy = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, 3)[0]
    assert torch.equal(again, first["ref_per_token_logps"])
    assert (policy - again).abs().max() > 0.05


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("changes", "resumed_from"),
    [
        ({}, 40),
        ({"tuning": "full", "rollouts": "samples"}, 40),
        # in the middle of the second epoch, whose order must be found again
        ({"rollouts": "samples", "lora": {"r": 4, "lora_dropout": 0.1},
          "args": {"eval_strategy": "steps", "eval_steps": 24, "steps_per_generation": 2, "num_iterations": 2}}, 96),
    ],
    ids=["lora", "full", "within an epoch"],
)  # fmt: skip
def test_a_killed_run_continues_to_the_same_weights(
    start: Trained, tmp_path: Path, changes: dict[str, Any], resumed_from: int
) -> None:
    began = []

    class KillInTheSecondEpoch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.epoch > 1.3:
                raise Killed

    class Note(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            began.append(state.global_step)

    grpo, train, valid = settings(**changes), start.split.train, start.split.valid
    whole, _ = grpo.train(start.copy(), start.task, train, valid, tmp_path / "whole", seed=0)
    with pytest.raises(Killed):
        grpo.train(start.copy(), start.task, train, valid, tmp_path / "cut", 0, callbacks=[KillInTheSecondEpoch()])
    last = tmp_path / "cut" / f"checkpoint-{resumed_from}"
    shutil.copytree(last, tmp_path / "cut" / "checkpoint-999")
    (tmp_path / "cut" / "checkpoint-999" / "trainer_state.json").write_text('{"epoch": 1')  # half of one
    again, log = grpo.train(start.copy(), start.task, train, valid, tmp_path / "cut", seed=0, callbacks=[Note()])
    assert began == [resumed_from]
    json.dumps(log)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_the_watch_stops_a_policy_that_ran_away(
    start: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild = settings(kl_limit=0.02, args={"beta": 1e-6, "learning_rate": 0.05})
    recommender, log = wild.train(start.copy(), start.task, start.split.train, start.split.valid, tmp_path, seed=0)
    assert "nats a token of at most 0.02" in log["stopped"]
    assert log["stopped"] in caplog.text
    assert len(figures(log, "loss")) < 40
    assert figures(log, "kl")[-1] > 0.02
    assert log["best"] is not None  # what was there was evaluated
    assert (recommender.recommend(start.split.test.histories, 5).rows >= 0).all()


@pytest.mark.parametrize("limit", [None, 10.0])
def test_a_step_without_a_finite_divergence_is_not_taken(start: Trained, tmp_path: Path, limit: float | None) -> None:
    class Break(TrainerCallback):
        """The reference of the third step becomes impossible."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:
                make = trainer._generate_and_score_completions

                def broken(inputs: Any) -> Any:
                    found = make(inputs)
                    found["ref_per_token_logps"][0, 0] = torch.inf
                    return found

                trainer._generate_and_score_completions = broken
                before.update({name: p.detach().clone() for name, p in trainer.model.named_parameters()})

    before: dict[str, Tensor] = {}
    trainer = make_trainer(start, tmp_path, kl_limit=limit)
    trainer.add_callback(Break())
    trainer.train()
    assert trainer.state.global_step == 3
    assert str(trainer.watch.reason).startswith("step 3: ")
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"args": {"top_k": 5}}, r"args\.top_k is for generating text"),
        ({"args": {"temperature": 0.5}}, r"args\.temperature is for rollouts: samples"),
        ({"args": {"mask_truncated_completions": True}}, "would mask every item"),
        ({"args": {"sync_ref_model": True}}, "needs a second model in memory"),
        ({"args": {"log_completions": True}}, "prints on stdout"),
        ({"batch_tokens": 100}, r"Set args\.per_device_train_batch_size"),
        ({"args": {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2}}, "is 6, which cuts groups of"),
        ({"args": {"num_iterations": 2, "eval_strategy": "steps", "eval_steps": 3}}, "eval_steps .* is 3.*which is 2"),
        ({"args": {"betta": 1}}, r"align\.args: .*betta"),
        ({"args": {"reward_weights": [1]}}, r"align\.args\.reward_weights: llmrec sets this itself"),
        ({"rewards": {"kind": "semantik"}}, r"no reward 'semantik'\. Did you mean 'semantic'"),
        ({"rewards": {"kind": "semantic", "encoder": {"kind": "tfidff"}}}, r"Did you mean 'tfidf'"),
        ({"choices": {"per_usr": 1}}, r"choices\.per_usr: unknown setting\. Did you mean 'per_user'"),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        settings(**changes).config(tmp_path, 0)


def test_full_tuning_has_no_reference() -> None:
    with pytest.raises(RecipeError, match=r"args\.beta needs the model of before.*tuning: lora"):
        GRPO.parse({"tuning": "full", "args": {"beta": 0.1}})


def test_a_group_larger_than_the_catalog_is_refused(start: Trained, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"only 1\d items can be recommended .* a group has 24\. Lower"):
        make_trainer(start, tmp_path, args={"num_generations": 24, "per_device_train_batch_size": 24}).train()


def test_a_base_model_is_refused(start: Trained, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="it was not trained with these item tokens"):
        settings().train(base_model(), start.task, start.split.train, start.split.valid, tmp_path, seed=0)
