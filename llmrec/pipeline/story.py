"""What a model folder tells of how it came about: its losses, a picture of them, seconds, machine and versions.

None of it is a result; see `artifact.STORY`.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from llmrec import artifact
from llmrec.pipeline.plan import Plan

logger = logging.getLogger(__name__)

EVENTS = "events.out.tfevents.*"
"""TensorBoard's files."""

VALID = ("eval_ndcg@10", "ndcg@10")
"""What TRL's trainers and the baselines call the measure on validation questions."""


def tell(planned: Plan, figures: dict[str, Any], target: Path) -> None:
    """Write `made.json`, `training.json` and, where matplotlib is installed, `training.png`.

    Args:
        figures: the content of `eval.json`.
    """
    (target / artifact.MADE).write_text(json.dumps(made(planned, figures), indent=2) + "\n")
    logs = {
        name: history(json.loads((planned.cache.get(stage) / artifact.LOG).read_text()))
        for name, stage in planned.models.items()
    }
    (target / artifact.LOG).write_text(json.dumps(logs, indent=1) + "\n")
    plot(logs, target / artifact.PLOT)


def made(planned: Plan, figures: dict[str, Any]) -> dict[str, Any]:
    """Seconds of every stage and of the answers to the test questions, on which machine, with which versions."""
    records = {stage.title: planned.cache.record(stage) for stage in planned.stages}
    trained = planned.cache.record(planned.train)
    seconds = json.loads((planned.cache.get(planned.evaluate) / "seconds.json").read_text())[planned.recipe.makes]
    return {
        "seconds": {title: record["seconds"] for title, record in records.items()},
        "answers": {"questions": figures["test"]["examples"], "seconds": round(seconds, 6)},
        "machine": trained.get("machine"),  # caches of earlier versions do not say
        "versions": trained.get("versions", {}),
    }


def history(log: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of a training's log that are about the model: a loss or a measure on validation questions."""
    entries = log.get("history") or []
    kept = [entry for entry in entries if "loss" in entry or any(name in entry for name in VALID)]
    return [{name: value for name, value in entry.items() if not _is_time(name)} for entry in kept]


def _is_time(name: str) -> bool:
    return name.endswith(("runtime", "per_second", "seconds"))


def plot(logs: dict[str, list[dict[str, Any]]], path: Path) -> bool:
    """Draw loss and validation of every stage, side by side.

    Args:
        logs: of every stage, from `history`.

    Returns:
        Whether there was something to draw, and matplotlib to draw it.
    """
    drawn = {name: log for name, log in logs.items() if log}
    if not drawn:
        return False
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("%s is not drawn: pip install 'llmrec[plots]'", path.name)
        return False
    # No pyplot: it would choose a window system, and keep the figure.
    figure = Figure(figsize=(1.5 + 5 * len(drawn), 3.6), layout="constrained")
    for place, (name, log) in enumerate(drawn.items()):
        losses = figure.add_subplot(1, len(drawn), place + 1)
        _line(losses, log, "loss", "tab:blue", "")
        losses.set_title(name)
        losses.set_xlabel("step" if any("step" in entry for entry in log) else "epoch")
        losses.set_ylabel("loss", color="tab:blue")
        measures = losses.twinx()
        for measure in VALID:
            _line(measures, log, measure, "tab:orange", "o")
        measures.set_ylabel("validation NDCG@10", color="tab:orange")
        measures.set_ylim(bottom=0)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return True


def _line(axes: Any, log: list[dict[str, Any]], name: str, colour: str, marker: str) -> None:
    points = [(entry.get("step", entry.get("epoch")), entry[name]) for entry in log if name in entry]
    axes.plot([at for at, _ in points], [value for _, value in points], color=colour, marker=marker or None)


def keep_events(work: Path, target: Path) -> None:
    """Move TensorBoard's files out of a work folder, which will be removed: `tensorboard --logdir runs` finds them."""
    for path in sorted(work.rglob(EVENTS)):
        kept = target / "tensorboard" / path.name
        kept.parent.mkdir(exist_ok=True)
        shutil.move(path, kept)
