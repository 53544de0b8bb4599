"""The loss over a level's codebook is minus the score that decoding gives, also where the head has a bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import make_model
from circle import QUICK, circle, make_task
from worlds import TinyWorld

from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.trainers.samples import IGNORED, training_dataset
from llmrec.trainers.sft import SFT, RecommenderTrainer


def trainer_of(world: TinyWorld, folder: Path, tuning: str) -> RecommenderTrainer:
    """A Phi, whose head has a bias, with values in it that matter."""
    model = make_model("phi", len(world.items.tokenizer))
    with torch.no_grad():
        model.get_output_embeddings().bias.normal_(std=2.0)
    sft = SFT.parse({"tuning": tuning, "init": "keep", "lora": {"init_lora_weights": False}, "args": QUICK})
    split, task = circle(world.catalog), make_task(world.catalog, world.items)
    rows = training_dataset(task, split.train, packing=False)
    return RecommenderTrainer(model, sft.config(folder, 0), task, sft, rows, split.valid, Decoding(), True)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_loss_and_decoding_agree_with_a_plain_pass_of_what_is_saved(
    tiny_world: TinyWorld, tmp_path: Path, tuning: str
) -> None:
    trainer = trainer_of(tiny_world, tmp_path, tuning)
    trainer.model.eval()
    items, histories, targets = tiny_world.items, [[0, 1, 2], [3], [4, 5, 6, 7]], [3, 4, 8]
    samples = [trainer.task.single(history, target) for history, target in zip(histories, targets, strict=True)]
    labels = [np.where(np.array(levels) >= 0, ids, IGNORED).tolist() for ids, levels in samples]
    rows = [{"input_ids": ids, "labels": trained} for (ids, _), trained in zip(samples, labels, strict=True)]
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows)).item()
    scores = LLMRecommender(trainer.bare_model, trainer.task).score(histories, np.array(targets)[:, None])
    saved = trainer.model.merge_and_unload() if tuning == "lora" else trainer.model
    saved.__dict__.pop("forward")
    expected = 0.0
    for ids, levels in samples:
        with torch.no_grad():
            logits = saved(input_ids=torch.tensor([ids])).logits[0]
        for place, level in enumerate(levels):
            if level >= 0:
                book = items.codebooks[items.book_of_level[level]]
                expected += (logits[place - 1, ids[place]] - logits[place - 1, book].logsumexp(0)).item()
    assert scores.sum() == pytest.approx(expected, abs=1e-4)
    assert loss == pytest.approx(-expected / (len(targets) * items.levels), abs=1e-4)
