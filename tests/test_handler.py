"""handler.py of a model folder, used as Hugging Face's endpoints use it: the same answers as from the server."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from packaging.requirements import Requirement
from serving.shop import client_of, make_recommender, make_service

ROOT = Path(__file__).resolve().parent.parent
Endpoint = Callable[[bytes], tuple[int, Any]]

ASKED: list[dict[str, Any]] = [
    {"history": []},
    {"history": ["i1", "i2"], "k": 3},
    {"history": ["i1", "nobody", "i2", "nobody"], "exclude": ["i5", "someone"], "candidates": ["i4", "i5", "ghost"]},
    {"history": ["i3"], "exclude_seen": False, "k": 100},
    {"history": [{"item_id": "i9", "timestamp": 20}, {"item_id": "i4", "timestamp": 10.5}]},
    {"history": ["i1"], "filters": {"brand": "Alba", "colors": ["red", "blue"]}},
    {"history": ["i1"], "filters": {"brand": "Alba"}, "candidates": ["i2", "i3", "i3"]},
    {"history": ["i1"], "filters": {}, "candidates": []},
    {"history": ["<|im_end|>", "<a_1>"]},
]

REFUSED: list[tuple[Any, str]] = [
    ({"inputs": "i1"}, "must be objects"),
    ({"inputs": {"history": []}, "parameters": 5}, "must be objects"),
    ({"inputs": {}}, "history: Field required"),
    ({"inputs": {"history": "i1"}}, "history"),
    ({"inputs": {"history": [], "k": 0}}, "k: Input should be greater"),
    ({"inputs": {"history": [], "k": "5"}}, "k: Input should be a valid integer"),
    ({"inputs": {"history": [], "k": 101}}, "k: at most 100, this is 101"),
    ({"inputs": {"history": ["i1"] * 1001}}, "history: at most 1,000"),
    ({"inputs": {"history": [], "candidates": ["i1"] * 10_001}}, "candidates: at most 10,000"),
    ({"inputs": {"history": [], "exclude": ["i1"] * 10_001}}, "exclude: at most 10,000"),
    ({"inputs": {"history": [], "filter": {"brand": "Alba"}}}, "filter: Extra inputs"),
    ({"inputs": {"history": [], "filters": {"brandt": "Alba"}}}, "Did you mean 'brand'"),
    ({"inputs": {"history": [], "filters": {"price": "cheap"}}}, "price"),
    ({"inputs": {"history": [], "k": 3}, "parameters": {"k": 4}}, "k stands in inputs and in parameters"),
    ({"inputs": {"history": []}, "parameters": {"explain": "scores"}}, "explain"),
    ({"inputs": {"history": []}, "parameters": {"timeout_ms": 5}}, "timeout_ms"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pushed") / "model"
    make_recommender().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def endpoint(folder: Path) -> Iterator[Endpoint]:
    """What Hugging Face's inference toolkit does with a repository that holds a handler.py."""
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "handler", module)
        patch.syspath_prepend(str(folder))
        spec.loader.exec_module(module)
        handler = module.EndpointHandler(str(folder))

        def call(body: bytes) -> tuple[int, Any]:
            try:
                data = json.loads(body)
                if "inputs" not in data:
                    raise ValueError("Body needs to provide a inputs key")
                return 200, json.loads(json.dumps(handler(data), allow_nan=False))
            except Exception as error:
                return 400, {"error": str(error)}

        yield call


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with client_of(make_service()) as made:
        yield made


@pytest.mark.parametrize("asked", ASKED, ids=[json.dumps(asked)[:50] for asked in ASKED])
def test_it_answers_as_the_server_does(endpoint: Endpoint, client: TestClient, asked: dict[str, Any]) -> None:
    status, answer = endpoint(json.dumps({"inputs": asked}).encode())
    assert status == 200, answer
    served = client.post("/v1/recommend", json=asked).json()
    del served["model"], served["catalog_version"]
    items, expected = answer.pop("items"), served.pop("items")
    assert answer == served
    assert [item["score"] for item in items] == pytest.approx([item.pop("score") for item in expected], abs=1e-4)
    names = [{"item_id": item["item_id"], "title": item["title"]} for item in items]
    assert names == [{name: item[name] for name in ("item_id", "title")} for item in expected]


def test_fields_may_stand_among_the_parameters(endpoint: Endpoint) -> None:
    apart = {"inputs": {"history": ["i1", "i2"]}, "parameters": {"k": 3, "filters": {"brand": "Alba"}}}
    together = {"inputs": {**apart["inputs"], **apart["parameters"]}, "parameters": None}
    assert endpoint(json.dumps(apart).encode()) == endpoint(json.dumps(together).encode())
    assert len(endpoint(json.dumps(apart).encode())[1]["items"]) == 3


@pytest.mark.parametrize(("body", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_a_mistake_is_explained(endpoint: Endpoint, body: Any, words: str) -> None:
    status, answer = endpoint(json.dumps(body).encode())
    assert status == 400
    assert words in answer["error"]
    assert len(answer["error"]) < 300


def test_a_number_must_be_one(endpoint: Endpoint) -> None:
    for time in (b"NaN", b"Infinity"):
        status, answer = endpoint(b'{"inputs": {"history": [{"item_id": "i1", "timestamp": ' + time + b"}]}}")
        assert status == 400
        assert answer["error"].startswith("history.0.timestamp")


def test_llmrec_without_extras_is_enough(folder: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {Requirement(line).name.replace("-", "_") for lines in extras.values() for line in lines} - {"llmrec"}
    code = f"""
import json, sys
for name in {sorted(names)!r}:
    sys.modules[name] = None  # as if it were not installed
sys.path.insert(0, {str(folder)!r})
from handler import EndpointHandler
print(json.dumps(EndpointHandler({str(folder)!r})({{"inputs": {{"history": ["i1"], "k": 2}}}})))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])["items"]) == 2
