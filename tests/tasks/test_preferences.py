"""Preference data: keyed by user and position, from train rows alone, without false negatives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest
from worlds import TinyWorld, make_tiny_world

from llmrec.data.interactions import Interactions
from llmrec.data.split import leave_one_out
from llmrec.errors import DataError, LlmrecError, RecipeError
from llmrec.recommenders.markov import Markov
from llmrec.registry import REGISTRY
from llmrec.tasks.negatives import beams
from llmrec.tasks.preferences import PreferenceData, Preferences
from llmrec.types import Ragged, ScoredItems

ITEMS, USERS, LENGTH = 20, 30, 8
KINDS: dict[str, dict[str, Any]] = {
    "uniform": {}, "popularity": {}, "in_prefix": {}, "beams": {}, "exposures": {}, "ratings": {"at_most": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def world() -> TinyWorld:
    return make_tiny_world(ITEMS)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Before each of a user's events five items are shown; also before those that are evaluated."""
    rng = np.random.default_rng(5)
    shown = [
        (f"u{u}", f"i{rng.integers(ITEMS)}", 10 * p - 5) for u in range(USERS) for p in range(LENGTH) for _ in "abcde"
    ]
    names = ("user_id", "item_id", "timestamp")
    path = tmp_path_factory.mktemp("log") / "shown.csv"
    csv.write_csv(pa.table(dict(zip(names, map(list, zip(*shown, strict=True)), strict=True))), path)
    return path


def events(world: TinyWorld, future_seed: int = 0) -> Interactions:
    """Random histories; the last two items of a user, which are evaluated, by a seed of their own."""
    rng, future = np.random.default_rng(1), np.random.default_rng([9, future_seed])
    rows = np.concatenate([rng.integers(0, ITEMS, (USERS, LENGTH - 2)), future.integers(0, ITEMS, (USERS, 2))], axis=1)
    user_ids = pa.array([f"u{user}" for user in range(USERS) for _ in range(LENGTH)])
    item_ids = world.catalog.items.ids.take(pa.array(rows.ravel()))
    ratings = rng.integers(1, 6, (USERS, LENGTH - 2))
    ratings = np.concatenate([ratings, future.integers(1, 6, (USERS, 2))], axis=1).ravel().astype(np.float32)
    return Interactions.from_columns(
        user_ids, item_ids, np.tile(10 * np.arange(LENGTH), USERS), world.catalog.items, ratings
    )


def made(world: TinyWorld, kind: str, log: Path, future_seed: int = 0, seed: int = 0, **settings: Any) -> Preferences:
    train = leave_one_out(events(world, future_seed)).train
    negatives = {"kind": kind, "count": 4, **KINDS[kind], **({"path": str(log)} if kind == "exposures" else {})}
    rating = {"min_rating": 3} if kind == "ratings" else {}
    data = PreferenceData.parse({"per_user": None, "negatives": negatives, **rating, **settings})
    return data.build(train, world.index, seed, Markov().fit(train, world.catalog))


def test_every_kind_is_tried_here() -> None:
    assert KINDS.keys() == REGISTRY["negatives"].keys()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_chosen_and_rejected_is_true(world: TinyWorld, log: Path, kind: str) -> None:
    train, found = leave_one_out(events(world)).train, made(world, kind, log)
    assert len(found) > USERS
    liked = train.table["rating"].to_numpy() >= (3 if kind == "ratings" else 0)
    for user, position, chosen, rejected in zip(*dataclasses.astuple(found), strict=True):
        history = train.history(user)
        assert 1 <= position < len(history)
        assert chosen == history[position]
        real = rejected[rejected >= 0]
        assert len(real) == len(set(real.tolist())) > 0
        assert (rejected[len(real) :] == -1).all()
        start = train.offsets[user]
        positives = history[liked[start : start + len(history)]]
        assert chosen in positives
        assert not np.isin(real, positives).any()  # before or after this position
    assert len({(u, p) for u, p in zip(found.users, found.positions, strict=True)}) == len(found)


@pytest.mark.parametrize("kind", KINDS)
def test_another_future_changes_nothing(world: TinyWorld, log: Path, kind: str) -> None:
    """Whatever users take and rate in validation and test."""
    first, second = (made(world, kind, log, future_seed=seed) for seed in (0, 1))
    assert not np.array_equal(events(world, 0).item_rows, events(world, 1).item_rows)
    for field in dataclasses.fields(Preferences):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


@pytest.mark.parametrize("kind", ["uniform", "popularity", "in_prefix", "exposures", "ratings"])
def test_the_seed_decides(world: TinyWorld, log: Path, kind: str) -> None:
    first, again, other = (made(world, kind, log, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.rejected, again.rejected)
    assert not np.array_equal(first.rejected, other.rejected)


def test_equal_histories_of_two_users_are_two_preferences(world: TinyWorld) -> None:
    """The key is (user, position): a table keyed by the history would lose one of the two choices."""
    rows = np.array([[1, 2, 3, 4, 5], [1, 2, 7, 8, 9]])
    ids = world.catalog.items.ids.take(pa.array(rows.ravel()))
    told = Interactions.from_columns(pa.array(list("aaaaabbbbb")), ids, np.tile(np.arange(5), 2), world.catalog.items)
    found = PreferenceData().build(leave_one_out(told).train, world.index, seed=0)
    assert list(zip(found.users.tolist(), found.positions.tolist(), found.chosen.tolist(), strict=True)) == [
        (0, 2, 3), (1, 2, 7),
    ]  # fmt: skip


def test_in_prefix_shares_the_first_code(world: TinyWorld, log: Path) -> None:
    found, codes = made(world, "in_prefix", log), world.index.codes[:, 0]
    same = codes[found.rejected] == codes[found.chosen][:, None]
    assert same[found.rejected >= 0].all()
    with pytest.raises(RecipeError, match=r"depth 3, and codes have 3 level"):
        made(world, "in_prefix", log, negatives={"kind": "in_prefix", "depth": 3})


def test_beams_are_the_models_own_list_in_its_order(
    world: TinyWorld, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beams, "AT_ONCE", 7)
    train = leave_one_out(events(world)).train
    model, found = Markov().fit(train, world.catalog), made(world, "beams", log)
    for user, position, rejected in zip(found.users, found.positions, found.rejected, strict=True):
        history = train.history(user)
        best = model.recommend(Ragged.from_lists([history[:position]]), 20, True).rows[0]
        assert rejected.tolist() == [row for row in best if row >= 0 and row not in history][:4]


def test_beams_without_a_model_are_refused(world: TinyWorld) -> None:
    with pytest.raises(RecipeError, match="needs the model"):
        PreferenceData(negatives=[{"kind": "beams"}]).build(leave_one_out(events(world)).train, world.index, 0)


def test_a_beam_list_that_is_too_short_leaves_places_empty(world: TinyWorld) -> None:
    class Short:
        def recommend(self, histories: Ragged, k: int, exclude_seen: bool) -> ScoredItems:
            rows = np.full((len(histories), k), -1, np.int32)
            rows[:, 0] = np.arange(len(histories)) % ITEMS
            return ScoredItems(rows, np.zeros(rows.shape, np.float32))

    train = leave_one_out(events(world)).train
    found = PreferenceData(negatives=[{"kind": "beams"}]).build(train, world.index, 0, Short())
    assert 0 < len(found) < USERS  # users who take that item have no preference
    assert (found.rejected[:, 0] >= 0).all()
    assert (found.rejected[:, 1:] == -1).all()


def test_popular_items_are_rejected_more_often(world: TinyWorld) -> None:
    """Item 0 is taken by all but one user, items 1 to 10 by one each: the one user's negatives are mostly item 0."""
    rows = [[0, 1 + user % 10, 0, 0, 0] for user in range(40)] + [[11, 12, 13, 14, 15]]
    ids = world.catalog.items.ids.take(pa.array(np.concatenate(rows)))
    users = pa.array([f"u{user}" for user in range(41) for _ in range(5)])
    train = leave_one_out(Interactions.from_columns(users, ids, np.tile(np.arange(5), 41), world.catalog.items)).train
    counts = np.bincount(train.item_rows, minlength=ITEMS)
    drawn = []
    for seed in range(300):
        found = PreferenceData(negatives=[{"kind": "popularity", "count": 1, "power": 1}]).build(
            train, world.index, seed
        )
        drawn.append(found.rejected[found.users == 40][0, 0])
    assert np.mean(np.asarray(drawn) == 0) == pytest.approx(counts[0] / counts[:11].sum(), abs=0.08)
    assert not (counts[np.asarray(drawn)] == 0).any()


def test_a_user_who_took_nearly_everything_gets_what_is_left(world: TinyWorld) -> None:
    ids = world.catalog.items.ids.take(pa.array(np.r_[np.arange(18), 0, 0]))
    told = Interactions.from_columns(pa.array(["a"] * 20), ids, np.arange(20), world.catalog.items)
    found = PreferenceData(negatives=[{"kind": "uniform", "count": 5}]).build(leave_one_out(told).train, world.index, 0)
    assert sorted(found.rejected[0].tolist()) == [-1, -1, -1, 18, 19]


def test_what_was_shown_belongs_to_the_next_choice(world: TinyWorld, tmp_path: Path) -> None:
    ids = world.catalog.items.ids.take(pa.array([1, 2, 3, 4, 5]))
    told = Interactions.from_columns(pa.array(["a"] * 5), ids, np.array([10, 20, 30, 40, 50]), world.catalog.items)
    lines = [
        "a,i7,15", "a,i8,20",  # the choice of 20: after 10, and at its very time
        "a,i9,21", "a,i2,25",  # of 30; i2 was taken
        "a,i10,31",  # behind the last train event: the choice of 40 is a validation target
        "b,i11,15", "a,i999,15",  # nobody, nothing
    ]  # fmt: skip
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]))
    data = PreferenceData(per_user=None, negatives=[{"kind": "exposures", "path": str(tmp_path / "log.csv")}])
    found = data.build(leave_one_out(told).train, world.index, 0)
    assert found.positions.tolist() == [1, 2]
    assert [sorted(row[row >= 0].tolist()) for row in found.rejected] == [[7, 8], [9]]
    before = data.fingerprint()
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\na,i7,now\n")
    assert data.fingerprint() != before
    with pytest.raises(DataError, match="no whole number"):
        data.build(leave_one_out(told).train, world.index, 0)


def test_several_kinds_stand_side_by_side(world: TinyWorld, log: Path) -> None:
    both = [{"kind": "beams", "count": 2}, {"kind": "uniform", "count": 19}]
    data = PreferenceData(negatives=both)
    train = leave_one_out(events(world)).train
    found = data.build(train, world.index, 0, Markov().fit(train, world.catalog))
    assert found.rejected.shape[1] == data.width == 21
    for user, rejected in zip(found.users, found.rejected, strict=True):
        assert sorted(rejected[rejected >= 0].tolist()) == sorted(set(range(ITEMS)) - set(train.history(user).tolist()))


def test_fewer_users_and_positions(world: TinyWorld, log: Path) -> None:
    latest = made(world, "uniform", log, per_user=2)
    assert set(latest.positions.tolist()) == {4, 5}
    assert len(latest) == 2 * USERS
    half = made(world, "uniform", log, share=0.5)
    assert 5 < len(set(half.users.tolist())) < 25
    assert made(world, "uniform", log, min_history=3).positions.min() == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"negatives": {"kind": "unifrom"}}, r"no negatives 'unifrom'\. Did you mean 'uniform'"),
        ({"negatives": {"kind": "uniform", "cuont": 3}}, r"preferences\.negatives\.cuont.*Did you mean 'count'"),
        ({"negatives": {"kind": "ratings", "at_most": 2}}, "every train event counts as a wish"),
        ({"min_history": 99}, "no preference is left"),
        ({"negatives": {"kind": "in_prefix"}, "min_rating": 9}, "no preference is left"),
        ({"negatives": []}, "at least 1 item"),
    ],
)
def test_what_cannot_be_done_is_said(world: TinyWorld, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(LlmrecError, match=words):
        PreferenceData.parse(settings).build(leave_one_out(events(world)).train, world.index, 0)
