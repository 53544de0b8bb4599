"""What every index must do, whatever it is: subclass `IndexContract` and say how to make one.

class TestMine(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return MyIndex()
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import leave_one_out
from llmrec.errors import ArtifactError, RecipeError
from llmrec.indexes.base import END, Indexer, ItemIndex
from llmrec.indexes.trie import Trie

TOPICS = ("phone handset cordless", "paper printer white", "pen blue ink", "chair leather black", "lamp desk light")
ITEMS_A_TOPIC = 12
ITEMS = len(TOPICS) * ITEMS_A_TOPIC


class ClusteredWorld(NamedTuple):
    """60 items in five topics (rows 0-11, 12-23, ...), two of each topic with one title; users stay in a topic."""

    catalog: Catalog
    train: Interactions

    @property
    def topics(self) -> np.ndarray:
        return np.arange(ITEMS) // ITEMS_A_TOPIC


def clustered_world(other_future: bool = False) -> ClusteredWorld:
    """Always the same; `other_future` changes only what lies behind the split, which no index may see."""
    titles = [f"{topic} model{max(number, 1)}" for topic in TOPICS for number in range(ITEMS_A_TOPIC)]
    categories = [f"Office > {topic.split()[0]}" for topic in TOPICS for _ in range(ITEMS_A_TOPIC)]
    ids = [f"i{row}" for row in range(ITEMS)]
    catalog = Catalog(pa.table({"item_id": ids, "title": titles, "categories": categories}))
    rng = np.random.default_rng(0)
    walks = [rng.permutation(ITEMS_A_TOPIC)[:8] + ITEMS_A_TOPIC * (user % len(TOPICS)) for user in range(40)]
    if other_future:
        walks = [np.append(walk[:-2], (walk[-2:] + 17) % ITEMS) for walk in walks]
    interactions = Interactions.from_columns(
        pa.array([f"u{user}" for user, walk in enumerate(walks) for _ in walk]),
        pa.array([f"i{item}" for walk in walks for item in walk]),
        np.tile(np.arange(8), len(walks)),
        catalog.items,
    )
    return ClusteredWorld(catalog, leave_one_out(interactions).train)


class IndexContract:
    """The tests; a subclass whose codes may collide says `unique = False`, one that cannot `add`: `can_add = False`."""

    unique = True
    can_add = True

    def make(self, folder: Path) -> Indexer:
        """The index under test; `folder` is empty, for files that it needs."""
        raise NotImplementedError

    def built(self, folder: Path, other_future: bool = False) -> ItemIndex:
        world = clustered_world(other_future)
        return self.make(folder).build(world.catalog, world.train)

    def built_without_the_last(self, folder: Path, count: int) -> tuple[ItemIndex, Catalog]:
        """An index of the world as it was before its last items came, and the whole catalog."""
        world = clustered_world()
        known = Catalog(world.catalog.table.slice(0, ITEMS - count))
        events = world.train.table["item"].to_numpy()
        users = world.train.users.ids.take(pa.array(world.train.user_rows))
        kept = np.flatnonzero(events < len(known))
        train = Interactions.from_columns(
            users.take(pa.array(kept)), known.items.ids.take(pa.array(events[kept])), kept, known.items
        )
        return self.make(folder).build(known, train), world.catalog

    def test_every_item_has_a_code_inside_its_levels(self, tmp_path: Path) -> None:
        index = self.built(tmp_path)
        assert index.codes.dtype == np.int32
        assert index.codes.shape == (ITEMS, len(index.level_sizes))
        inside = (index.codes >= 0) & (index.codes < np.asarray(index.level_sizes))
        assert (inside | (index.codes == END)).all()
        assert (inside.sum(axis=1) == index.lengths).all()
        assert (index.lengths >= 1).all()

    def test_collisions_are_none_or_counted(self, tmp_path: Path) -> None:
        index = self.built(tmp_path)
        assert index.provenance["collisions"]["after"]["colliding"] == index.collisions
        assert not (self.unique and index.collisions)

    def test_built_twice_is_the_same(self, tmp_path: Path) -> None:
        first, second = self.built(tmp_path), self.built(tmp_path)
        assert first.digest == second.digest
        assert first.provenance == second.provenance

    def test_the_future_changes_nothing(self, tmp_path: Path) -> None:
        assert self.built(tmp_path).digest == self.built(tmp_path, other_future=True).digest

    def test_saved_and_loaded_is_equal(self, tmp_path: Path) -> None:
        index = self.built(tmp_path)
        index.save(tmp_path / "index")
        loaded = ItemIndex.load(tmp_path / "index")
        np.testing.assert_array_equal(loaded.codes, index.codes)
        assert (loaded.level_sizes, loaded.provenance) == (index.level_sizes, index.provenance)

    def test_its_settings_make_it_again(self, tmp_path: Path) -> None:
        indexer = self.make(tmp_path)
        assert type(indexer)(**json.loads(json.dumps(indexer.settings()))) == indexer

    def test_provenance_says_how_it_was_made(self, tmp_path: Path) -> None:
        index = self.built(tmp_path)
        assert index.provenance["kind"]
        assert isinstance(index.provenance["settings"], dict)
        assert [level["size"] for level in index.provenance["levels"]] == list(index.level_sizes)
        for column, level in zip(index.codes.T, index.provenance["levels"], strict=True):
            assert level["used"] == len(set(column.tolist()) - {END})
            assert 1 <= level["perplexity"] <= level["used"] + 1e-3

    def test_later_items_get_free_codes_and_nobody_moves(self, tmp_path: Path) -> None:
        index, catalog = self.built_without_the_last(tmp_path, count=3)
        if not self.can_add:
            with pytest.raises(RecipeError, match=index.provenance["kind"]):
                index.add(catalog)
            return
        index.save(tmp_path / "index")
        grown = ItemIndex.load(tmp_path / "index").add(catalog)  # what was saved is enough
        assert len(grown) == ITEMS
        np.testing.assert_array_equal(grown.codes[: len(index)], index.codes)
        assert grown.level_sizes == index.level_sizes  # a trained model needs no new row
        assert grown.collisions == 0
        assert grown.provenance["added"] == 3
        assert grown.provenance["collisions"]["after"]["colliding"] == 0
        assert grown.digest == index.add(catalog).digest
        trie = Trie.of(grown)
        leaves = trie.ways(torch.from_numpy(grown.codes).long()).amax(1)
        assert trie.items(leaves)[0].squeeze(1).tolist() == list(range(ITEMS))

    def test_another_catalog_is_refused(self, tmp_path: Path) -> None:
        index, catalog = self.built_without_the_last(tmp_path, count=3)
        with pytest.raises(ArtifactError, match="does not begin with"):
            index.add(catalog.take(np.arange(ITEMS)[::-1]))
