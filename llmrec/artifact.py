"""Folders on disk: the names inside a model folder, and how to write one so that nothing half-written is ever seen.

model folder
├── config.json, model.safetensors, tokenizer*.json, generation_config.json   (what transformers and vLLM read)
├── recommender.json     kind, decoding settings, hash of the prompt and of the codes
├── prompt.jinja         the one wording
├── search.jinja         the wording of a request in words, where the model answers one
├── item_index/          codes.safetensors, index.json
├── item_head/           weights.safetensors: the projection of a recommender of the kind item_head
├── catalog.parquet      item ids, titles, text columns
├── recipe.yaml          the resolved recipe
├── eval.json, README.md measured figures, the model card
├── training.json, training.png, made.json   how it came about: losses, seconds, machine, versions
└── handler.py           a Hub inference endpoint
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmrec.errors import ArtifactError

RECOMMENDER = "recommender.json"
PROMPT = "prompt.jinja"
SEARCH_PROMPT = "search.jinja"
ITEM_INDEX = "item_index"
ITEM_HEAD = "item_head"
ITEM_HEAD_WEIGHTS = "weights.safetensors"
CATALOG = "catalog.parquet"
RECIPE = "recipe.yaml"
EVALUATION = "eval.json"
CARD = "README.md"
HANDLER = "handler.py"
LOG = "training.json"
PLOT = "training.png"
MADE = "made.json"

STORY = (CARD, LOG, PLOT, MADE)
"""Differ from run to run, since they hold times."""

ABOUT = (*STORY, EVALUATION, RECIPE, HANDLER)
"""What is said about a model; no answer of it depends on these."""


def write_folder(folder: Path, write: Callable[[Path], None], last: str) -> None:
    """Let `write` fill a hidden folder beside `folder`, then move its files over; other files there stay.

    An interrupted save leaves the old folder, the new one, or one without the file `last`, which readers refuse: never
    a mixture that loads.

    Args:
        folder: where the files shall be. write: makes them in the folder that it is given.
        last: the name of the file that readers ask for first; it is removed first and appears last.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        new = Path(temporary) / "new"  # made by mkdir, for its ordinary permissions
        new.mkdir()
        write(new)
        if not folder.exists():
            os.replace(new, folder)
            return
        (folder / last).unlink(missing_ok=True)
        for path in sorted(new.iterdir(), key=lambda path: path.name == last):
            if (old := folder / path.name).is_dir():
                shutil.rmtree(old)
            os.replace(path, old)


@contextmanager
def appears_whole(path: Path) -> Iterator[Path]:
    """A neighbour of a file to write to; it takes the file's place when the block ends, and is gone if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield neighbour
        os.replace(neighbour, path)
    finally:
        neighbour.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it appears whole."""
    with appears_whole(path) as neighbour:
        neighbour.write_text(text)


def digest(folder: Path) -> str:
    """A hash of all files of a model folder that its answers depend on; empty where there is no folder."""
    found = hashlib.sha256()
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in ABOUT]
    for path in files:
        found.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as content:
            found.update(hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()[:16] if files else ""


def count_weights(folder: Path) -> tuple[int, int]:
    """How many numbers the weights of a folder have, and their bytes on the disk; nothing is loaded.

    Raises:
        ArtifactError: a file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    parameters, size = 0, 0
    for path in sorted([*folder.glob("*.safetensors"), *(folder / ITEM_HEAD).glob("*.safetensors")]):
        try:
            with safe_open(path, "np") as weights:
                parameters += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())
        except (OSError, SafetensorError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}). Save or download it again.") from error
        size += path.stat().st_size
    return parameters, size
