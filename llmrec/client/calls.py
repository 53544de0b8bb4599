"""The requests of a client as data: each function here is a method of `Client` and of `AsyncClient`.

A function says what is sent and how the answer is read; it does not send. So there is one place for the arguments,
their checks and their documentation, whichever way the bytes travel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import TypeAdapter

from llmrec.client.answers import CatalogState, Item, ItemName, Model, Recommendations, Scores, SearchResults
from llmrec.client.arguments import (
    History,
    RecommendRequest,
    history_body,
    id_list,
    id_step,
    recommend_body,
    search_body,
)
from llmrec.client.errors import ClientError

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and what its answer means.

    Args:
        read: the answer's body as a value; a `pydantic.ValidationError` where it is none.
        body: what is sent, given the milliseconds that are left for the answer.
        timeout: seconds for all tries together; None: the client's.
        is_admin: it needs the admin key.
        is_repeatable: sending it twice has the effect of sending it once.
        recover: what an error means where it is an answer too; such a call is never tried again.
    """

    method: Literal["GET", "POST"]
    path: str
    read: Callable[[bytes], T]
    body: Callable[[int], Mapping[str, Any]] | None = None
    query: Mapping[str, str | int] = field(default_factory=dict)
    timeout: float | None = None
    is_admin: bool = False
    is_repeatable: bool = True
    recover: Callable[[ClientError], T] | None = None


@dataclass(frozen=True)
class _Batch:
    responses: tuple[Recommendations, ...]


@dataclass(frozen=True)
class _Items:
    items: tuple[ItemName, ...]


@dataclass(frozen=True)
class _Models:
    data: tuple[Model, ...]


@dataclass(frozen=True)
class _Status:
    status: Literal["ready"]


_RECOMMENDATIONS, _SCORES = TypeAdapter(Recommendations), TypeAdapter(Scores)
_RESULTS = TypeAdapter(SearchResults)
_ITEM, _CATALOG = TypeAdapter(Item), TypeAdapter(CatalogState)
_BATCH, _ITEMS = TypeAdapter(_Batch), TypeAdapter(_Items)
_MODELS, _STATUS = TypeAdapter(_Models), TypeAdapter(_Status)


def recommend(
    history: History,
    k: int = 10,
    *,
    exclude_seen: bool = True,
    exclude: Iterable[str] = (),
    candidates: Iterable[str] | None = None,
    filters: Mapping[str, Any] | None = None,
    explain: Literal["scores"] | None = None,
    timeout: float | None = None,
) -> Call[Recommendations]:
    """The items that fit best after a history.

    Args:
        history: item ids, oldest first, or (item id, timestamp) pairs, which the server puts in order. May be empty.
        k: items wanted; fewer come where fewer are allowed.
        exclude_seen: leave out the items of the history. exclude: more items to leave out.
        candidates: the only items that may come.
        filters: column of the catalog -> a value, or a list of values of which any will do; all columns must hold.
        explain: "scores" says for each item where its score comes from.
        timeout: seconds for the answer, all tries together; the client's by default.

    Raises:
        ClientError: there is no answer; its subclasses say why.
    """
    body = recommend_body(
        {
            "history": history,
            "k": k,
            "exclude_seen": exclude_seen,
            "exclude": exclude,
            "candidates": candidates,
            "filters": filters,
            "explain": explain,
        }
    )
    return _within("/v1/recommend", _RECOMMENDATIONS, body, timeout)


def recommend_batch(
    requests: Sequence[RecommendRequest], *, timeout: float | None = None
) -> Call[tuple[Recommendations, ...]]:
    """One list of items for each request; all are accepted, or none.

    Args:
        requests: the arguments of `recommend` by name: `[{"history": ["i1"]}, {"history": [], "k": 3}]`.
        timeout: seconds for all answers, all tries together; the client's by default.

    Raises:
        ClientError: there is no answer; its subclasses say why.
    """
    bodies = [recommend_body(request, f"requests.{number}.") for number, request in enumerate(requests)]
    return Call(
        "POST",
        "/v1/recommend/batch",
        lambda answer: _BATCH.validate_json(answer).responses,
        lambda milliseconds: {"requests": [{**body, "timeout_ms": milliseconds} for body in bodies]},
        timeout=timeout,
    )


def search(
    query: str,
    k: int = 10,
    *,
    exclude: Iterable[str] = (),
    candidates: Iterable[str] | None = None,
    filters: Mapping[str, Any] | None = None,
    timeout: float | None = None,
) -> Call[SearchResults]:
    """The items that a request in words asks for: "a gift for a runner under 30 dollars".

    The model must have learned it: `searches` of `models()` says so. For a part of a title there is `search_items`.

    Args:
        query: up to 1,000 characters. A price in it is a condition beside the others.
        k: items wanted; fewer come where fewer are allowed.
        exclude: items to leave out. candidates: the only items that may come. filters: as for `recommend`.
        timeout: seconds for the answer, all tries together; the client's by default.

    Raises:
        InvalidRequestError: the model has not learned it. NotFoundError: it is no language model.
        ClientError: there is no answer; its other subclasses say why.
    """
    body = search_body({"query": query, "k": k, "exclude": exclude, "candidates": candidates, "filters": filters})
    return _within("/v1/search", _RESULTS, body, timeout)


def score(history: History, items: Iterable[str], *, timeout: float | None = None) -> Call[Scores]:
    """How well given items fit after a history, in stock or not, seen or not.

    Args:
        history: as for `recommend`. items: item ids.
        timeout: seconds for the answer, all tries together; the client's by default.

    Raises:
        ClientError: there is no answer; its subclasses say why.
    """
    body = {"history": history_body(history), "items": id_list(items, "items")}
    return _within("/v1/score", _SCORES, body, timeout)


def item(item_id: str, *, timeout: float | None = None) -> Call[Item]:
    """All that the catalog knows of an item.

    Raises:
        NotFoundError: the catalog has no such item. ClientError: there is no answer; its subclasses say why.
    """
    return Call("GET", f"/v1/items/{id_step(item_id)}", _ITEM.validate_json, timeout=timeout)


def search_items(text: str = "", limit: int = 20, *, timeout: float | None = None) -> Call[tuple[ItemName, ...]]:
    """Items whose title contains a text, in any case, in the catalog's order; the first ones for an empty text.

    Args:
        limit: the most items, up to 100.

    Raises:
        ClientError: there is no answer; its subclasses say why.
    """
    return Call(
        "GET",
        "/v1/items",
        lambda answer: _ITEMS.validate_json(answer).items,
        query={"search": text, "limit": limit},
        timeout=timeout,
    )


def models(*, timeout: float | None = None) -> Call[tuple[Model, ...]]:
    """What the server serves: one model, with its limits.

    Raises:
        ClientError: there is no answer; its subclasses say why.
    """
    return Call("GET", "/v1/models", lambda answer: _MODELS.validate_json(answer).data, timeout=timeout)


def is_ready(*, timeout: float | None = None) -> Call[bool]:
    """Whether the server takes requests now. One that cannot be reached, or not in time, does not.

    Raises:
        ClientError: something else than a server of llmrec answers there.
    """
    return Call("GET", "/ready", _ready, timeout=timeout, recover=_not_ready)


def catalog(*, timeout: float | None = None) -> Call[CatalogState]:
    """The live catalog: how many items, and which are not in stock. Needs the admin key.

    Raises:
        NotFoundError: the server was started without admin keys. ClientError: there is no answer; its subclasses say
            why.
    """
    return Call("GET", "/admin/catalog", _CATALOG.validate_json, timeout=timeout, is_admin=True)


def update_catalog(
    *,
    out_of_stock: Iterable[str] = (),
    in_stock: Iterable[str] = (),
    add: Iterable[Mapping[str, Any]] = (),
    timeout: float | None = None,
) -> Call[CatalogState]:
    """Change what can be recommended, from the next request on. Needs the admin key.

    It changes the one server that answers, and only its memory. A change with new items is sent again only where the
    server has certainly not seen it: a second time it would be refused, and that would hide that the first succeeded.

    Args:
        out_of_stock: items that must not come. in_stock: items that may come again; an id in both lists may.
        add: new items with the catalog's columns, at least `item_id` and `title`.

    Raises:
        NotFoundError: the server was started without admin keys. ClientError: there is no answer; its subclasses say
            why, and `did_nothing` whether the change may have been made all the same.
    """
    new = [dict(one) for one in add]
    out, back = id_list(out_of_stock, "out_of_stock"), id_list(in_stock, "in_stock")
    return Call(
        "POST",
        "/admin/catalog",
        _CATALOG.validate_json,
        lambda milliseconds: {"out_of_stock": out, "in_stock": back, "add": new},
        timeout=timeout,
        is_admin=True,
        is_repeatable=not new,
    )


def _within(path: str, answer: TypeAdapter[T], body: Mapping[str, Any], timeout: float | None) -> Call[T]:
    """A question whose body says how long the answer may take."""
    return Call(
        "POST", path, answer.validate_json, lambda milliseconds: {**body, "timeout_ms": milliseconds}, timeout=timeout
    )


def _ready(answer: bytes) -> bool:
    return _STATUS.validate_json(answer).status == "ready"


def _not_ready(error: ClientError) -> bool:
    if error.status is not None and error.status < 500:
        raise error
    return False
