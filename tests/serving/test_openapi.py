"""The OpenAPI document is true: requests made from it, right and wrong, get the answers that it promises."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import schemathesis
from fastapi.testclient import TestClient
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from serving.shop import client_of, make_recommender, make_service, running

from llmrec.serving.app import create_app
from llmrec.serving.keys import new_key

KEY, LINE = new_key("me")
ADMIN_KEYS = {"boss": LINE.partition("sha256:")[2]}


APP = create_app(make_service(make_recommender(beams=4)), ADMIN_KEYS, ADMIN_KEYS)
DOCUMENT = copy.deepcopy(APP.openapi())
for body in (
    "RecommendRequest",
    "SearchRequest",
    "ScoreRequest",
):  # whoever gives a millisecond is rightly answered 504
    del DOCUMENT["components"]["schemas"][body]["properties"]["timeout_ms"]
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
SCHEMA.config.generation.update(max_examples=30, deterministic=True)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A port: through it requests are as strange as they can be, and the queue outlives each of them."""
    with running(APP) as made:
        yield made


@SCHEMA.parametrize()
def test_no_answer_is_a_surprise(case: schemathesis.Case, address: str) -> None:
    """Statuses, headers and bodies are those of the document; none is a 5xx, and none comes without the key.

    What a schema cannot say is left out: limits that depend on the catalog and on settings, and that a number such as
    1.0 is no integer here; and unknown query parameters are passed over, as everywhere.
    """
    others = [positive_data_acceptance, negative_data_rejection]
    case.call_and_validate(base_url=address, headers={"Authorization": f"Bearer {KEY}"}, excluded_checks=others)


def test_every_example_works(client: TestClient) -> None:
    found = 0
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            reference = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if reference is None:
                continue
            name = reference["$ref"].rpartition("/")[2]
            for example in client.get("/openapi.json").json()["components"]["schemas"][name]["examples"]:
                body = {key: value for key, value in example.items() if key != "filters"}  # of another catalog
                answer = client.request(method, path, json=body)
                assert answer.status_code == 200, (path, answer.text)
                found += 1
    assert found >= 5


def test_every_route_says_what_it_is_for() -> None:
    with client_of(make_service(), admin_keys={"a": "0" * 64}) as client:
        paths = client.get("/openapi.json").json()["paths"]
    routes = {"/v1/recommend", "/v1/recommend/batch", "/v1/search", "/v1/score", "/v1/completions"}
    assert routes | {"/admin/catalog", "/health"} <= set(paths)
    for path, methods in paths.items():
        for operation in methods.values():
            assert operation["description"], path
            assert {"200", "422", "503"} <= set(operation["responses"]), path


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_loads_scripts_from_elsewhere(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
