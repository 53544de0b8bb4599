"""What the clients send, and what they make of the answers."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from client.conftest import Ask
from client.scripted import LIST, Reply, Scripted

import llmrec
from llmrec.client import calls
from llmrec.client.answers import (
    CatalogState,
    Explanation,
    Item,
    ItemName,
    Level,
    Model,
    Neighbour,
    Recommendations,
    RecommendedItem,
    ScoredItem,
    Scores,
    SearchResults,
)
from llmrec.client.errors import InvalidRequestError

BEST = Recommendations(
    "shop",
    3,
    True,
    (
        RecommendedItem(
            "i7",
            "A lamp",
            -3.25,
            Explanation(
                "<a_1><b_2>", (Level("<a_1>", -1.25), Level("<b_2>", -2.0)), (Neighbour("i1", "Lamps", 1, 0.5),)
            ),
        ),
        RecommendedItem("i8", "A desk", -4.5),
    ),
    ("zzz",),
)
MODEL = {
    "id": "shop", "object": "model", "created": 1, "owned_by": "llmrec", "kind": "llm", "engine": "vllm",
    "searches": True, "items": 9, "in_stock": 8, "catalog_version": 3, "max_k": 100, "max_history": 1000,
    "columns": ["brand"],
}  # fmt: skip
STATE = {"catalog_version": 4, "items": 9, "in_stock": 8, "out_of_stock": ["i1"], "unknown_items": []}
ITEM = {"item_id": "i1", "title": "T", "code": None, "in_stock": False, "fields": {"price": 2.5, "tags": ["x"]}}
SCORES = {
    "model": "shop",
    "catalog_version": 3,
    "items": [{"item_id": "i1", "title": "T", "score": None}],
    "unknown_items": [],
}


def test_a_list_of_items(ask: Ask, server: Scripted) -> None:
    found = ask(
        lambda client: client.recommend(
            ["i1", "zzz"], 5, exclude={"i9"}, candidates=("i7", "i8"), filters={"brand": ["A", "B"]}, explain="scores"
        )
    )
    assert found == BEST
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/v1/recommend")
    assert 9000 < seen.body.pop("timeout_ms") <= 10_000
    assert seen.body == {
        "history": ["i1", "zzz"], "k": 5, "exclude_seen": True, "exclude": ["i9"], "candidates": ["i7", "i8"],
        "filters": {"brand": ["A", "B"]}, "explain": "scores",
    }  # fmt: skip
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["user-agent"] == f"llmrec/{llmrec.__version__}"
    assert "authorization" not in seen.headers


OTHERS: list[tuple[str, Callable[[Any], Any], str, Any, Any, Any]] = [
    (
        "POST /v1/recommend/batch",
        lambda client: client.recommend_batch([{"history": ["i1"], "exclude": {"i2"}}, {"history": [], "k": 3}]),
        "",
        {"requests": [{"history": ["i1"], "exclude": ["i2"]}, {"history": [], "k": 3}]},
        {"responses": [LIST, LIST]},
        (BEST, BEST),
    ),
    (
        "POST /v1/search",
        lambda client: client.search(
            "a pen under $5", 3, exclude={"i9"}, candidates=("i7", "i8"), filters={"brand": "A"}
        ),
        "",
        {
            "query": "a pen under $5",
            "k": 3,
            "exclude": ["i9"],
            "candidates": ["i7", "i8"],
            "filters": {"brand": "A"},
        },
        {**LIST, "price": "price < 5"},
        SearchResults("shop", 3, True, BEST.items, ("zzz",), "price < 5"),
    ),
    (
        "POST /v1/score",
        lambda client: client.score([("i1", 2.5), ("i2", 1)], ["i1"]),
        "",
        {"history": [{"item_id": "i1", "timestamp": 2.5}, {"item_id": "i2", "timestamp": 1}], "items": ["i1"]},
        SCORES,
        Scores("shop", 3, (ScoredItem("i1", "T", None),), ()),
    ),
    (
        "GET /v1/items/i1",
        lambda client: client.item("i1"),
        "",
        None,
        ITEM,
        Item("i1", "T", None, False, {"price": 2.5, "tags": ["x"]}),
    ),
    (
        "GET /v1/items",
        lambda client: client.search_items("größe & co", 3),
        "search=gr%C3%B6%C3%9Fe+%26+co&limit=3",
        None,
        {"items": [{"item_id": "i1", "title": "T"}]},
        (ItemName("i1", "T"),),
    ),
    (
        "GET /v1/models",
        lambda client: client.models(),
        "",
        None,
        {"object": "list", "data": [MODEL]},
        (Model("shop", 1, "llm", "vllm", True, 9, 8, 3, 100, 1000, ("brand",)),),
    ),
    ("GET /ready", lambda client: client.is_ready(), "", None, {"status": "ready"}, True),
    ("GET /admin/catalog", lambda client: client.catalog(), "", None, STATE, CatalogState(4, 9, 8, ("i1",))),
    (
        "POST /admin/catalog",
        lambda client: client.update_catalog(out_of_stock=["i1"], add=[{"item_id": "n", "title": "N"}]),
        "",
        {"out_of_stock": ["i1"], "in_stock": [], "add": [{"item_id": "n", "title": "N"}]},
        STATE,
        CatalogState(4, 9, 8, ("i1",)),
    ),
]


@pytest.mark.parametrize(("route", "question", "query", "body", "answer", "value"), OTHERS, ids=[o[0] for o in OTHERS])
def test_the_other_routes(
    ask: Ask,
    server: Scripted,
    route: str,
    question: Callable[[Any], Any],
    query: str,
    body: Any,
    answer: Any,
    value: Any,
) -> None:
    server.replies = [Reply(body={**answer, "of_a_newer_server": 1})]
    assert ask(question, admin_key="boss") == value
    (seen,) = server.seen
    assert (f"{seen.method} {seen.path}", seen.query) == (route, query)
    for part in [seen.body, *(seen.body or {}).get("requests", [])]:
        if part is not None:
            part.pop("timeout_ms", None)
    assert seen.body == body


def test_each_key_opens_its_own_doors(ask: Ask, server: Scripted) -> None:
    server.replies = [Reply(), Reply(body=STATE)]
    ask(lambda client: client.recommend([]), lambda client: client.catalog(), api_key="mine", admin_key="boss")
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer mine", "Bearer boss"]


def test_settings_come_from_the_environment(ask: Ask, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    server.replies = [Reply(), Reply(body=STATE)]
    monkeypatch.setenv("LLMREC_BASE_URL", f"{server.url}/behind/a/proxy/")
    monkeypatch.setenv("LLMREC_API_KEY", "mine")
    monkeypatch.setenv("LLMREC_ADMIN_KEY", "boss")
    ask(lambda client: client.recommend([]), lambda client: client.catalog(), base_url=None)
    assert [seen.path for seen in server.seen] == ["/behind/a/proxy/v1/recommend", "/behind/a/proxy/admin/catalog"]
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer mine", "Bearer boss"]


@pytest.mark.parametrize("name", ["a/b", ".", "..", "../admin", "a b", "ü?x=1#y", "100%", "%2F", "a+b", "\x00"])
def test_any_text_is_one_step_of_a_path(ask: Ask, server: Scripted, name: str) -> None:
    server.replies = [Reply(body=ITEM)]
    ask(lambda client: client.item(name))
    assert server.seen[0].path == f"/v1/items/{name}"


def test_numbers_of_numpy_are_numbers(ask: Ask, server: Scripted) -> None:
    history = list(zip(np.array(["i1"]), np.array([5]), strict=True))
    ask(lambda client: client.recommend(history, np.int64(3), filters={"price": np.float32(1.5)}))
    body = server.seen[0].body
    assert (body["history"], body["k"]) == ([{"item_id": "i1", "timestamp": 5}], 3)
    assert body["filters"] == {"price": 1.5}


WRONG: list[tuple[Callable[[Any], Any], str]] = [
    (lambda client: client.recommend("i1"), r"write \['i1'\]"),
    (lambda client: client.recommend([50]), "is a text .* this is 50"),
    (lambda client: client.recommend([""]), "at least one character"),
    (lambda client: client.recommend(["i1", ("i2", 1.0)]), "pairs only"),
    (lambda client: client.recommend([], filters={"price": float("nan")}), "no JSON"),
    (lambda client: client.recommend([], filters={"price": object()}), "object is not among"),
    (lambda client: client.recommend([], exclude="i1"), r"param exclude"),
    (lambda client: client.recommend([], timeout=0), "above 0"),
    (lambda client: client.recommend([], timeout=float("nan")), "above 0"),
    (lambda client: client.recommend_batch([{"history": []}, {"hist": []}]), "Did you mean 'history'.*requests.1.hist"),
    (lambda client: client.recommend_batch([{"k": 3}]), "an empty one is"),
    (lambda client: client.recommend_batch([{"history": [], "candidates": "i1"}]), "requests.0.candidates"),
    (lambda client: client.search(" \n"), "in words what is wanted"),
    (lambda client: client.search(["a lamp"]), "in words what is wanted"),
    (lambda client: client.search("a lamp", exclude="i1"), r"param exclude"),
    (lambda client: client.search("a lamp", timeout=0), "above 0"),
    (lambda client: client.item(""), "at least one character"),
    (lambda client: client.item("x" * 70_000), "cannot be asked for"),
    (lambda client: client.catalog(), "LLMREC_ADMIN_KEY"),
    (lambda client: client.is_ready(timeout=-1), "above 0"),
]


@pytest.mark.parametrize(("question", "words"), WRONG)
def test_what_cannot_be_meant_is_not_sent(
    ask: Ask, server: Scripted, question: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(InvalidRequestError, match=words) as caught:
        ask(question, api_key="mine")
    assert caught.value.did_nothing
    assert server.seen == []


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "", "http://", "http://x/?a=1", "http://x/#a", "a\nb"])
def test_an_address_is_checked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMREC_BASE_URL", url or "/")
    with pytest.raises(InvalidRequestError, match=r"such as http://127\.0\.0\.1:8000"):
        llmrec.Client()


def test_one_connection_serves_many_calls(ask: Ask, server: Scripted) -> None:
    ask(*[lambda client: client.recommend([])] * 5)
    assert len(server.seen) == 5
    assert len({seen.connection for seen in server.seen}) == 1


def test_asyncio_waits_for_many_answers_at_once(server: Scripted) -> None:
    together = threading.Barrier(20)  # nobody is answered before all have asked
    server.replies = [Reply(before=lambda seen: together.wait(60))]

    async def many() -> list[Recommendations]:
        async with llmrec.AsyncClient(server.url, timeout=60) as client:
            return await asyncio.gather(*[client.recommend([f"i{number}"]) for number in range(20)])

    assert asyncio.run(many()) == [BEST] * 20
    assert {seen.body["history"][0] for seen in server.seen} == {f"i{number}" for number in range(20)}


def test_threads_share_a_client(server: Scripted) -> None:
    together = threading.Barrier(8)
    server.replies = [Reply(before=lambda seen: together.wait(60))]
    with llmrec.Client(server.url, timeout=60) as client, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: client.recommend([f"i{number}"]), range(8))) == [BEST] * 8


def test_a_task_that_is_cancelled_lets_go(server: Scripted) -> None:
    asked = threading.Event()
    server.replies = [Reply(before=lambda seen: (asked.set(), server.stopped.wait())), Reply()]

    async def cancel() -> Recommendations:
        async with llmrec.AsyncClient(server.url, timeout=60) as client:
            task = asyncio.create_task(client.recommend([]))
            await asyncio.to_thread(asked.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await client.recommend([])

    assert asyncio.run(cancel()) == BEST


def test_both_clients_have_every_call_and_describe_it() -> None:
    named = {
        name for name, call in vars(calls).items() if inspect.isfunction(call) and call.__module__ == calls.__name__
    }
    for name in {name for name in named if not name.startswith("_")}:
        waiting, awaited = getattr(llmrec.Client, name), getattr(llmrec.AsyncClient, name)
        assert inspect.signature(waiting) == inspect.signature(awaited)
        assert inspect.getdoc(waiting) == inspect.getdoc(awaited) == inspect.getdoc(getattr(calls, name))
        assert inspect.iscoroutinefunction(awaited)
    assert str(inspect.signature(llmrec.Client(max_retries=0).models)).endswith(
        "-> tuple[llmrec.client.answers.Model, ...]"
    )
    assert len(named) > 8


def test_a_client_loads_no_model_and_needs_no_numpy() -> None:
    script = "import sys; sys.modules['numpy'] = None; import llmrec; llmrec.Client(); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "httpx2" in loaded
    assert {"torch", "transformers", "pyarrow", "fastapi"}.isdisjoint(loaded)
