"""What a server answers, as values. Fields that a newer server adds are passed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Level:
    """One token of an item's code and its log-probability in nats; they sum to the item's score."""

    token: str
    log_p: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An item of the history that is like the recommended one.

    Args:
        shared_levels: levels that both codes begin with. similarity: of their texts, from 0 to 1.
    """

    item_id: str
    title: str
    shared_levels: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a score comes from. Recommenders without codes have neighbours only."""

    code: str | None
    levels: tuple[Level, ...]
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """An item; for a language model its score is log p(item | history), or log p(item | request), in nats."""

    item_id: str
    title: str
    score: float
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Recommendations:
    """The best items, best first.

    Args:
        catalog_version: which state of the server's catalog they are from.
        exact: they are proven to be the model's true top k.
        unknown_items: ids of the request that the catalog lacks; they were passed over.
    """

    model: str
    catalog_version: int
    exact: bool
    items: tuple[RecommendedItem, ...]
    unknown_items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchResults:
    """The items that a request in words asks for, best first.

    Args:
        catalog_version, exact, unknown_items: as in `Recommendations`.
        price: the condition that was read out of the request, such as "price < 30"; None where it names none.
    """

    model: str
    catalog_version: int
    exact: bool
    items: tuple[RecommendedItem, ...]
    unknown_items: tuple[str, ...]
    price: str | None


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """An item and its score; None where the recommender would never name it."""

    item_id: str
    title: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Scores:
    """Items in the order that they were asked in, without the unknown ones."""

    model: str
    catalog_version: int
    items: tuple[ScoredItem, ...]
    unknown_items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """All that the catalog knows of an item; `fields` are its columns."""

    item_id: str
    title: str
    code: str | None
    in_stock: bool
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ItemName:
    """An item as it stands in a list."""

    item_id: str
    title: str


@dataclass(frozen=True, slots=True)
class Model:
    """What a server serves, and its limits.

    Args:
        kind: of recommender. engine: what decodes. searches: it can be asked in words.
        max_k, max_history: most items of a list and of a history. columns: of the catalog, for `filters`.
    """

    id: str
    created: int
    kind: str
    engine: str
    searches: bool
    items: int
    in_stock: int
    catalog_version: int
    max_k: int
    max_history: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CatalogState:
    """The live catalog: how many items, which are not in stock, and ids of the change that it lacks."""

    catalog_version: int
    items: int
    in_stock: int
    out_of_stock: tuple[str, ...]
    unknown_items: tuple[str, ...] = ()
