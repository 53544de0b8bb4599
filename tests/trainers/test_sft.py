"""Fine-tuning on a toy world whose answer is known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from circle import QUICK, base_model, circle, make_task
from worlds import TinyWorld, make_tiny_model, make_tiny_tokenizer, make_tiny_world

from llmrec.errors import RecipeError
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.llm import Decoding
from llmrec.registry import build
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.trainers.item_rows import add_item_rows
from llmrec.trainers.samples import training_dataset
from llmrec.trainers.sft import SFT, RecommenderTrainer


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": "vocab"},
        {"batch_tokens": 250},
        {"packing": False, "args": {"num_train_epochs": 3}},
        {"tuning": "lora", "lora": {"r": 8}, "args": {"learning_rate": 1e-2, "num_train_epochs": 8}},
        {"init": "default", "item_rows_lr": 1e-2, "dropout": 0.05, "label_smoothing": 0.05},
    ],
    ids=["full", "vocab", "tokens", "single", "lora", "dropout"],
)
def test_it_learns_a_circle(tiny_world: TinyWorld, tmp_path: Path, settings: dict[str, Any]) -> None:
    split = circle(tiny_world.catalog)
    sft = SFT.parse({**settings, "args": {**QUICK, **settings.get("args", {})}})
    recommender, log = sft.train(
        base_model(), make_task(tiny_world.catalog, tiny_world.items), split.train, split.valid, tmp_path, seed=0
    )
    found = evaluate(recommender, split.test, progress=False)
    assert found.metrics["hr@5"] > 0.6  # about 0.4 by chance: 5 of the 13 unseen items
    assert (found.invalid, found.duplicates, found.excluded_returned) == (0, 0, 0)
    assert log["best"] is not None


@pytest.mark.parametrize("loss", ["level", "vocab"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_head_of_its_own_learns_too(tiny_world: TinyWorld, tmp_path: Path, tuning: str, loss: str) -> None:
    split, model = circle(tiny_world.catalog), make_tiny_model(len(make_tiny_tokenizer()), tie_word_embeddings=False)
    sft = SFT(tuning=tuning, loss=loss, args={**QUICK, "num_train_epochs": 2})
    recommender, _ = sft.train(
        model, make_task(tiny_world.catalog, tiny_world.items), split.train, split.valid, tmp_path, seed=0
    )
    fresh = make_tiny_model(len(make_tiny_tokenizer()), tie_word_embeddings=False)
    add_item_rows(fresh, tiny_world.items, tiny_world.catalog, "text", seed=0)
    ids = torch.from_numpy(tiny_world.items.token_ids)
    for part in ("get_input_embeddings", "get_output_embeddings"):
        after, before = (getattr(m, part)().weight[ids] for m in (recommender.model, fresh))
        assert ((after - before).norm(dim=1) > 0).float().mean() > 0.9, part


@pytest.mark.parametrize("tied", [True, False])
def test_the_vocab_loss_of_lora_is_plain_cross_entropy(tiny_world: TinyWorld, tmp_path: Path, tied: bool) -> None:
    """TRL's own loss reads the head past PEFT; value and gradients are those of the whole model nevertheless."""
    task, split = make_task(tiny_world.catalog, tiny_world.items), circle(tiny_world.catalog)
    sft = SFT.parse({"tuning": "lora", "loss": "vocab", "lora": {"init_lora_weights": False}, "args": QUICK})
    model = base_model(tie_word_embeddings=tied)
    add_item_rows(model, tiny_world.items, tiny_world.catalog, "text", seed=0)
    rows = training_dataset(task, split.train, packing=True)
    trainer = RecommenderTrainer(model, sft.config(tmp_path, 0), task, sft, rows, split.valid, Decoding(), True)
    batch = next(iter(trainer.get_train_dataloader()))

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        trainer.model.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}

    loss, plain = trainer.compute_loss(trainer.model, dict(batch)), trainer.bare_model(**batch).loss
    assert loss.item() == pytest.approx(plain.item(), abs=1e-5)
    found, expected = gradients(loss), gradients(plain)
    assert found.keys() == expected.keys()
    assert sum("trainable_tokens" in name for name in found) == (1 if tied else 2)
    for name in found:
        torch.testing.assert_close(found[name], expected[name])


def test_the_words_rows_do_not_move(tiny_world: TinyWorld, tmp_path: Path) -> None:
    split, model = circle(tiny_world.catalog), base_model()
    words = model.get_input_embeddings().weight.detach().clone()
    recommender, _ = SFT(args={**QUICK, "num_train_epochs": 1}).train(
        model, make_task(tiny_world.catalog, tiny_world.items), split.train, split.valid, tmp_path, seed=0
    )
    after = recommender.model.get_input_embeddings().weight
    assert torch.equal(after[: len(words)], words)
    assert after.data_ptr() == recommender.model.get_output_embeddings().weight.data_ptr()


def test_a_folder_gives_the_same_answers(tiny_world: TinyWorld, tmp_path: Path) -> None:
    from llmrec.recommenders.llm import LLMRecommender

    split = circle(tiny_world.catalog)
    recommender, _ = SFT(args={**QUICK, "num_train_epochs": 1}).train(
        base_model(),
        make_task(tiny_world.catalog, tiny_world.items),
        split.train,
        split.valid,
        tmp_path / "work",
        seed=0,
    )
    recommender.save_pretrained(tmp_path / "model")
    loaded = LLMRecommender.from_pretrained(tmp_path / "model", device="cpu")
    before, after = (r.recommend(split.test.histories, 5) for r in (recommender, loaded))
    assert (before.rows == after.rows).all()
    np.testing.assert_allclose(before.scores, after.scores, atol=1e-5)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_killed_run_continues_to_the_same_weights(tiny_world: TinyWorld, tmp_path: Path, tuning: str) -> None:
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    sft = SFT.parse({"tuning": tuning, "dropout": 0.1, "batch_tokens": 300, "args": {**QUICK, "num_train_epochs": 3}})

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        recommender, _ = sft.train(base_model(), task, split.train, split.valid, folder, seed=0)
        return copy.deepcopy(recommender.model.state_dict())

    whole = weights(tmp_path / "whole")
    weights(tmp_path / "cut")
    checkpoints = sorted((tmp_path / "cut").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert len(checkpoints) == 2
    (checkpoints[-1] / "trainer_state.json").unlink()  # as if killed while the last one was being written
    again = weights(tmp_path / "cut")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_settings_of_trl_and_peft_are_checked_by_them(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="learning_rat"):
        SFT(args={"learning_rat": 1}).config(tmp_path, 0)
    with pytest.raises(RecipeError, match="llmrec sets this itself"):
        SFT(args={"max_length": 5}).config(tmp_path, 0)
    with pytest.raises(RecipeError, match="label_smoothing works with loss: level only"):
        SFT.parse({"loss": "vocab", "label_smoothing": 0.1}, "train")
    with pytest.raises(RecipeError, match="with loss: level set label_smoothing"):
        SFT.parse({"args": {"label_smoothing_factor": 0.1}}, "train")
    with pytest.raises(RecipeError, match="set patience: null"):
        SFT.parse({"patience": 2, "args": {"eval_strategy": "no"}}, "train")
    with pytest.raises(RecipeError, match="Did you mean 'packing'"):
        SFT.parse({"paking": True}, "train")


def test_packed_and_single_samples_agree_on_the_loss(tiny_world: TinyWorld) -> None:
    """The same history gives the same total loss, position by position, either way."""
    task = make_task(tiny_world.catalog, tiny_world.items)
    history = np.array([3, 1, 4, 1, 5], np.int32)
    (packed,) = task.packed(history)
    model = tiny_world.model

    def nll(ids: list[int], levels: list[int]) -> float:
        logits = model(torch.tensor([ids])).logits[0].detach().log_softmax(-1)
        return -sum(float(logits[i - 1, ids[i]]) for i, level in enumerate(levels) if level >= 0)

    singles = [task.single(history[:t], int(history[t])) for t in range(len(history))]
    assert nll(*packed) == pytest.approx(sum(nll(*single) for single in singles), rel=1e-4)


def test_worlds_differ_by_seed() -> None:
    assert (make_tiny_world(seed=1).index.codes != make_tiny_world(seed=2).index.codes).any()


def test_a_list_is_what_the_packed_history_trains_already(tiny_world: TinyWorld) -> None:
    """With a prompt that ends with the history, item by item: the same tokens, levels and prompts."""
    task = make_task(tiny_world.catalog, tiny_world.items)
    taken = np.array([3, 1, 4, 1, 5, 9, 2], np.int32)
    ids, levels = task.listed(taken[:4], taken[4:])
    (packed,) = task.packed(taken)
    assert ids == packed.input_ids
    assert levels == [-1] * len(task.prompt(taken[:4])) + packed.levels[len(task.prompt(taken[:4])) :]
    assert levels.count(0) == 3
    for more in (5, 6):  # what a list is decoded behind is the prompt of the longer history
        prompt = task.prompt(taken[:more])
        assert ids[: len(prompt)] == prompt


def test_lists_are_learned_where_the_prompt_goes_on_behind_the_history(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """`prompt(history) + code` never occurs in such prompts: only the rows of lists teach what follows a first item."""
    split = circle(tiny_world.catalog)
    template = PromptTemplate("Items:{% for item in history %}{{ item.code }}{% endfor %} next:")
    task = NextItemTask(template, tiny_world.catalog, tiny_world.items, max_history=10)
    histories = [split.train.history(user) for user in range(20)]

    def said_of_later_items(model: Any) -> float:
        """The mean `log p` of a code behind the first item of the right list."""
        total, size = [], len(tiny_world.items.index.level_sizes)
        for history in histories:
            items = (history[-1] + np.arange(1, 4)) % len(tiny_world.catalog)
            ids, levels = task.listed(history, items)
            logits = model(torch.tensor([ids])).logits[0].detach()
            for at in [place for place, level in enumerate(levels) if level >= 0][size:]:
                book = logits[at - 1, torch.from_numpy(tiny_world.items.codebooks[levels[at]])]
                total.append(float(logits[at - 1, ids[at]] - book.logsumexp(0)))
        return float(np.mean(total))

    said = []
    for lists in (None, {"length": 3, "per_user": None, "min_history": 0}):
        sft = SFT.parse({"packing": False, "lists": lists, "args": {**QUICK, "num_train_epochs": 4}})
        recommender, _ = sft.train(base_model(), task, split.train, split.valid, tmp_path / str(lists), seed=0)
        said.append(said_of_later_items(recommender.model))
    assert said[1] > said[0] + 0.1


def test_answers_in_plain_language_are_learned_beside_the_next_item(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """With titles asked both ways a title becomes much likelier; without them it is not learned."""
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    tasks = [{"kind": "item_to_title", "weight": 1.0}, {"kind": "title_to_item", "weight": 1.0}]

    def title_loss(model: Any) -> float:
        sample = next(iter(build("task", tasks[0]).samples(task, split.train, 1, 0)))
        ids = torch.tensor([sample.input_ids])
        labels = torch.tensor([[t if level >= 0 else -100 for t, level in zip(*sample, strict=True)]])
        with torch.no_grad():
            return float(model(input_ids=ids, labels=labels).loss)

    trained = {}
    for name, mixture in {"alone": [], "mixed": tasks}.items():
        sft = SFT(args={**QUICK, "num_train_epochs": 3}, tasks=mixture)
        recommender, log = sft.train(base_model(), task, split.train, split.valid, tmp_path / name, seed=0)
        trained[name] = recommender.model
        assert log["best"] is not None
    assert title_loss(trained["mixed"]) < title_loss(trained["alone"]) - 1
