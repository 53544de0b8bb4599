"""Started by `torchrun` with two processes, and imported by the test as one: the same trainings, and a whole run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from circle import QUICK, base_model, circle, make_task
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from worlds import make_tiny_world

from llmrec.cli import main
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.preferences import PreferenceData
from llmrec.trainers.dpo import DPO
from llmrec.trainers.item_rows import add_item_rows, model_for_decoding, restore_embedding, train_item_rows_only
from llmrec.trainers.processes import gathered, is_divided, whole
from llmrec.trainers.sft import SFT, _add_level_loss

COUNT = int(os.environ.get("WORLD_SIZE", "1"))
ARGS = {**QUICK, "num_train_epochs": 3, "gradient_accumulation_steps": 2 // COUNT}
SFTS: dict[str, dict[str, Any]] = {
    "full": {},
    "tokens": {"batch_tokens": 220, "item_rows_lr": 1e-2},
    "lora": {"tuning": "lora", "lora": {"r": 8}, "args": {"gradient_checkpointing": True}},
}
USERS = 32  # four batches of eight


def trained(folder: Path) -> dict[str, Any]:
    """Every training's loss curve, validations, and a number of its weights."""
    world, found = make_tiny_world(), {}
    split, task = circle(world.catalog, USERS), make_task(world.catalog, world.items)
    for name, settings in SFTS.items():
        sft = SFT.parse({**settings, "args": {**ARGS, **settings.get("args", {})}})
        recommender, log = sft.train(base_model(), task, split.train, split.valid, folder / name, seed=0)
        found[name] = summary(recommender, log)
    preferences = PreferenceData.parse({"per_user": 1, "negatives": [{"kind": "uniform", "count": 2}]})
    dpo = DPO(tuning="full", preferences=preferences, args={**ARGS, "learning_rate": 1e-3})
    aligned, log = dpo.train(recommender.model, task, split.train, split.valid, folder / "dpo", 0, Decoding())
    return {**found, "dpo": summary(aligned, log)}


def divided() -> dict[str, float]:
    """A model that FSDP2 divides among the processes, beside the same model whole: how far they are apart."""
    world = make_tiny_world()
    task, ids = make_task(world.catalog, world.items), torch.from_numpy(world.items.token_ids)
    batch = torch.cat([torch.tensor([[70, 71]]), ids[torch.tensor([[0, 4, 7, 1, 5, 8]])]], dim=1)
    labels = batch.masked_fill(batch < int(ids.min()), -100)
    models = []
    for _ in range(2):
        model = base_model()
        add_item_rows(model, world.items, world.catalog, "text", seed=0)
        train_item_rows_only(model, world.items)
        _add_level_loss(model, world.items, 0.0, 0.0)
        models.append(model)
    plain, parts = models
    mesh = init_device_mesh("cpu", (COUNT,))
    for layer in parts.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(parts, mesh=mesh)
    assert is_divided(parts)
    assert not is_divided(plain)
    losses, found = [], []
    for model in (plain, parts):
        optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
        for _ in range(2):
            loss = model(input_ids=batch, labels=labels, level_loss=True, use_cache=False).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
        model.eval()
        with whole(model):
            answer = LLMRecommender(model_for_decoding(model), task, Decoding()).recommend([[1, 2], [3]], 5)
        found.append(torch.from_numpy(answer.scores))
    again = gathered(parts)
    restore_embedding(plain)
    del plain.__dict__["forward"]
    with torch.no_grad():
        logits = [model(batch).logits for model in (plain, again)]
    return {
        "loss": abs(losses[0] - losses[1]),
        "scores": float((found[0] - found[1]).abs().max()),
        "logits": float((logits[0] - logits[1]).abs().max()),
        "spread": float(logits[0].std()),
    }


def summary(recommender: Any, log: dict[str, Any]) -> dict[str, Any]:
    def curve(key: str) -> list[float]:
        return [row[key] for row in log["history"] if key in row]

    weights = torch.cat([weight.detach().flatten() for weight in recommender.model.parameters()])
    return {
        "loss": curve("loss"),
        "ndcg": curve("eval_ndcg@10"),
        "steps": log["history"][-1]["step"],
        "norm": float(weights.norm()),
        "mean": float(weights.mean()),
    }


if __name__ == "__main__":
    folder, recipe = Path(sys.argv[1]), sys.argv[2]
    found = {**trained(folder), "divided": divided()}
    if os.environ["RANK"] == "0":
        (folder / "two.json").write_text(json.dumps(found))
    os.chdir(folder)
    sys.exit(main(["run", recipe, "train.args.gradient_accumulation_steps=1", "--json"]))
