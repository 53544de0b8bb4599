"""What there is: items, users to try with, and the model."""

from __future__ import annotations

import datetime
import decimal
from typing import Annotated, Any

import pyarrow.compute as pc
from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from llmrec.serving.live import Live
from llmrec.serving.problems import not_found
from llmrec.serving.schemas import Item, ItemName, ItemNames, Model, Models, User, UserNames
from llmrec.serving.service import Service

Search = Annotated[str, Query(max_length=200, description="A part of the name; the first ones where it is empty.")]
Limit = Annotated[int, Query(ge=1, le=100)]


def router(service: Service) -> APIRouter:
    """The routes over one service."""
    routes = APIRouter(prefix="/v1", tags=["catalog"])

    @routes.get("/items")
    async def items(search: Search = "", limit: Limit = 20) -> ItemNames:
        """Items whose title contains a text, in any case, in the catalog's order."""
        live = service.catalog.current
        return ItemNames(items=await run_in_threadpool(_titled, live, search, limit))

    @routes.get("/items/{item_id:path}")
    async def item(item_id: str) -> Item:
        """All that the catalog knows of one item."""
        live = service.catalog.current
        if (row := live.catalog.items.row(_clean(item_id))) < 0:
            raise not_found("The catalog has no such item.", "item_id")
        fields = {name: _plain(value) for name, value in live.catalog.record(row).items()}
        return Item(
            item_id=live.catalog.items[row],
            title=live.catalog.title(row),
            code=live.code(row),
            in_stock=bool(live.in_stock[row]),
            fields=fields,
        )

    @routes.get("/users")
    async def users(search: Search = "", limit: Limit = 20) -> UserNames:
        """Users of the file that the server was started with; none without one."""
        return UserNames(users=service.users.like(_clean(search), limit))

    @routes.get("/users/{user_id:path}")
    async def user(user_id: str) -> User:
        """The history of one of them."""
        history = service.users.history(_clean(user_id))
        if history is None:
            raise not_found("There is no such user.", "user_id")
        catalog = service.catalog.current.catalog
        return User(
            user=user_id,
            history=[ItemName(item_id=catalog.items[int(row)], title=catalog.title(row)) for row in history],
        )

    @routes.get("/models")
    async def models() -> Models:
        """The model, as OpenAI's clients ask for it."""
        return Models(data=[_model(service)])

    @routes.get("/models/{name}")
    async def model(name: str) -> Model:
        """The model by its name."""
        if name != service.settings.name:
            raise not_found(f"The model here is '{service.settings.name}'.", "model")
        return _model(service)

    return routes


def _model(service: Service) -> Model:
    live, settings = service.catalog.current, service.settings
    return Model(
        id=settings.name,
        created=service.created,
        kind=live.recommender.kind,
        engine=service.engine,
        searches=live.searches,
        items=len(live.catalog),
        in_stock=int(live.in_stock.sum()),
        catalog_version=live.version,
        max_k=settings.max_k,
        max_history=settings.max_history,
        columns=[name for name in live.catalog.table.column_names if name != "item_id"],
    )


def _titled(live: Live, search: str, limit: int) -> list[ItemName]:
    ids, titles = live.catalog.items.ids, live.catalog.table["title"].combine_chunks()
    if search := _clean(search):
        found = pc.indices_nonzero(pc.match_substring(titles, search, ignore_case=True))[:limit]
        ids, titles = ids.take(found), titles.take(found)
    return [
        ItemName(item_id=name, title=title)
        for name, title in zip(ids[:limit].to_pylist(), titles[:limit].to_pylist(), strict=True)
    ]


def _clean(text: str) -> str:
    """Half of a surrogate pair is no text, and no id has one."""
    return text.encode(errors="replace").decode()


def _plain(value: Any) -> Any:
    """A cell as JSON has it."""
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | decimal.Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return value
