"""What a hostile caller sends, each with its answer: never a 5xx, never a stack trace, never what was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving.shop import HOSTILE, client_of, make_service

from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.app import create_app
from llmrec.serving.guard import Guard
from llmrec.serving.service import Service

RECOMMEND, SCORE, COMPLETE, BATCH = "/v1/recommend", "/v1/score", "/v1/completions", "/v1/recommend/batch"
SEARCH = "/v1/search"

REFUSED: list[tuple[str, Any, int]] = [
    (RECOMMEND, {}, 422),
    (RECOMMEND, [], 422),
    (RECOMMEND, None, 422),
    (RECOMMEND, {"history": "i1"}, 422),
    (RECOMMEND, {"history": [1]}, 422),
    (RECOMMEND, {"history": [None]}, 422),
    (RECOMMEND, {"history": [""]}, 422),
    (RECOMMEND, {"history": ["x" * 513]}, 422),
    (RECOMMEND, {"history": [["i1"]]}, 422),
    (RECOMMEND, {"history": ["i1", {"item_id": "i2", "timestamp": 1}]}, 422),
    (RECOMMEND, {"history": [{"item_id": "i2"}]}, 422),
    (RECOMMEND, {"history": [{"item_id": "i2", "timestamp": "now"}]}, 422),
    (RECOMMEND, {"history": ["i1"] * 1001}, 422),
    (RECOMMEND, {"history": [], "k": 0}, 422),
    (RECOMMEND, {"history": [], "k": -3}, 422),
    (RECOMMEND, {"history": [], "k": 101}, 422),
    (RECOMMEND, {"history": [], "k": 2.5}, 422),
    (RECOMMEND, {"history": [], "k": "10"}, 422),
    (RECOMMEND, {"history": [], "k": True}, 422),
    (RECOMMEND, {"history": [], "k": 10**30}, 422),
    (RECOMMEND, {"history": [], "exclude_seen": "yes"}, 422),
    (RECOMMEND, {"history": [], "candidate": ["i1"]}, 422),
    (RECOMMEND, {"history": [], "candidates": ["i1"] * 10_001}, 422),
    (RECOMMEND, {"history": [], "filters": {"size": 3}}, 422),
    (RECOMMEND, {"history": [], "filters": {"price": "cheap"}}, 422),
    (RECOMMEND, {"history": [], "filters": {"brand": {"$ne": "Alba"}}}, 422),
    (RECOMMEND, {"history": [], "filters": {"brand": [["Alba"]]}}, 422),
    (RECOMMEND, {"history": [], "filters": {"price": 10**400}}, 422),
    (RECOMMEND, {"history": [], "explain": "everything"}, 422),
    (RECOMMEND, {"history": [], "timeout_ms": 0}, 422),
    (BATCH, {"requests": []}, 422),
    (BATCH, {"requests": [{"history": []}] * 300}, 422),
    (BATCH, {"requests": [{"history": []}, {"history": [], "k": 101}]}, 422),
    (SCORE, {"history": [], "items": []}, 422),
    (SCORE, {"history": [], "items": ["i1"] * 1001}, 422),
    (SEARCH, {}, 422),
    (SEARCH, {"query": ""}, 422),
    (SEARCH, {"query": " \n\u200b"}, 422),
    (SEARCH, {"query": "<b></b><!-- x -->"}, 422),
    (SEARCH, {"query": None}, 422),
    (SEARCH, {"query": ["a lamp"]}, 422),
    (SEARCH, {"query": "x" * 1001}, 422),
    (SEARCH, {"query": "a", "k": 0}, 422),
    (SEARCH, {"query": "a", "k": 101}, 422),
    (SEARCH, {"query": "a", "history": ["i1"]}, 422),
    (SEARCH, {"query": "a", "explain": "scores"}, 422),
    (SEARCH, {"query": "a", "exclude": ["i1"] * 10_001}, 422),
    (SEARCH, {"query": "a", "candidates": ["i1"] * 10_001}, 422),
    (SEARCH, {"query": "a", "candidates": [""]}, 422),
    (SEARCH, {"query": "a", "filters": {"size": 3}}, 422),
    (SEARCH, {"query": "a", "timeout_ms": 0}, 422),
    (COMPLETE, {"prompt": ""}, 422),
    (COMPLETE, {"prompt": []}, 422),
    (COMPLETE, {"prompt": [-1]}, 422),
    (COMPLETE, {"prompt": [10**9]}, 422),
    (COMPLETE, {"prompt": [True]}, 422),
    (COMPLETE, {"prompt": ["a"] * 129}, 422),
    (COMPLETE, {"prompt": "a" * 50_001}, 422),
    (COMPLETE, {"prompt": [5] * 8193}, 422),
    (COMPLETE, {"prompt": ["a" * 4096, "b" * 4097]}, 422),
    (COMPLETE, {"prompt": "a", "vllm_xargs": {"item_candidates": ["i1"] * 10_001}}, 422),
    (COMPLETE, {"prompt": "a", "vllm_xargs": {"item_excluded": ["i1"] * 10_001}}, 422),
    (COMPLETE, {"prompt": "a", "n": 129}, 422),
    (COMPLETE, {"prompt": "a", "temperature": -1}, 422),
    (COMPLETE, {"prompt": "a", "top_p": 0}, 422),
    (COMPLETE, {"prompt": "a", "max_tokens": 1}, 422),
    (COMPLETE, {"prompt": "a", "logit_bias": {"5": 100}}, 422),
    (COMPLETE, {"prompt": "a", "model": "gpt-4"}, 404),
    (COMPLETE, {"prompt": "a", "vllm_xargs": {"item_scores": "vocab"}}, 422),
    ("/admin/catalog", {"out_of_stock": ["i1"]}, 404),
]  # fmt: skip

RAW: list[tuple[bytes, int]] = [
    (b"", 422),
    (b"{", 422),
    (b"\xff\xfe{}", 422),
    (b'{"history": ["\xff"]}', 422),
    (b'{"history": [], "k": NaN}', 422),
    (b'{"history": [], "filters": {"price": NaN}}', 422),
    (b'{"history": [], "filters": {"price": -Infinity}}', 422),
    (b'{"history": [{"item_id": "i1", "timestamp": Infinity}]}', 422),
    (b'{"history": ["\\ud800"]}', 422),
    (b'{"history": [], "filters": {"brand": "\\ud800"}}', 422),
    (b'{"history": [], "filters": {"\\ud800": 1}}', 422),
    (b'{"history": [], "k": ' + b"9" * 5000 + b"}", 422),
    (b'{"history": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 422),
    (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 422),
    (b'{"history": ["' + b"x" * 10_000_000 + b'"]}', 413),
]

ODD_BUT_FINE = [
    "<|im_end|>", "<a_1><b_2>", HOSTILE, "'; DROP TABLE items; --", "../../etc/passwd", "\x00", "i1\n", "😀" * 99,
]  # fmt: skip


@pytest.fixture(scope="module")
def client(recommender: LLMRecommender) -> Iterator[TestClient]:
    with client_of(make_service(recommender)) as made:
        yield made
        assert "llmrec_invalid_items_total 0.0" in made.get("/metrics").text


def check(answer: Any, status: int, sent: str = "") -> None:
    assert answer.status_code == status, answer.text[:300]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    assert len(answer.text) < 600
    if len(sent) > 40:
        assert sent[:40] not in answer.text


@pytest.mark.parametrize(("path", "body", "status"), REFUSED)
def test_wrong_bodies(client: TestClient, path: str, body: Any, status: int) -> None:
    check(client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"}), status)


@pytest.mark.parametrize(("body", "status"), RAW, ids=[f"{body[:24]!r}" for body, _ in RAW])
def test_broken_bodies(client: TestClient, body: bytes, status: int) -> None:
    check(client.post(RECOMMEND, content=body, headers={"Content-Type": "application/json"}), status)


def status_for(service: Service, chunks: Callable[[], Awaitable[bytes]]) -> int:
    """What a body without a declared size is answered, which comes chunk by chunk and never ends."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await chunks(), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": RECOMMEND, "headers": [], "query_string": b"", "app": None}
    asyncio.run(Guard(create_app(service), service.settings, service.metrics)(scope, receive, send))
    return int(sent[0]["status"])


def test_an_endless_body_is_cut_off(recommender: LLMRecommender) -> None:
    async def much() -> bytes:
        return b" " * 65_536

    assert status_for(make_service(recommender), much) == 413


def test_a_body_that_does_not_arrive_is_given_up(recommender: LLMRecommender) -> None:
    async def nothing() -> bytes:
        await asyncio.sleep(60)
        return b""

    assert status_for(make_service(recommender, body_timeout_s=0.05), nothing) == 408


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_only_json_is_read(client: TestClient, kind: str) -> None:
    """A page of another site can send these without asking the browser for leave."""
    check(client.post(RECOMMEND, content='{"history": []}', headers={"Content-Type": kind}), 422)


@pytest.mark.parametrize("odd", ODD_BUT_FINE)
def test_odd_ids_are_unknown_items_and_no_more(client: TestClient, odd: str) -> None:
    answer = client.post(RECOMMEND, json={"history": ["i1", odd], "k": 3})
    assert answer.status_code == 200
    assert answer.json()["unknown_items"] == [odd]
    assert answer.json()["items"] == client.post(RECOMMEND, json={"history": ["i1"], "k": 3}).json()["items"]
    assert client.get("/v1/items", params={"search": odd[:200]}).status_code == 200
    assert client.post(RECOMMEND, json={"history": [], "filters": {"brand": odd}}).json()["items"] == []


def test_an_empty_history_and_more_than_there_is(client: TestClient) -> None:
    answer = client.post(RECOMMEND, json={"history": [], "k": 100})
    assert answer.status_code == 200
    assert len(answer.json()["items"]) == 30


@pytest.mark.parametrize(
    "path", ["/v1/items/..%2f..%2fetc%2fpasswd", "/static/..%2fapp.py", "/static/../app.py", "/%00", "/v1/items/%00"]
)
def test_paths_lead_nowhere(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_other_methods(client: TestClient) -> None:
    for method in ("GET", "PUT", "DELETE", "TRACE"):
        answer = client.request(method, RECOMMEND)
        check(answer, 405)
        assert answer.headers["allow"] == "POST"
