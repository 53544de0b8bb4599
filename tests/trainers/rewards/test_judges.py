"""Rewards that other models or functions give: another recommender, a learned head, a function of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from circle import circle, make_task
from worlds import TinyWorld

from llmrec.data.split import Split
from llmrec.errors import ArtifactError, RecipeError
from llmrec.recommenders.markov import Markov
from llmrec.registry import build
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked
from llmrec.trainers.rewards.mixture import scored
from llmrec.trainers.rewards.recommender import scores_of, shares_below
from llmrec.types import Ragged


@pytest.fixture(scope="module")
def round_trip(tiny_world: TinyWorld) -> tuple[NextItemTask, Split]:
    return make_task(tiny_world.catalog, tiny_world.items), circle(tiny_world.catalog)


def asked(*histories: list[int]) -> Asked:
    return Asked(Ragged.from_lists(histories), Ragged.from_lists([[]] * len(histories)))


def test_shares_below_by_hand() -> None:
    scores = np.array([[3.0, 1.0, 1.0, 2.0], [np.nan, 5.0, 4.0, np.nan], [1.0, np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(shares_below(scores), [[1, 0, 0, 2 / 3], [0, 1, 0, 0], [0, 0, 0, 0]])


def test_scores_are_those_of_the_recommender(round_trip: tuple[NextItemTask, Split]) -> None:
    task, split = round_trip
    judge = Markov().fit(split.train, task.catalog)
    items = np.array([[3, 4, 5, 4], [0, -1, 1, -1], [-1, -1, -1, -1]], np.int32)
    found = scores_of(judge, Ragged.from_lists([[2], [0], [1]]), items)
    everything = judge.recommend([[2], [0]], len(task.catalog), False)
    for line, histories in enumerate(everything.rows):
        of_item = dict(zip(histories.tolist(), everything.scores[line].tolist(), strict=True))
        expected = [of_item[row] if row >= 0 else np.nan for row in items[line].tolist()]
        np.testing.assert_allclose(found[line], expected)
    assert np.isnan(found[2]).all()


def test_the_next_item_is_what_a_recommender_calls_best(round_trip: tuple[NextItemTask, Split]) -> None:
    task, split = round_trip
    reward = build("reward", {"kind": "recommender", "model": {"kind": "markov"}}, "rewards")
    function = reward.fit(task, split.train, 0)
    found = scored(function, asked([1, 2], [4]), np.array([[3, 6, 7], [9, 5, -1]], np.int32))
    assert found.argmax(1).tolist() == [0, 1]
    assert found[0, 0] == found[1, 1] == 1.0


def test_a_finished_folder_judges_as_what_was_saved(round_trip: tuple[NextItemTask, Split], tmp_path: Path) -> None:
    task, split = round_trip
    Markov().fit(split.train, task.catalog).save_pretrained(tmp_path / "judge")
    settings = {"kind": "recommender", "folder": str(tmp_path / "judge")}
    folder, fitted = build("reward", settings), build("reward", {"kind": "recommender", "model": {"kind": "markov"}})
    items = np.array([[3, 6, 7, 0]], np.int32)
    one, other = (each.fit(task, split.train, 0)(asked([1, 2]), items) for each in (folder, fitted))
    np.testing.assert_array_equal(one, other)
    before = folder.fingerprint()
    assert before
    assert not fitted.fingerprint()
    (tmp_path / "judge" / "README.md").write_text("other words")
    assert folder.fingerprint() == before
    (tmp_path / "judge" / "prompt.jinja").write_text("another prompt")
    assert folder.fingerprint() != before


def test_a_judge_of_other_items_is_refused(
    round_trip: tuple[NextItemTask, Split], tiny_world: TinyWorld, tmp_path: Path
) -> None:
    task, split = round_trip
    few = tiny_world.catalog.table.slice(0, 5)
    catalog = type(tiny_world.catalog)(few)
    Markov().fit(circle(catalog).train, catalog).save_pretrained(tmp_path / "judge")
    with pytest.raises(ArtifactError, match="knows other items"):
        build("reward", {"kind": "recommender", "folder": str(tmp_path / "judge")}).fit(task, split.train, 0)
    with pytest.raises(RecipeError, match="there is no folder"):
        build("reward", {"kind": "recommender", "folder": str(tmp_path / "none")}).fit(task, split.train, 0)


def test_a_learned_head_tells_what_follows_from_what_does_not(round_trip: tuple[NextItemTask, Split]) -> None:
    task, split = round_trip
    settings = {
        "kind": "learned_head",
        "encoder": {"kind": "behaviour", "window": 1},
        "epochs": 60,
        "decay": 0.2,
        "batch_size": 16,
    }
    function = build("reward", settings).fit(task, split.train, 0)
    count = len(task.catalog)
    histories = [[(start + step) % count for step in range(4)] for start in range(count)]
    right = np.array([(start + 4) % count for start in range(count)])
    far = (right + count // 2) % count
    found = scored(function, asked(*histories), np.stack([right, far], 1).astype(np.int32))
    assert ((found > 0) & (found < 1)).all()
    assert (found[:, 0] > found[:, 1]).mean() > 0.9
    again = build("reward", settings).fit(task, split.train, 0)
    np.testing.assert_array_equal(
        again(asked([1, 2]), np.array([[3, 9]], np.int32)), function(asked([1, 2]), np.array([[3, 9]], np.int32))
    )


def test_a_function_by_its_name(
    round_trip: tuple[NextItemTask, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, split = round_trip
    (tmp_path / "shop_of_a_test.py").write_text("def margin(asked, items):\n    return items * 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop_of_a_test", raising=False)
    reward = build("reward", {"kind": "function", "name": "shop_of_a_test:margin"})
    items = np.array([[3, 6, -1]], np.int32)
    assert scored(reward.fit(task, split.train, 0), asked([1]), items).tolist() == [[1.5, 3.0, 0.0]]
    assert "0.5" in reward.fingerprint()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "recommender"}, "give either model"),
        ({"kind": "recommender", "model": {"kind": "markov"}, "folder": "x"}, "give either model"),
        ({"kind": "recommender", "model": {"kind": "llm"}}, "cannot be fitted here"),
        ({"kind": "recommender", "model": {"kind": "markow"}}, r"no recommender 'markow'\. Did you mean 'markov'"),
        ({"kind": "function", "name": "margin"}, "write module:name"),
        ({"kind": "function", "name": "no_such_shop:margin"}, "No module named 'no_such_shop'"),
        ({"kind": "function", "name": "math:pi"}, "is no function"),
        ({"kind": "learned_head", "encoder": {"kind": "tfdf"}}, r"Did you mean 'tfidf'"),
    ],
    ids=str,
)
def test_what_cannot_judge_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build("reward", settings, "rewards")
