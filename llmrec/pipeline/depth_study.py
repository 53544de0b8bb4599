"""How much of a teacher's depth does the task need? The teacher cut at several depths, as it is and trained shortly.

Paper: Xu et al. 2025, SLMRec (https://arxiv.org/abs/2405.17890), whose motivating figure shows that most middle layers
of a recommender can go. What is cut is worse at once and better after a short training; the second line says which
depth a student should have.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrec import artifact
from llmrec.errors import RecipeError
from llmrec.pages.charts import Series, line_chart, standalone
from llmrec.pipeline.distill import read_teacher, states_folder
from llmrec.recipe import DistillRecipe

MOST_DEPTHS = 12
"""Depths that are tried where none are named."""


def study_depths(recipe: DistillRecipe, output: Path, depths: Sequence[int] | None, epochs: float) -> dict[str, Any]:
    """Measure every depth on the validation questions; a depth that was measured before is not measured again.

    Args:
        recipe: data, teacher, and the losses of the short training; its student's `layers` are replaced.
        output: folder of `depth.json`, `depth.svg` and a file for each depth.
        depths: numbers of layers; when None up to `MOST_DEPTHS` at even distances. epochs: of each training.

    Returns:
        The content of `depth.json`: `depths`, a row each with `layers`, `parameters` and the validation NDCG@10 of the
        cut teacher (`cut`) and after training (`trained`).

    Raises:
        RecipeError: a depth is more than the teacher has.
    """
    teacher, _, _ = read_teacher(recipe)
    assert teacher.model is not None
    most = len(teacher.model.get_decoder().layers)
    if depths is None:
        depths = sorted({round(depth) for depth in np.linspace(1, most, min(MOST_DEPTHS, most))})
    if wrong := [depth for depth in depths if not 1 <= depth <= most]:
        raise RecipeError(f"--depths: {wrong[0]} layers were asked for; the teacher has 1 to {most}.")
    # Once: it reads the whole folder of the teacher.
    content = artifact.digest(recipe.teacher)
    settings = {"teacher": content, "distill": recipe.distill, "epochs": epochs, "seed": recipe.seed}
    rows = [_measured(recipe, depth, epochs, settings, output) for depth in depths]
    found = {"teacher": recipe.teacher.resolve().name, "epochs": epochs, "depths": rows}
    artifact.write_text(output / "depth.json", json.dumps(found, indent=2) + "\n")
    lines = [
        Series(name, style, [row[key] for row in rows])
        for name, style, key in (("cut, not trained", "second", "cut"), (f"{epochs:g} epochs", "first", "trained"))
    ]
    chart = line_chart([row["layers"] for row in rows], lines, "Validation NDCG@10 by depth", "layers kept")
    artifact.write_text(output / "depth.svg", standalone(chart, lines))
    return found


def _measured(
    recipe: DistillRecipe, depth: int, epochs: float, settings: dict[str, Any], output: Path
) -> dict[str, Any]:
    """One row, from its file if that is of the same settings."""
    file = output / f"depth-{depth}.json"
    if file.is_file() and (kept := json.loads(file.read_text()))["settings"] == json.loads(json.dumps(settings)):
        return dict(kept["row"])
    from llmrec.evaluation.protocol import evaluate
    from llmrec.recommenders.llm import LLMRecommender
    from llmrec.trainers.distill import Distill

    teacher, split, decoding = read_teacher(recipe)
    changed = {
        **recipe.distill,
        "student": {**recipe.distill.get("student", {}), "layers": depth},
        "patience": None,
        "args": {**recipe.distill.get("args", {}), "num_train_epochs": epochs},
    }
    trainer = Distill.parse(changed, "distill")
    model, task = trainer.student.make(teacher.model, teacher.task, recipe.seed)
    questions = split.valid.sample(trainer.valid_users, recipe.seed)
    exclude_seen = recipe.evaluation.exclude_seen
    cut = evaluate(LLMRecommender(model, task, decoding), questions, (10,), exclude_seen).metrics["ndcg@10"]
    work = output / f".depth-{depth}"
    _, log = trainer.train(
        *(teacher, split.train, split.valid, work, recipe.seed, decoding, exclude_seen), states=states_folder(recipe)
    )
    row = {"layers": depth, "parameters": log["parameters"]["student"], "cut": cut, "trained": log["best"]}
    artifact.write_text(file, json.dumps({"settings": settings, "row": row}, indent=2) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    return row
