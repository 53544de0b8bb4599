"""BERT4Rec: what is hidden, what may be seen, and that it finds a rule."""

from __future__ import annotations

import pytest
import torch
from recommenders.neighbours import CATALOG, SIZE, circle_world, share_of_first_places

from llmrec.recommenders.bert4rec import BERT4Rec

SMALL = {
    "dimensions": 16, "epochs": 120, "batch_size": 16, "learning_rate": 5e-3, "dropout": 0.1, "max_history": 8,
    "masked": 0.4, "patience": None, "progress": False, "device": "cpu",
}  # fmt: skip
MASK = SIZE + 1


@pytest.mark.parametrize("settings", [{}, {"norm": "pre"}, {"loss": "sampled_softmax", "negatives": 16}], ids=str)
def test_it_finds_what_follows_what(settings: dict[str, object]) -> None:
    split = circle_world()
    recommender = BERT4Rec(**SMALL | settings).fit(split.train, CATALOG)
    assert share_of_first_places(recommender, split) > 0.9


def test_the_mask_stands_behind_the_history() -> None:
    shown, places = BERT4Rec(**SMALL).ask_next(torch.tensor([[4, 5, 6], [7, SIZE, SIZE]]), SIZE)
    assert shown.tolist() == [[4, 5, 6, MASK], [7, MASK, SIZE, SIZE]]
    assert places.tolist() == [3, 1]


def test_what_is_hidden_is_asked_for_and_padding_never() -> None:
    torch.manual_seed(0)
    rows = torch.full((200, 8), SIZE)
    rows[:, :5] = torch.randint(SIZE, (200, 5))
    asked = BERT4Rec(**SMALL, last_only=0).ask(rows, SIZE)
    assert (asked.rows[asked.places] == MASK).all()
    assert (asked.rows[~asked.places] == rows[~asked.places]).all()
    assert asked.targets.tolist() == rows[asked.places].tolist()
    assert asked.places.any(dim=1).all()
    assert not asked.places[:, 5:].any()
    assert 0.35 < asked.places[:, :5].float().mean() < 0.5


def test_a_share_of_the_histories_hides_the_last_item_alone() -> None:
    rows = torch.tensor([[1, 2, 3, SIZE]] * 100)
    asked = BERT4Rec(**SMALL, last_only=1).ask(rows, SIZE)
    assert asked.places.tolist() == [[False, False, True, False]] * 100


def test_a_hidden_item_is_guessed_from_both_sides() -> None:
    network = BERT4Rec(**SMALL).network(SIZE).eval()
    with torch.no_grad():
        one = network(torch.tensor([[1, MASK, 3, SIZE]]))[:, 1]
        other = network(torch.tensor([[1, MASK, 4, SIZE]]))[:, 1]
        longer = network(torch.tensor([[1, MASK, 3, SIZE, SIZE, SIZE]]))[:, 1]
    assert (one - other).abs().max() > 1e-4
    torch.testing.assert_close(one, longer)  # nobody looks at padding
