"""Splits are worked by hand on small data, and never leak on any data."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples, global_temporal, k_core, leave_one_out
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import DataError

ITEMS = Vocabulary([f"i{row}" for row in range(8)])
EVENTS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 20)), min_size=4, max_size=60
)  # user, item, time


def interactions(events: list[tuple[int, int, int]]) -> Interactions:
    users, items, times = np.array(events).T
    return Interactions.from_columns(
        pa.array([f"u{user}" for user in users]), pa.array([f"i{item}" for item in items]), times, ITEMS
    )


def from_histories(*histories: list[int]) -> Interactions:
    return interactions([(user, item, time) for user, items in enumerate(histories) for time, item in enumerate(items)])


def questions(examples: Examples) -> list[tuple[int, list[int], list[int]]]:
    triples = zip(examples.users, examples.histories, examples.targets, strict=True)
    return [(int(user), history.tolist(), target.tolist()) for user, history, target in triples]


def test_leave_one_out_by_hand() -> None:
    split = leave_one_out(from_histories([0, 1, 2, 3], [4, 5, 6]))
    assert [h.tolist() for h in split.train.histories] == [[0, 1], [4]]
    assert questions(split.valid) == [(0, [0, 1], [2]), (1, [4], [5])]
    assert questions(split.test) == [(0, [0, 1, 2], [3]), (1, [4, 5], [6])]
    assert "leave-one-out" in split.protocol


def test_questions_know_the_time_since_the_last_item() -> None:
    made = interactions([(0, 0, 1), (0, 1, 3), (0, 2, 3), (0, 3, 10), (1, 4, 5), (1, 5, 6), (1, 6, 19)])
    split = leave_one_out(made)
    assert split.test.gaps.tolist() == [7, 13]
    assert split.valid.gaps.tolist() == [0, 1]
    assert split.test.take(np.array([1])).gaps.tolist() == [13]
    later = global_temporal(made, 0.2, 0.3)
    assert questions(later.test) == [(0, [0, 1, 2], [3]), (1, [4], [5]), (1, [4, 5], [6])]
    assert later.test.gaps.tolist() == [7, 1, 13]


def test_several_targets_are_one_question() -> None:
    split = leave_one_out(from_histories([0, 1, 2, 3, 4, 5], [6, 1, 0, 2, 7]), targets=2)
    assert [h.tolist() for h in split.train.histories] == [[0, 1], [6]]
    assert questions(split.valid) == [(0, [0, 1], [2, 3]), (1, [6], [1, 0])]
    assert questions(split.test) == [(0, [0, 1, 2, 3], [4, 5]), (1, [6, 1, 0], [2, 7])]
    assert split.test.gaps.tolist() == [1, 1]
    assert "leave-2-out" in split.protocol
    with pytest.raises(DataError, match=r"'u1' has 4 events, leave-2-out needs 5"):
        leave_one_out(from_histories([0, 1, 2, 3, 4], [5, 6, 7, 0]), targets=2)


def test_all_that_a_user_took_behind_a_cut_is_one_question_of_what_was_before() -> None:
    made = interactions(
        [(0, 0, 1), (0, 1, 5), (0, 2, 7), (0, 3, 8), (1, 4, 2), (1, 5, 3), (2, 6, 7), (2, 7, 9), (1, 0, 4), (1, 1, 6)]
    )
    split = global_temporal(made, 0.2, 0.4, together=True)
    assert questions(split.valid) == [(0, [0], [1]), (1, [4, 5, 0], [1])]
    assert questions(split.test) == [(0, [0, 1], [2, 3])]  # user 2 has no past
    assert "one question" in split.protocol


def test_leave_one_out_needs_three_events() -> None:
    with pytest.raises(DataError, match=r"'u1' has 2 events.*\(1 such users\).*min_user_events: 3"):
        leave_one_out(from_histories([0, 1, 2], [3, 4]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 7), min_size=3, max_size=8), min_size=1, max_size=6))
def test_leave_one_out_loses_and_leaks_nothing(histories: list[list[int]]) -> None:
    made = from_histories(*histories)
    split = leave_one_out(made)
    for user, whole in enumerate(made.histories):
        train, valid, test = split.train.history(user), split.valid, split.test
        assert [*train, *valid.targets[user], *test.targets[user]] == whole.tolist()
        assert valid.histories[user].tolist() == train.tolist()
        assert test.histories[user].tolist() == whole[:-1].tolist()


def test_global_temporal_by_hand() -> None:
    # Ten events; with shares of 20% the cuts are at the seventh (time 6) and the ninth (time 8).
    made = interactions([*[(u, i, t) for t, (u, i) in enumerate([(0, 0), (1, 1), (0, 2), (1, 3), (0, 4), (0, 5)])],
                         (1, 6, 6), (0, 7, 7), (2, 0, 8), (0, 1, 9)])  # fmt: skip
    split = global_temporal(made, valid=0.2, test=0.2)
    assert [h.tolist() for h in split.train.histories] == [[0, 2, 4, 5], [1, 3], []]
    assert questions(split.valid) == [(0, [0, 2, 4, 5], [7]), (1, [1, 3], [6])]
    assert questions(split.test) == [(0, [0, 2, 4, 5, 7], [1])]  # user 2 has no past to ask about


def test_shares_cut_where_they_say() -> None:
    made = interactions([(0, time % 8, time) for time in range(100)])
    split = global_temporal(made, valid=0.15, test=0.05)  # 1 - 0.15 - 0.05 is 0.7999... in floating point
    assert (len(split.train), len(split.valid), len(split.test)) == (80, 15, 5)


def test_an_instant_is_never_divided() -> None:
    made = interactions([(user, 0, time) for time in (0, 1, 1, 1, 1, 2, 2, 3, 3, 4) for user in (0,)])
    split = global_temporal(made, valid=0.3, test=0.2)  # cuts at the sixth (time 2) and the ninth (time 3)
    assert split.train.table["time"].to_pylist() == [0, 1, 1, 1, 1]
    assert (len(split.valid), len(split.test)) == (2, 3)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.sampled_from([(0.1, 0.1), (0.3, 0.2), (0.25, 0.5)]))
def test_global_temporal_never_leaks(events: list[tuple[int, int, int]], shares: tuple[float, float]) -> None:
    made = interactions(events)
    times = made.table["time"].to_numpy()
    cuts = [np.sort(times)[int(len(times) * share + 1e-6)] for share in (1 - sum(shares), 1 - shares[1])]
    if not times.min() < cuts[0] < cuts[1]:
        with pytest.raises(DataError, match="leaves no event"):
            global_temporal(made, *shares)
        return
    split = global_temporal(made, *shares)
    train_end = split.train.table["time"].to_numpy().max()
    assert (times <= train_end).sum() == len(split.train)  # every event outside train is later than all of train
    asked = len(split.valid) + len(split.test)
    firsts = sum(1 for start in made.offsets[:-1] if times[start] > train_end)  # a user's first event asks nothing
    assert asked == len(made) - len(split.train) - firsts
    for part in (split.valid, split.test):
        for user, history, target in questions(part):
            whole = made.history(user).tolist()
            assert history
            assert whole[: len(history) + 1] == [*history, *target]


def test_temporal_shares_are_checked() -> None:
    made = from_histories([0, 1, 2])
    with pytest.raises(DataError, match="not shares"):
        global_temporal(made, valid=0.5, test=0.5)
    with pytest.raises(DataError, match=r"no event for train.*per-user position"):
        global_temporal(interactions([(0, 0, 5), (0, 1, 5), (0, 2, 5)]))


def test_k_core_by_hand() -> None:
    # Item 3 has one event; without it user 1 has one event and goes; then item 2 is left with one event, and so on.
    made = from_histories([0, 1, 0, 1, 2], [2, 3], [0, 1])
    kept = k_core(made, min_user_events=2, min_item_events=2)
    assert kept.users.ids.to_pylist() == ["u0", "u2"]
    assert [h.tolist() for h in kept.histories] == [[0, 1, 0, 1], [0, 1]]
    assert len(kept.items) == 8  # the catalog keeps its rows


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(1, 4), st.integers(1, 4))
def test_k_core_is_a_core_and_the_largest(events: list[tuple[int, int, int]], users: int, items: int) -> None:
    left = {(user, item, place) for place, (user, item, _) in enumerate(events)}
    while True:  # drop one offender at a time, the slow and obvious way
        by_user = {u: sum(e[0] == u for e in left) for u, _, _ in left}
        by_item = {i: sum(e[1] == i for e in left) for _, i, _ in left}
        fewer = {e for e in left if by_user[e[0]] >= users and by_item[e[1]] >= items}
        if fewer == left:
            break
        left = fewer
    if not left:
        with pytest.raises(DataError, match="Lower min_user_events"):
            k_core(interactions(events), users, items)
        return
    kept = k_core(interactions(events), users, items)
    found = sorted((kept.users[int(u)], int(i)) for u, i in zip(kept.user_rows, kept.item_rows, strict=True))
    assert found == sorted((f"u{user}", item) for user, item, _ in left)


def test_samples_are_whole_examples_in_order_and_repeatable() -> None:
    examples = leave_one_out(from_histories(*[[user, 1, 2, user] for user in range(6)])).test
    sample = examples.sample(3, seed=1)
    assert sorted(sample.users) == sample.users.tolist()
    assert [q for q in questions(examples) if q[0] in sample.users] == questions(sample)
    assert questions(examples.sample(3, seed=1)) == questions(sample)
    assert examples.sample(None, seed=1) is examples
    assert len(examples.sample(99, seed=1)) == 6
