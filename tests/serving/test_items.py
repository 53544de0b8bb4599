"""Items, users and the model by name."""

from __future__ import annotations

from fastapi.testclient import TestClient
from serving.shop import HOSTILE, make_catalog

from llmrec.recommenders.llm import LLMRecommender


def test_one_item_with_all_that_is_known(client: TestClient, recommender: LLMRecommender) -> None:
    item = client.get("/v1/items/i4").json()
    assert item == {
        "item_id": "i4",
        "title": "red rug 4",
        "code": recommender.task.items.tokens(4),
        "in_stock": True,
        "fields": {"item_id": "i4", "title": "red rug 4", "brand": "Boro", "colors": ["red"], "price": 6.0},
    }
    missing = client.get("/v1/items/i4x")
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "item_id")


def test_search_in_titles(client: TestClient) -> None:
    chairs = [f"i{row}" for row in range(30) if "chair" in make_catalog().title(row)]
    assert [item["item_id"] for item in client.get("/v1/items?search=CHAIR").json()["items"]] == chairs[:20]
    assert len(client.get("/v1/items?search=chair&limit=2").json()["items"]) == 2
    assert client.get("/v1/items?limit=3").json()["items"][2] == {"item_id": "i2", "title": "red desk 2"}
    assert client.get("/v1/items", params={"search": "<img"}).json()["items"] == [{"item_id": "i7", "title": HOSTILE}]
    assert client.get("/v1/items?search=.*").json()["items"] == []
    assert client.get("/v1/items?limit=0").status_code == client.get("/v1/items?limit=101").status_code == 422


def test_users_to_try_with(client: TestClient) -> None:
    assert client.get("/v1/users").json() == {"users": ["u1", "u2"]}
    assert client.get("/v1/users?search=2").json() == {"users": ["u2"]}
    assert [item["item_id"] for item in client.get("/v1/users/u1").json()["history"]] == ["i1", "i2", "i3"]
    assert client.get("/v1/users/u2").json()["history"] == []
    assert client.get("/v1/users/u3").status_code == 404


def test_the_model(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["kind"], model["engine"], model["items"]) == ("shop", "llm", "transformers", 30)
    assert model["columns"] == ["title", "brand", "colors", "price"]
    assert client.get("/v1/models/shop").json() == model
    assert client.get("/v1/models/other").status_code == 404
