"""A toy shop whose answer is known, for tests, examples and a first smoke run without any download.

Every item belongs to a category; the categories form a hidden ring. After an item a user takes

- with probability 0.5 the item's *partner*, one fixed item of the next category (only sequences tell which),
- with probability 0.4 any item of the next category (its texts tell the category),
- with probability 0.1 any item at all,

and never an item twice: a draw that was taken before is replaced by any item not yet taken. No two items of a category
share a partner, so all items are about equally popular and a popularity ranking knows nothing; a good sequence model
finds half of the next items at rank 1, and one that reads texts knows the category. The exact probabilities are those
of `SyntheticSource.transition()`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llmrec.sources.assemble import Checks, assemble
from llmrec.sources.base import Dataset
from llmrec.sources.columns import Columns

PARTNER, NEXT_CATEGORY, ANYTHING = 0.5, 0.4, 0.1
_RULES = 1  # raised when the same settings would give another world
_START, _LONGEST_GAP = 1_700_000_000, 86_400  # seconds

NOUNS = {
    "coffee": "espresso cup, milk jug, bean grinder, paper filter, moka pot, drip kettle",
    "garden": "watering can, seed tray, pruning saw, flower pot, leaf rake, hose reel",
    "camping": "sleeping bag, tent peg, gas stove, head lamp, water bottle, trail map",
    "music": "guitar string, drum stick, violin bow, sheet stand, reed case, tuning fork",
    "office": "desk lamp, paper clip, stapler, ring binder, ink roller, index card",
    "baking": "cake tin, rolling pin, flour sieve, pastry brush, dough scraper, muffin tray",
    "cycling": "bike bell, chain oil, saddle cover, tyre lever, inner tube, pannier",
    "sewing": "needle case, cotton thread, pin cushion, fabric shears, button box, zip fastener",
    "fishing": "fly reel, float box, landing net, spinner bait, rod rest, wading boot",
    "painting": "oil brush, canvas board, palette knife, easel, water colour, charcoal stick",
    "chess": "chess clock, score book, folding board, weighted king, opening guide, pawn set",
    "diving": "snorkel, swim fin, depth gauge, dive mask, weight belt, wetsuit",
}
ADJECTIVES = ("sturdy", "light", "compact", "classic", "large", "simple", "fine", "red")


class SyntheticSource(Checks):
    """Users who walk the hidden ring of categories.

    Args:
        users: how many users.
        items: how many items; the categories share them as evenly as they can.
        categories: how many categories, at most 12.
        events: the longest history; the shortest has half as many events, but at least 5.
        seed: the same seed gives the same world.
    """

    users: Annotated[int, Field(ge=1)] = 400
    items: Annotated[int, Field(ge=2)] = 60
    categories: Annotated[int, Field(ge=2, le=len(NOUNS))] = 6
    events: Annotated[int, Field(ge=5)] = 12
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _enough_items(self) -> Self:
        if self.items < max(self.categories, 2 * self.events):
            raise ValueError("give at least one item a category, and at least twice as many items as events")
        return self

    def load(self) -> Dataset:
        """Make the world and walk it."""
        category, _ = self._ring()
        names = np.array(list(NOUNS))[category].tolist()
        numbers = np.arange(self.items) // self.categories  # 0, 1, 2, ... within each category
        items = {
            "item_id": [f"i{row}" for row in range(self.items)],
            "title": [_title(name, int(number)) for name, number in zip(names, numbers, strict=True)],
            "category": names,
        }
        walks, lengths, times = self._walk()
        taken = np.arange(walks.shape[1]) < lengths[:, None]  # (U, T)
        events = {
            "user_id": np.char.add("u", np.repeat(np.arange(self.users), lengths).astype(str)),
            "item_id": np.char.add("i", walks[taken].astype(str)),
            "timestamp": times[taken],
        }
        return assemble(pa.table(events), pa.table(items), Columns(), self, ("synthetic events", "synthetic items"))

    def fingerprint(self) -> str:
        """SHA-256 over the settings and the version of the rules."""
        return hashlib.sha256(json.dumps([_RULES, self.settings()], sort_keys=True).encode()).hexdigest()

    def transition(self) -> NDArray[np.float64]:
        """`float64[N, N]`: how likely item `j` is drawn after item `i` (before an item taken earlier is replaced)."""
        category, partner = self._ring()
        follows = self._next_category(category)[:, None] == category[None, :]  # (N, N)
        chances = ANYTHING / self.items + NEXT_CATEGORY * follows / follows.sum(axis=1, keepdims=True)
        chances[np.arange(self.items), partner] += PARTNER
        return chances

    def _ring(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each item's category and partner, both `int64[N]`."""
        rng = np.random.default_rng([self.seed, 0])
        category = np.arange(self.items) % self.categories
        following = self._next_category(category)
        places = np.empty_like(category)  # the partner's number within its category; all differ within one category
        for number in range(self.categories):
            places[number :: self.categories] = rng.permutation(np.bincount(category)[number])
        return category, following + self.categories * (places % np.bincount(category)[following])

    def _next_category(self, category: NDArray[np.int64]) -> NDArray[np.int64]:
        ring = np.random.default_rng([self.seed, 1]).permutation(self.categories)
        successor = np.empty_like(ring)
        successor[ring] = np.roll(ring, -1)
        return successor[category]

    def _walk(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Items `int64[U, T]`, lengths `int64[U]`, seconds `int64[U, T]`; what lies past the length is unused."""
        rng = np.random.default_rng([self.seed, 2])
        category, partner = self._ring()
        sizes = np.bincount(category)
        lengths = rng.integers(max(5, self.events // 2), self.events + 1, self.users)
        walks = np.empty((self.users, self.events), np.int64)
        walks[:, 0] = rng.integers(self.items, size=self.users)
        for step in range(1, self.events):
            last = walks[:, step - 1]
            following = self._next_category(category[last])
            within = following + self.categories * rng.integers(sizes[following])
            anything = rng.integers(self.items, size=self.users)
            rule = rng.random(self.users)
            drawn = np.where(rule < PARTNER, partner[last], np.where(rule < PARTNER + NEXT_CATEGORY, within, anything))
            while (again := (walks[:, :step] == drawn[:, None]).any(axis=1)).any():
                drawn[again] = rng.integers(self.items, size=int(again.sum()))
            walks[:, step] = drawn
        gaps = rng.integers(1, _LONGEST_GAP, walks.shape)
        starts = rng.integers(0, 30 * _LONGEST_GAP, self.users)
        return walks, lengths, _START + starts[:, None] + np.cumsum(gaps, axis=1)


def _title(category: str, number: int) -> str:
    nouns = NOUNS[category].split(", ")
    noun, adjective = nouns[number % len(nouns)], ADJECTIVES[number // len(nouns) % len(ADJECTIVES)]
    model = number // (len(nouns) * len(ADJECTIVES))
    return f"{adjective} {noun}{f' {model + 1}' if model else ''}".capitalize()
