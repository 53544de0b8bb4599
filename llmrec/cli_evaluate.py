"""The verb `evaluate`: one model again, or several side by side, on the screen or as a page.

llmrec evaluate runs/shop evaluation.users=200
llmrec evaluate runs/shop runs/markov alice/demo --report out
"""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec import artifact
from llmrec.cli_recommend import print_json, recipe_of
from llmrec.errors import LlmrecError

if TYPE_CHECKING:
    from llmrec.data.split import Examples
    from llmrec.evaluation.run import Run
    from llmrec.pipeline.plan import Plan

logger = logging.getLogger("llmrec")

PAGE, TABLE, RUNS = "report.html", "leaderboard.md", "runs"
ALONE = 20
"""Users who are asked one by one, for the time that a single request takes."""


def add_arguments(evaluate: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    text = "model folders, runs of an earlier report, or user/name on the Hub; and dotted.key=value for their recipes"
    evaluate.add_argument("overrides", nargs="+", metavar="MODEL", help=text)
    evaluate.add_argument("--revision", help="of models on the Hub: a branch, a tag or a commit")
    evaluate.add_argument("--report", type=Path, metavar="FOLDER", help=f"write {PAGE}, {TABLE} and the runs there")
    text = "what an hour of this machine costs, for the cost of a thousand users on the page"
    evaluate.add_argument("--price-per-hour", type=float, metavar="X", help=text)
    evaluate.add_argument("--currency", default="$", help="of the price (default $)")


def evaluate(chosen: argparse.Namespace) -> None:
    """Measure, print the comparison, and write the page where one is wanted.

    Raises:
        LlmrecError: no model is named, or the models cannot be compared.
    """
    from llmrec.evaluation.report import print_comparison
    from llmrec.evaluation.run import check_comparable

    models, overrides = split_words(chosen.overrides)
    kept = None if chosen.report is None else chosen.report / RUNS
    names = names_of(models)
    runs = [_run(name, model, overrides, chosen.revision, kept) for name, model in zip(names, models, strict=True)]
    if chosen.report is not None:
        check_comparable(runs)
    print_comparison({run.name: run.evaluation for run in runs})
    found: dict[str, Any] = {run.name: run.evaluation.to_dict() for run in runs}
    if chosen.report is not None:
        page = write_report(runs, chosen.report, _data_of(models), chosen.price_per_hour, chosen.currency)
        print(f"\nreport: {page}")
        found = {"models": found, "report": str(page)}
    elif len(runs) == 1:
        found = runs[0].evaluation.to_dict()
    if chosen.json:
        print_json(found)


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Models and `dotted.key=value`; a folder whose name has a `=` is a model.

    Raises:
        LlmrecError: there is no model.
    """
    is_change = [bool(re.match(r"[\w.]+=", word)) and not Path(word).exists() for word in words]
    models = [word for word, change in zip(words, is_change, strict=True) if not change]
    if not models:
        raise LlmrecError("evaluate: no model is named. Give a folder made by 'llmrec run', or user/name on the Hub.")
    return models, [word for word, change in zip(words, is_change, strict=True) if change]


def names_of(models: list[str]) -> list[str]:
    """The last part of each path; as much more of it as tells models apart, and a number where nothing does.

    >>> names_of(["runs/a", "old/a", "runs/b", "runs/b"])
    ['runs/a', 'old/a', 'b', 'b (2)']
    """
    found: list[str] = []
    for model in models:
        parts = Path(model).parts or (model,)
        others = [Path(other).parts for other in models if other != model]
        length = next(
            (n for n in range(1, len(parts)) if not any(other[-n:] == parts[-n:] for other in others)), len(parts)
        )
        name = "/".join(parts[-length:])
        again = sum(known.partition(" (")[0] == name for known in found)
        found.append(f"{name} ({again + 1})" if again else name)
    return found


def write_report(runs: list[Run], folder: Path, data: str, price_per_hour: float | None, currency: str) -> Path:
    """The page and the table; gives the page's path.

    Raises:
        DataError: the runs cannot be compared.
    """
    from llmrec.evaluation.report_page import markdown_table, render_report

    page = render_report(runs, data, price_per_hour, currency)
    artifact.write_text(folder / TABLE, markdown_table(runs))
    artifact.write_text(folder / PAGE, page)
    return folder / PAGE


def _run(name: str, model: str, overrides: list[str], revision: str | None, kept: Path | None) -> Run:
    """A saved run as it is; the answers of a model from `kept` where nothing has changed, otherwise now."""
    from dataclasses import replace

    from llmrec.evaluation.run import HEAD, Run, digest
    from llmrec.hub import local_folder
    from llmrec.pipeline.run import load_split, plan
    from llmrec.recipe import load_recipe

    if (Path(model) / HEAD).is_file():
        return replace(Run.load(model), name=name)
    folder = local_folder(Path(model), revision)
    planned = plan(load_recipe(recipe_of(folder), overrides))
    split, settings = load_split(planned), planned.recipe.evaluation
    questions = split.test.sample(settings.users, planned.recipe.seed)
    same = {
        "model": artifact.digest(folder),
        "protocol": split.protocol,
        "asked": {"ks": list(settings.ks), "exclude_seen": settings.exclude_seen, "decoding": _decoding(planned)},
    }
    place = None if kept is None else kept / re.sub(r"[^\w.-]+", "_", name)
    if place is not None and (place / HEAD).is_file():
        known = Run.load(place)
        if known.facts.get("same") == same and known.questions == digest(questions, known.catalog):
            logger.info("%s: the answers of before", name)
            return replace(known, name=name)
    measured = _measured(name, folder, planned, split, questions, same, thorough=kept is not None)
    if place is not None:
        measured.save(place)
    return measured


def _measured(
    name: str, folder: Path, planned: Plan, split: Any, questions: Examples, same: dict[str, Any], thorough: bool
) -> Run:
    """Ask the questions; thorough: also for times of single users and log-likelihoods."""
    from dataclasses import replace

    from llmrec.data import store
    from llmrec.evaluation.calibration import LOG_PROBABILITIES, log_likelihood
    from llmrec.evaluation.describe import describe
    from llmrec.evaluation.run import folder_facts, measure
    from llmrec.pipeline.stages import item_facts

    recommender, settings = _load(folder, planned), planned.recipe.evaluation
    found = measure(name, recommender, questions, settings.ks, settings.exclude_seen, split=split.protocol)
    facts = item_facts(planned.recipe, split, store.load(planned.cache.get(planned.data))[0])
    described = describe(found.evaluation, questions, facts, samples=settings.samples, seed=planned.recipe.seed)
    known = {**folder_facts(folder), "same": same}
    if thorough:
        known["milliseconds_alone"] = _alone(recommender, questions, settings)
    if thorough and known["kind"] in LOG_PROBABILITIES:
        known["log_likelihood"] = float(log_likelihood(recommender, questions).mean())
    return replace(found, evaluation=described, facts=known)


def _alone(recommender: Any, questions: Examples, settings: Any) -> float:
    """Median milliseconds of one user's list, asked alone."""
    import statistics
    import time

    took = []
    for number in range(min(ALONE, len(questions)) + 1):
        history = [questions.histories[number % len(questions)]]
        began = time.perf_counter()
        recommender.recommend(history, max(settings.ks), settings.exclude_seen)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took[1:])  # the first warms up


def _load(folder: Path, planned: Plan) -> Any:
    """The model, decoding and computing as its recipe says."""
    import torch

    from llmrec.recipe import DistillRecipe, Recipe
    from llmrec.recommenders.base import Recommender
    from llmrec.recommenders.item_head import ItemHeadRecommender
    from llmrec.recommenders.llm import Decoding, LLMRecommender

    recommender = Recommender.from_pretrained(folder)
    if (
        isinstance(planned.recipe, Recipe | DistillRecipe)
        and isinstance(recommender, LLMRecommender | ItemHeadRecommender)
        and recommender.model is not None
    ):
        if isinstance(recommender, LLMRecommender):
            recommender.decoding = Decoding.parse(planned.recipe.decoding, "decoding")
        recommender.model.to(getattr(torch, planned.recipe.evaluation.precision))
    return recommender


def _decoding(planned: Plan) -> dict[str, Any]:
    return dict(getattr(planned.recipe, "decoding", {}))


def _data_of(models: list[str]) -> str:
    """The name of the data folder that the first model's recipe says, for the lines of papers."""
    from llmrec.recipe import load_recipe

    for model in models:
        if (Path(model) / artifact.RECIPE).is_file():
            root = load_recipe(Path(model) / artifact.RECIPE).data.get("root")
            return Path(root).name if root else str(load_recipe(Path(model) / artifact.RECIPE).data.get("kind", ""))
    return ""
