"""Health, readiness and metrics; they answer also while the engine is busy, and say when it is dead."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving.shop import client_of, make_service

from llmrec.recommenders.llm import LLMRecommender


class HeldBack:
    """A recommender that waits to be let go; everything else is the real one's."""

    def __init__(self, recommender: LLMRecommender) -> None:
        self.inner, self.may_go, self.begun = recommender, threading.Event(), threading.Semaphore(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def recommend(self, *args: Any, **kwargs: Any) -> Any:
        self.begun.release()
        self.may_go.wait(30)
        return self.inner.recommend(*args, **kwargs)


def test_metrics_count_what_happened(recommender: LLMRecommender) -> None:
    with client_of(make_service(recommender)) as client:
        client.post("/v1/recommend", json={"history": ["i1", "nobody"], "k": 4})
        client.post("/v1/recommend", json={"history": 1})
        client.get("/nowhere/at-all")
        text = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['llmrec_request_seconds_count{route="/v1/recommend",status="200"}'] == "1.0"
    assert lines['llmrec_request_seconds_count{route="/v1/recommend",status="422"}'] == "1.0"
    assert lines['llmrec_request_seconds_count{route="none",status="404"}'] == "1.0"
    assert lines["llmrec_items_total"] == "4.0"
    assert lines["llmrec_invalid_items_total"] == "0.0"
    assert lines["llmrec_unknown_items_total"] == "1.0"
    assert lines['llmrec_catalog_items{state="in_stock"}'] == "30.0"
    assert lines["llmrec_queue_histories"] == "0.0"
    assert lines["llmrec_beams_sum"] == "10.0"
    for stage in ("read", "queue", "decode", "write"):
        assert lines[f'llmrec_stage_seconds_count{{stage="{stage}"}}'] == "1.0"


def test_a_recommender_that_breaks_its_promise_is_seen_and_not_passed_on(recommender: LLMRecommender) -> None:
    class Broken(HeldBack):
        def recommend(self, *args: Any, **kwargs: Any) -> Any:
            found = self.inner.recommend(*args, **kwargs)
            found.rows[0, :4] = [3, 500, found.rows[0, 4], found.rows[0, 4]]  # seen, unknown, and one thrice
            return found

    with client_of(make_service(Broken(recommender))) as client:
        items = client.post("/v1/recommend", json={"history": ["i3"], "k": 6}).json()["items"]
        assert "llmrec_invalid_items_total 4.0" in client.get("/metrics").text
    assert len(items) == len({item["item_id"] for item in items}) == 2
    assert "i3" not in {item["item_id"] for item in items}


def test_a_busy_engine_blocks_no_health_check_and_a_full_queue_answers_at_once(recommender: LLMRecommender) -> None:
    held = HeldBack(recommender)
    with client_of(make_service(held, max_queue=2)) as client, ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(client.post, "/v1/recommend", json={"history": []})]
        held.begun.acquire(timeout=30)
        asking += [pool.submit(client.post, "/v1/recommend", json={"history": []}) for _ in range(2)]
        while "llmrec_queue_histories 2.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        refused = client.post("/v1/recommend", json={"history": []})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "overloaded"
        held.may_go.set()
        assert [one.result().status_code for one in asking] == [200, 200, 200]


def test_an_answer_that_would_be_late_is_a_504_in_time(
    recommender: LLMRecommender, caplog: pytest.LogCaptureFixture
) -> None:
    held = HeldBack(recommender)
    with client_of(make_service(held)) as client:
        began = time.monotonic()
        answer = client.post(
            "/v1/recommend", json={"history": [], "timeout_ms": 200}, headers={"X-Request-Id": "late-one"}
        )
        assert "request late-one: /v1/recommend 504" in caplog.text
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline")
        assert time.monotonic() - began < 20  # and not the minute that the server would allow
        held.may_go.set()


def test_a_stopping_server_is_not_ready_and_finishes_what_it_accepted(recommender: LLMRecommender) -> None:
    held = HeldBack(recommender)
    service = make_service(held)
    with ThreadPoolExecutor(2) as pool:
        with client_of(service) as client:
            asking = pool.submit(client.post, "/v1/recommend", json={"history": []})
            held.begun.acquire(timeout=30)
            service.is_draining = True
            assert client.get("/ready").status_code == 503
            assert client.get("/health").status_code == 200
            closing = pool.submit(service.close)
            while service.batcher._is_open:
                time.sleep(0.001)
            refused = client.post("/v1/recommend", json={"history": []})
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            held.may_go.set()
            assert asking.result().status_code == 200
        closing.result()


def test_a_dead_engine_is_said_everywhere(recommender: LLMRecommender) -> None:
    class Dying(HeldBack):
        def recommend(self, *args: Any, **kwargs: Any) -> Any:
            alive.clear()
            raise RuntimeError("the engine's process is gone")

    alive = threading.Event()
    alive.set()
    service = make_service(Dying(recommender))
    service.is_alive = alive.is_set
    with client_of(service) as client:
        assert client.get("/ready").status_code == 200
        for _ in range(2):
            answer = client.post("/v1/recommend", json={"history": []})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert client.get("/ready").status_code == client.get("/health").status_code == 503


@pytest.mark.parametrize("path", ["/v1/recommend", "/health", "/nowhere"])
def test_every_answer_is_named_and_cannot_be_framed_or_cached(client: TestClient, path: str) -> None:
    one, other = client.get(path, headers={"X-Request-Id": "abc-1"}), client.get(path, headers={"X-Request-Id": "a b"})
    assert one.headers["x-request-id"] == "abc-1"
    assert other.headers["x-request-id"] not in ("a b", "")
    assert one.headers["cache-control"] == "no-store"
    assert "default-src 'self'" in one.headers["content-security-policy"]
