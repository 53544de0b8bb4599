"""From a recipe to a model folder: data -> index -> train (-> align ...) -> evaluate -> folder with its card."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmrec import artifact
from llmrec.data import split as splits
from llmrec.data import store
from llmrec.errors import RecipeError
from llmrec.pipeline import stages
from llmrec.pipeline.cache import Stage, StageCache
from llmrec.recipe import Recipe
from llmrec.registry import build, resolve

if TYPE_CHECKING:
    from llmrec.evaluation.protocol import Evaluation
    from llmrec.recommenders.llm import Decoding

logger = logging.getLogger(__name__)

TRAIN = "train"


@dataclass(frozen=True)
class Plan:
    """The stages of a recipe, in order; each reads the ones before it."""

    recipe: Recipe
    cache: StageCache
    data: Stage
    index: Stage
    train: Stage
    aligned: dict[str, Stage]
    evaluate: Stage

    @property
    def models(self) -> dict[str, Stage]:
        """The stages that make a model, by name: `train`, and those of `align` in their order."""
        return {TRAIN: self.train, **self.aligned}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All of them, first to last."""
        return self.data, self.index, *self.models.values(), self.evaluate

    def up_to(self, name: str) -> tuple[Stage, ...]:
        """The stages up to the last of this name: `data`, `index`, `train` (with all alignment) or `evaluate`."""
        names = [TRAIN if stage in self.aligned.values() else stage.name for stage in self.stages]
        return self.stages[: len(names) - names[::-1].index(name)]

    @property
    def folder(self) -> Path:
        """The finished model folder."""
        return self.recipe.output / self.recipe.name


def plan(recipe: Recipe) -> Plan:
    """Check a recipe down to its last setting and name its stages; nothing is read but the data's fingerprint.

    Raises:
        RecipeError: a plug-in or one of its settings is unknown.
        DataError: the data cannot be found.
    """
    from llmrec.base_models import locate

    source, indexer, trainer, aligners, decoding, template = check(recipe)
    origin = locate(recipe.model.name).described

    def make_data(target: Path, work: Path) -> None:
        dataset = source.load()
        kept = splits.k_core(dataset.interactions, recipe.split.min_user_events, recipe.split.min_item_events)
        store.save(target, dataset.catalog, kept)

    def make_index(target: Path, work: Path) -> None:
        catalog, interactions = store.load(cache.get(data))
        indexer.build(catalog, splits.cut(interactions, recipe.split).train).save(target)

    def make_model(target: Path, work: Path) -> None:
        stages.train(recipe, cache.get(data), cache.get(index), template, trainer, decoding, target, work)

    def aligning(aligner: Any, before: Stage) -> Callable[[Path, Path], None]:
        def make_aligned(target: Path, work: Path) -> None:
            stages.align(recipe, cache.get(data), cache.get(before), aligner, decoding, target, work)

        return make_aligned

    def make_evaluation(target: Path, work: Path) -> None:
        models = {TRAIN: train, **aligned}
        stages.evaluate(recipe, cache.get(data), {name: cache.get(stage) for name, stage in models.items()}, target)

    cache = StageCache(recipe.output / "cache")
    core = recipe.split.settings()
    cores = [core["min_user_events"], core["min_item_events"]]
    data = Stage("data", {"data": _kind_and_settings(recipe.data, source), "core": cores}, (), make_data)
    index = Stage("index", {"index": _kind_and_settings(recipe.index, indexer), "split": core}, (data,), make_index)
    of_training = {
        "decoding": decoding.settings(),
        "exclude_seen": recipe.evaluation.exclude_seen,
        "seed": recipe.seed,
    }
    train_settings = {
        "train": _kind_and_settings(recipe.train, trainer),
        "model": {**recipe.model.settings(), "origin": origin},
        "task": {**recipe.task.settings(), "template": template},
        **of_training,
    }
    train = last = Stage(TRAIN, train_settings, (data, index), make_model)
    aligned: dict[str, Stage] = {}
    for name, settings in recipe.alignments.items():
        align_settings = {"align": _kind_and_settings(settings, aligners[name]), **of_training}
        last = aligned[name] = Stage("align", align_settings, (data, last), aligning(aligners[name], last), name)
    evaluation = {**recipe.evaluation.settings(), "seed": recipe.seed}
    if aligned:
        evaluation["stages"] = list(aligned)  # their names stand in the result
    evaluate = Stage("evaluate", evaluation, (data, train, *aligned.values()), make_evaluation)
    return Plan(recipe, cache, data, index, train, aligned, evaluate)


class Parts(NamedTuple):
    """The plug-ins that a recipe names, built from its settings."""

    source: Any
    indexer: Any
    trainer: Any
    aligners: dict[str, Any]
    decoding: Decoding
    template: str


def check(recipe: Recipe) -> Parts:
    """Build all that a recipe names; neither data nor model is touched.

    Raises:
        RecipeError: a plug-in or one of its settings is unknown.
    """
    from llmrec.recommenders.llm import Decoding

    trainer = build("trainer", recipe.train, "train")
    aligners = {name: build("trainer", settings, f"align.{name}") for name, settings in recipe.alignments.items()}
    for each in (trainer, *aligners.values()):
        each.config(recipe.output, recipe.seed)
    for name in recipe.evaluation.baselines:
        if not hasattr(resolve("recommender", name), "fit"):
            raise RecipeError(f"evaluation.baselines: '{name}' cannot be fitted here. Name others, such as markov.")
    return Parts(
        build("source", recipe.data, "data"),
        build("index", _with_seed("index", recipe.index, recipe.seed), "index"),
        trainer,
        aligners,
        Decoding.parse(recipe.decoding, "decoding"),
        template_source(recipe.task.template),
    )


def run(recipe: Recipe) -> dict[str, Any]:
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
    for number, stage in enumerate(wanted, 1):
        logger.info("[%d/%d] %s", number, len(wanted), stage.title)
        planned.cache.get(stage)


def finish(planned: Plan) -> dict[str, Any]:
    """Gather the model folder from finished stages; cheap, so it is never cached.

    Of several models it is the one that was best on the validation questions, whichever came last.
    """
    from llmrec.card import render_card

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
        (target / artifact.CARD).write_text(render_card(planned.recipe, figures))

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
    """What was measured on the test questions, the kept model first (`llm`), with the seconds that it took."""
    from llmrec.evaluation.protocol import Evaluation

    folder = planned.cache.get(planned.evaluate)
    figures = json.loads((folder / artifact.EVALUATION).read_text())
    seconds = json.loads((folder / "seconds.json").read_text())
    found = {"llm": figures["test"]}
    for name, of_stage in figures.get("stages", {}).items():
        if name != figures["best_stage"]:
            found[f"llm ({name})"] = of_stage["test"]
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


def _with_seed(kind: Any, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """The recipe's seed, where a plug-in takes one and the recipe says no other."""
    takes_seed = "kind" in settings and "seed" in resolve(kind, settings["kind"]).model_fields
    return {"seed": seed, **settings} if takes_seed else settings


def _kind_and_settings(named: dict[str, Any], component: Any) -> dict[str, Any]:
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
