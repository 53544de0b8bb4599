"""Training a head on a toy world whose answer is known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from circle import QUICK, base_model, circle, make_task
from worlds import TinyWorld

from llmrec.errors import RecipeError
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.item_head import with_slots
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.trainers import item_head
from llmrec.trainers.item_head import ItemHead, item_samples
from llmrec.trainers.samples import IGNORED


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": {"kind": "tfidf"}, "dropout": 0.05, "label_smoothing": 0.05},
        {"history": "vectors", "head_lr": 2e-2},
        {"softmax_items": 5, "negatives": 16, "batch_tokens": 250},
        {"packing": False, "args": {"num_train_epochs": 3}},
    ],
    ids=["text", "vectors", "sampled", "single"],
)
def test_it_learns_a_circle(tiny_world: TinyWorld, tmp_path: Path, settings: dict[str, Any]) -> None:
    split = circle(tiny_world.catalog)
    trainer = ItemHead.parse({"dimensions": 16, **settings, "args": {**QUICK, **settings.get("args", {})}})
    recommender, log = trainer.train(
        base_model(), make_task(tiny_world.catalog, tiny_world.items), split.train, split.valid, tmp_path, seed=0
    )
    found = evaluate(recommender, split.test, progress=False)
    assert found.metrics["hr@5"] > 0.6  # about 0.4 by chance: 5 of the 13 unseen items
    assert (found.invalid, found.duplicates, found.excluded_returned) == (0, 0, 0)
    assert log["best"] is not None
    assert not hasattr(recommender.model, "item_head")


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("slots", [True, False], ids=["vectors", "codes"])
def test_every_item_is_asked_for_behind_its_own_prompt(tiny_world: TinyWorld, packing: bool, slots: bool) -> None:
    """Also where a history is longer than a prompt, and is cut into windows: no item twice, none left out."""
    template = PromptTemplate("Items:{% for item in history %}{{ item.code }}{% endfor %}")
    task = NextItemTask(template, tiny_world.catalog, tiny_world.items, max_history=3)
    task = with_slots(task) if slots else task
    train = circle(tiny_world.catalog, users=4, length=13).train
    asked = []
    for ids, places, rows in item_samples(task, train, packing):
        for place, row in zip(places, rows, strict=True):
            assert ids[place] == task.items.encode(int(row))[0]
            asked.append((ids[:place], int(row)))
        assert places[-1] == len(ids) - 1  # nothing is read for nothing
    wanted = [int(row) for history in train.histories for row in history]
    assert sorted(row for _, row in asked) == sorted(wanted)
    prompts = [task.prompt(history[:at]) for history in train.histories for at in range(len(history))]
    if not packing:
        assert sorted(asked) == sorted(zip(prompts, wanted, strict=True))
    else:  # the first items of a window see less than a prompt would show, as in fine-tuning
        short = {(tuple(ids), row) for ids, row in asked}
        assert {(tuple(p), r) for p, r in zip(prompts, wanted, strict=True) if len(p) <= len(task.prompt([0]))} <= short


@pytest.mark.parametrize("history", ["codes", "vectors"])
def test_the_loss_is_minus_the_scores(
    tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history: str
) -> None:
    """Of a packed history: the sum over its items, each behind the prompt that is recommended from."""
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    taken, losses = split.train.history(0), []

    class Watched(item_head.ItemHeadTrainer):
        def finished(self, result: Any) -> Any:
            self.model.eval()
            batch = self.data_collator([self.train_dataset[0]])
            assert int((batch["labels"] != IGNORED).sum()) == len(taken)
            del batch["attention_mask"]
            losses.append(self.model(**batch, item_loss=True).loss.item())
            return super().finished(result)

    monkeypatch.setattr(item_head, "ItemHeadTrainer", Watched)
    trainer = ItemHead.parse({"history": history, "dimensions": 8, "args": {**QUICK, "num_train_epochs": 1}})
    recommender, _ = trainer.train(base_model(), task, split.train, split.valid, tmp_path, seed=0)
    found = recommender.recommend([taken[:at] for at in range(len(taken))], 20, exclude_seen=False)
    scores = [found.scores[at][found.rows[at] == row].item() for at, row in enumerate(taken)]
    assert losses == [pytest.approx(-sum(scores), rel=1e-4)]


@pytest.mark.parametrize("history", ["codes", "vectors"])
def test_a_killed_run_continues_to_the_same_weights(tiny_world: TinyWorld, tmp_path: Path, history: str) -> None:
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    settings = {"history": history, "dropout": 0.1, "batch_tokens": 300, "dimensions": 8, "softmax_items": 9}
    trainer = ItemHead.parse({**settings, "encoder": {"kind": "tfidf"}, "args": {**QUICK, "num_train_epochs": 3}})

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        recommender, _ = trainer.train(base_model(), task, split.train, split.valid, folder, seed=0)
        return copy.deepcopy({**recommender.model.state_dict(), **recommender.head.state_dict()})

    whole = weights(tmp_path / "whole")
    weights(tmp_path / "cut")
    checkpoints = sorted((tmp_path / "cut").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert len(checkpoints) == 2
    (checkpoints[-1] / "trainer_state.json").unlink()  # as if killed while the last one was being written
    again = weights(tmp_path / "cut")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_only_what_shall_learn_moves(tiny_world: TinyWorld, tmp_path: Path) -> None:
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    for history in ("codes", "vectors"):
        model = base_model()
        words = model.get_input_embeddings().weight.detach().clone()
        trainer = ItemHead.parse({"history": history, "encoder": {"kind": "tfidf"}, "args": QUICK})
        recommender, _ = trainer.train(model, task, split.train, split.valid, tmp_path / history, seed=0)
        after = recommender.model.get_input_embeddings().weight
        assert torch.equal(after[: len(words)], words)
        assert (len(after) > len(words)) == (history == "codes")
        assert np.isclose(recommender.head.text.norm(dim=1), 1, atol=1e-5).all()  # what the encoder gave


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(RecipeError, match="set tuning: full"):
        ItemHead.parse({"tuning": "lora"}, "train")
    with pytest.raises(RecipeError, match="Did you mean 'dimensions'"):
        ItemHead.parse({"dimension": 3}, "train")
    with pytest.raises(RecipeError, match="tfidf"):
        ItemHead.parse({"encoder": {"kind": "tfidff"}}, "train")
