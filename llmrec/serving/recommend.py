"""`POST /v1/recommend`, its batch form, and `POST /v1/score`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from llmrec.serving.explain import explanations
from llmrec.serving.lists import read_terms, write_items
from llmrec.serving.live import Live
from llmrec.serving.problems import Problem, invalid
from llmrec.serving.questions import AskBest, AskScores, Best
from llmrec.serving.schemas import (
    BatchAnswer,
    BatchRequest,
    Event,
    RecommendAnswer,
    RecommendRequest,
    ScoreAnswer,
    ScoredItem,
    ScoreRequest,
)
from llmrec.serving.service import Service
from llmrec.types import Rows


def router(service: Service) -> APIRouter:
    """The routes over one service."""
    routes = APIRouter(prefix="/v1", tags=["recommend"])

    @routes.post("/recommend")
    async def recommend(body: RecommendRequest, request: Request) -> RecommendAnswer:
        """The best items after a history."""
        return (await _recommend(service, [body], request, ""))[0]

    @routes.post("/recommend/batch")
    async def recommend_batch(body: BatchRequest, request: Request) -> BatchAnswer:
        """Several histories at once: all are accepted, or none; the shortest `timeout_ms` holds for all."""
        most = min(service.settings.max_requests, service.settings.max_queue)
        if len(body.requests) > most:
            raise invalid(f"A batch may have {most} requests, this one has {len(body.requests)}.", "requests")
        return BatchAnswer(responses=await _recommend(service, body.requests, request, "requests"))

    @routes.post("/score")
    async def score(body: ScoreRequest, request: Request) -> ScoreAnswer:
        """The scores of given items after a history, each computed and none searched for."""
        live = service.catalog.current
        question, wanted, unknown = await run_in_threadpool(_read_score, service, live, body)
        scores: dict[int, float | None] = {}
        if len(question.rows):
            (found,) = await service.answers(request, [question], body.timeout_ms)
            told = [None if np.isnan(value) else float(value) for value in found]
            scores = dict(zip(question.rows.tolist(), told, strict=True))
        items = [
            ScoredItem(item_id=live.catalog.items[row], title=live.catalog.title(row), score=scores[row])
            for row in wanted.tolist()
        ]
        service.metrics.unknown.inc(len(unknown))
        return ScoreAnswer(
            model=service.settings.name, catalog_version=live.version, items=items, unknown_items=unknown
        )

    return routes


async def _recommend(
    service: Service, bodies: Sequence[RecommendRequest], request: Request, where: str
) -> list[RecommendAnswer]:
    live, began = service.catalog.current, time.monotonic()
    read = await run_in_threadpool(_read_all, service, live, bodies, where)
    service.metrics.stages.labels("read").observe(time.monotonic() - began)
    timeouts = [body.timeout_ms for body in bodies if body.timeout_ms is not None]
    best = await service.answers(request, [question for question, _ in read], min(timeouts, default=None))
    began = time.monotonic()
    written = [
        _write(service, live, question, one, unknown) for (question, unknown), one in zip(read, best, strict=True)
    ]
    service.metrics.stages.labels("write").observe(time.monotonic() - began)
    return written


def _read_all(
    service: Service, live: Live, bodies: Sequence[RecommendRequest], where: str
) -> list[tuple[AskBest, list[str]]]:
    read = []
    for number, body in enumerate(bodies):
        try:
            read.append(_read(service, live, body))
        except Problem as problem:
            if where:
                problem.param = f"{where}.{number}.{problem.param or ''}".rstrip(".")
            raise
    return read


def _read(service: Service, live: Live, body: RecommendRequest) -> tuple[AskBest, list[str]]:
    """A request in item rows, and the ids that the catalog lacks."""
    service.check_size(len(body.history), service.settings.max_history, "a history", "history")
    history, unknown = live.rows(in_order(body.history))
    terms, more = read_terms(service, live, body, history if body.exclude_seen else history[:0])
    return AskBest(terms, history, body.explain is not None), list(dict.fromkeys(unknown + more))


def _read_score(service: Service, live: Live, body: ScoreRequest) -> tuple[AskScores, Rows, list[str]]:
    """A request in item rows, each once; the rows as they were asked for; and the ids that the catalog lacks."""
    service.check_size(len(body.history), service.settings.max_history, "a history", "history")
    service.check_size(len(body.items), service.settings.max_scored, "items", "items")
    history, unknown = live.rows(in_order(body.history))
    wanted, missing = live.rows(body.items)
    return AskScores(live, history, np.unique(wanted)), wanted, list(dict.fromkeys(unknown + missing))


def in_order(history: Sequence[str] | Sequence[Event]) -> list[str]:
    """Item ids, oldest first; of equal timestamps the order of the request stays."""
    events = [event for event in history if isinstance(event, Event)]
    if not events:
        return [str(item) for item in history]
    return [event.item_id for event in sorted(events, key=lambda event: event.timestamp)]


def _write(service: Service, live: Live, question: AskBest, best: Best, unknown: list[str]) -> RecommendAnswer:
    why = explanations(live, question.history, best) if question.explain else None
    return RecommendAnswer(
        model=service.settings.name,
        catalog_version=live.version,
        exact=best.exact,
        items=write_items(service, question.terms, best, unknown, why),
        unknown_items=unknown,
    )
