"""`/admin/catalog`: items in and out of stock, and new items, while the server runs. It has a key of its own."""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from llmrec.serving.live import Live
from llmrec.serving.schemas import CatalogChange, CatalogState
from llmrec.serving.service import Service


def router(service: Service) -> APIRouter:
    """The routes over one service."""
    routes = APIRouter(prefix="/admin", tags=["admin"])

    @routes.get("/catalog")
    async def catalog() -> CatalogState:
        """What is not in stock; enough to bring another server to the same state."""
        return _state(service.catalog.current)

    @routes.post("/catalog")
    async def change(body: CatalogChange) -> CatalogState:
        """Change the catalog for all requests that come from now on; the answer comes when it is done.

        The change lives in the memory of this process. Durable is `llmrec add`, which writes a new model folder.
        """
        live, unknown = await run_in_threadpool(service.catalog.change, body.out_of_stock, body.in_stock, body.add)
        return _state(live).model_copy(update={"unknown_items": unknown})

    return routes


def _state(live: Live) -> CatalogState:
    missing = np.flatnonzero(~live.in_stock)
    return CatalogState(
        catalog_version=live.version,
        items=len(live.catalog),
        in_stock=int(live.in_stock.sum()),
        out_of_stock=[live.catalog.items[int(row)] for row in missing],
    )
