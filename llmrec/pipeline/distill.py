"""The plan of a distillation: data -> train (a student of a finished teacher) -> teacher (measured) -> evaluate.

The figures of the teacher are a stage, so that all students of one teacher share them: it is the slow one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec import artifact
from llmrec.data import split as splits
from llmrec.data import store
from llmrec.errors import ArtifactError, RecipeError
from llmrec.pipeline import stages
from llmrec.pipeline.cache import Stage, StageCache
from llmrec.pipeline.plan import TRAIN, Plan
from llmrec.pipeline.run import check_compared, data_stage
from llmrec.recipe import DistillRecipe
from llmrec.registry import build

if TYPE_CHECKING:
    from llmrec.recommenders.llm import Decoding, LLMRecommender
    from llmrec.trainers.distill import Distill

TEACHER = "teacher"
"""What the teacher is called beside the student."""


def check_distill(recipe: DistillRecipe) -> tuple[Any, Distill]:
    """The source and the trainer that a recipe names; neither data nor teacher is touched.

    Raises:
        RecipeError: a plug-in or one of its settings is unknown.
    """
    from llmrec.recommenders.llm import Decoding
    from llmrec.trainers.distill import Distill

    trainer = Distill.parse(recipe.distill, "distill")
    trainer.config(recipe.output, recipe.seed)
    if trainer.tuning == "lora":
        trainer.peft_config()
    check_compared(recipe)
    Decoding.parse(recipe.decoding, "decoding")
    return build("source", recipe.data, "data"), trainer


def plan_distill(recipe: DistillRecipe) -> Plan:
    """Check the recipe and name its stages; nothing is read but the fingerprints of data and teacher.

    Raises:
        RecipeError: a plug-in or one of its settings is unknown.
        DataError: the data cannot be found.
    """
    from llmrec.base_models import locate

    source, trainer = check_distill(recipe)
    decoding = _decoding(recipe)
    recipe = recipe.model_copy(update={"decoding": decoding.settings(), "distill": trainer.settings()})

    def make_model(target: Path, work: Path) -> None:
        _train(recipe, trainer, cache.get(data), decoding, target, work)

    def measure(target: Path, work: Path) -> None:
        _evaluate(recipe, cache.get(data), cache.get(train), cache.get(teacher), target)

    def measure_teacher(target: Path, work: Path) -> None:
        _measure_teacher(recipe, cache.get(data), target)

    cache = StageCache(recipe.output / "cache")
    data = data_stage(recipe, source)
    other = trainer.student.model
    settings = {
        "distill": trainer.settings(),
        "teacher": (content := artifact.digest(recipe.teacher)),
        "student": None if other is None else locate(other).described,
        "split": recipe.split.settings(),
        "decoding": decoding.settings(),
        "exclude_seen": recipe.evaluation.exclude_seen,
        "seed": recipe.seed,
    }
    train = Stage(TRAIN, settings, (data,), make_model)
    evaluation = recipe.evaluation.settings()
    asked = {"teacher": content, "split": recipe.split.settings(), **evaluation, "seed": _seed_of_questions(recipe)}
    teacher = Stage(TEACHER, asked, (data,), measure_teacher)
    last = Stage("evaluate", {**evaluation, "seed": recipe.seed}, (data, train, teacher), measure)
    return Plan(recipe, cache, (data, train, teacher, last))


def _decoding(recipe: DistillRecipe) -> Decoding:
    """As the teacher decodes, with what the recipe says otherwise."""
    from llmrec.recommenders.base import load_recommender_settings
    from llmrec.recommenders.llm import Decoding

    theirs: dict[str, Any] = {}
    if (recipe.teacher / artifact.RECOMMENDER).is_file():
        saved = load_recommender_settings(recipe.teacher).settings
        theirs = {name: saved[name] for name in Decoding.model_fields if name in saved}
    return Decoding.parse({**theirs, **recipe.decoding}, "decoding")


def read_teacher(recipe: DistillRecipe) -> tuple[LLMRecommender, splits.Split, Decoding]:
    """The teacher, the data that it is asked about, and how students decode.

    Raises:
        RecipeError: there is no such folder.
        ArtifactError: it knows other items than the data.
    """
    planned = plan_distill(recipe)
    return (*_teacher_and_split(recipe, planned.cache.get(planned.data)), _decoding(recipe))


def _teacher_and_split(recipe: DistillRecipe, data: Path) -> tuple[LLMRecommender, splits.Split]:
    from llmrec.recommenders.llm import LLMRecommender

    if not recipe.teacher.is_dir():
        raise RecipeError(f"teacher: there is no folder {recipe.teacher}. Give a model folder made by 'llmrec run'.")
    teacher = LLMRecommender.from_pretrained(recipe.teacher)
    catalog, interactions = store.load(data)
    if not teacher.task.items.index.is_for(catalog.items):
        raise ArtifactError(
            f"teacher: {recipe.teacher} knows other items than the recipe's data. Give the data that it was trained on."
        )
    return teacher, splits.cut(interactions, recipe.split)


def states_folder(recipe: DistillRecipe) -> Path:
    """Where what teachers say is kept, by content; any file there may be deleted."""
    return recipe.output / "cache" / "teacher_states"


def _train(recipe: DistillRecipe, trainer: Distill, data: Path, decoding: Decoding, target: Path, work: Path) -> None:
    teacher, split = _teacher_and_split(recipe, data)
    student, log = trainer.train(
        *(teacher, split.train, split.valid, work, recipe.seed, decoding, recipe.evaluation.exclude_seen),
        states=states_folder(recipe),
    )
    stages.save(student, log, target, work)


def _seed_of_questions(recipe: DistillRecipe) -> int:
    """What draws the users who are asked; where all are, students of every seed share the teacher's figures."""
    return recipe.seed if recipe.evaluation.users else 0


def _measure_teacher(recipe: DistillRecipe, data: Path, target: Path) -> None:
    """The teacher's figures on the test questions: `target/eval.json`."""
    catalog, interactions = store.load(data)
    split = splits.cut(interactions, recipe.split)
    facts, seed = stages.item_facts(recipe, split, catalog), _seed_of_questions(recipe)
    test = split.test.sample(recipe.evaluation.users, seed)
    teacher = stages.load(recipe.teacher, recipe)
    figures = stages.measure(recipe, teacher, test, recipe.evaluation.ks, split, facts, seed)
    artifact.write_text(target / artifact.EVALUATION, json.dumps(figures, indent=2) + "\n")


def _evaluate(recipe: DistillRecipe, data: Path, student: Path, teacher: Path, target: Path) -> None:
    """The student beside its teacher, and what of the teacher's quality it keeps: `distillation` in `eval.json`."""
    of_teacher = json.loads((teacher / artifact.EVALUATION).read_text())
    stages.evaluate(recipe, data, {TRAIN: student}, target, beside={TEACHER: of_teacher})
    figures = json.loads((target / artifact.EVALUATION).read_text())
    own, theirs = figures["test"]["metrics"], figures["baselines"][TEACHER]["metrics"]
    sizes = json.loads((student / artifact.LOG).read_text())["parameters"]
    figures["distillation"] = {
        "teacher": recipe.teacher.resolve().name,
        "parameters": sizes,
        "ratio": sizes["student"] / sizes["teacher"],
        "kept": {name: own[name] / theirs[name] if theirs[name] else None for name in own},
    }
    artifact.write_text(target / artifact.EVALUATION, json.dumps(figures, indent=2) + "\n")
