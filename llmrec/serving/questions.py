"""What a worker thread is asked: questions with equal keys are answered in one call of the recommender."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.engines.sample import sample
from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.live import Allowed, Live
from llmrec.types import Candidates, Ragged, Rows, ScoredItems


class Best(NamedTuple):
    """A list of items, best first.

    Args:
        rows: `int32[n]`. scores: `float32[n]`. exact: whether it is proven to be the true top k.
        levels: `float32[n, L]`, log-probabilities of each level, where they were asked for.
        invalid: items that the recommender gave and must not have; they are not in the list.
    """

    rows: Rows
    scores: Any
    exact: bool
    levels: Any
    invalid: int


@dataclass(frozen=True, eq=False)
class Terms:
    """How many items a list has, and which may be in it, whatever they are the best for.

    Args:
        live: the catalog that the answer is for. k: items wanted. excluded: rows that must not come.
        allowed: what may come for all who ask alike; everything when None. candidates: the only rows that may come, of
            those allowed; all when None.
    """

    live: Live
    k: int
    excluded: Rows
    allowed: Allowed | None = None
    candidates: Rows | None = None

    @property
    def key(self) -> Hashable:
        """Lists of the same catalog, k and kind of candidates are searched together."""
        shared = None if self.candidates is not None else id(self.allowed)
        return id(self.live), self.k, shared, self.candidates is None

    def checked(self, found: ScoredItems, number: int) -> Best:
        """One list of many, with everything left out that must not be there: nothing, unless something is broken."""
        rows, scores = found.rows[number], found.scores[number]
        rows, scores = rows[rows != -1], scores[rows != -1]
        right = (rows >= 0) & (rows < len(self.live.catalog))
        right &= ~np.isin(rows, self.excluded)
        right &= np.isin(np.arange(len(rows)), np.unique(rows, return_index=True)[1])
        if self.allowed is not None:
            right &= self.allowed.mask[np.where(right, rows, 0)]
        if self.candidates is not None:
            right &= np.isin(rows, self.candidates)
        return Best(rows[right], scores[right], bool(found.exact[number]), None, int((~right).sum()))


@dataclass(frozen=True, eq=False)
class AskBest:
    """The best items of a history.

    Args:
        history: item rows. explain: whether the levels' log-probabilities are wanted.
    """

    terms: Terms
    history: Rows
    explain: bool = False

    @property
    def key(self) -> Hashable:
        """Together with all of equal terms."""
        return type(self), self.terms.key

    @staticmethod
    def answer(questions: Sequence[AskBest]) -> list[Best]:
        """The lists, in order; the questions have one key."""
        recommender, k = questions[0].terms.live.recommender, questions[0].terms.k
        candidates, excluded = _taken([one.terms for one in questions])
        found = recommender.recommend(
            [one.history for one in questions], k, exclude_seen=False, candidates=candidates, exclude=excluded
        )
        lists = [one.terms.checked(found, number) for number, one in enumerate(questions)]
        asked = [number for number, one in enumerate(questions) if one.explain]
        if asked and isinstance(recommender, LLMRecommender):
            rows = _filled([lists[number].rows for number in asked])
            levels = recommender.explain([questions[number].history for number in asked], rows)
            for number, said in zip(asked, levels, strict=True):
                lists[number] = lists[number]._replace(levels=said[: len(lists[number].rows)])
        return lists


@dataclass(frozen=True, eq=False)
class AskSearch:
    """The best items of a request in words, `text`."""

    terms: Terms
    text: str

    @property
    def key(self) -> Hashable:
        """Together with all of equal terms."""
        return type(self), self.terms.key

    @staticmethod
    def answer(questions: Sequence[AskSearch]) -> list[Best]:
        """The lists, in order; the questions have one key."""
        recommender, k = questions[0].terms.live.recommender, questions[0].terms.k
        assert isinstance(recommender, LLMRecommender)  # the route exists for these only
        candidates, excluded = _taken([one.terms for one in questions])
        found = recommender.search([one.text for one in questions], k, candidates=candidates, exclude=excluded)
        return [one.terms.checked(found, number) for number, one in enumerate(questions)]


@dataclass(frozen=True, eq=False)
class AskScores:
    """The scores of given items, `rows`, after a history."""

    live: Live
    history: Rows
    rows: Rows

    @property
    def key(self) -> Hashable:
        """Together with all of the same catalog, if the recommender can take items of each."""
        alone = None if isinstance(self.live.recommender, LLMRecommender) else id(self)
        return type(self), id(self.live), alone

    @staticmethod
    def answer(questions: Sequence[AskScores]) -> list[NDArray[np.float32]]:
        """`float32[n]` each, NaN for an item that would never come."""
        recommender = questions[0].live.recommender
        if isinstance(recommender, LLMRecommender):
            found = recommender.score([one.history for one in questions], _filled([one.rows for one in questions]))
            return [scores[: len(one.rows)] for one, scores in zip(questions, found, strict=True)]
        (one,) = questions
        listed = recommender.recommend([one.history], len(one.rows), exclude_seen=False, candidates=one.rows)
        scores = dict(zip(listed.rows[0].tolist(), listed.scores[0].tolist(), strict=True))
        return [np.array([scores.get(row, np.nan) for row in one.rows.tolist()], np.float32)]


@dataclass(frozen=True, eq=False)
class AskDraws:
    """Items drawn from the model's distribution behind a prompt of tokens.

    Args:
        prompt: token ids. draws: items wanted. temperature: 0 is the best item, every time.
        top_p: of each level, only the likeliest codes that together have this probability.
        allowed, candidates, excluded: as in `Terms`.
    """

    live: Live
    prompt: Sequence[int]
    draws: int
    temperature: float
    top_p: float
    seed: int | None
    allowed: Allowed | None
    candidates: Rows | None
    excluded: Rows

    @property
    def key(self) -> Hashable:
        """Together with those of the same catalog, settings and kind of candidates; each has a generator of its own."""
        settings = self.draws, self.temperature, self.top_p
        return type(self), id(self.live), settings, self.candidates is None

    @staticmethod
    def answer(questions: Sequence[AskDraws]) -> list[Rows]:
        """The rows drawn, `int32[draws]`, with replacement; -1 where nothing may come."""
        first = questions[0]
        recommender = first.live.recommender
        assert isinstance(recommender, LLMRecommender)  # the route exists for these only
        candidates: Any = None if first.allowed is None else first.allowed.shared.form
        if first.candidates is not None:
            candidates = Ragged.from_lists([_allowed(one.candidates, one.allowed) for one in questions])
        drawn = sample(
            recommender.engine,
            [one.prompt for one in questions],
            first.draws,
            first.temperature,
            first.top_p,
            [one.seed for one in questions],
            Ragged.from_lists([one.excluded for one in questions]),
            candidates,
            recommender.decoding.beams,
            recommender.decoding.normalize,
        )
        return list(drawn)


def _taken(lists: Sequence[Terms]) -> tuple[Candidates | None, Ragged]:
    """What a recommender takes as `candidates` and `exclude` for lists of one key."""
    first = lists[0]
    candidates: Candidates | None = None if first.allowed is None else first.allowed.shared
    if first.candidates is not None:
        candidates = Ragged.from_lists([_allowed(one.candidates, one.allowed) for one in lists])
    return candidates, Ragged.from_lists([one.excluded for one in lists])


def _allowed(candidates: Rows | None, allowed: Allowed | None) -> Rows:
    """Those of a question's own candidates that are allowed."""
    assert candidates is not None
    return candidates if allowed is None else candidates[allowed.mask[candidates]]


def _filled(lists: Sequence[Rows]) -> NDArray[np.int32]:
    """`int32[B, n]`: lists of rows, filled up with -1."""
    table = np.full((len(lists), max(map(len, lists))), -1, np.int32)
    for number, rows in enumerate(lists):
        table[number, : len(rows)] = rows
    return table


def answer_all(questions: Sequence[Any]) -> list[Any]:
    """The answers of questions with one key."""
    return list(type(questions[0]).answer(questions))
