"""The bodies of requests and answers; together with the routes they are the OpenAPI document."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from llmrec.data.text import LONGEST_REQUEST

Column = Annotated[str, StringConstraints(max_length=200)]
ItemId = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Value = str | bool | int | float | None


class Body(BaseModel):
    """A request: unknown fields are refused, so that a misspelt filter is not silently no filter."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Event(Body):
    """An item that was taken, and when (seconds, any epoch)."""

    item_id: ItemId
    timestamp: float | int


def _example(**body: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [body]})


class ListRequest(Body):
    """What every request for a list of items may say."""

    k: int = Field(10, ge=1, description="Items wanted; fewer come where fewer are allowed.")
    exclude: list[ItemId] = Field([], description="Items to leave out.")
    candidates: list[ItemId] | None = Field(None, description="The only items that may come.")
    filters: dict[Column, Value | list[Value]] | None = Field(
        None,
        description="Column of the catalog -> a value, or a list of values of which any will do; all must hold. A "
        "column of lists fits if it contains the value; null is an empty cell.",
    )
    timeout_ms: int | None = Field(None, ge=1, description="Answer within this time, if the server's own is longer.")

    @field_validator("filters")
    @classmethod
    def _finite(cls, filters: dict[str, Any] | None) -> dict[str, Any] | None:
        for value in (filters or {}).values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, float) and not math.isfinite(one):
                    raise ValueError("a filter's number must be finite")
        return filters


class RecommendRequest(ListRequest):
    """What next?"""

    model_config = _example(history=["50", "172", "181"], k=5, filters={"genres": ["Comedy"]})

    history: list[ItemId] | list[Event] = Field(
        description="Items taken, oldest first; with timestamps they are put in order. May be empty. Ids that the "
        "catalog lacks are left out and named in `unknown_items`."
    )
    exclude_seen: bool = Field(True, description="Leave out the items of the history.")
    explain: Literal["scores"] | None = Field(None, description="Say for each item where its score comes from.")


class SearchRequest(ListRequest):
    """What is wanted?"""

    model_config = _example(query="a gift for a runner under 30 dollars", k=5, filters={"in_stock": True})

    query: str = Field(
        min_length=1,
        max_length=LONGEST_REQUEST,
        description="What is wanted, in words. A price in it, such as `under 30 dollars`, is a condition beside the "
        "others, on the catalog's column `price`.",
    )


class BatchRequest(Body):
    """Several requests, which are accepted together or not at all."""

    model_config = _example(requests=[{"history": ["50", "172"]}, {"history": [], "k": 3}])

    requests: list[RecommendRequest] = Field(min_length=1)


class ScoreRequest(Body):
    """How well do these items fit?"""

    model_config = _example(history=["50", "172"], items=["181", "1"])

    history: list[ItemId] | list[Event]
    items: list[ItemId] = Field(min_length=1, description="In stock or not, in the history or not.")
    timeout_ms: int | None = Field(None, ge=1)


class CatalogChange(Body):
    """What is in stock now, and new items."""

    model_config = _example(out_of_stock=["50"], in_stock=[], add=[{"item_id": "new-1", "title": "A new film"}])

    out_of_stock: list[ItemId] = []
    in_stock: list[ItemId] = []
    add: list[dict[Column, Value | list[Value]]] = Field(
        [], description="New items with the catalog's columns; at least item_id and title."
    )


class Level(BaseModel):
    """One token of an item's code, and its log-probability in nats; they sum to the item's score."""

    token: str
    log_p: float


class Neighbour(BaseModel):
    """An item of the history that is like the recommended one.

    `shared_levels`: codes that both begin with. `similarity`: of their texts, the cosine of word counts.
    """

    item_id: str
    title: str
    shared_levels: int
    similarity: float


class Explanation(BaseModel):
    """Where a score comes from. Recommenders without codes have neighbours only."""

    code: str | None
    levels: list[Level]
    nearest: list[Neighbour]


class RecommendedItem(BaseModel):
    """An item; for a language model the score is `log p(item | history)` or `log p(item | request)` in nats."""

    item_id: str
    title: str
    score: float
    explanation: Explanation | None = None


class RecommendAnswer(BaseModel):
    """The best items, best first. `exact`: the list is proven to be the model's true top k."""

    model: str
    catalog_version: int
    exact: bool
    items: list[RecommendedItem]
    unknown_items: list[str]


class SearchAnswer(BaseModel):
    """The best items, best first. `price`: the condition that was read out of the request; null where it names none."""

    model: str
    catalog_version: int
    exact: bool
    items: list[RecommendedItem]
    unknown_items: list[str]
    price: str | None


class BatchAnswer(BaseModel):
    """One answer a request, in their order."""

    responses: list[RecommendAnswer]


class ScoredItem(BaseModel):
    """An item and its score; null where the recommender would never name it."""

    item_id: str
    title: str
    score: float | None


class ScoreAnswer(BaseModel):
    """In the order of the request, without the unknown items."""

    model: str
    catalog_version: int
    items: list[ScoredItem]
    unknown_items: list[str]


class Item(BaseModel):
    """All that the catalog knows of an item."""

    item_id: str
    title: str
    code: str | None
    in_stock: bool
    fields: dict[str, Any]


class ItemName(BaseModel):
    """An item as it stands in a list."""

    item_id: str
    title: str


class ItemNames(BaseModel):
    """Items."""

    items: list[ItemName]


class UserNames(BaseModel):
    """Users of the file that the server was started with."""

    users: list[str]


class User(BaseModel):
    """A user's history, oldest first."""

    user: str
    history: list[ItemName]


class Model(BaseModel):
    """The model and its catalog, with the fields that OpenAI's clients expect."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["llmrec"] = "llmrec"
    kind: str
    engine: str
    searches: bool
    items: int
    in_stock: int
    catalog_version: int
    max_k: int
    max_history: int
    columns: list[str]


class Models(BaseModel):
    """A list of one."""

    object: Literal["list"] = "list"
    data: list[Model]


class CatalogState(BaseModel):
    """What is in the catalog and not in stock."""

    catalog_version: int
    items: int
    in_stock: int
    out_of_stock: list[str]
    unknown_items: list[str] = []


class Status(BaseModel):
    """Health, or readiness."""

    status: Literal["ok", "ready"]
