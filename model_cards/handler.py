"""A Hub inference endpoint of this model: POST {"inputs": {"history": ["item id", ...], "k": 10}}.

`inputs` takes the fields of llmrec's `POST /v1/recommend` but `explain` and `timeout_ms`; `parameters` may hold some of
them instead. It needs llmrec without extras, from a `requirements.txt` beside it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from llmrec import Ragged, Recommender
from llmrec.serving.schemas import Event, RecommendRequest
from llmrec.serving.settings import ServingSettings

LIMITS = ServingSettings()


class EndpointHandler:
    """The class that Hub inference endpoints look for; they answer status 400 with the text of what it raises."""

    def __init__(self, path: str = "") -> None:
        self.recommender = Recommender.from_pretrained(path)
        self({"inputs": {"history": []}})  # so that the first caller does not wait for what is made once

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """The best items, best first, and the ids of the request that the catalog lacks.

        Args:
            data: `{"inputs": {...}, "parameters": {...}}`, read from JSON.

        Raises:
            ValueError, LlmrecError: the request cannot be understood, or is outside of the limits.
        """
        request = read(data)
        catalog = self.recommender.catalog
        history, unknown = self._rows(in_order(request.history))
        excluded, more = self._rows(request.exclude)
        candidates = catalog.where(request.filters) if request.filters else None
        if request.candidates is not None:
            named, missing = self._rows(request.candidates)
            candidates = np.unique(named) if candidates is None else np.intersect1d(named, candidates)
            more = more + missing
        found = self.recommender.recommend(
            [history], request.k, request.exclude_seen, candidates, Ragged.from_lists([np.unique(excluded)])
        )
        items = [
            {"item_id": catalog.items[int(row)], "title": catalog.title(row), "score": float(score)}
            for row, score in zip(found.rows[0], found.scores[0], strict=True)
            if row >= 0
        ]
        return {"exact": bool(found.exact[0]), "items": items, "unknown_items": list(dict.fromkeys(unknown + more))}

    def _rows(self, ids: Sequence[str]) -> tuple[Any, list[str]]:
        """Item rows in their order, and the ids that the catalog lacks."""
        rows = self.recommender.catalog.items.rows(ids)
        return rows[rows >= 0], [name for name, row in zip(ids, rows, strict=True) if row < 0]


def read(data: dict[str, Any]) -> RecommendRequest:
    """A request, checked as the server does.

    Raises:
        ValueError: it is none, or asks for more than a server would give.
    """
    inputs, parameters = data.get("inputs"), data.get("parameters") or {}
    if not isinstance(inputs, dict) or not isinstance(parameters, dict):
        raise ValueError(
            'inputs and parameters must be objects, such as {"inputs": {"history": ["item id"], "k": 10}}.'
        )
    if twice := sorted(inputs.keys() & parameters.keys()):
        raise ValueError(f"{twice[0]} stands in inputs and in parameters. Leave one of them out.")
    try:
        request = RecommendRequest.model_validate({**inputs, **parameters})
    except ValidationError as error:
        # A history may be of two kinds, and complaints come of both: the one that goes deepest is about the right one.
        worst = max(error.errors(include_input=False, include_url=False), key=lambda line: len(line["loc"]))
        place = ".".join(str(part) for part in worst["loc"] if not str(part).startswith("list["))
        raise ValueError(f"{place}: {worst['msg']}.") from None
    for field in ("explain", "timeout_ms"):
        if getattr(request, field) is not None:
            raise ValueError(f"{field}: an endpoint does not know it; 'llmrec serve' does.")
    sizes = {
        "k": (request.k, LIMITS.max_k),
        "history": (len(request.history), LIMITS.max_history),
        "exclude": (len(request.exclude), LIMITS.max_candidates),
        "candidates": (len(request.candidates or ()), LIMITS.max_candidates),
    }
    for field, (asked, most) in sizes.items():
        if asked > most:
            raise ValueError(f"{field}: at most {most:,}, this is {asked:,}.")
    return request


def in_order(history: Sequence[str | Event]) -> list[str]:
    """Item ids, oldest first; of equal timestamps the order of the request stays."""
    events = [event for event in history if isinstance(event, Event)]
    if events:
        return [event.item_id for event in sorted(events, key=lambda event: event.timestamp)]
    return [str(item) for item in history]
