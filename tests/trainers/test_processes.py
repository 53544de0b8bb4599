"""Two processes train one model as one process does with twice the accumulation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_run import make_base_model, write_recipe

from llmrec import artifact
from llmrec.errors import RecipeError
from llmrec.pipeline.run import plan
from llmrec.recipe import load_recipe
from llmrec.recommenders.llm import LLMRecommender
from llmrec.trainers.batches import TokenBatches
from llmrec.trainers.distill import Distill
from llmrec.trainers.grpo import GRPO
from llmrec.trainers.rounds import Rounds

pytestmark = pytest.mark.timeout(900)  # three processes begin, which takes minutes on a busy machine
SCRIPT = Path(__file__).with_name("two_processes.py")
ALIGN = """
align:
  sdpo:
    kind: dpo
    tuning: lora
    preferences: {per_user: 1}
    args: {use_cpu: true, bf16: false, disable_tqdm: true, num_train_epochs: 1, per_device_train_batch_size: 8}
"""


class Both(dict[str, Any]):
    """What one process found, what two did, and the folder of their run."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    from trainers.two_processes import trained

    folder = tmp_path_factory.mktemp("two")
    recipe = write_recipe(folder, make_base_model(folder / "base"))
    recipe.write_text(recipe.read_text() + ALIGN)
    paths = [str(SCRIPT.parent.parent), str(SCRIPT.parent.parent.parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(SCRIPT), str(folder), str(recipe)], env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return Both(
        one=trained(folder / "one"), two=json.loads((folder / "two.json").read_text()), folder=folder, out=done.stdout
    )


@pytest.mark.parametrize("name", ["full", "tokens", "lora", "dpo"])
def test_the_curves_are_the_same(both: Both, name: str) -> None:
    one, two = both["one"][name], both["two"][name]
    assert len(one["loss"]) == one["steps"] == two["steps"] > 4
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(two["ndcg"], one["ndcg"], atol=1e-6)
    assert len(one["ndcg"]) == 3
    assert two["norm"] == pytest.approx(one["norm"], rel=1e-4)
    assert two["mean"] == pytest.approx(one["mean"], rel=1e-2, abs=1e-6)
    if name != "dpo":  # which begins with a trained model
        assert one["loss"][-1] < one["loss"][0]


def test_divided_weights_are_the_same_model(both: Both) -> None:
    """FSDP2 on two processes: the same training, the same validation, and an ordinary model at the end."""
    apart = both["two"]["divided"]
    assert apart["spread"] > 0.1
    assert max(apart["loss"], apart["scores"], apart["logits"]) < 1e-4


def test_a_run_by_two_leaves_one_folder_and_speaks_once(both: Both) -> None:
    folder = both["folder"] / "runs" / "toy"
    assert [json.loads(line)["invalid"] for line in both["out"].splitlines() if line.startswith("{")] == [0]
    figures = json.loads((folder / artifact.EVALUATION).read_text())
    assert set(figures["stages"]) == {"train", "sdpo"}
    stages = sorted((both["folder"] / "runs" / "cache").iterdir())
    assert [path.name.split("-")[0] for path in stages if not path.name.startswith(".")] == [
        "align", "data", "evaluate", "index", "train",
    ]  # fmt: skip
    assert not [path for path in stages if path.name.endswith((".work", ".partial"))]
    found = LLMRecommender.from_pretrained(folder, device="cpu").recommend([[1, 2, 3]], 5)
    assert len(set(found.rows[0].tolist())) == 5


def test_what_cannot_train_on_several_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="2 processes were started, and GRPO trains on one"):
        GRPO(args={"use_cpu": True, "bf16": False}).config(tmp_path, 0)
    with pytest.raises(RecipeError, match="2 processes were started, and Rounds trains on one"):
        Rounds(args={"use_cpu": True, "bf16": False}).config(tmp_path, 0)
    with pytest.raises(RecipeError, match="2 processes were started, and Distill trains on one"):
        Distill().config(tmp_path, 0)
    with pytest.raises(RecipeError, match="only the recipe of a language model trains on several"):
        plan(load_recipe("baselines/markov"))


def test_every_epoch_has_its_own_order_when_batches_are_dealt_out() -> None:
    """Accelerate passes the epoch on to a sampler behind the batches, and to nothing else."""
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader

    batches = TokenBatches([3] * 40, 12, seed=0)
    seen = []
    for process in range(2):
        loader = prepare_data_loader(
            DataLoader(range(40), batch_sampler=batches), num_processes=2, process_index=process, put_on_device=False
        )
        for epoch in range(2):
            loader.set_epoch(epoch)
            seen.append([batch.tolist() for batch in loader])
    first, second = [*seen[0], *seen[2]], [*seen[1], *seen[3]]
    assert sorted(map(tuple, first)) != sorted(map(tuple, second))
    for epoch in (first, second):
        assert sorted(item for batch in epoch for item in batch) == list(range(40))
