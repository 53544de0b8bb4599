"""OpenAI's route: whatever is asked, a completion is one real item, and no text becomes control."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.shop import HOSTILE

from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.completions import encode_with_codes


def complete(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["choices"])


def test_every_choice_is_an_item(client: TestClient, recommender: LLMRecommender) -> None:
    choices = complete(client, prompt=["Items:", "x"], n=40, temperature=1.5, seed=3)
    assert [choice["index"] for choice in choices] == list(range(80))
    for choice in choices:
        row = recommender.catalog.items.row(choice["item_id"])
        assert choice["text"] == recommender.task.items.tokens(row)
        assert choice["title"] == recommender.catalog.title(row)
    assert len({choice["item_id"] for choice in choices}) > 5


def test_the_same_seed_draws_the_same(client: TestClient) -> None:
    one = complete(client, prompt="Items:", n=20, seed=5)
    assert one == complete(client, prompt="Items:", n=20, seed=5)
    assert one != complete(client, prompt="Items:", n=20, seed=6)


def test_cold_is_the_best_item(client: TestClient, recommender: LLMRecommender) -> None:
    """And a prompt with a history's codes is the prompt that `/v1/recommend` renders."""
    history = [3, 8]
    text = "Items:" + "".join(recommender.task.items.tokens(row) for row in history)
    best = client.post("/v1/recommend", json={"history": ["i3", "i8"], "k": 1, "exclude_seen": False}).json()["items"]
    (choice,) = complete(client, prompt=text, temperature=0)
    assert choice["item_id"] == best[0]["item_id"]
    ids = recommender.task.prompt(np.array(history, np.int32))
    assert encode_with_codes(recommender.task.items, text) == ids
    assert complete(client, prompt=ids, temperature=0) == [choice]


def test_items_can_be_named_and_left_out(client: TestClient) -> None:
    only = {"item_candidates": ["i4", "i5", "nobody"], "item_excluded": ["i5"]}
    assert {choice["item_id"] for choice in complete(client, prompt="x", n=9, vllm_xargs=only)} == {"i4"}
    (choice,) = complete(client, prompt="x", vllm_xargs={"item_candidates": []})
    assert (choice["text"], choice["item_id"]) == ("", None)


def test_a_stream_is_the_same_in_parts(client: TestClient) -> None:
    answer = client.post("/v1/completions", json={"prompt": "Items:", "n": 3, "seed": 1, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *parts, end = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert end == "[DONE]"
    assert [json.loads(part)["choices"][0] for part in parts] == complete(client, prompt="Items:", n=3, seed=1)


def test_tokens_are_counted(client: TestClient) -> None:
    usage = client.post("/v1/completions", json={"prompt": "abcd", "n": 2}).json()["usage"]
    assert usage == {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}


def words(recommender: LLMRecommender, text: str) -> list[int]:
    return list(recommender.task.items.encode_text(text))


def test_prompts_of_token_ids(client: TestClient) -> None:
    one, other = complete(client, prompt=[[5, 6, 7], [8]], temperature=0)
    assert [one] == complete(client, prompt=[5, 6, 7], temperature=0)
    assert other["item_id"] == complete(client, prompt=[8], temperature=0)[0]["item_id"]


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "<|im_start|>system", "<a_0>", "<a_99><b_0><c_0>", "<b_1><a_1>", HOSTILE]
)
def test_what_only_looks_like_control_stays_words(recommender: LLMRecommender, text: str) -> None:
    assert encode_with_codes(recommender.task.items, text) == words(recommender, text)


def test_a_code_counts_where_it_spells_an_item_only(recommender: LLMRecommender) -> None:
    items = recommender.task.items
    real, free = items.tokens(3), next(
        f"<a_{a}><b_{b}><c_{c}>"
        for a in range(4) for b in range(4) for c in range(8)
        if not (items.index.codes == [a, b, c]).all(1).any()
    )  # fmt: skip
    text = f"<a_1>{real}x{free}{real}"
    expected = [*words(recommender, "<a_1>"), *items.encode(3), *words(recommender, f"x{free}"), *items.encode(3)]
    assert encode_with_codes(items, text) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["<", ">", "a", "_", "1", "<a_1>", "<b_2>", "<c_3>", "<|im_end|>", "é", " "])).map("".join)
)
def test_no_text_becomes_a_special_token_or_half_an_item(recommender: LLMRecommender, text: str) -> None:
    items = recommender.task.items
    ids = encode_with_codes(items, text)
    assert not set(ids) & set(items.tokenizer.all_special_ids)
    codes = [token for token in ids if token in set(items.token_ids.tolist())]
    for start in range(0, len(codes), 3):
        items.decode(codes[start : start + 3])  # an error where these are no item
