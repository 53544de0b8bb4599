"""Run a recipe again and again, each time killed (SIGKILL) at another point: `kill_itself.py RECIPE POINT ...`.

Each attempt is a fork of this process, so the libraries are imported once. The last line of stdout says how every
attempt ended: its signal, or 0 where it reached its end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import transformers

import llmrec.data.store
import llmrec.indexes.base
import llmrec.pipeline.run
import llmrec.trainers.sft
from llmrec import artifact, cli
from llmrec.evaluation import protocol
from llmrec.trainers.callbacks import ProgressBar
from llmrec.trainers.teacher import Teacher


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def patch(owner: Any, name: str, hit: Callable[..., bool], after: bool = False) -> None:
    """Let a function of llmrec kill the process at its first call for which `hit` is true, before or after its work."""
    original = getattr(owner, name)

    def killing(*args: Any, **kwargs: Any) -> Any:
        due = hit(*args, **kwargs)
        if due and not after:
            die()
        result = original(*args, **kwargs)
        if due:
            die()
        return result

    setattr(owner, name, killing)


def cut_short(target: Path, words: str) -> bool:
    """Half of a file is on disk when the process dies."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(words[: len(words) // 2])
    return True


def at_step(number: int) -> Callable[..., bool]:
    return lambda self, args, state, *rest, **more: state.global_step == number


def in_alignment(number: int) -> Callable[..., bool]:
    return lambda self, args, state, *rest, **more: "align-" in args.output_dir and state.global_step == number


def in_a_checkpoint(step: int, resumed_from: int) -> None:
    """Only in a training that went on from an earlier checkpoint: one that began anew lives, and so is found out."""
    began = []
    on_train_begin = ProgressBar.on_train_begin

    def noting(self: ProgressBar, args: Any, state: Any, *rest: Any, **more: Any) -> None:
        began.append(state.global_step)
        on_train_begin(self, args, state, *rest, **more)

    def hit(self: Any, path: str) -> bool:
        return began == [resumed_from] and self.global_step == step and cut_short(Path(path), '{"epoch": 2.0}')

    ProgressBar.on_train_begin = noting  # type: ignore[method-assign]
    patch(transformers.TrainerState, "save_to_json", hit)


POINTS: dict[str, Callable[[], None]] = {
    "data: between its files": lambda: patch(
        pq, "write_table", lambda table, path: Path(path).name == "interactions.parquet"
    ),
    "data: before its record": lambda: patch(
        artifact, "write_text", lambda path, text: path.name == "stage.json" and cut_short(path, text)
    ),
    "index: between its files": lambda: patch(llmrec.indexes.base, "save_file", lambda *_: True, after=True),
    "train: before the first checkpoint": lambda: patch(ProgressBar, "on_step_end", at_step(2)),
    "train: after the first checkpoint": lambda: patch(ProgressBar, "on_step_end", at_step(6)),
    "train: in the middle of a checkpoint": lambda: in_a_checkpoint(step=8, resumed_from=4),
    "train: in the model folder": lambda: patch(
        pq, "write_table", lambda table, path: "train-" in str(path) and Path(path).name == "catalog.parquet"
    ),
    "distill: while the teacher is asked": lambda: patch(Teacher, "states", lambda *_: True, after=True),
    "align: before the first checkpoint": lambda: patch(ProgressBar, "on_step_end", in_alignment(2)),
    "align: after the first checkpoint": lambda: patch(ProgressBar, "on_step_end", in_alignment(6)),
    "align: in a checkpoint": lambda: patch(
        transformers.TrainerState,
        "save_to_json",
        lambda self, path: "align-" in path and self.global_step == 8 and cut_short(Path(path), '{"epoch": 2.0}'),
    ),
    "align: in the model folder": lambda: patch(
        pq, "write_table", lambda table, path: "align-" in str(path) and Path(path).name == "catalog.parquet"
    ),
    "evaluate: between two recommenders": lambda: patch(
        protocol, "evaluate", lambda recommender, *_, **__: type(recommender).__name__ == "LLMRecommender"
    ),
    "evaluate: between its files": lambda: patch(
        artifact, "write_text", lambda path, text: path.name == "eval.json", after=True
    ),
    "folder: before it is there": lambda: patch(llmrec.pipeline.run, "_link_or_copy", lambda *_: True, after=True),
    "nowhere": lambda: None,
    "folder: while it is replaced": lambda: patch(
        artifact.os, "replace", lambda old, new: Path(new).name == "model.safetensors"
    ),
}


def attempt(point: str, recipe: str) -> int:
    child = os.fork()
    if child == 0:
        POINTS[point]()
        os._exit(cli.main(["run", recipe]))
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


if __name__ == "__main__":
    recipe, *points = sys.argv[1:]
    others = ("align", "distill")  # need another recipe
    without = [point for point in POINTS if not point.startswith(others)]
    print(json.dumps({point: attempt(point, recipe) for point in points or without}))
