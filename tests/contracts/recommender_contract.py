"""What every recommender must do, whatever it is: subclass `RecommenderContract` and say how one is trained.

class TestMine(RecommenderContract):
    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return Mine().fit(world.split.train, world.catalog)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Split, leave_one_out
from llmrec.errors import LlmrecError
from llmrec.recommenders.base import Recommender
from llmrec.types import Ragged, ScoredItems

USERS, ITEMS = 12, 20
COLOURS, THINGS = ("Red", "Blue", "Green", "Black"), ("pen", "lamp", "chair", "kettle", "bicycle")


@dataclass(frozen=True)
class ToyWorld:
    """12 users who walk through 20 items in steps of one or two, and what may be learnt of them."""

    catalog: Catalog
    split: Split


def toy_world(other_future: bool = False) -> ToyWorld:
    """A world that is always the same; `other_future` changes the validation and test targets and nothing else."""
    walks = [[(start * 3 + step * (1 + start % 2)) % ITEMS for step in range(5 + start % 4)] for start in range(USERS)]
    if other_future:
        walks = [walk[:-2] + [(item + 7) % ITEMS for item in walk[-2:]] for walk in walks]
    titles = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    catalog = Catalog(pa.table({"item_id": [f"i{row}" for row in range(ITEMS)], "title": titles}))
    interactions = Interactions.from_columns(
        pa.array([f"u{user}" for user, walk in enumerate(walks) for _ in walk]),
        pa.array([f"i{item}" for walk in walks for item in walk]),
        np.asarray([step for walk in walks for step in range(len(walk))], np.int64),
        catalog.items,
    )
    return ToyWorld(catalog, leave_one_out(interactions))


class RecommenderContract:
    """The tests; a subclass may widen `tolerance` (scores that a batch's shape changes in the last bits)."""

    tolerance = 1e-6

    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        """A new recommender that has learnt `world.split.train`."""
        raise NotImplementedError

    def assert_same(self, one: ScoredItems, other: ScoredItems) -> None:
        """The same lists; items whose scores are equal up to `tolerance` may stand in another order."""
        np.testing.assert_allclose(one.scores, other.scores, rtol=self.tolerance, atol=self.tolerance)
        for rows, scores, others in zip(one.rows.tolist(), one.scores, other.rows.tolist(), strict=True):
            for place in np.flatnonzero(np.array(rows) != np.array(others)):
                tied = np.isclose(scores, scores[place], rtol=self.tolerance, atol=self.tolerance)
                assert tied.sum() > 1 or place == len(rows) - 1, (rows, others)  # the last may tie with what is cut off
                assert others[place] in np.array(rows)[tied] or tied[-1], (rows, others)

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls) -> ToyWorld:
        return toy_world()

    @pytest.fixture(scope="class")
    @classmethod
    def recommender(cls, world: ToyWorld) -> Recommender:
        return cls.make(world)

    def test_stated_probabilities_are_some(self, recommender: Recommender, world: ToyWorld) -> None:
        answer = recommender.recommend(world.split.test.histories, k=ITEMS, exclude_seen=False)
        assert isinstance(recommender.log_probabilities, bool)
        if recommender.log_probabilities:
            assert (np.exp(answer.scores).sum(axis=1) <= 1 + 1e-4).all()
            assert (answer.scores <= 0).all()

    def test_lists_hold_real_distinct_items(self, recommender: Recommender, world: ToyWorld) -> None:
        answer = recommender.recommend(world.split.test.histories, k=10)
        assert answer.rows.shape == answer.scores.shape == (USERS, 10)
        assert answer.rows.dtype == np.int32
        assert answer.scores.dtype == np.float32
        assert ((answer.rows >= 0) & (answer.rows < ITEMS)).all()
        assert all(len(set(row)) == 10 for row in answer.rows.tolist())
        assert np.isfinite(answer.scores).all()

    def test_scores_never_rise_along_a_list(self, recommender: Recommender, world: ToyWorld) -> None:
        scores = recommender.recommend(world.split.test.histories, k=10).scores
        assert (scores[:, 1:] <= scores[:, :-1]).all()

    def test_items_of_the_history_are_left_out(self, recommender: Recommender, world: ToyWorld) -> None:
        histories = world.split.test.histories
        rows = recommender.recommend(histories, k=ITEMS).rows
        for history, row in zip(histories, rows.tolist(), strict=True):
            assert set(row) - {-1} == set(range(ITEMS)) - set(history.tolist())

    def test_items_of_the_history_stay_when_asked(self, recommender: Recommender, world: ToyWorld) -> None:
        rows = recommender.recommend(world.split.test.histories, k=ITEMS, exclude_seen=False).rows
        assert (np.sort(rows, axis=1) == np.arange(ITEMS)).all()

    def test_only_candidates_are_recommended(self, recommender: Recommender, world: ToyWorld) -> None:
        candidates = np.array([17, 3, 11, 5], np.int32)
        rows = recommender.recommend(world.split.test.histories, k=6, exclude_seen=False, candidates=candidates).rows
        assert (np.sort(rows[:, :4], axis=1) == np.sort(candidates)).all()
        assert (rows[:, 4:] == -1).all()

    def test_candidates_are_ranked_as_among_all_items(self, recommender: Recommender, world: ToyWorld) -> None:
        histories, candidates = world.split.test.histories, np.array([2, 8, 13, 14, 19], np.int32)
        everything = recommender.recommend(histories, k=ITEMS, exclude_seen=False).rows
        few = recommender.recommend(histories, k=5, exclude_seen=False, candidates=candidates).rows
        for all_rows, few_rows in zip(everything.tolist(), few.tolist(), strict=True):
            assert few_rows == [row for row in all_rows if row in candidates]

    def test_no_candidate_gives_an_empty_list(self, recommender: Recommender) -> None:
        answer = recommender.recommend([np.array([1], np.int32)], k=3, candidates=np.empty(0, np.int32))
        assert answer.rows.tolist() == [[-1, -1, -1]]

    def test_each_history_may_have_candidates_of_its_own(self, recommender: Recommender, world: ToyWorld) -> None:
        histories = world.split.test.histories
        own = [list(range(user % 4, ITEMS, 2 + user % 3)) for user in range(USERS)]
        own[3], own[4] = [], [7, 7, 2]
        given = Ragged.from_lists(own)
        for exclude_seen in (False, True):
            everything = recommender.recommend(histories, k=ITEMS, exclude_seen=exclude_seen)
            few = recommender.recommend(histories, k=6, exclude_seen=exclude_seen, candidates=given)
            for user in range(USERS):
                allowed = np.isin(everything.rows[user], own[user])
                expected = everything.rows[user][allowed][:6]
                assert few.rows[user].tolist() == expected.tolist() + [-1] * (6 - len(expected))
                np.testing.assert_allclose(
                    few.scores[user][: len(expected)], everything.scores[user][allowed][:6], atol=self.tolerance
                )

    def test_a_list_of_candidates_for_some_histories_only_is_refused(self, recommender: Recommender) -> None:
        histories = [np.array([1], np.int32), np.array([2], np.int32)]
        with pytest.raises(LlmrecError, match=r"1 lists of candidates for 2 histories"):
            recommender.recommend(histories, candidates=Ragged.from_lists([[3]]))

    def test_candidates_can_be_prepared_for_many_calls(self, recommender: Recommender, world: ToyWorld) -> None:
        histories, candidates = world.split.test.histories, np.array([19, 2, 8, 13, 2, 14], np.int32)
        prepared = recommender.prepare_candidates(candidates)
        assert prepared.rows.tolist() == [2, 8, 13, 14, 19]
        plain = recommender.recommend(histories, k=4, candidates=candidates)
        for _ in range(2):
            self.assert_same(recommender.recommend(histories, k=4, candidates=prepared), plain)

    def test_more_items_can_be_left_out_of_each_list(self, recommender: Recommender, world: ToyWorld) -> None:
        histories = world.split.test.histories
        closed = [list(range(user % 3, ITEMS, 2)) for user in range(USERS)]
        closed[2], closed[5] = [], [4, 4]
        for exclude_seen in (False, True):
            everything = recommender.recommend(histories, k=ITEMS, exclude_seen=exclude_seen)
            few = recommender.recommend(histories, 6, exclude_seen, exclude=Ragged.from_lists(closed))
            for user in range(USERS):
                expected = [row for row in everything.rows[user] if row >= 0 and row not in closed[user]][:6]
                assert few.rows[user].tolist() == expected + [-1] * (6 - len(expected))
        with pytest.raises(LlmrecError, match=r"1 lists to exclude for"):
            recommender.recommend(histories, exclude=Ragged.from_lists([[3]]))

    def test_a_short_list_is_filled_up_at_its_end(self, recommender: Recommender) -> None:
        history = np.arange(ITEMS - 2, dtype=np.int32)
        answer = recommender.recommend([history], k=5)
        assert set(answer.rows[0, :2].tolist()) == {ITEMS - 2, ITEMS - 1}
        assert answer.rows[0, 2:].tolist() == [-1, -1, -1]
        assert np.isneginf(answer.scores[0, 2:]).all()
        assert np.isfinite(answer.scores[0, :2]).all()

    def test_more_wanted_than_the_catalog_has(self, recommender: Recommender) -> None:
        rows = recommender.recommend([np.array([4], np.int32)], k=ITEMS + 3).rows
        assert sorted(rows[0].tolist()) == [-1] * 4 + [item for item in range(ITEMS) if item != 4]
        assert rows[0, -4:].tolist() == [-1] * 4

    def test_an_empty_history_is_answered(self, recommender: Recommender) -> None:
        nothing = np.empty(0, np.int32)
        rows = recommender.recommend([nothing, np.array([3], np.int32), nothing], k=5).rows
        assert (rows >= 0).all()
        assert rows[0].tolist() == rows[2].tolist()

    def test_no_history_at_all_gives_no_list(self, recommender: Recommender) -> None:
        assert recommender.recommend([], k=5).rows.shape == (0, 5)

    def test_a_list_does_not_depend_on_its_batch(self, recommender: Recommender, world: ToyWorld) -> None:
        histories = list(world.split.test.histories)
        together = recommender.recommend(histories, k=7)
        backwards = recommender.recommend(histories[::-1], k=7)
        self.assert_same(together, ScoredItems(backwards.rows[::-1], backwards.scores[::-1]))
        alone = [recommender.recommend([history], k=7) for history in histories]
        rows, scores = np.concatenate([a.rows for a in alone]), np.concatenate([a.scores for a in alone])
        self.assert_same(together, ScoredItems(rows, scores))

    def test_a_short_list_begins_a_long_one(self, recommender: Recommender, world: ToyWorld) -> None:
        long = recommender.recommend(world.split.test.histories, k=9)
        short = recommender.recommend(world.split.test.histories, k=4)
        self.assert_same(short, ScoredItems(long.rows[:, :4], long.scores[:, :4]))

    def test_saved_and_loaded_it_answers_the_same(
        self, recommender: Recommender, world: ToyWorld, tmp_path: Path
    ) -> None:
        recommender.save_pretrained(tmp_path / "saved")
        loaded = Recommender.from_pretrained(tmp_path / "saved")
        assert type(loaded) is type(recommender)
        assert loaded.catalog.table.equals(world.catalog.table)
        histories = world.split.test.histories
        self.assert_same(recommender.recommend(histories), loaded.recommend(histories))

    def test_trained_again_it_answers_the_same(self, recommender: Recommender, world: ToyWorld) -> None:
        histories = world.split.test.histories
        self.assert_same(recommender.recommend(histories), self.make(world).recommend(histories))

    def test_the_future_is_not_learnt(self, recommender: Recommender, world: ToyWorld) -> None:
        other = toy_world(other_future=True)
        assert other.split.train.table.equals(world.split.train.table)
        assert not np.array_equal(other.split.test.targets.values, world.split.test.targets.values)
        histories = world.split.valid.histories
        self.assert_same(recommender.recommend(histories), self.make(other).recommend(histories))

    @pytest.mark.parametrize("row", [-1, ITEMS])
    def test_an_unknown_item_is_refused(self, recommender: Recommender, row: int) -> None:
        unknown = np.array([row], np.int32)
        with pytest.raises(LlmrecError, match=str(row)):
            recommender.recommend([np.array([2], np.int32), unknown])
        with pytest.raises(LlmrecError, match=str(row)):
            recommender.recommend([np.array([2], np.int32)], candidates=unknown)
        with pytest.raises(LlmrecError, match=str(row)):
            recommender.recommend([np.array([2], np.int32)], candidates=Ragged.from_lists([unknown]))
        with pytest.raises(LlmrecError, match=str(row)):
            recommender.recommend([np.array([2], np.int32)], exclude=Ragged.from_lists([unknown]))
        with pytest.raises(LlmrecError, match=str(row)):
            recommender.prepare_candidates(unknown)

    def test_less_than_one_item_is_refused(self, recommender: Recommender) -> None:
        with pytest.raises(LlmrecError, match=r"\b0\b"):
            recommender.recommend([np.array([2], np.int32)], k=0)
