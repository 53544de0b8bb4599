"""The plan of a baseline's recipe: data -> train -> evaluate, in the cache and the folder of every other run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec import artifact
from llmrec.data import split as splits
from llmrec.data import store
from llmrec.errors import RecipeError
from llmrec.pipeline.cache import Stage, StageCache
from llmrec.pipeline.plan import TRAIN, Plan
from llmrec.pipeline.run import check_compared, data_stage, evaluate_stage, kind_and_settings, with_seed
from llmrec.recipe import BaselineRecipe
from llmrec.registry import REGISTRY, build, resolve

if TYPE_CHECKING:
    from llmrec.data.catalog import Catalog

VALID_USERS = 2000
"""Questions behind the validation figure of a run."""


def plan_baseline(recipe: BaselineRecipe) -> Plan:
    """Check the recipe and name its stages; nothing is read but the data's fingerprint.

    Raises:
        RecipeError: a plug-in or one of its settings is unknown.
        DataError: the data cannot be found.
    """
    source, recommender = check_baseline(recipe)

    def make_model(target: Path, work: Path) -> None:
        _train(recipe, recommender, cache.get(data), target)

    cache = StageCache(recipe.output / "cache")
    data = data_stage(recipe, source)
    settings = {
        "recommender": kind_and_settings(recipe.recommender, recommender),
        "split": recipe.split.settings(),
        "exclude_seen": recipe.evaluation.exclude_seen,
        "seed": recipe.seed,
    }
    train = Stage(TRAIN, settings, (data,), make_model)
    return Plan(recipe, cache, (data, train, evaluate_stage(recipe, cache, data, {TRAIN: train})))


def check_baseline(recipe: BaselineRecipe) -> tuple[Any, Any]:
    """The source and the recommender that a recipe names, the latter with the recipe's seed if it says no other.

    Raises:
        RecipeError: a plug-in or one of its settings is unknown, or the recommender cannot be fitted.
    """
    if recipe.makes in REGISTRY["recommender"] and not hasattr(resolve("recommender", recipe.makes), "fit"):
        raise RecipeError(
            f"recommender.kind: '{recipe.makes}' is made from index, model and train; leave out 'recommender'."
        )
    check_compared(recipe)
    settings = with_seed("recommender", recipe.recommender, recipe.seed)
    return build("source", recipe.data, "data"), build("recommender", settings, "recommender")


def fitted(recommender: Any, split: splits.Split, catalog: Catalog) -> Any:
    """Train rows for all; who trains in epochs also gets the questions that say when to stop."""
    from llmrec.recommenders.neural import NeuralRecommender

    if isinstance(recommender, NeuralRecommender):
        return recommender.fit(split.train, catalog, split.valid)
    return recommender.fit(split.train, catalog)


def _train(recipe: BaselineRecipe, recommender: Any, data: Path, target: Path) -> None:
    from llmrec.evaluation.protocol import evaluate

    catalog, interactions = store.load(data)
    split = splits.cut(interactions, recipe.split)
    fitted(recommender, split, catalog).save_pretrained(target / "model")
    questions = split.valid.sample(VALID_USERS, recipe.seed)
    valid = evaluate(recommender, questions, (10,), recipe.evaluation.exclude_seen, split=split.protocol)
    log = {"best": valid.metrics["ndcg@10"], "history": getattr(recommender, "log", [])}
    artifact.write_text(target / artifact.LOG, json.dumps(log, indent=2) + "\n")
