"""`llmrec serve --engine vllm`: the embedded engine's answers over HTTP, and what it says when vLLM's process dies."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from server import Server
from worlds import TinyWorld

from llmrec.recommenders.llm import LLMRecommender


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(folder, tmp_path_factory.mktemp("log") / "log.txt")
    try:
        yield made.wait()
    finally:
        made.kill()


def test_the_lists_are_those_of_the_embedded_engine(server: Server, folder: Path) -> None:
    """Sixteen callers at a time with mixed arguments."""
    embedded = LLMRecommender.from_pretrained(folder, dtype="float32")
    rng = random.Random(3)
    cases = []
    for _ in range(60):
        history = rng.sample(range(300), rng.randint(0, 8))
        candidates = sorted(rng.sample(range(300), rng.randint(1, 80))) if rng.random() < 0.4 else None
        cases.append((history, rng.randint(1, 20), candidates))

    def compare(case: tuple[list[int], int, list[int] | None]) -> None:
        history, k, candidates = case
        named = None if candidates is None else [f"i{row}" for row in candidates]
        answer = server.ask(history=[f"i{row}" for row in history], k=k, candidates=named)
        assert answer.status_code == 200, answer.text
        rows = None if candidates is None else np.array(candidates, np.int32)
        expected = embedded.recommend([np.array(history, np.int32)], k, candidates=rows)
        right = expected.rows[0] >= 0
        items = answer.json()["items"]
        assert [item["item_id"] for item in items] == [f"i{row}" for row in expected.rows[0][right]]
        np.testing.assert_allclose([item["score"] for item in items], expected.scores[0][right], atol=2e-4)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(compare, cases))
    assert "llmrec_invalid_items_total 0.0" in httpx2.get(f"{server.address}/metrics").text


def test_requests_in_words_are_answered_as_by_the_embedded_engine(server: Server, folder: Path) -> None:
    embedded = LLMRecommender.from_pretrained(folder, dtype="float32")
    for text in ("a lamp", "something else, of many words, that is wanted just as much"):
        expected = embedded.search(text, 10, candidates=np.arange(5, 300, dtype=np.int32))
        body = {"query": text, "k": 10, "exclude": [f"i{row}" for row in range(5)]}
        answer = httpx2.post(f"{server.address}/v1/search", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        items = answer.json()["items"]
        assert [item["item_id"] for item in items] == [f"i{row}" for row in expected.rows[0]]
        np.testing.assert_allclose([item["score"] for item in items], expected.scores[0], atol=2e-4)


def test_completions_and_explanations_come_from_vllm_too(server: Server, world: TinyWorld) -> None:
    body = {"prompt": "Next:", "n": 20, "temperature": 1.0, "seed": 1}
    choices = httpx2.post(f"{server.address}/v1/completions", json=body, timeout=60).json()["choices"]
    assert len(choices) == 20
    for choice in choices:
        assert choice["text"] == world.items.tokens(int(choice["item_id"][1:]))
    (item,) = server.ask(history=["i3"], k=1, explain="scores").json()["items"]
    parts = [level["log_p"] for level in item["explanation"]["levels"]]
    assert sum(parts) == pytest.approx(item["score"], abs=1e-3)
    assert httpx2.get(f"{server.address}/v1/models").json()["data"][0]["engine"] == "vllm"


def test_a_killed_engine_is_said_at_once_and_the_server_ends(server: Server) -> None:
    """The last test of this server: under load its engine's process is killed."""
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(server.ask, history=[f"i{number}"], k=20) for number in range(64)]
        next(iter(asking)).result()
        (engine,) = [
            child
            for child in psutil.Process(server.process.pid).children(recursive=True)
            if "EngineCore" in " ".join([child.name(), *child.cmdline()])
        ]
        engine.kill()
        outcomes = []
        for one in asking:
            try:
                outcomes.append(one.result().status_code)
            except httpx2.TransportError:
                outcomes.append(0)  # the server has ended meanwhile
    assert set(outcomes) <= {200, 503, 0}
    assert {200, 503} <= set(outcomes)
    try:
        assert httpx2.get(f"{server.address}/ready").status_code == 503
        assert httpx2.get(f"{server.address}/health").status_code == 503
    except httpx2.TransportError:
        pass  # gone already: that is what its supervisor waits for
    assert server.process.wait(60) == 1
