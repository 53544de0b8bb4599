"""A scripted server, and one way to ask it with either client: every test that uses `ask` runs with both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client.scripted import Scripted

import llmrec
from llmrec.client import retries

Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLMREC_BASE_URL", "LLMREC_API_KEY", "LLMREC_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST", 0.001)


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.stop()


@pytest.fixture(params=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest, server: Scripted) -> Ask:
    """Put questions, functions of a client, to one client after another; what the last one is answered."""

    def waiting(*questions: Callable[[Any], Any], **settings: Any) -> Any:
        with llmrec.Client(settings.pop("base_url", server.url), **settings) as client:
            return [question(client) for question in questions][-1]

    async def awaited(*questions: Callable[[Any], Any], **settings: Any) -> Any:
        async with llmrec.AsyncClient(settings.pop("base_url", server.url), **settings) as client:
            return [await question(client) for question in questions][-1]

    if request.param == "Client":
        return waiting
    return lambda *questions, **settings: asyncio.run(awaited(*questions, **settings))
