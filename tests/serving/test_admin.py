"""The catalog changes while requests go on: none is dropped, and each is answered by one state of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi.testclient import TestClient
from serving.shop import client_of, make_recommender, make_service

from llmrec.serving.keys import new_key

KEY, LINE = new_key("boss")
ADMIN = {"Authorization": f"Bearer {KEY}"}
ADMIN_KEYS = dict([LINE.split(" sha256:")])


def change(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/admin/catalog", json=body, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def everything(client: TestClient, **body: Any) -> set[str]:
    answer = client.post("/v1/recommend", json={"history": [], "k": 100, **body})
    assert answer.status_code == 200, answer.text
    return {item["item_id"] for item in answer.json()["items"]}


def test_stock_comes_and_goes() -> None:
    with client_of(make_service(), admin_keys=ADMIN_KEYS) as client:
        assert len(everything(client)) == 30
        state = change(client, out_of_stock=["i1", "i2", "nobody"])
        assert (state["catalog_version"], state["items"], state["in_stock"]) == (2, 30, 28)
        assert (state["out_of_stock"], state["unknown_items"]) == (["i1", "i2"], ["nobody"])
        assert {"i1", "i2"} & everything(client) == set()
        assert everything(client, candidates=["i1", "i4"]) == {"i4"}
        assert len(everything(client, filters={"brand": "Alba"})) == 14
        assert client.get("/v1/items/i1").json()["in_stock"] is False
        drawn = client.post("/v1/completions", json={"prompt": "Items:", "n": 50, "seed": 1}).json()["choices"]
        assert {"i1", "i2"} & {choice["item_id"] for choice in drawn} == set()
        change(client, in_stock=["i1"], out_of_stock=["i1", "i3"])
        assert everything(client) == {f"i{row}" for row in range(30)} - {"i2", "i3"}
        shown = client.get("/admin/catalog", headers=ADMIN).json()
        assert shown["out_of_stock"] == ["i2", "i3"]
        assert client.get("/v1/models").json()["data"][0]["catalog_version"] == 3


def test_new_items_can_be_recommended_at_once() -> None:
    with client_of(make_service(), admin_keys=ADMIN_KEYS) as client:
        new = {"item_id": "n1", "title": "red lamp of today", "brand": "Alba", "colors": ["red"]}
        dirty = {**new, "title": "<b>red</b>  lamp of&nbsp;today"}
        state = change(client, add=[dirty], out_of_stock=["i0"])
        assert (state["items"], state["in_stock"]) == (31, 30)
        assert "n1" in everything(client)
        assert "n1" in everything(client, filters={"colors": ["red"]})
        assert client.get("/v1/items/n1").json()["fields"] == {**new, "price": None}
        assert client.post("/v1/recommend", json={"history": ["n1"], "explain": "scores"}).status_code == 200
        for bad in (
            [new],
            [{"title": "t"}],
            [{"item_id": "n2", "title": "t"}] * 2,
            [{"item_id": "n2", "title": "t", "size": 3}],
            [{"item_id": "n2", "title": "t", "price": "cheap"}],
            [{"item_id": "n2", "title": "a"}, {"item_id": "n2", "title": "b"}],
        ):
            refused = client.post("/admin/catalog", json={"add": bad}, headers=ADMIN)
            assert refused.status_code == 422, bad
        assert change(client)["items"] == 31


def test_no_request_is_dropped_or_sees_half_a_change() -> None:
    """Two changes exclude each other's items; an answer with both kinds, or another state's version, would be torn."""
    groups = [[f"i{row}" for row in range(15)], [f"i{row}" for row in range(15, 30)]]
    with client_of(make_service(make_recommender(beams=30)), admin_keys=ADMIN_KEYS) as client:
        change(client, out_of_stock=groups[0])
        stop = threading.Event()

        def swap() -> int:
            turns = 0
            while not stop.is_set():
                change(client, out_of_stock=groups[turns % 2 == 0], in_stock=groups[turns % 2 == 1])
                turns += 1
            return turns

        def look(number: int) -> None:
            answer = client.post("/v1/recommend", json={"history": [f"i{number % 30}"], "k": 30, "exclude_seen": False})
            assert answer.status_code == 200, answer.text
            found = {item["item_id"] for item in answer.json()["items"]}
            assert found == set(groups[answer.json()["catalog_version"] % 2 == 0])

        with ThreadPoolExecutor(9) as pool:
            swapping = pool.submit(swap)
            list(pool.map(look, range(120)))
            stop.set()
            assert swapping.result() > 1
