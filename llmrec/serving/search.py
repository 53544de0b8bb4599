"""`POST /v1/search`: a request in words, answered with real items."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from llmrec.data.price import Limit, comparable_limits, told
from llmrec.data.text import tidy_requests
from llmrec.errors import DataError
from llmrec.serving.lists import read_terms, write_items
from llmrec.serving.live import Live
from llmrec.serving.problems import invalid
from llmrec.serving.questions import AskSearch
from llmrec.serving.schemas import SearchAnswer, SearchRequest
from llmrec.serving.service import Service


def router(service: Service) -> APIRouter:
    """The route over one service, whose recommender is a language model."""
    routes = APIRouter(prefix="/v1", tags=["recommend"])

    @routes.post("/search")
    async def search(body: SearchRequest, request: Request) -> SearchAnswer:
        """The items that a request in words asks for, where `searches` in `/v1/models` is true; 422 otherwise."""
        live, began = service.catalog.current, time.monotonic()
        question, price, unknown = await run_in_threadpool(_read, service, live, body)
        service.metrics.stages.labels("read").observe(time.monotonic() - began)
        (best,) = await service.answers(request, [question], body.timeout_ms)
        began = time.monotonic()
        answer = SearchAnswer(
            model=service.settings.name,
            catalog_version=live.version,
            exact=best.exact,
            items=write_items(service, question.terms, best, unknown),
            unknown_items=unknown,
            price=told(price),
        )
        service.metrics.stages.labels("write").observe(time.monotonic() - began)
        return answer

    return routes


def _read(service: Service, live: Live, body: SearchRequest) -> tuple[AskSearch, tuple[Limit, ...], list[str]]:
    """A request as a question, the bounds of its price, and the ids that the catalog lacks."""
    if not live.searches:
        raise invalid(
            "This model has not learned to be asked in words. The tasks request_to_item, title_to_item and "
            "description_to_item teach it: train one with train.tasks: [{kind: request_to_item}]."
        )
    try:
        (text,) = tidy_requests([body.query])
    except DataError:
        raise invalid("The query says nothing. Say in words what is wanted.", "query") from None
    price = comparable_limits(text, live.catalog)
    terms, unknown = read_terms(service, live, body, price=price)
    return AskSearch(terms, text), price, list(dict.fromkeys(unknown))
