"""A folder with an item head is served as any other: the recommender's lists, whatever is asked of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from circle import circle
from fastapi.testclient import TestClient
from projected import make_projected
from serving.process import Process, free_port
from serving.shop import client_of
from worlds import TinyWorld, make_tiny_world

from llmrec.errors import LlmrecError
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.popularity import Popularity
from llmrec.serving.server import choose_engine, load
from llmrec.serving.settings import ServingSettings


@pytest.fixture(scope="module")
def world() -> TinyWorld:
    return make_tiny_world(60, (4, 4, 5))


@pytest.fixture(scope="module", params=[False, True], ids=["codes", "vectors"])
def folder(request: pytest.FixtureRequest, world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("served") / "shop"
    make_projected(world, reads=request.param).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with client_of(load(folder, "transformers", ServingSettings(name="shop", timeout_ms=60_000))) as made:
        yield made


def test_lists_are_those_of_the_recommender(client: TestClient, folder: Path) -> None:
    recommender, rng = Recommender.from_pretrained(folder), random.Random(0)
    for _ in range(12):
        history, k = rng.sample(range(60), rng.randint(0, 12)), rng.randint(1, 20)
        candidates = sorted(rng.sample(range(60), 25)) if rng.random() < 0.5 else None
        named = None if candidates is None else [f"i{row}" for row in candidates]
        body = {"history": [f"i{row}" for row in history], "k": k, "candidates": named}
        answer = client.post("/v1/recommend", json=body).json()
        rows = None if candidates is None else np.array(candidates, np.int32)
        expected = recommender.recommend([np.array(history, np.int32)], k, candidates=rows)
        listed = expected.rows[0] >= 0
        assert [item["item_id"] for item in answer["items"]] == [f"i{row}" for row in expected.rows[0][listed]]
        scores = [item["score"] for item in answer["items"]]
        np.testing.assert_allclose(scores, expected.scores[0][listed], atol=1e-4)
        assert answer["exact"]


def test_the_other_routes_know_it(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["kind"], model["engine"], model["items"]) == ("item_head", "transformers", 60)
    scored = client.post("/v1/score", json={"history": ["i3"], "items": ["i5", "i3", "i9"]}).json()["items"]
    whole = client.post("/v1/recommend", json={"history": ["i3"], "k": 60, "exclude_seen": False}).json()["items"]
    listed = {item["item_id"]: item["score"] for item in whole}
    assert [one["score"] for one in scored] == pytest.approx([listed[name] for name in ("i5", "i3", "i9")], abs=1e-4)
    assert sum(np.exp(list(listed.values()))) == pytest.approx(1, abs=1e-4)
    explained = client.post("/v1/recommend", json={"history": ["i3"], "k": 1, "explain": "scores"}).json()["items"]
    assert explained[0]["explanation"]["levels"] == []
    assert client.post("/v1/completions", json={"prompt": "Items:"}).status_code == 404


def test_the_command_serves_it(folder: Path, tmp_path: Path) -> None:
    server = Process(folder, free_port(), tmp_path / "log.txt", "--dtype", "float32")
    try:
        server.wait()
        items = httpx2.post(f"{server.address}/v1/recommend", json={"history": ["i3", "i8"], "k": 5}, timeout=60).json()
    finally:
        server.process.kill()
        server.process.wait()
    expected = Recommender.from_pretrained(folder).recommend([np.array([3, 8], np.int32)], 5)
    assert [item["item_id"] for item in items["items"]] == [f"i{row}" for row in expected.rows[0]]


def test_an_engine_is_chosen_for_it(folder: Path, world: TinyWorld, tmp_path: Path) -> None:
    assert choose_engine(folder, "vllm") == "vllm"
    assert choose_engine(folder, "transformers") == "transformers"
    Popularity().fit(circle(world.catalog).train, world.catalog).save_pretrained(tmp_path / "counts")
    assert choose_engine(tmp_path / "counts", "auto") == "none"
    with pytest.raises(LlmrecError, match="no language model"):
        choose_engine(tmp_path / "counts", "vllm")
