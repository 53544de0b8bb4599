"""SASRec: finds a rule with every loss, sees no future, stops in time, comes back the same from a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.recommender_contract import toy_world
from recommenders.letters import CATALOG as LETTERS
from recommenders.letters import events
from recommenders.neighbours import CATALOG, SIZE, circle_world, share_of_first_places

from llmrec.errors import ArtifactError, DataError, RecipeError
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.sasrec import SASRec
from llmrec.types import Ragged

SMALL = {
    "dimensions": 16, "epochs": 40, "batch_size": 16, "learning_rate": 1e-2, "dropout": 0.1, "max_history": 8,
    "patience": None, "progress": False, "device": "cpu",
}  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "softmax"},
        {"loss": "softmax", "norm": "post"},
        {"loss": "softmax", "temperature": 0.1},
        {"loss": "sampled_softmax", "negatives": 8},
        {"loss": "gbce", "negatives": 8},
        {"loss": "bce"},
    ],
    ids=str,
)
def test_it_finds_what_follows_what(settings: dict[str, object]) -> None:
    split = circle_world()
    recommender = SASRec(**SMALL | settings).fit(split.train, CATALOG)
    assert share_of_first_places(recommender, split) > 0.9
    assert recommender.log[-1]["loss"] < recommender.log[0]["loss"]


def test_scores_of_the_softmax_are_log_probabilities() -> None:
    scores = SASRec(**SMALL | {"epochs": 2}).fit(circle_world().train, CATALOG).score(Ragged.from_lists([[1, 2], []]))
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)


def test_a_state_does_not_see_what_comes_after() -> None:
    network = SASRec(**SMALL).network(SIZE).eval()
    with torch.no_grad():
        one, other = network(torch.tensor([[1, 2, 3, 4]])), network(torch.tensor([[1, 2, 9, SIZE]]))
    torch.testing.assert_close(one[:, :2], other[:, :2])
    assert (one[:, 2] - other[:, 2]).abs().max() > 1e-3


def test_only_the_newest_items_are_looked_at() -> None:
    recommender = SASRec(**SMALL | {"epochs": 1, "max_history": 3}).fit(circle_world().train, CATALOG)
    one, other = recommender.score(Ragged.from_lists([[20, 5, 6, 7], [5, 6, 7]]))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_it_stops_when_validation_has_not_risen_and_keeps_the_best_weights() -> None:
    split = circle_world()
    settings = SMALL | {"epochs": 60, "patience": 3}
    recommender = SASRec(**settings).fit(split.train, CATALOG, split.valid)
    seen = [entry["ndcg@10"] for entry in recommender.log]
    best = int(np.argmax(seen))
    assert len(seen) == best + 1 + 3 < 60
    shorter = SASRec(**SMALL | {"epochs": best + 1}).fit(split.train, CATALOG)  # the same steps, no validation
    np.testing.assert_allclose(recommender.score(split.test.histories), shorter.score(split.test.histories), atol=1e-5)


def test_without_validation_data_it_holds_out_some_train_events() -> None:
    split = circle_world()
    recommender = SASRec(**SMALL | {"epochs": 3, "patience": 3}).fit(split.train, CATALOG)
    assert all(0 <= entry["ndcg@10"] <= 1 for entry in recommender.log)
    with pytest.raises(DataError, match=r"no question to validate with.*patience: null"):
        SASRec(**SMALL | {"patience": 3}).fit(events("ab", "bc"), LETTERS)


def test_validation_says_when_to_stop_and_nothing_else() -> None:
    """With other targets the weights of an epoch are the same."""
    one, other = toy_world(), toy_world(other_future=True)
    settings = SMALL | {"epochs": 4, "patience": 9}
    logs = [SASRec(**settings).fit(w.split.train, w.catalog, w.split.valid).log for w in (one, other)]
    assert [entry["loss"] for entry in logs[0]] == [entry["loss"] for entry in logs[1]]
    assert [entry["ndcg@10"] for entry in logs[0]] != [entry["ndcg@10"] for entry in logs[1]]


def test_the_seed_decides_and_nothing_else() -> None:
    train, histories = circle_world().train, Ragged.from_lists([[3, 4], [8]])
    few = SMALL | {"epochs": 2, "loss": "sampled_softmax", "negatives": 5}
    torch.rand(3)
    one = SASRec(**few).fit(train, CATALOG).score(histories)
    state = torch.random.get_rng_state()
    np.testing.assert_array_equal(one, SASRec(**few).fit(train, CATALOG).score(histories))
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's random numbers go on as they were
    assert np.abs(one - SASRec(**few | {"seed": 1}).fit(train, CATALOG).score(histories)).max() > 1e-3


def test_histories_of_one_item_teach_nothing() -> None:
    with pytest.raises(DataError, match="no train history has two items"):
        SASRec(**SMALL).fit(events("a", "b"), LETTERS)


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecipeError, match="3 heads cannot share 16 dimensions"):
        SASRec(dimensions=16, heads=3)
    with pytest.raises(RecipeError, match="loss"):
        SASRec.parse({"loss": "hinge"})


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    SASRec(**SMALL | {"epochs": 1}).fit(circle_world().train, CATALOG).save_pretrained(tmp_path)
    path = tmp_path / "recommender.json"
    path.write_text(path.read_text().replace('"blocks": 2', '"blocks": 3'))
    with pytest.raises(ArtifactError, match="do not fit the settings"):
        Recommender.from_pretrained(tmp_path)
