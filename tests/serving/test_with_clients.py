"""The clients, ours and OpenAI's, against the server that they are for, on a real port."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
from fastapi.testclient import TestClient
from serving.shop import HOSTILE, make_service, running

import llmrec
from llmrec.client import answers
from llmrec.client.arguments import RecommendRequest
from llmrec.client.errors import DeadlineError, InvalidRequestError, NotFoundError, UnauthorizedError
from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving import schemas
from llmrec.serving.app import create_app
from llmrec.serving.keys import new_key
from llmrec.serving.service import Service

KEY, LINE = new_key("me")
ADMIN_KEY, ADMIN_LINE = new_key("boss")
KEYS, ADMIN_KEYS = ({"one": line.partition("sha256:")[2]} for line in (LINE, ADMIN_LINE))

Ask = Callable[..., Any]


@pytest.fixture
def service(recommender: LLMRecommender) -> Service:
    return make_service(recommender)


@pytest.fixture
def address(service: Service) -> Iterator[str]:
    with running(create_app(service, KEYS, ADMIN_KEYS)) as made:
        yield made


@pytest.fixture(params=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest, address: str) -> Ask:
    """Put a question to one of the clients, with both keys unless told otherwise."""
    settings = {"api_key": KEY, "admin_key": ADMIN_KEY, "timeout": 60}

    def waiting(question: Callable[[Any], Any], **changes: Any) -> Any:
        with llmrec.Client(address, **{**settings, **changes}) as client:
            return question(client)

    async def awaited(question: Callable[[Any], Any], **changes: Any) -> Any:
        async with llmrec.AsyncClient(address, **{**settings, **changes}) as client:
            return await question(client)

    if request.param == "Client":
        return waiting
    return lambda question, **changes: asyncio.run(awaited(question, **changes))


def as_json(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, tuple | list) else value


BODY: dict[str, Any] = {
    "history": ["i3", "i8", "nobody"], "k": 4, "exclude": ["i9"], "filters": {"brand": "Alba"}, "explain": "scores",
}  # fmt: skip
TIMED = [("i8", 20.0), ("i3", 10)]


def test_the_answers_are_those_of_the_wire(ask: Ask, client: TestClient) -> None:
    """`client` is another server over the same recommender."""
    expected = client.post("/v1/recommend", json=BODY).json()
    found = ask(lambda client: client.recommend(**BODY))
    assert as_json(dataclasses.asdict(found)) == expected
    assert found.items[0].explanation.levels
    assert ask(lambda client: client.recommend_batch([BODY, {"history": []}]))[0] == found
    timed = ask(lambda client: client.recommend(TIMED, exclude_seen=False, candidates=["i3", "i4"]))
    assert {item.item_id for item in timed.items} == {"i3", "i4"}
    assert (
        timed.items
        == ask(lambda client: client.recommend(["i3", "i8"], 2, exclude_seen=False, candidates=["i4", "i3"])).items
    )
    words: dict[str, Any] = {"query": "a lamp under 9 dollars", "k": 3, "exclude": ["i2", "nobody"]}
    searched = ask(lambda client: client.search(**words, candidates=["i1", "i2", "i3", "i9"]))
    candidates = {"candidates": ["i1", "i2", "i3", "i9"]}
    assert as_json(dataclasses.asdict(searched)) == client.post("/v1/search", json={**words, **candidates}).json()
    assert ({item.item_id for item in searched.items}, searched.price) == ({"i1", "i3"}, "price < 9")
    scored = client.post("/v1/score", json={"history": ["i3"], "items": ["i5", "nobody", "i1"]}).json()
    assert as_json(dataclasses.asdict(ask(lambda client: client.score(["i3"], ["i5", "nobody", "i1"])))) == scored


def test_what_there_is(ask: Ask, client: TestClient) -> None:
    assert dataclasses.asdict(ask(lambda client: client.item("i7"))) == client.get("/v1/items/i7").json()
    assert ask(lambda client: client.item("i7")).title == HOSTILE
    assert [item.item_id for item in ask(lambda client: client.search_items("LAMP", 3))] == ["i0", "i6", "i12"]
    (model,) = ask(lambda client: client.models())
    assert (model.id, model.items, model.columns) == ("shop", 30, ("title", "brand", "colors", "price"))
    assert model.searches
    for odd in ("nobody", "a/b", "..", "i1?x=1", "i1#y"):
        with pytest.raises(NotFoundError) as caught:
            ask(lambda client, odd=odd: client.item(odd))
        assert caught.value.param == "item_id", odd


def test_a_refusal(ask: Ask) -> None:
    with pytest.raises(InvalidRequestError, match=r"at most 100; it is 500.*param k") as caught:
        ask(lambda client: client.recommend([], 500))
    assert caught.value.code == "invalid_request"
    with pytest.raises(InvalidRequestError, match="no column 'size'"):
        ask(lambda client: client.recommend([], filters={"size": 3}))
    with pytest.raises(InvalidRequestError, match=r"1000 characters.*param query"):
        ask(lambda client: client.search("x" * 1001))
    with pytest.raises(InvalidRequestError, match=r"param requests\.1\.k"):
        ask(lambda client: client.recommend_batch([{"history": []}, {"history": [], "k": 500}]))


def test_keys(ask: Ask) -> None:
    for question in (lambda client: client.recommend([]), lambda client: client.catalog()):
        with pytest.raises(UnauthorizedError):
            ask(question, api_key="another", admin_key="another")
    with pytest.raises(UnauthorizedError):
        ask(lambda client: client.catalog(), admin_key=KEY)
    assert ask(lambda client: client.is_ready(), api_key=None) is True


def test_the_live_catalog(ask: Ask) -> None:
    new = {"item_id": "n/1", "title": "red lamp of today", "brand": "Alba", "colors": ["red"]}
    state = ask(lambda client: client.update_catalog(out_of_stock=["i1", "nobody"], add=[new]))
    assert (state.catalog_version, state.items, state.out_of_stock) == (2, 31, ("i1",))
    assert state.unknown_items == ("nobody",)
    assert ask(lambda client: client.catalog()) == dataclasses.replace(state, unknown_items=())
    everything = ask(lambda client: client.recommend([], 100))
    assert everything.catalog_version == 2
    assert {item.item_id for item in everything.items} == {f"i{row}" for row in range(30)} - {"i1"} | {"n/1"}
    assert ask(lambda client: client.item("n/1")).fields["colors"] == ["red"]
    with pytest.raises(InvalidRequestError):
        ask(lambda client: client.update_catalog(add=[new]))


def test_a_server_without_admin_keys(service: Service) -> None:
    with running(create_app(service)) as address, llmrec.Client(address, admin_key=ADMIN_KEY) as client:
        assert client.recommend([]).items
        with pytest.raises(NotFoundError):
            client.catalog()


def test_a_server_that_stops(ask: Ask, service: Service) -> None:
    service.is_draining = True
    assert ask(lambda client: client.is_ready()) is False


@pytest.fixture
def gate(service: Service) -> threading.Event:
    """Until it is set, nothing is answered."""
    gate, answer_all = threading.Event(), service.batcher.answer_all

    def later(questions: list[Any]) -> Any:
        gate.wait(60)
        return answer_all(questions)

    service.batcher.answer_all = later
    return gate


def test_an_answer_that_comes_too_late(ask: Ask, gate: threading.Event) -> None:
    """The server was told how long it has, and says first that it was not enough; or else the client stops waiting."""
    with pytest.raises(DeadlineError) as caught:
        ask(lambda client: client.recommend([], timeout=0.5))
    gate.set()
    assert caught.value.status in (504, None)


def test_whoever_is_turned_away_comes_again(service: Service, gate: threading.Event) -> None:
    service.batcher.max_queue = 1

    async def crowd(address: str) -> list[answers.Recommendations]:
        async with llmrec.AsyncClient(address, timeout=60, max_retries=100) as client, httpx2.AsyncClient() as other:
            asked = [asyncio.create_task(client.recommend([f"i{number}"])) for number in range(6)]
            while 'status="429"' not in (await other.get(f"{address}/metrics")).text:
                await asyncio.sleep(0.01)
            gate.set()
            return await asyncio.gather(*asked)

    with running(create_app(service)) as address:
        found = asyncio.run(crowd(address))
    assert all(len(one.items) == 10 for one in found)
    assert len({one.items for one in found}) > 1


PAIRS = [
    (answers.Level, schemas.Level),
    (answers.Neighbour, schemas.Neighbour),
    (answers.Explanation, schemas.Explanation),
    (answers.RecommendedItem, schemas.RecommendedItem),
    (answers.Recommendations, schemas.RecommendAnswer),
    (answers.SearchResults, schemas.SearchAnswer),
    (answers.ScoredItem, schemas.ScoredItem),
    (answers.Scores, schemas.ScoreAnswer),
    (answers.Item, schemas.Item),
    (answers.ItemName, schemas.ItemName),
    (answers.Model, schemas.Model),
    (answers.CatalogState, schemas.CatalogState),
]


def test_the_client_knows_all_that_the_server_says_and_takes() -> None:
    for ours, theirs in PAIRS:
        names = {field.name for field in dataclasses.fields(ours)}
        assert names == set(theirs.model_fields) - {"object", "owned_by"}, ours
    values = [value for value in vars(answers).values() if dataclasses.is_dataclass(value)]
    assert len(values) == len(PAIRS)
    taken = set(schemas.RecommendRequest.model_fields) - {"timeout_ms"}
    assert set(RecommendRequest.__annotations__) == taken
    assert set(inspect.signature(llmrec.Client.recommend).parameters) == {"self", "timeout", *taken}
    asked = set(schemas.SearchRequest.model_fields) - {"timeout_ms"}
    assert set(inspect.signature(llmrec.Client.search).parameters) == {"self", "timeout", *asked}


@pytest.fixture
def openai_client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


def test_openais_client_completes_with_items(openai_client: openai.OpenAI, recommender: LLMRecommender) -> None:
    only = {"vllm_xargs": {"item_excluded": ["i3", "i4"]}}
    made = openai_client.completions.create(model="shop", prompt="Items:", n=20, seed=1, extra_body=only)
    assert [choice.index for choice in made.choices] == list(range(20))
    for choice in made.choices:
        row = recommender.catalog.items.row(choice.model_extra["item_id"])
        assert (choice.text, choice.finish_reason) == (recommender.task.items.tokens(row), "stop")
        assert choice.model_extra["item_id"] not in ("i3", "i4")
    assert made.usage is not None
    assert made.usage.total_tokens == len("Items:") + 20 * 3
    streamed = openai_client.completions.create(
        model="shop", prompt="Items:", n=20, seed=1, extra_body=only, stream=True
    )
    assert [part.choices[0].text for part in streamed] == [choice.text for choice in made.choices]


def test_openais_client_names_the_model(openai_client: openai.OpenAI) -> None:
    (model,) = openai_client.models.list().data
    assert model.id == "shop"
    assert openai_client.models.retrieve("shop") == model


def test_openais_client_reads_our_errors(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        openai_client.completions.create(model="shop", prompt="a", max_tokens=1)
    assert (refused.value.code, refused.value.param) == ("invalid_request", "max_tokens")
    with pytest.raises(openai.NotFoundError):
        openai_client.completions.create(model="gpt-4", prompt="a")
    with pytest.raises(openai.AuthenticationError):
        openai_client.with_options(api_key="another").models.list()


def test_openais_other_client(address: str) -> None:
    async def many() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
            asked = [client.completions.create(model="shop", prompt=f"Items: {n}", seed=n) for n in range(8)]
            return [made.choices[0].text for made in await asyncio.gather(*asked)]

    assert all(text.startswith("<a_") for text in asyncio.run(many()))
