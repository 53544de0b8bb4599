"""The FastAPI application of one recommender.

app = create_app(Service(Recommender.from_pretrained("runs/shop"), ServingSettings()))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

import llmrec
from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving import admin, completions, items, recommend, search, status
from llmrec.serving.guard import Guard
from llmrec.serving.keys import KeyCheck, bearer
from llmrec.serving.problems import ErrorAnswer, add_handlers
from llmrec.serving.service import Service

PAGE = Path(__file__).parent / "page"

ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorAnswer, "description": text}
    for code, text in {
        401: "No key, or an unknown one.",
        404: "There is no such thing.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        422: "The request cannot be understood, or is outside of the limits.",
        429: "Too many requests; try again after `Retry-After` seconds.",
        500: "A bug.",
        503: "The server is stopping, or its engine has died.",
        504: "There was no answer within the request's time.",
    }.items()
}


def create_app(
    service: Service, keys: Mapping[str, str] | None = None, admin_keys: Mapping[str, str] | None = None
) -> FastAPI:
    """All routes over one service, which ends with the app.

    Args:
        service: the recommender. keys: name -> hash of who may ask; everybody where there are none.
        admin_keys: who may change the catalog; nobody where there are none.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.close)

    app = FastAPI(
        title="llmrec",
        version=llmrec.__version__,
        description="Recommendations of real items only.",
        lifespan=lifespan,
        responses=ERRORS,
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Guard, settings=service.settings, metrics=service.metrics)
    add_handlers(app)
    app.include_router(status.router(service))
    asks = _only_with(keys)
    for part in (recommend, items):
        app.include_router(part.router(service), dependencies=asks)
    if isinstance(service.catalog.current.recommender, LLMRecommender):
        for part in (search, completions):
            app.include_router(part.router(service), dependencies=asks)
    app.include_router(status.metrics_router(service), dependencies=asks)
    if admin_keys:
        app.include_router(admin.router(service), dependencies=_only_with(admin_keys))
    app.mount("/static", StaticFiles(directory=PAGE))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    return app


def _only_with(keys: Mapping[str, str] | None) -> list[Any]:
    """What a router depends on; `bearer` is there for the OpenAPI document."""
    return [Depends(KeyCheck(keys)), Depends(bearer)] if keys else []
