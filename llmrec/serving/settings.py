"""What an operator may set; the command line's flags and their defaults are these fields."""

from __future__ import annotations

from pydantic import Field

from llmrec.component import Component


class ServingSettings(Component):
    """Limits of a server. None of them changes an answer, only whether and when there is one.

    Args:
        name: how the model calls itself in answers and in `/v1/models`.
        timeout_ms: how long a request may take from its arrival; a request may ask for less, not for more.
        max_queue: histories that wait for a place in a batch; one more is answered 429.
        max_batch: histories that are decoded together.
        workers: threads that decode; one for the embedded engine, which uses all cores itself, several for vLLM, which
            puts their steps together.
        max_k: items of one list. max_history: items of one history. max_candidates: items that one request may name
            besides. max_scored: items that are scored at once. max_requests: of one batch; at most `max_queue` of them
            can be accepted.
        max_body_bytes: of a request. body_timeout_s: how long a body may take to arrive.
        cached_filters: filters, with the prices beside them, whose allowed items are kept; counting them again costs a
            pass over the catalog.
    """

    name: str = Field("llmrec", min_length=1)
    timeout_ms: int = Field(2000, ge=1)
    max_queue: int = Field(256, ge=1)
    max_batch: int = Field(32, ge=1)
    workers: int = Field(1, ge=1)
    max_k: int = Field(100, ge=1)
    max_history: int = Field(1000, ge=1)
    max_candidates: int = Field(10_000, ge=1)
    max_scored: int = Field(1000, ge=1)
    max_requests: int = Field(256, ge=1)
    max_body_bytes: int = Field(2**20, ge=1)
    body_timeout_s: float = Field(10.0, gt=0)
    cached_filters: int = Field(64, ge=1)
