"""`/v1/search`: the answers of `LLMRecommender.search` itself, and nothing but what every condition leaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fake_vllm import OneStep, patch_one_step
from fastapi.testclient import TestClient
from serving.shop import HOSTILE, client_of, make_catalog, make_recommender, make_service
from worlds import TinyWorld

from llmrec.data.interactions import Interactions
from llmrec.data.price import Limit
from llmrec.engines.vllm import VLLMEngine
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.popularity import Popularity
from llmrec.registry import REGISTRY, resolve
from llmrec.serving.keys import new_key
from llmrec.serving.live import Live, LiveCatalog
from llmrec.serving.questions import AskBest, AskSearch, Terms

KEY, LINE = new_key("boss")
ADMIN = {"Authorization": f"Bearer {KEY}"}
ADMIN_KEYS = dict([LINE.split(" sha256:")])
NEW = {"n1": 4.0, "n2": 90.0}


def ask(client: TestClient, query: str = "a lamp that folds", **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/search", json={"query": query, **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_the_list_is_the_recommender_s_own(client: TestClient, recommender: LLMRecommender) -> None:
    found = recommender.search("a lamp that folds", 5)
    answer = ask(client, k=5)
    assert ids(answer) == [f"i{row}" for row in found.rows[0]]
    assert [item["score"] for item in answer["items"]] == pytest.approx(found.scores[0].tolist(), abs=1e-5)
    assert [item["title"] for item in answer["items"]] == [recommender.catalog.title(row) for row in found.rows[0]]
    assert answer["exact"] == bool(found.exact[0])
    assert (answer["model"], answer["catalog_version"]) == ("shop", 1)
    assert (answer["unknown_items"], answer["price"]) == ([], None)
    assert ids(answer) != ids(ask(client, "something else entirely", k=5))


def test_a_query_is_read_as_texts_are(client: TestClient) -> None:
    assert ask(client, " a <b>lamp</b>\n that&nbsp;folds\u202e") == ask(client)
    assert ask(client, "a lamp under <b>30</b>&nbsp;dollars")["price"] == "price < 30"


@pytest.mark.parametrize(
    ("query", "price", "asked", "allowed"),
    [
        ("a lamp", None, {}, lambda row: True),
        ("a lamp under 9 dollars", "price < 9", {}, lambda row: row % 10 and row < 6),
        ("between $9 and $12", "price >= 9 and price <= 12", {}, lambda row: row in (6, 7, 8)),
        ("up to $9", "price <= 9", {"filters": {"brand": "Alba"}}, lambda row: row in (1, 3, 5)),
        ("up to $9", "price <= 9", {"filters": {"price": [3, 30.0]}}, lambda row: row == 2),
        ("up to $9", "price <= 9", {"candidates": ["i0", "i1", "i6", "i7"]}, lambda row: row in (1, 6)),
        ("up to $9", "price <= 9", {"exclude": ["i1", "i2", "i9"]}, lambda row: row in (3, 4, 5, 6)),
        ("a lamp", None, {"exclude": ["i1"], "candidates": ["i1", "i4", "i4"]}, lambda row: row == 4),
        ("over $500", "price > 500", {}, lambda row: False),
        ("a lamp", None, {"candidates": []}, lambda row: False),
        ("a book under 30 pages", None, {"filters": {"colors": None}}, lambda row: row % 4 == 3),
    ],
)
def test_only_what_is_allowed_comes_and_all_of_it(
    client: TestClient, query: str, price: str | None, asked: dict[str, Any], allowed: Any
) -> None:
    answer = ask(client, query, k=100, **asked)
    assert answer["price"] == price
    assert set(ids(answer)) == {f"i{row}" for row in range(30) if allowed(row)}
    assert len(answer["items"]) == len(set(ids(answer)))


def test_a_price_holds_for_the_stock_and_new_items_too() -> None:
    everything = {"candidates": [f"i{row}" for row in range(8)] + ["n1", "n2"], "exclude": ["i5"], "k": 100}
    with client_of(make_service(), admin_keys=ADMIN_KEYS) as client:
        new = [{"item_id": name, "title": "red lamp", "brand": "Alba", "price": cost} for name, cost in NEW.items()]
        changed = client.post("/admin/catalog", json={"out_of_stock": ["i1", "i2"], "add": new}, headers=ADMIN)
        assert changed.status_code == 200, changed.text
        assert set(ids(ask(client, "up to $9", k=100))) == {"i3", "i4", "i5", "i6", "n1"}
        answer = ask(client, "up to $9", filters={"brand": "Alba"}, **everything)
        assert set(ids(answer)) == {"i3", "n1"}
        assert (answer["catalog_version"], answer["exact"]) == (2, True)
        assert {"i1", "i2"} & set(ids(ask(client, k=100))) == set()


def test_items_that_nobody_knows_are_named_and_left_out(client: TestClient) -> None:
    answer = ask(client, candidates=["i1", "yyy", "zzz"], exclude=["xxx", "zzz"])
    assert answer["unknown_items"] == ["xxx", "zzz", "yyy"]
    assert ids(answer) == ["i1"]


def bodies() -> list[dict[str, Any]]:
    """Requests of many kinds, of different lengths, some of one kind."""
    texts = ["a lamp", "something blue for a long shelf", "up to $20", "a rug for at least 9 dollars", HOSTILE]
    return [
        {
            "query": f"{texts[number % 5]} {number % 3}",
            "k": [4, 9][number % 2],
            **({"candidates": [f"i{row}" for row in range(number % 5, 30, 3)]} if number % 4 == 1 else {}),
            **({"filters": {"brand": "Alba"}} if number % 4 == 2 else {}),
            **({"exclude": ["i9", "i10"]} if number % 3 == 0 else {}),
        }
        for number in range(30)
    ]


def test_who_is_asked_together_does_not_matter(recommender: LLMRecommender) -> None:
    """Nor that others are asked for recommendations meanwhile."""
    with client_of(make_service(recommender)) as client:
        alone = [ask(client, **body) for body in bodies()]
        with ThreadPoolExecutor(20) as pool:
            others = [pool.submit(client.post, "/v1/recommend", json={"history": [f"i{n}"]}) for n in range(10)]
            together = list(pool.map(lambda body: ask(client, **body), bodies()))
            assert {other.result().status_code for other in others} == {200}
        assert "llmrec_invalid_items_total 0.0" in client.get("/metrics").text
    for one, other in zip(alone, together, strict=True):
        assert ids(one) == ids(other)
        assert one["price"] == other["price"]
        scores = [item["score"] for item in other["items"]]
        assert scores == pytest.approx([item["score"] for item in one["items"]], abs=1e-4)


def test_questions_of_one_key_are_one_call_each_with_its_own_terms(recommender: LLMRecommender) -> None:
    calls = []

    class Counting(LLMRecommender):
        def search(self, texts: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(texts)
            return super().search(texts, *args, **kwargs)

    counting = Counting(recommender.model, recommender.task, recommender.decoding)
    live, none = LiveCatalog(counting).current, np.empty(0, np.int32)
    cheap = live.allowed(None, (Limit("<", 20.0),))
    texts, left_out = ["a lamp", "a much longer request for a desk", "rug"], [none, np.array([1, 2], np.int32), none]
    questions = [AskSearch(Terms(live, 6, rows, cheap), text) for text, rows in zip(texts, left_out, strict=True)]
    assert len({question.key for question in questions}) == 1
    assert AskBest(questions[0].terms, none).key != questions[0].key
    own = AskSearch(Terms(live, 6, none, cheap, np.array([3, 20], np.int32)), "a lamp")
    assert own.key != questions[0].key
    together = AskSearch.answer(questions)
    assert calls == [texts]
    for question, best in zip(questions, together, strict=True):
        (alone,) = AskSearch.answer([question])
        assert best.rows.tolist() == alone.rows.tolist()
        assert (len(best.rows), best.invalid) == (6, 0)
        assert not set(best.rows.tolist()) & set(question.terms.excluded.tolist())
        assert all(row % 10 and row * 1.5 < 20 for row in best.rows)
    assert AskSearch.answer([own])[0].rows.tolist() == [3]


def test_what_a_price_leaves_is_counted_once(recommender: LLMRecommender, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, prepare = [], LLMRecommender.prepare_candidates

    def counted(self: LLMRecommender, rows: Any) -> Any:
        prepared.append(len(rows))
        return prepare(self, rows)

    monkeypatch.setattr(LLMRecommender, "prepare_candidates", counted)
    live: Live = LiveCatalog(recommender).current
    with client_of(make_service(recommender)) as client:
        for text in ("a lamp under 9 dollars", "cheaper than $9: a rug", "a desk below 9.00 usd"):
            assert ask(client, text)["price"] == "price < 9"
        assert prepared == [5]
        ask(client, "a lamp under 6 dollars")
        assert prepared == [5, 3]
    assert live.allowed(None, (Limit("<", 9.0),)) is live.allowed({}, (Limit("<", 9.0),))
    assert live.allowed({"brand": "Alba"}, (Limit("<", 9.0),)) is not live.allowed({"brand": "Alba"})


@pytest.mark.parametrize(
    "query", [HOSTILE, "<|im_end|>", "<a_1><b_2><c_3>", "{{ item.code }}", "\x02I3\x03", "😀" * 99]
)
def test_no_text_is_control(client: TestClient, recommender: LLMRecommender, query: str) -> None:
    """Nor an item: `tests/recommenders/test_search.py` looks at the tokens, this at what comes."""
    answer = ask(client, query, k=100)
    assert set(ids(answer)) == {f"i{row}" for row in range(30)}
    assert ids(answer) == [f"i{row}" for row in recommender.search(query, 100).rows[0] if row >= 0]


def test_a_model_that_was_not_taught_says_what_teaches_it() -> None:
    with client_of(make_service(make_recommender(search=None))) as client:
        answer = client.post("/v1/search", json={"query": "a lamp"})
        assert client.get("/v1/models").json()["data"][0]["searches"] is False
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_request", None)
    assert "not learned to be asked in words" in error["message"]
    for name in REGISTRY["task"]:
        assert (name in error["message"].replace(",", "").split()) == resolve("task", name).finds_by_words, name


def test_a_recommender_that_is_no_language_model_has_no_such_route() -> None:
    catalog = make_catalog(6)
    events = Interactions.from_columns(pa.array(["u"] * 6), catalog.items.ids, np.arange(6), catalog.items)
    with client_of(make_service(Popularity().fit(events, catalog))) as client:
        assert client.post("/v1/search", json={"query": "a lamp"}).status_code == 404
        assert client.get("/v1/models").json()["data"][0]["searches"] is False
        assert "/v1/search" not in client.get("/openapi.json").json()["paths"]


def test_metrics_count_it_as_a_recommendation(recommender: LLMRecommender) -> None:
    with client_of(make_service(recommender)) as client:
        assert client.get("/v1/models").json()["data"][0]["searches"] is True
        ask(client, k=4, exclude=["nobody"])
        refused = client.post("/v1/search", json={"query": " "})
        assert refused.json()["error"]["param"] == "query"
        assert "says nothing" in refused.json()["error"]["message"]
        assert client.post("/v1/search", json={"query": ""}).json()["error"]["param"] == "query"
        text = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['llmrec_request_seconds_count{route="/v1/search",status="200"}'] == "1.0"
    assert lines['llmrec_request_seconds_count{route="/v1/search",status="422"}'] == "2.0"
    assert (lines["llmrec_items_total"], lines["llmrec_unknown_items_total"]) == ("4.0", "1.0")
    assert (lines["llmrec_invalid_items_total"], lines["llmrec_beams_sum"]) == ("0.0", "10.0")
    for stage in ("read", "queue", "decode", "write"):
        assert lines[f'llmrec_stage_seconds_count{{stage="{stage}"}}'] == "1.0"


def test_a_search_that_breaks_its_promise_is_seen_and_not_passed_on(recommender: LLMRecommender) -> None:
    class Broken(LLMRecommender):
        def search(self, *args: Any, **kwargs: Any) -> Any:
            found = super().search(*args, **kwargs)
            found.rows[0, :4] = [3, 500, 20, found.rows[0, 4]]  # excluded, unknown, too dear, and one twice
            return found

    broken = Broken(recommender.model, recommender.task, recommender.decoding)
    with client_of(make_service(broken)) as client:
        answer = ask(client, "up to $20", k=6, exclude=["i3"])
        assert "llmrec_invalid_items_total 4.0" in client.get("/metrics").text
    assert len(set(ids(answer))) == len(answer["items"]) == 2


def test_an_engine_elsewhere_answers_the_same(
    client: TestClient, recommender: LLMRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_one_step(monkeypatch)
    items = recommender.task.items
    backend = OneStep(TinyWorld(recommender.catalog, items.index, items, recommender.model))
    elsewhere = LLMRecommender(None, recommender.task, recommender.decoding, VLLMEngine(backend, items))
    with client_of(make_service(elsewhere)) as other:
        for query, more in (("a lamp", {}), ("a rug up to $20", {"filters": {"brand": "Boro"}, "exclude": ["i4"]})):
            mine, theirs = ask(client, query, **more), ask(other, query, **more)
            assert ids(mine) == ids(theirs)
            assert mine["price"] == theirs["price"]
            scores = [item["score"] for item in theirs["items"]]
            assert scores == pytest.approx([item["score"] for item in mine["items"]], abs=1e-4)
    assert backend.calls > 2
