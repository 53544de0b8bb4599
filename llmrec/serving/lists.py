"""What lists of best items share, whatever they are best for: how their terms are read, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.data.price import Limit
from llmrec.serving.live import Live
from llmrec.serving.problems import invalid
from llmrec.serving.questions import Best, Terms
from llmrec.serving.schemas import Explanation, ListRequest, RecommendedItem
from llmrec.serving.service import Service
from llmrec.types import Rows

NONE = np.empty(0, np.int32)


def read_terms(
    service: Service, live: Live, body: ListRequest, seen: Rows = NONE, price: tuple[Limit, ...] = ()
) -> tuple[Terms, list[str]]:
    """The terms of a request, and the ids in them that the catalog lacks.

    Args:
        seen: rows that must not come, beside those of the request. price: bounds, beside its filters.

    Raises:
        Problem: 422, a number or a list is above the server's limits. DataError: a filter cannot be understood.
    """
    limits = service.settings
    if body.k > limits.max_k:
        raise invalid(f"k may be at most {limits.max_k}; it is {body.k}.", "k")
    service.check_size(len(body.exclude), limits.max_candidates, "exclude", "exclude")
    service.check_size(len(body.candidates or ()), limits.max_candidates, "candidates", "candidates")
    excluded, unknown = live.rows(body.exclude)
    candidates = None
    if body.candidates is not None:
        candidates, missing = live.rows(body.candidates)
        candidates, unknown = np.unique(candidates), unknown + missing
    left_out = np.unique(np.concatenate([seen, excluded])).astype(np.int32)
    return Terms(live, body.k, left_out, live.allowed(body.filters, price), candidates), unknown


def write_items(
    service: Service, terms: Terms, best: Best, unknown: Sequence[str], why: Sequence[Explanation] | None = None
) -> list[RecommendedItem]:
    """The items of an answer by their names, with what the metrics should know of it."""
    metrics, catalog = service.metrics, terms.live.catalog
    reasons: Sequence[Explanation | None] = [None] * len(best.rows) if why is None else why
    metrics.items.inc(len(best.rows))
    metrics.invalid.inc(best.invalid)
    metrics.unknown.inc(len(unknown))
    metrics.beams.observe(service.beams(terms.k))
    metrics.lists.labels("yes" if best.exact else "no").inc()
    return [
        RecommendedItem(
            item_id=catalog.items[int(row)], title=catalog.title(row), score=float(score), explanation=reason
        )
        for row, score, reason in zip(best.rows, best.scores, reasons, strict=True)
    ]
