"""A whole run in seconds: a random base model on disk, a synthetic shop, a recipe that joins them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

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


def make_base_model(folder: Path) -> Path:
    """A tiny Llama with sampling defaults that transformers refuses to save (a temperature, but no sampling)."""
    tokenizer = make_tiny_tokenizer()
    make_tiny_model(len(tokenizer), initializer_range=0.05).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_k": 3}))
    return folder


def write_recipe(folder: Path, base: Path) -> Path:
    """The recipe; its output `runs` is relative, so a run belongs to the folder where it is started."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toy.yaml"
    path.write_text(RECIPE.format(base=base))
    return path


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder that two equal runs share; see `artifact.STORY`."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in artifact.STORY
    }
