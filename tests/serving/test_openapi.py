"""The OpenAPI document is true: requests made from it, right and wrong, get the answers that it promises."""

from __future__ import annotations

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, settings
from serving.shop import client_of, make_recommender, make_service

from llmrec.serving.app import create_app

SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", create_app(make_service(make_recommender(beams=4))))


@SCHEMA.parametrize()
@settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
def test_no_answer_is_a_surprise(case: schemathesis.Case) -> None:
    """Statuses, headers and bodies are those of the document; none is a 5xx."""
    case.call_and_validate()


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
    assert found >= 4


def test_every_route_says_what_it_is_for() -> None:
    with client_of(make_service(), admin_keys={"a": "0" * 64}) as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/recommend", "/v1/recommend/batch", "/v1/score", "/v1/completions", "/admin/catalog", "/health"} <= set(
        paths
    )
    for path, methods in paths.items():
        for operation in methods.values():
            assert operation["description"], path
            assert {"200", "422", "503"} <= set(operation["responses"]), path


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_loads_scripts_from_elsewhere(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
