"""Who has looked is caught, who has not is not, and shuffled targets bring everybody to chance."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples, Split, global_temporal, leave_one_out
from llmrec.errors import DataError
from llmrec.evaluation import leaks
from llmrec.evaluation.leaks import (
    LeakCheck,
    better_than_validation,
    chance,
    check_split,
    leaked_events,
    planted_targets,
    shuffled_targets,
)
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.itemknn import ItemKNN
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.sources.synthetic import SyntheticSource
from llmrec.types import Ragged, Rows, ScoredItems


@pytest.fixture(scope="module")
def shop() -> tuple[Catalog, Interactions]:
    dataset = SyntheticSource(users=300, items=120).load()
    return dataset.catalog, dataset.interactions


@pytest.fixture(scope="module")
def split(shop: tuple[Catalog, Interactions]) -> Split:
    return leave_one_out(shop[1])


class Cheat:
    """Knows every test question and answers it, one time in `every`."""

    def __init__(self, catalog: Catalog, seen: Examples, every: int = 1) -> None:
        self.catalog, self.every = catalog, every
        self.answers = {tuple(h): int(t[0]) for h, t in zip(seen.histories, seen.targets, strict=True)}

    def recommend(
        self, histories: Ragged, k: int = 10, exclude_seen: bool = True, candidates: Rows | None = None
    ) -> ScoredItems:
        rows = np.full((len(histories), k), -1, np.int32)
        for number, history in enumerate(histories):
            others = [row for row in range(len(self.catalog)) if row not in set(history)][:k]
            answer = self.answers.get(tuple(history), others[0]) if sum(history) % self.every == 0 else others[0]
            rows[number, : len(others)] = [answer, *(row for row in others if row != answer)][: len(others)]
        return ScoredItems(rows, np.zeros(rows.shape, np.float32))


def test_docstring_examples_run() -> None:
    result = doctest.testmod(leaks)
    assert result.attempted >= 1
    assert result.failed == 0


@pytest.mark.parametrize("every", [1, 5])
def test_who_has_looked_is_caught(shop: tuple[Catalog, Interactions], split: Split, every: int) -> None:
    found = planted_targets(lambda seen: Cheat(shop[0], seen.test, every), split)
    assert found.leaks
    assert found.found > 1.5 * found.expected


def test_who_trains_on_all_events_is_caught(shop: tuple[Catalog, Interactions], split: Split) -> None:
    """The everyday leak: counts of who took what, from a table that holds the test part too."""

    def careless(seen: Split) -> ItemKNN:
        lists = zip(seen.test.histories, seen.test.targets, strict=True)
        events = [(user, item) for user, (history, target) in enumerate(lists) for item in (*history, *target)]
        users, items = np.array(events).T
        whole = Interactions.from_columns(
            pa.array([str(user) for user in users]),
            shop[0].items.ids.take(pa.array(items)),
            np.arange(len(users)),
            shop[0].items,
        )
        return ItemKNN().fit(whole, shop[0])

    assert planted_targets(careless, split).leaks


@pytest.mark.parametrize("kind", [Popularity, Markov, ItemKNN])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_honest_recommenders_pass(
    shop: tuple[Catalog, Interactions], split: Split, kind: type[Markov], exclude_seen: bool
) -> None:
    found = planted_targets(lambda seen: kind().fit(seen.train, shop[0]), split, exclude_seen=exclude_seen)
    assert not found.leaks
    allowed = 120 - np.array([len(set(h)) for h in split.test.histories]) if exclude_seen else np.full(300, 120)
    assert found.expected == pytest.approx((10 / allowed).mean())
    assert abs(found.found - found.expected) < 4 * math.sqrt(found.expected / 300)


def test_false_alarms_are_rare(shop: tuple[Catalog, Interactions], split: Split) -> None:
    model = Popularity().fit(split.train, shop[0])
    found = [planted_targets(lambda seen: model, split, seed=seed).p_value for seed in range(40)]
    assert sum(p < 0.05 for p in found) <= 6
    assert min(found) > leaks.SURE


def test_shuffled_targets_give_chance_level(shop: tuple[Catalog, Interactions], split: Split) -> None:
    """Even to the cheat, whose hit rate is 1."""
    for model in (Cheat(shop[0], split.test), Markov().fit(split.train, shop[0])):
        honest = evaluate(model, split.test, (10,), progress=False)
        found = shuffled_targets(honest, split.test)
        assert not found.leaks
        assert found.found == pytest.approx(found.expected, abs=0.06)
        assert honest.metrics["hr@10"] > 3 * found.found
    assert chance(honest.rows, split.test.targets, 10).mean() == pytest.approx(found.expected)
    with pytest.raises(DataError, match="lists of 10 items, not of 20"):
        shuffled_targets(honest, split.test, 20)


def test_a_finished_model_that_learnt_the_test_part_stands_out(
    shop: tuple[Catalog, Interactions], split: Split
) -> None:
    def checked(model: object) -> LeakCheck:
        test, valid = (
            evaluate(model, part, (10,), progress=False).per_example["ndcg@10"] for part in (split.test, split.valid)
        )
        return better_than_validation(test, valid, split.test.users)

    assert checked(Cheat(shop[0], split.test)).leaks
    assert not checked(Cheat(shop[0], split.valid)).leaks
    assert not checked(Markov().fit(split.train, shop[0])).leaks


def test_our_splits_leak_nothing(shop: tuple[Catalog, Interactions], split: Split) -> None:
    check_split(split)
    check_split(global_temporal(shop[1], 0.2, 0.2))


def test_a_split_that_trains_on_its_questions_is_refused(shop: tuple[Catalog, Interactions], split: Split) -> None:
    assert len(leaked_events(shop[1], split.test)) == 300
    with pytest.raises(DataError, match=r"train holds the target of 300 of 300 validation questions, first of user"):
        check_split(replace(split, train=shop[1]))


def test_what_was_taken_before_is_no_leak() -> None:
    items = Catalog(pa.table({"item_id": list("abc"), "title": list("abc")})).items
    taken = [("u", "a"), ("u", "b"), ("u", "a"), ("v", "c"), ("v", "b")]
    train = Interactions.from_columns(
        pa.array([user for user, _ in taken]), pa.array([item for _, item in taken]), np.arange(5), items
    )
    users = np.array([0, 0, 1, 1], np.int32)
    histories = Ragged.from_lists([[0, 1, 0], [0, 1], [2], [2, 1]])
    questions = Examples(users, histories, Ragged.from_lists([[0], [0], [0, 1], [2, 0]]))
    # u took a twice: behind `a b a` that is no secret, behind `a b` the second is; v's b stands in train behind c
    assert leaked_events(train, questions).tolist() == [1, 2]


def test_few_hits_are_judged_by_the_exact_law() -> None:
    found = leaks._beside_chance(np.array([1.0] * 5 + [0.0] * 995), np.full(1000, 0.001))
    assert found.p_value == pytest.approx(1 - sum(math.exp(-1) / math.factorial(n) for n in range(5)))
    assert leaks._beside_chance(np.zeros(10), np.full(10, 0.1)).p_value == 1
    many = leaks._beside_chance((np.arange(100_000) % 50 == 0).astype(float), np.full(100_000, 0.02))
    assert many.p_value == pytest.approx(0.5, abs=0.02)
