"""What lies behind the means of an evaluation: how sure they are, where they come from, what the lists are like.

    result = evaluate(recommender, split.test, split=split.protocol)
    result = describe(result, split.test, ItemFacts.of(split.train, catalog, category="categories"))

It needs the returned rows and values alone, never the model, and its cost does not depend on how slow the model is:
three seconds for 22,363 users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from llmrec.data.split import Examples
from llmrec.evaluation.beyond_accuracy import ItemFacts, concentration, coverage, list_measures
from llmrec.evaluation.calibration import reliability
from llmrec.evaluation.protocol import Evaluation
from llmrec.evaluation.significance import intervals
from llmrec.evaluation.slices import Slicing, sliced, slicings


def describe(
    evaluation: Evaluation,
    examples: Examples,
    facts: ItemFacts,
    further: Sequence[Slicing] = (),
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
    log_probabilities: bool = False,
) -> Evaluation:
    """The evaluation with `intervals`, `slices`, `popularity` and `calibration`; equal arguments give equal values.

    Args:
        evaluation: fresh from `evaluate`, with the values of every example. examples: the questions.
        facts: of the items, from train rows; its category and vectors add slices and measures.
        further: slicings beside those of `llmrec.evaluation.slices.slicings`.
        level, samples, seed: of the intervals.
        log_probabilities: of the recommender; only then is its calibration measured.

    Returns:
        Slices have the metrics at the longest k. `popularity` has the means over lists of the longest k of everything
        in `list_measures`, and `coverage` and `concentration` of all these lists.
    """
    longest = evaluation.rows.shape[1]
    at_longest = {name: v for name, v in evaluation.per_example.items() if name.endswith(f"@{longest}")}
    found = intervals(evaluation.per_example, examples.users, level, samples, seed)
    cut = [*slicings(examples, facts), *further]
    means = {name: values for name, values in list_measures(evaluation.rows, examples.targets, facts).items()}
    size = len(facts.counts)
    popularity = {name: float(np.nanmean(v)) for name, v in means.items() if not np.isnan(v).all()}
    popularity |= {"coverage": coverage(evaluation.rows, size), "concentration": concentration(evaluation.rows, size)}
    stated = reliability(evaluation.rows, evaluation.scores, examples.targets).to_dict() if log_probabilities else {}
    return replace(
        evaluation,
        intervals={name: [round(of.low, 6), round(of.high, 6)] for name, of in found.items()},
        slices=sliced(cut, at_longest, examples.users, level, samples, seed),
        popularity={name: round(value, 6) for name, value in popularity.items() if not np.isnan(value)},
        calibration=stated,
    )
