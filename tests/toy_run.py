"""A whole run in seconds: a random base model on disk, a synthetic shop, a recipe that joins them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from worlds import make_tiny_model, make_tiny_tokenizer

from llmrec import artifact

RECIPE = """
name: toy
data: {{kind: synthetic, users: 30, items: 24, categories: 3, events: 8}}
index: {{kind: rqkmeans, levels: [4, 4], encoder: {{kind: tfidf}}}}
model: {{name: {base}}}
task: {{max_history: 6}}
train:
  kind: sft
  dropout: 0.1
  args:
    use_cpu: true
    bf16: false
    gradient_checkpointing: false
    disable_tqdm: true
    per_device_train_batch_size: 8
    num_train_epochs: 3
    learning_rate: 1e-3
decoding: {{beams: 8}}
evaluation: {{users: 20}}
"""
STEPS_AN_EPOCH = 4  # 30 users, one packed sample each, 8 a batch
MIXTURE = """
extends: toy.yaml
train:
  tasks:
    - {kind: request_to_item, weight: 0.3}
    - {kind: item_to_title, weight: 0.3}
    - {kind: titles_to_item, weight: 0.2, shown: 3}
    - {kind: item_to_category, weight: 0.2}
  args: {per_device_train_batch_size: 16}
"""
"""Tasks in plain language with as many samples again, so as many steps an epoch."""
ROOT = Path(__file__).resolve().parent.parent


def make_base_model(folder: Path) -> Path:
    """A tiny Llama with sampling defaults that transformers refuses to save (a temperature, but no sampling)."""
    tokenizer = make_tiny_tokenizer()
    make_tiny_model(len(tokenizer), initializer_range=0.05).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_k": 3}))
    return folder


def write_recipe(folder: Path, base: Path, variant: str = "") -> Path:
    """The recipe, or one that extends it; its output `runs` is relative to the folder where it is started."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toy.yaml"
    path.write_text(RECIPE.format(base=base))
    if variant:
        path = folder / "variant.yaml"
        path.write_text(variant)
    return path


def killed_at(recipe: Path, *points: str) -> dict[str, int]:
    """How each attempt at the recipe ended, its signal or 0.

    Args:
        points: where they die, see pipeline/kill_itself.py; everywhere by default.
    """
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "pipeline" / "kill_itself.py"), str(recipe), *points],
        cwd=recipe.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    signals: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return signals


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder that two equal runs share; see `artifact.STORY`."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in artifact.STORY
    }
