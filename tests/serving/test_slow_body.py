"""A body that does not arrive, over a real socket: the caller is told, and the server goes on."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import pytest
import uvicorn
from serving.shop import make_service

from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.app import create_app

HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"


@pytest.fixture
def address(recommender: LLMRecommender) -> Iterator[tuple[str, int]]:
    app = create_app(make_service(recommender, body_timeout_s=0.3))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()
        server.should_exit = True
        thread.join()


def answer(address: tuple[str, int], *parts: bytes) -> tuple[int, str | None, Any]:
    """Status, what becomes of the connection, and body."""
    with socket.create_connection(address, timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        response = HTTPResponse(connection)
        response.begin()
        return response.status, response.getheader("Connection"), json.loads(response.read())


def test_it_is_given_up_and_others_are_answered(address: tuple[str, int]) -> None:
    status, connection, body = answer(address, HEAD, b'{"history"')
    assert (status, connection, body["error"]["code"]) == (408, "close", "slow_body")
    status, _, body = answer(address, HEAD, b'{"history": []}')
    assert status == 200
    assert body["items"]
