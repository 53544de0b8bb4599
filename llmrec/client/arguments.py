"""What a caller hands over, as the JSON that a server takes. Slips that the server would see later are seen here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Required, TypedDict
from urllib.parse import quote

from llmrec.client.errors import InvalidRequestError
from llmrec.errors import did_you_mean

History = Sequence[str] | Sequence[tuple[str, float]]
"""Item ids, oldest first; or pairs of an item id and when it was taken (seconds), in any order."""


class RecommendRequest(TypedDict, total=False):
    """One request of `recommend_batch`: the arguments of `recommend` by name, without a timeout of its own."""

    history: Required[History]
    k: int
    exclude_seen: bool
    exclude: Iterable[str]
    candidates: Iterable[str] | None
    filters: Mapping[str, Any] | None
    explain: Literal["scores"] | None


def recommend_body(request: RecommendRequest, place: str = "") -> dict[str, Any]:
    """A request of `/v1/recommend`; what it does not say is left to the server's defaults.

    Args:
        place: where it stands, for messages: "requests.3.".
    """
    names = RecommendRequest.__annotations__
    for name in request:
        if name not in names:
            raise invalid(f"There is no argument '{name}'. {did_you_mean(name, names)}", place + name)
    if "history" not in request:
        raise invalid("A request has a history; an empty one is [].", f"{place}history")
    body: dict[str, Any] = {**request, "history": history_body(request["history"], f"{place}history")}
    return with_id_lists(body, place)


def search_body(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request of `/v1/search`, in words."""
    query = request["query"]
    if not isinstance(query, str) or not query.strip():
        raise invalid(f"A query says in words what is wanted; this is {query!r}.", "query")
    return with_id_lists(dict(request), "")


def with_id_lists(body: dict[str, Any], place: str) -> dict[str, Any]:
    """The same, with what it leaves out and what alone may come as lists."""
    for name in ("exclude", "candidates"):
        if body.get(name) is not None:
            body[name] = id_list(body[name], place + name)
    return body


def history_body(history: History, place: str = "history") -> list[str] | list[dict[str, Any]]:
    """A history as the server takes it."""
    if isinstance(history, str) or not any(isinstance(event, tuple) for event in history):
        return id_list(history, place)
    timed = []
    for event in history:
        if not isinstance(event, tuple) or len(event) != 2:
            raise invalid("A history has ids only, or (item id, timestamp) pairs only.", place)
        timed.append({"item_id": id_text(event[0], place), "timestamp": event[1]})
    return timed


def id_list(values: Iterable[Any], place: str) -> list[str]:
    """Item ids as a list. A lone text is an iterable too, of its characters."""
    if isinstance(values, str):
        raise invalid(f"This is a list of item ids and not one text; write [{values!r}].", place)
    return [id_text(value, place) for value in values]


def id_text(value: Any, place: str) -> str:
    """An item id, which is a text even where it looks like a number."""
    if not isinstance(value, str) or not value:
        raise invalid(f"An item id is a text of at least one character; this is {value!r}.", place)
    return value


def id_step(item_id: str) -> str:
    """An item id as one step of a path."""
    name = id_text(item_id, "item_id")
    if not name.strip("."):  # httpx2 and proxies would take `.` and `..` for steps back
        return name.replace(".", "%2E")
    return quote(name, safe="", errors="replace")


def invalid(message: str, param: str) -> InvalidRequestError:
    """A request that is not sent."""
    return InvalidRequestError(message, param=param, did_nothing=True)
