"""The linear map: by hand, and better than the text alone where texts say the wrong thing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from contracts.recommender_contract import toy_world
from torch.nn import functional

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import RecipeError
from llmrec.recommenders.text_knn import TextKNN
from llmrec.recommenders.text_linear import LinearMap, TextLinear

TFIDF = {"kind": "tfidf"}
QUICK = {"dimensions": 16, "learning_rate": 3e-2, "patience": None, "progress": False, "device": "cpu"}


def test_a_state_is_the_weighted_mean_of_mapped_texts() -> None:
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    network = LinearMap(text, dimensions=2, decay=0.5, temperature=0.1)
    with torch.no_grad():
        network.map.weight.copy_(torch.tensor([[0.0, 2.0], [3.0, 0.0]]))  # swaps the axes
        states = network(torch.tensor([[0, 1, 2, 3]]))[0]  # two items, one without text, padding
        items = network.item_vectors()
    torch.testing.assert_close(items, torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]))
    expected = torch.tensor([[0.0, 1.0], [1.0, 0.5], [0.5, 0.25], [0.25, 0.125]])
    torch.testing.assert_close(states, functional.normalize(expected, dim=1) / 0.1)


def test_it_begins_where_the_text_alone_stands() -> None:
    """An orthogonal map keeps all cosines."""
    text = functional.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    with torch.no_grad():
        items = LinearMap(text, dimensions=8, decay=1.0, temperature=0.1).item_vectors()
    torch.testing.assert_close(items @ items.T, text @ text.T)


def test_it_learns_that_the_word_of_the_kind_says_nothing() -> None:
    """Who buys a pen buys things of the same colour, not other pens."""
    colours, kinds = ("red", "blue", "green", "black"), ("pen", "lamp", "desk", "chair", "clock", "shelf")
    titles = [f"{colour} {kind} {kind}" for colour in colours for kind in kinds]
    catalog = Catalog(pa.table({"item_id": [f"i{row}" for row in range(24)], "title": titles}))
    walks = [[colour * 6 + kind for kind in order] for colour in range(4) for order in ([0, 1, 2, 3], [3, 0, 2, 1])]
    items = pa.array([f"i{item}" for walk in walks for item in walk])
    users = pa.array([f"u{user}" for user, walk in enumerate(walks) for _ in walk])
    train = Interactions.from_columns(users, items, np.arange(len(items)), catalog.items)
    alone = TextKNN(encoder=TFIDF).fit(train, catalog)
    learned = TextLinear(**QUICK, encoder=TFIDF, epochs=200).fit(train, catalog)

    def own_colour(recommender: TextKNN | TextLinear) -> list[int]:
        """Of the two items of each colour that nobody took: how many of the four are in its best five."""
        rows = recommender.recommend([np.array([colour * 6], np.int32) for colour in range(4)], k=5).rows
        return [int((row // 6 == colour).sum()) for colour, row in enumerate(rows)]

    assert own_colour(learned) == [5, 5, 5, 5]
    assert sum(own_colour(alone)) < 20


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'minilm'"):
        TextLinear.parse({"encoder": {"kind": "minilmm"}})


def test_the_vectors_are_saved_with_the_map() -> None:
    world = toy_world()
    arrays = TextLinear(**QUICK, encoder=TFIDF, epochs=1).fit(world.split.train, world.catalog)._arrays
    assert set(arrays) == {"network.map.weight", "network.text", "popularity"}
    assert len(arrays["network.text"]) == len(world.catalog)
