"""Finished model folders, asked the test questions of their own recipes, so that they can be compared.

What makes a comparison impossible is found before any model is loaded: other data, another split, other users.
"""

from __future__ import annotations

import json
import logging
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

import llmrec
from llmrec import artifact
from llmrec.card import data_name
from llmrec.data import store
from llmrec.data.catalog import Catalog
from llmrec.data.split import Examples, Split
from llmrec.errors import ArtifactError, DataError
from llmrec.evaluation.run import HEAD, Run, digest, folder_facts, measure
from llmrec.pipeline.machine import machine
from llmrec.pipeline.plan import Plan
from llmrec.pipeline.run import load_split

if TYPE_CHECKING:
    from llmrec.recommenders.base import Recommender

logger = logging.getLogger(__name__)

ALONE = 20
"""Users who are asked one by one, for the time that a single request takes."""


@dataclass(frozen=True)
class Candidate:
    """A model folder that is to be measured, and what it will be asked.

    Args:
        name: in tables. folder: the model. planned: of its recipe. split: of its data.
        examples: the test questions. questions: their digest, see `llmrec.evaluation.run.digest`.
    """

    name: str
    folder: Path
    planned: Plan
    split: Split
    examples: Examples
    questions: str

    @classmethod
    def of(cls, name: str, folder: Path, planned: Plan) -> Candidate:
        """Cut the data as the recipe says; no weights are read.

        Raises:
            ArtifactError: the folder has no catalog.
        """
        split, settings = load_split(planned), planned.recipe.evaluation
        examples = split.test.sample(settings.users, planned.recipe.seed)
        file = folder / artifact.CATALOG
        if not file.is_file():
            raise ArtifactError(f"{folder} has no {artifact.CATALOG}. Give a folder made by 'llmrec run'.")
        return cls(name, folder, planned, split, examples, digest(examples, Catalog(pq.read_table(file))))

    @property
    def data(self) -> str:
        """The name of the data set; the kind of its source where it has none."""
        settings = self.planned.recipe.settings()
        return data_name({**settings, "name": settings["data"]["kind"]})

    def same(self) -> dict[str, Any]:
        """Everything that an answer or a figure of it depends on, but for the questions."""
        recipe = self.planned.recipe
        return {
            "llmrec": llmrec.__version__,
            "model": artifact.digest(self.folder),
            "split": self.split.protocol,
            "evaluation": {**recipe.evaluation.settings(), "baselines": None, "seed": recipe.seed},
            "decoding": dict(getattr(recipe, "decoding", {})),
        }


def check_same_questions(candidates: Sequence[Candidate], runs: Sequence[Run]) -> None:
    """Refuse what could not be compared, before it costs anything.

    Raises:
        DataError: a model would be asked other questions than the first, or by another protocol.
    """
    asked = [
        (
            one.name,
            one.questions,
            f"{len(one.examples):,} questions of {one.data} ({one.split.protocol}; digest {one.questions})",
        )
        for one in candidates
    ]
    asked += [
        (one.name, one.questions, f"{one.evaluation.examples:,} questions of a saved run (digest {one.questions})")
        for one in runs
    ]
    for name, questions, words in asked[1:]:
        if questions != asked[0][1]:
            raise DataError(
                f"'{asked[0][0]}' and '{name}' would answer different questions: {asked[0][2]}, and {words}.",
                fix="Give models of one data set with one catalog and one split; evaluation.users=500 seed=0 behind "
                "them asks all the same users.",
            )
    for setting in ("exclude_seen", "sampled"):
        values = {one.name: one.planned.recipe.evaluation.settings()[setting] for one in candidates}
        if any(value != values[candidates[0].name] for value in values.values()):
            words = ", ".join(f"{name} has evaluation.{setting}={json.dumps(value)}" for name, value in values.items())
            raise DataError(
                f"the recipes measure differently: {words}.",
                fix=f"Put evaluation.{setting}=VALUE behind the models, which then holds for all.",
            )


def answered(candidate: Candidate, kept: Path | None) -> Run:
    """The answers of a model: those of before where nothing has changed, otherwise now.

    Args:
        kept: folder of runs, where the answers stay, with what only a report shows (the time of a single user, the
            log-likelihood); None for neither.
    """
    if kept is None:
        return _measured(candidate, thorough=False)
    place = kept / re.sub(r"[^\w.-]+", "_", candidate.name)
    same = candidate.same()
    if (place / HEAD).is_file():
        known = Run.load(place)
        if known.facts.get("same") == same and known.questions == candidate.questions:
            logger.info("%s: the answers of before, from %s", candidate.name, place)
            return replace(known, name=candidate.name)
    found = _measured(candidate, thorough=True)
    found = replace(found, facts={**found.facts, "same": same})
    found.save(place)
    return found


def _measured(candidate: Candidate, thorough: bool) -> Run:
    from llmrec.evaluation.calibration import stated_likelihood
    from llmrec.evaluation.describe import describe
    from llmrec.pipeline.stages import item_facts, sampled_ranking, with_codes

    planned, questions = candidate.planned, candidate.examples
    recipe, settings = planned.recipe, planned.recipe.evaluation
    recommender = _load(candidate.folder, planned)
    facts = item_facts(recipe, candidate.split, store.load(planned.cache.get(planned.data))[0])
    sampled = sampled_ranking(settings, facts)
    found = measure(
        candidate.name,
        recommender,
        questions,
        settings.ks,
        settings.exclude_seen,
        split=candidate.split.protocol,
        sampled=sampled,
    )
    described = describe(
        found.evaluation,
        questions,
        with_codes(facts, recommender),
        samples=settings.samples,
        seed=recipe.seed,
        log_probabilities=recommender.log_probabilities and sampled is None,
    )
    known = {**folder_facts(candidate.folder), "data": candidate.data, "machine": machine()}
    if thorough:
        known["milliseconds_alone"] = _alone(recommender, candidate)
    if thorough and recommender.log_probabilities:
        likely = stated_likelihood(recommender, questions, samples=settings.samples, seed=recipe.seed)
        described = replace(described, calibration={**described.calibration, **likely})
    return replace(found, evaluation=described, facts=known)


def _alone(recommender: Recommender, candidate: Candidate) -> float:
    """Median milliseconds of one user's list, asked alone."""
    settings, questions, took = candidate.planned.recipe.evaluation, candidate.examples, []
    for number in range(min(ALONE, len(questions)) + 1):
        history = [questions.histories[number % len(questions)]]
        began = time.perf_counter()
        recommender.recommend(history, max(settings.ks), settings.exclude_seen)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took[1:])  # the first warms up


def _load(folder: Path, planned: Plan) -> Recommender:
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
