"""Where a model wins and loses: the questions in groups, each with its count, its means and their intervals.

A slicing puts every question in at most one slice. Of a question with several targets the first counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.data.split import Examples
from llmrec.evaluation.beyond_accuracy import ItemFacts
from llmrec.evaluation.metrics import is_in
from llmrec.evaluation.significance import intervals

Values = NDArray[np.float64]

HISTORY_LENGTHS = (1, 2, 4, 9, 19, 49)
"""The longest history of each slice but the last."""

PARTS = 10
"""Slices of equal size, where values are cut; fewer where many are equal."""

CATEGORIES = 10
"""The categories most asked for; all others are one slice."""


@dataclass(frozen=True)
class Slicing:
    """Questions in groups.

    Args:
        name: such as `history_length`. labels: of the slices, in their order. of: `int64[E]`, the slice of each
            question, -1 where it is in none.
    """

    name: str
    labels: tuple[str, ...]
    of: NDArray[np.int64]


def slicings(examples: Examples, facts: ItemFacts) -> list[Slicing]:
    """Every slicing below that the questions allow; one whose questions are all in one slice says nothing."""
    found = [
        by_history_length(examples),
        by_popularity(examples, facts.counts),
        by_prompt(examples, facts.counts),
        by_newness(examples, facts.counts),
        by_repetition(examples),
    ]
    if facts.codes is not None:
        found.append(by_first_code(examples, facts.counts, facts.codes[:, 0]))
    if facts.groups is not None:
        found.append(by_category(examples, facts.groups, facts.group_names))
    if examples.gaps is not None:
        found.append(by_value("time_gap", examples.gaps.astype(np.float64)))
    return [slicing for slicing in found if len(np.unique(slicing.of[slicing.of >= 0])) > 1]


def by_history_length(examples: Examples, longest: Sequence[int] = HISTORY_LENGTHS) -> Slicing:
    """`history_length`: items before the question, repetitions counted."""
    bounds = [0, *longest]
    labels = [str(low + 1) if high == low + 1 else f"{low + 1}-{high}" for low, high in itertools.pairwise(bounds)]
    of = np.searchsorted(longest, examples.histories.lengths)
    return Slicing("history_length", (*labels, f"{bounds[-1] + 1} or more"), of)


def by_popularity(examples: Examples, counts: NDArray[np.int64]) -> Slicing:
    """`target_popularity`: ten equal parts of the questions by the train events of their target, the rarest first.

    "Embers of Autoregression" (McCoy et al., 2023, https://arxiv.org/abs/2309.13638) asks of language models how
    accuracy follows the probability of the answer, of what they write first, and of the prompt; a recommender that
    knows only what is frequent shows in this slicing and in the next two.
    """
    return by_value("target_popularity", counts[_first_targets(examples)].astype(np.float64))


def by_first_code(examples: Examples, counts: NDArray[np.int64], first: NDArray[np.int32]) -> Slicing:
    """`target_code`: by the train events of all items whose code begins as the target's does.

    Args:
        first: `int32[N]`, the first code of each item.
    """
    events = np.bincount(first, weights=counts)
    return by_value("target_code", events[first[_first_targets(examples)]].astype(np.float64))


def by_prompt(examples: Examples, counts: NDArray[np.int64]) -> Slicing:
    """`history_popularity`: by the mean train events of the history's items, to one decimal."""
    lengths = examples.histories.lengths
    owners = np.repeat(np.arange(len(examples)), lengths)
    totals = np.bincount(owners, weights=counts[examples.histories.values], minlength=len(examples))
    means = np.divide(totals, lengths, out=np.full(len(examples), np.nan), where=lengths > 0)
    return by_value("history_popularity", np.round(means, 1))


def by_newness(examples: Examples, counts: NDArray[np.int64]) -> Slicing:
    """`target_age`: targets without any train event (`cold`), which only their text can find, and all others."""
    return Slicing("target_age", ("cold", "in train"), (counts[_first_targets(examples)] > 0).astype(np.int64))


def by_repetition(examples: Examples) -> Slicing:
    """`target_seen`: targets that the user had taken before (`repeat`), and new ones."""
    seen = is_in(_first_targets(examples)[:, None], examples.histories)[:, 0]
    return Slicing("target_seen", ("repeat", "new"), 1 - seen.astype(np.int64))


def by_category(examples: Examples, groups: NDArray[np.int32], names: Sequence[str]) -> Slicing:
    """`category`: of the target; the most asked ones, the others together, targets without a category in none."""
    of_targets = groups[_first_targets(examples)]
    asked = np.bincount(of_targets[of_targets >= 0], minlength=len(names))
    most = [int(group) for group in np.argsort(-asked, kind="stable")[:CATEGORIES] if asked[group]]
    places = np.full(len(names) + 1, len(most))
    places[most] = np.arange(len(most))
    places[-1] = -1  # of no category
    return Slicing("category", (*(names[group] for group in most), "all others"), places[of_targets])


def by_value(name: str, values: Values, parts: int = PARTS) -> Slicing:
    """Equal parts of the questions by a number of theirs, ascending; equal numbers are never divided.

    Labels are the smallest and the largest number of a part; a question whose number is NaN is in none.

    >>> slicing = by_value("age", np.array([1.0, 5.0, 2.0, 2.0]), parts=2)
    >>> slicing.labels, slicing.of
    (('1-2', '5'), array([0, 1, 0, 0]))
    """
    real = ~np.isnan(values)
    ordered = np.sort(values[real])
    if not len(ordered):
        return Slicing(name, (), np.full(len(values), -1))
    # The last number of each part; as counted, so that whole numbers stay whole.
    edges = np.unique(ordered[np.ceil(np.arange(1, parts + 1) * len(ordered) / parts).astype(np.int64) - 1])
    of = np.where(real, np.searchsorted(edges, np.where(real, values, edges[0])), -1)
    labels = [_range(values[of == part]) for part in range(len(edges))]
    return Slicing(name, tuple(labels), of)


def sliced(
    found: Sequence[Slicing],
    per_example: Mapping[str, Values],
    users: NDArray[np.integer],
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """Every slice that has a question, with what was measured there.

    Args:
        found: slicings of the questions. per_example: `name@k` -> `float64[E]`. users: `int[E]`, who asked.
        level, samples, seed: of the intervals.

    Returns:
        Name of the slicing -> `{"slice", "examples", "users", "metrics": {name@k: mean}, "intervals": {name@k: [low,
        high]}}`, JSON values, in the order of the labels.
    """
    return {
        slicing.name: [
            _slice(label, slicing.of == number, per_example, users, level, samples, seed)
            for number, label in enumerate(slicing.labels)
            if (slicing.of == number).any()
        ]
        for slicing in found
    }


def _slice(
    label: str,
    inside: NDArray[np.bool_],
    per_example: Mapping[str, Values],
    users: NDArray[np.integer],
    level: float,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    columns = {name: values[inside] for name, values in per_example.items()}
    measured = intervals(columns, users[inside], level, samples, seed)
    return {
        "slice": label,
        "examples": int(inside.sum()),
        "users": len(np.unique(users[inside])),
        "metrics": {name: round(of.mean, 6) for name, of in measured.items()},
        "intervals": {name: [round(of.low, 6), round(of.high, 6)] for name, of in measured.items()},
    }


def _first_targets(examples: Examples) -> NDArray[np.int32]:
    return examples.targets.values[examples.targets.offsets[:-1]]


def _range(values: Values) -> str:
    low, high = f"{values.min():,.6g}", f"{values.max():,.6g}"
    if low == high:
        return low
    return f"{low} to {high}" if "-" in low + high else f"{low}-{high}"
