"""`/v1/recommend`: the answers of the recommender itself, whatever else is asked at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from serving.shop import client_of, make_catalog, make_service

from llmrec.data.interactions import Interactions
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.popularity import Popularity


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/recommend", json={"history": [], **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_the_list_is_the_recommender_s_own(client: TestClient, recommender: LLMRecommender) -> None:
    found = recommender.recommend([np.array([3, 8], np.int32)], 5)
    answer = ask(client, history=["i3", "i8"], k=5)
    assert ids(answer) == [f"i{row}" for row in found.rows[0]]
    assert [item["score"] for item in answer["items"]] == pytest.approx(found.scores[0].tolist(), abs=1e-5)
    assert [item["title"] for item in answer["items"]] == [recommender.catalog.title(row) for row in found.rows[0]]
    assert answer["exact"] == bool(found.exact[0])
    assert answer["model"] == "shop"
    assert answer["unknown_items"] == []


def test_timestamps_put_a_history_in_order(client: TestClient) -> None:
    events = [{"item_id": "i8", "timestamp": 2e9}, {"item_id": "i3", "timestamp": 5}, {"item_id": "i4", "timestamp": 5}]
    assert ask(client, history=events) == ask(client, history=["i3", "i4", "i8"])


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ({}, lambda row: row not in (3, 8)),
        ({"exclude_seen": False}, lambda row: True),
        ({"exclude": ["i0", "i1"]}, lambda row: row not in (0, 1, 3, 8)),
        ({"candidates": ["i1", "i3", "i4", "i4"]}, lambda row: row in (1, 4)),
        ({"filters": {"brand": "Alba"}}, lambda row: row % 2 == 1 and row != 3),
        ({"filters": {"colors": ["red"], "brand": "Boro"}}, lambda row: row % 4 in (0, 2) and row != 8),
        ({"filters": {"colors": None}}, lambda row: row % 4 == 3 and row != 3),
        ({"filters": {"price": 6}}, lambda row: row == 4),
        ({"filters": {"brand": "Alba"}, "candidates": ["i1", "i2"]}, lambda row: row == 1),
        ({"candidates": []}, lambda row: False),
        ({"filters": {"brand": "Nobody"}}, lambda row: False),
    ],
)
def test_only_what_is_allowed_comes_and_all_of_it(client: TestClient, asked: dict[str, Any], allowed: Any) -> None:
    found = ids(ask(client, history=["i3", "i8"], k=100, **asked))
    assert set(found) == {f"i{row}" for row in range(30) if allowed(row)}
    assert len(found) == len(set(found))


def test_items_that_nobody_knows_are_named_and_left_out(client: TestClient) -> None:
    answer = ask(client, history=["i3", "zzz", "i8"], candidates=["i1", "yyy", "zzz"], exclude=["xxx"])
    assert answer["unknown_items"] == ["zzz", "xxx", "yyy"]
    assert ids(answer) == ["i1"]


def test_who_is_asked_together_does_not_matter(recommender: LLMRecommender) -> None:
    """Requests of many kinds at once, in whatever batches they fall into, are answered as each alone."""
    bodies = [
        {
            "history": [f"i{(7 * number + step) % 30}" for step in range(number % 6)],
            "k": [3, 7, 12][number % 3],
            **({"candidates": [f"i{row}" for row in range(number % 5, 30, 3)]} if number % 4 == 1 else {}),
            **({"filters": {"brand": "Alba"}} if number % 4 == 2 else {}),
            **({"exclude": ["i9", "i10"]} if number % 5 == 0 else {}),
        }
        for number in range(40)
    ]
    with client_of(make_service(recommender)) as client:
        alone = [ask(client, **body) for body in bodies]
        with ThreadPoolExecutor(20) as pool:
            together = list(pool.map(lambda body: ask(client, **body), bodies))
        batch = client.post("/v1/recommend/batch", json={"requests": bodies}).json()["responses"]
        text = client.get("/metrics").text
    for one, other, third in zip(alone, together, batch, strict=True):
        assert ids(one) == ids(other) == ids(third)
        for answer in (other, third):
            scores = [item["score"] for item in answer["items"]]
            assert scores == pytest.approx([item["score"] for item in one["items"]], abs=1e-4)
    assert "llmrec_invalid_items_total 0.0" in text
    batches = float(
        next(line for line in text.splitlines() if line.startswith("llmrec_batch_histories_count")).split()[1]
    )
    assert batches < 120  # or nothing was decoded together


def test_an_explanation_adds_up(client: TestClient, recommender: LLMRecommender) -> None:
    answer = ask(client, history=["i3", "i8", "i21"], k=5, explain="scores")
    assert ask(client, history=["i3", "i8", "i21"], k=5)["items"][0]["explanation"] is None
    for item in answer["items"]:
        why = item["explanation"]
        row = recommender.catalog.items.row(item["item_id"])
        assert why["code"] == recommender.task.items.tokens(row) == "".join(level["token"] for level in why["levels"])
        assert sum(level["log_p"] for level in why["levels"]) == pytest.approx(item["score"], abs=1e-4)
        for near in why["nearest"]:
            other = recommender.catalog.items.row(near["item_id"])
            codes = recommender.task.items.index.codes
            assert other in (3, 8, 21)
            assert near["shared_levels"] == int(np.cumprod(codes[row] == codes[other]).sum())
            assert near["shared_levels"] or near["similarity"] > 0


def test_the_nearest_items_share_most(client: TestClient) -> None:
    (item,) = ask(client, history=["i1", "i2", "i13"], candidates=["i19"], explain="scores")["items"]
    shared = [near["shared_levels"] for near in item["explanation"]["nearest"]]
    assert shared == sorted(shared, reverse=True)
    assert {"i1", "i13"} <= {near["item_id"] for near in item["explanation"]["nearest"]}  # chairs, as i19 is


def test_scores_of_given_items(client: TestClient, recommender: LLMRecommender) -> None:
    wanted = ["i5", "i3", "nobody", "i29", "i5"]
    answer = client.post("/v1/score", json={"history": ["i3", "what"], "items": wanted}).json()
    expected = recommender.score([np.array([3], np.int32)], np.array([5, 3, 29], np.int32))[0]
    assert [item["item_id"] for item in answer["items"]] == ["i5", "i3", "i29", "i5"]
    assert [item["score"] for item in answer["items"][:3]] == pytest.approx(expected.tolist(), abs=1e-4)
    assert answer["items"][0] == answer["items"][3]
    assert answer["unknown_items"] == ["what", "nobody"]
    assert client.post("/v1/score", json={"history": [], "items": ["nobody"]}).json()["items"] == []


def test_a_recommender_without_codes_is_served_the_same_way() -> None:
    catalog = make_catalog(6)
    rows = np.repeat(np.arange(6), [5, 1, 4, 2, 3, 0])
    users = pa.array([f"u{number}" for number in range(len(rows))])
    events = Interactions.from_columns(users, catalog.items.ids.take(pa.array(rows)), rows, catalog.items)
    popularity = Popularity().fit(events, catalog)
    with client_of(make_service(popularity)) as client:
        answer = ask(client, history=["i0"], k=3, explain="scores")
        assert ids(answer) == ["i2", "i4", "i3"]
        assert answer["items"][0]["explanation"]["code"] is None
        assert ids(ask(client, history=["i0"], filters={"brand": "Alba"})) == ["i3", "i1", "i5"]
        assert ids(ask(client, candidates=["i5", "i1"], k=9)) == ["i1", "i5"]
        scored = client.post("/v1/score", json={"history": [], "items": ["i5", "i0"]}).json()["items"]
        assert scored[1]["score"] > scored[0]["score"]
        assert client.post("/v1/completions", json={"prompt": "x"}).status_code == 404
