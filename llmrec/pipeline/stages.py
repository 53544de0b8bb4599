"""What the stages of a run do: train a model, align it, measure all models and say which one is kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec import artifact
from llmrec.data import split as splits
from llmrec.data import store
from llmrec.pipeline import processes
from llmrec.pipeline.story import keep_events
from llmrec.recipe import AnyRecipe, BaselineRecipe, EvaluationRecipe, Recipe
from llmrec.registry import resolve

if TYPE_CHECKING:
    from llmrec.data.catalog import Catalog
    from llmrec.evaluation.beyond_accuracy import ItemFacts
    from llmrec.evaluation.sampled import SampledRanking
    from llmrec.recommenders.base import Recommender
    from llmrec.recommenders.llm import Decoding

logger = logging.getLogger(__name__)

CATEGORIES = ("category", "categories")
"""Columns that are taken for the categories where a recipe names none."""

GUARD = "ndcg@10"
"""What decides, on the validation questions, which model is kept."""


def train(
    recipe: Recipe, data: Path, index: Path, template: str, trainer: Any, decoding: Decoding, target: Path, work: Path
) -> None:
    """Train the base model: `target/model` and `target/training.json`."""
    from llmrec.base_models import load_model
    from llmrec.indexes.base import ItemIndex
    from llmrec.indexes.item_tokenizer import ItemTokenizer
    from llmrec.tasks.next_item import NextItemTask
    from llmrec.tasks.template import PromptTemplate

    catalog, interactions = store.load(data)
    split = splits.cut(interactions, recipe.split)
    base = recipe.model
    device = str(trainer.config(work, recipe.seed).device)
    model, tokenizer = load_model(base.name, base.layers, base.dtype, base.quantization, device)
    items = ItemTokenizer.bind(tokenizer, ItemIndex.load(index))
    task = NextItemTask(PromptTemplate(template), catalog, items, recipe.task.max_history)
    recommender, log = trainer.train(*_arguments(recipe, model, task, split, work, decoding))
    save(recommender, log, target, work)


def align(recipe: Recipe, data: Path, before: Path, trainer: Any, decoding: Decoding, target: Path, work: Path) -> None:
    """Go on from the model of the stage `before`: the same files."""
    from llmrec.base_models import quantized_loading
    from llmrec.recommenders.llm_folder import read_quantized, read_task, read_weights

    split = splits.cut(store.load(data)[1], recipe.split)
    folder, device = before / "model", str(trainer.config(work, recipe.seed).device)
    if quantizing := quantized_loading(recipe.model.quantization, recipe.model.dtype, device):
        model = read_quantized(folder, **quantizing)
    else:
        model = read_weights(folder, "auto", device)
    recommender, log = trainer.train(*_arguments(recipe, model, read_task(folder)[0], split, work, decoding))
    save(recommender, log, target, work)


def _arguments(
    recipe: Recipe, model: Any, task: Any, split: splits.Split, work: Path, decoding: Decoding
) -> tuple[Any, ...]:
    exclude_seen = recipe.evaluation.exclude_seen
    return model, task, split.train, split.valid, work, recipe.seed, decoding, exclude_seen


def save(recommender: Recommender, log: dict[str, Any], target: Path, work: Path) -> None:
    """Write what a stage that trains leaves: `target/model`, `target/training.json`, and what TensorBoard reads.

    The first process does.
    """
    if not processes.is_first():
        return
    recommender.save_pretrained(target / "model")
    artifact.write_text(target / artifact.LOG, json.dumps(log, indent=2) + "\n")
    keep_events(work, target)


def evaluate(
    recipe: AnyRecipe,
    data: Path,
    models: dict[str, Path],
    target: Path,
    beside: Mapping[str, dict[str, Any]] | None = None,
) -> None:
    """Measure the baselines and every model on the test questions: `target/eval.json`, `target/seconds.json`.

    Of several models, the one with the best `GUARD` on the validation questions is `best_stage`; of equal ones the
    earlier. The test questions have no part in that.

    Args:
        models: stage name -> the stage's folder, in their order.
        beside: figures of further recommenders to print beside it, from `measure`.
    """
    from llmrec.evaluation.leaks import check_split

    catalog, interactions = store.load(data)
    split = splits.cut(interactions, recipe.split)
    check_split(split)
    facts = item_facts(recipe, split, catalog)
    found, seconds = {}, {}

    def measured(name: str, recommender: Any, questions: splits.Examples, ks: tuple[int, ...]) -> dict[str, Any]:
        return without_seconds(name, measure(recipe, recommender, questions, ks, split, facts, recipe.seed))

    def without_seconds(name: str, figures: dict[str, Any]) -> dict[str, Any]:
        seconds[name] = figures.pop("seconds")  # not part of the result: a second run shall give the same file
        return figures

    ks, test = recipe.evaluation.ks, split.test.sample(recipe.evaluation.users, recipe.seed)
    for name in recipe.evaluation.baselines:
        if name == recipe.makes:
            continue
        found[name] = measured(name, resolve("recommender", name)().fit(split.train, catalog), test, ks)
    for name, figures in (beside or {}).items():
        found[name] = without_seconds(name, dict(figures))
    valid = split.valid.sample(recipe.evaluation.users, recipe.seed)
    stages: dict[str, dict[str, Any]] = {}
    for name, folder in models.items():
        model = load(folder / "model", recipe)
        stages[name] = {"test": measured(f"{recipe.makes} ({name})", model, test, ks)}
        if len(models) > 1:
            stages[name]["valid"] = measured(f"valid ({name})", model, valid, tuple(sorted({*ks, 10})))
    best = _best(stages)
    seconds[recipe.makes] = seconds.pop(f"{recipe.makes} ({best})")
    log = json.loads((models[best] / artifact.LOG).read_text())
    of_best = stages[best]["valid"]["metrics"][GUARD] if len(models) > 1 else log["best"]
    result = {"test": stages[best]["test"], "valid": {GUARD: of_best}, "baselines": found}
    if len(models) > 1:
        result |= {"best_stage": best, "stages": stages}
    artifact.write_text(target / artifact.EVALUATION, json.dumps(result, indent=2) + "\n")
    artifact.write_text(target / "seconds.json", json.dumps(seconds, indent=2) + "\n")


def measure(
    recipe: AnyRecipe,
    recommender: Any,
    questions: splits.Examples,
    ks: tuple[int, ...],
    split: splits.Split,
    facts: ItemFacts,
    seed: int,
) -> dict[str, Any]:
    """What `eval.json` says of one recommender, and the `seconds` that its answers took.

    Args:
        questions: of `split`. facts: of `item_facts`. seed: of the intervals.
    """
    from llmrec.evaluation.describe import describe
    from llmrec.evaluation.protocol import evaluate

    facts, sampled = with_codes(facts, recommender), sampled_ranking(recipe.evaluation, facts)
    result = evaluate(recommender, questions, ks, recipe.evaluation.exclude_seen, split=split.protocol, sampled=sampled)
    stated = recommender.log_probabilities and sampled is None  # probabilities are over the whole catalog
    described = describe(
        result, questions, facts, samples=recipe.evaluation.samples, seed=seed, log_probabilities=stated
    )
    return described.to_dict()


def with_codes(facts: ItemFacts, recommender: Any) -> ItemFacts:
    """What is known of the items, with the codes that the recommender writes, if it writes any."""
    from llmrec.recommenders.llm import LLMRecommender

    return (
        replace(facts, codes=recommender.task.items.index.codes) if isinstance(recommender, LLMRecommender) else facts
    )


def sampled_ranking(evaluation: EvaluationRecipe, facts: ItemFacts) -> SampledRanking | None:
    """How a recipe wants the items drawn that targets are ranked among; None for the whole catalog."""
    from llmrec.evaluation.sampled import SampledRanking

    if (wanted := evaluation.sampled) is None:
        return None
    weights = facts.counts.astype(np.float64) if wanted.drawn == "popularity" else None
    return SampledRanking(wanted.negatives, wanted.seed, weights)


def _best(stages: dict[str, dict[str, Any]]) -> str:
    """The stage to keep: the best on validation, of equal ones the first, since alignment has then gained nothing."""
    if len(stages) == 1:
        return next(iter(stages))
    scores = {name: found["valid"]["metrics"][GUARD] for name, found in stages.items()}
    best = max(scores, key=lambda name: scores[name])
    logger.info("%s on validation: %s. Kept: %s", GUARD, ", ".join(f"{n} {v:.4f}" for n, v in scores.items()), best)
    return best


def item_facts(recipe: AnyRecipe, split: splits.Split, catalog: Catalog) -> ItemFacts:
    """What an evaluation may know of the items: train counts, and the categories that the recipe names.

    Raises:
        DataError: the catalog has no column of that name.
    """
    from llmrec.evaluation.beyond_accuracy import ItemFacts

    usual = [name for name in CATEGORIES if name in catalog.table.column_names]
    return ItemFacts.of(split.train, catalog, recipe.evaluation.category or next(iter(usual), None))


def load(folder: Path, recipe: AnyRecipe) -> Recommender:
    """A saved model, in the arithmetic that the recipe wants for its evaluation."""
    from llmrec.recommenders.base import Recommender

    if isinstance(recipe, BaselineRecipe):
        return Recommender.from_pretrained(folder)
    kind: Any = resolve("recommender", recipe.makes)
    return kind.from_pretrained(folder, dtype=recipe.evaluation.precision)
