"""From a recipe to a model folder: data -> index -> train (-> align ...) -> evaluate -> folder with its card.

The recipe of a baseline needs no index, and that of a distillation begins with a finished model folder:
`llmrec.pipeline.baseline` and `llmrec.pipeline.distill` plan their training, all else is the same.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmrec import artifact
from llmrec.data import split as splits
from llmrec.data import store
from llmrec.errors import RecipeError
from llmrec.pipeline import processes, stages
from llmrec.pipeline.cache import Stage, StageCache
from llmrec.pipeline.plan import ALIGN, TRAIN, Plan
from llmrec.pipeline.story import tell
from llmrec.recipe import AnyRecipe, BaselineRecipe, DistillRecipe, Recipe
from llmrec.registry import build, resolve

if TYPE_CHECKING:
    from llmrec.evaluation.protocol import Evaluation
    from llmrec.recommenders.llm import Decoding

logger = logging.getLogger(__name__)


def plan(recipe: AnyRecipe) -> Plan:
    """Check a recipe down to its last setting and name its stages; nothing is read but the data's fingerprint.

    Raises:
        RecipeError: a plug-in or one of its settings is unknown.
        DataError: the data cannot be found.
    """
    if processes.count() > 1 and not isinstance(recipe, Recipe):
        raise RecipeError(
            f"{processes.count()} processes were started, and only the recipe of a language model trains on several. "
            "Start llmrec by itself."
        )
    if isinstance(recipe, BaselineRecipe):
        from llmrec.pipeline.baseline import plan_baseline

        return plan_baseline(recipe)
    if isinstance(recipe, DistillRecipe):
        from llmrec.pipeline.distill import plan_distill

        return plan_distill(recipe)
    assert isinstance(recipe, Recipe)
    return _plan_language_model(recipe)


def _plan_language_model(recipe: Recipe) -> Plan:
    from llmrec.base_models import locate

    source, indexer, trainer, aligners, decoding, template = check_language_model(recipe)
    origin = locate(recipe.model.name).described

    def make_index(target: Path, work: Path) -> None:
        catalog, interactions = store.load(cache.get(data))
        indexer.build(catalog, splits.cut(interactions, recipe.split).train).save(target)

    def make_model(target: Path, work: Path) -> None:
        stages.train(recipe, cache.get(data), cache.get(index), template, trainer, decoding, target, work)

    def aligning(aligner: Any, before: Stage) -> Callable[[Path, Path], None]:
        def make_aligned(target: Path, work: Path) -> None:
            stages.align(recipe, cache.get(data), cache.get(before), aligner, decoding, target, work)

        return make_aligned

    cache = StageCache(recipe.output / "cache")
    core = recipe.split.settings()
    data = data_stage(recipe, source)
    index = Stage("index", {"index": kind_and_settings(recipe.index, indexer), "split": core}, (data,), make_index)
    of_training = {
        "decoding": decoding.settings(),
        "exclude_seen": recipe.evaluation.exclude_seen,
        "seed": recipe.seed,
        **({"processes": processes.count()} if processes.count() > 1 else {}),  # a step takes the batches of all
    }
    train_settings = {
        "train": kind_and_settings(recipe.train, trainer),
        "model": {**recipe.model.settings(), "origin": origin},
        "task": {**recipe.task.settings(), "template": template},
        **of_training,
    }
    train = last = Stage(TRAIN, train_settings, (data, index), make_model, together=True)
    aligned: dict[str, Stage] = {}
    for name, settings in recipe.alignments.items():
        align_settings = {"align": kind_and_settings(settings, aligners[name]), **of_training}
        build = aligning(aligners[name], last)
        last = aligned[name] = Stage(ALIGN, align_settings, (data, last), build, name, together=True)
    evaluate = evaluate_stage(recipe, cache, data, {TRAIN: train, **aligned})
    return Plan(recipe, cache, (data, index, train, *aligned.values(), evaluate))


def data_stage(recipe: AnyRecipe, source: Any) -> Stage:
    """Read the tables, keep the k-core."""

    def make(target: Path, work: Path) -> None:
        dataset = source.load()
        kept = splits.k_core(dataset.interactions, recipe.split.min_user_events, recipe.split.min_item_events)
        store.save(target, dataset.catalog, kept)

    cores = [recipe.split.min_user_events, recipe.split.min_item_events]
    return Stage("data", {"data": kind_and_settings(recipe.data, source), "core": cores}, (), make)


def evaluate_stage(recipe: AnyRecipe, cache: StageCache, data: Stage, models: dict[str, Stage]) -> Stage:
    """Ask the test questions of the models of these stages, `train` first."""

    def make(target: Path, work: Path) -> None:
        stages.evaluate(recipe, cache.get(data), {name: cache.get(stage) for name, stage in models.items()}, target)

    evaluation = {**recipe.evaluation.settings(), "seed": recipe.seed}
    if len(models) > 1:
        evaluation["stages"] = [name for name in models if name != TRAIN]  # their names stand in the result
    return Stage("evaluate", evaluation, (data, *models.values()), make)


class Parts(NamedTuple):
    """The plug-ins that a recipe names, built from its settings."""

    source: Any
    indexer: Any
    trainer: Any
    aligners: dict[str, Any]
    decoding: Decoding
    template: str


def check(recipe: AnyRecipe) -> None:
    """Build all that a recipe names; neither data nor model is touched.

    Raises:
        RecipeError: a plug-in or one of its settings is unknown.
    """
    if isinstance(recipe, BaselineRecipe):
        from llmrec.pipeline.baseline import check_baseline

        check_baseline(recipe)
    elif isinstance(recipe, DistillRecipe):
        from llmrec.pipeline.distill import check_distill

        check_distill(recipe)
    elif isinstance(recipe, Recipe):
        check_language_model(recipe)


def check_language_model(recipe: Recipe) -> Parts:
    """Build all that the recipe of a language model names.

    Raises:
        RecipeError: a plug-in or one of its settings is unknown.
    """
    from llmrec.base_models import bitsandbytes_config
    from llmrec.recommenders.llm import Decoding

    trainer = build("trainer", recipe.train, "train")
    aligners = {name: build("trainer", settings, f"align.{name}") for name, settings in recipe.alignments.items()}
    for each in (trainer, *aligners.values()):
        each.config(recipe.output, recipe.seed)
        if each.tuning == "lora":
            each.peft_config()
    for name, aligner in aligners.items():
        if aligner.makes != trainer.makes:
            raise RecipeError(
                f"align.{name}: it makes a recommender of the kind '{aligner.makes}', and train.kind: "
                f"{recipe.train['kind']} one of the kind '{trainer.makes}'. Stages that go on from each other make the "
                "same: leave this one out, or train otherwise."
            )
    if recipe.model.quantization is not None:
        bitsandbytes_config(recipe.model.quantization, recipe.model.dtype)
        for where, each in [("train", trainer), *((f"align.{name}", aligner) for name, aligner in aligners.items())]:
            if each.tuning != "lora":
                raise RecipeError(
                    f"{where}.tuning is '{each.tuning}', and the weights of model.quantization cannot be trained. Set "
                    "tuning: lora (QLoRA), or model.quantization: null."
                )
    check_compared(recipe)
    return Parts(
        build("source", recipe.data, "data"),
        build("index", with_seed("index", recipe.index, recipe.seed), "index"),
        trainer,
        aligners,
        Decoding.parse(recipe.decoding, "decoding"),
        template_source(recipe.task.template),
    )


def check_compared(recipe: AnyRecipe) -> None:
    """The baselines that are printed beside the model need no settings and can be fitted.

    Raises:
        RecipeError: one is unknown, or is none.
    """
    for name in recipe.evaluation.baselines:
        if not hasattr(resolve("recommender", name), "fit"):
            raise RecipeError(f"evaluation.baselines: '{name}' cannot be fitted here. Name others, such as markov.")
        build("recommender", {"kind": name}, f"evaluation.baselines: {name}")


def run(recipe: AnyRecipe) -> dict[str, Any]:
    """Build every stage that is not there yet, then the model folder.

    Returns:
        The summary that `llmrec run --json` prints: `folder`, `test`, `valid`, `baselines`, `invalid`,
        `train_seconds`, `protocol`; with `align` also `best_stage` and `stages`, the figures and seconds of each.
    """
    planned = plan(recipe)
    build_stages(planned, planned.stages)
    return finish(planned)


def build_stages(planned: Plan, wanted: Sequence[Stage]) -> None:
    """Build those of these stages that are not there yet, in order, and say so."""
    together = [number for number, stage in enumerate(wanted, 1) if stage.together]
    for number, stage in enumerate(wanted, 1):
        if not processes.is_first() and number > max(together, default=0):
            return  # what is left needs one process
        logger.info("[%d/%d] %s", number, len(wanted), stage.title)
        planned.cache.get(stage)


def finish(planned: Plan) -> dict[str, Any]:
    """Gather the model folder from finished stages; cheap, so it is never cached.

    Of several models it is the one that was best on the validation questions, whichever came last.
    """
    from llmrec.card import write_card

    figures = json.loads((planned.cache.get(planned.evaluate) / artifact.EVALUATION).read_text())
    model = planned.cache.get(planned.models[figures.get("best_stage", TRAIN)])

    def write(target: Path) -> None:
        for path in sorted((model / "model").rglob("*")):
            copy = target / path.relative_to(model / "model")
            if path.is_dir():
                copy.mkdir()
            else:
                _link_or_copy(path, copy)
        (target / artifact.RECIPE).write_text(planned.recipe.to_yaml())
        (target / artifact.EVALUATION).write_text(json.dumps(figures, indent=2) + "\n")
        tell(planned, figures, target)
        write_card(target, name=planned.recipe.name)

    artifact.write_folder(planned.folder, write, last=artifact.RECOMMENDER)
    summary = {
        "folder": str(planned.folder),
        "test": figures["test"]["metrics"],
        "valid": figures["valid"],
        "baselines": {name: found["metrics"] for name, found in figures["baselines"].items()},
        "invalid": sum(figures["test"][name] for name in ("invalid", "duplicates", "excluded_returned")),
        "train_seconds": planned.cache.record(planned.train)["seconds"],
        "protocol": figures["test"]["protocol"],
    }
    if "distillation" in figures:
        summary["distillation"] = figures["distillation"]
    if "stages" in figures:
        summary["best_stage"] = figures["best_stage"]
        summary["stages"] = {
            name: {
                **{part: of_stage[part]["metrics"] for part in ("valid", "test")},
                "seconds": planned.cache.record(planned.models[name])["seconds"],
            }
            for name, of_stage in figures["stages"].items()
        }
    return summary


def load_split(planned: Plan) -> splits.Split:
    """Train, valid and test of a plan, from its data stage."""
    return splits.cut(store.load(planned.cache.get(planned.data))[1], planned.recipe.split)


def load_evaluations(planned: Plan) -> dict[str, Evaluation]:
    """What was measured on the test questions, the kept model first, with the seconds that it took."""
    from llmrec.evaluation.protocol import Evaluation

    folder = planned.cache.get(planned.evaluate)
    figures = json.loads((folder / artifact.EVALUATION).read_text())
    seconds = json.loads((folder / "seconds.json").read_text())
    makes = planned.recipe.makes
    found = {makes: figures["test"]}
    for name, of_stage in figures.get("stages", {}).items():
        if name != figures["best_stage"]:
            found[f"{makes} ({name})"] = of_stage["test"]
    found |= figures["baselines"]
    return {name: Evaluation(**values, seconds=seconds[name]) for name, values in found.items()}


def template_source(name: str) -> str:
    """The wording of a prompt: a file, or a shipped one by name.

    Raises:
        LlmrecError: there is no such prompt.
    """
    from llmrec import assets

    path = Path(name)
    return (path if path.is_file() else assets.path("prompts", f"{name}.jinja")).read_text()


def with_seed(kind: Any, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """The recipe's seed, where a plug-in takes one and the recipe says no other."""
    takes_seed = "kind" in settings and "seed" in resolve(kind, settings["kind"]).model_fields
    return {"seed": seed, **settings} if takes_seed else settings


def kind_and_settings(named: dict[str, Any], component: Any) -> dict[str, Any]:
    """What a stage depends on: the plug-in, its settings, the files it reads."""
    return {"kind": named["kind"], **component.settings(), "fingerprint": component.fingerprint()}


def _link_or_copy(source: Path, target: Path) -> None:
    """Weights are shared with the cache where the disk allows it; small files may be edited, so they are copied."""
    if source.suffix == ".safetensors":
        try:
            os.link(source, target)
            return
        except OSError:
            logger.debug("%s cannot be linked and is copied", source)
    shutil.copy2(source, target)
