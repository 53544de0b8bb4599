"""From threads that must wait onto the event loop where vLLM's asynchronous engine runs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

Request = Callable[[str], AsyncIterator[Any]]
"""Starts a request under a name and gives its outputs, each with all that came before it."""


class OnLoop:
    """A `vllm.AsyncLLM` on an event loop, for threads that ask at the same time.

    Args:
        llm: the engine. loop: the loop that it runs on, not that of the calling thread.
    """

    def __init__(self, llm: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.llm, self.loop = llm, loop

    @property
    def model_config(self) -> Any:
        """VLLM's `ModelConfig`."""
        return self.llm.vllm_config.model_config

    def outputs(self, requests: Iterable[Request]) -> list[Any]:
        """The last output of each request, all asked at once."""
        return asyncio.run_coroutine_threadsafe(_all(requests), self.loop).result()


async def _all(requests: Iterable[Request]) -> list[Any]:
    return await asyncio.gather(*map(_last, requests))


async def _last(request: Request) -> Any:
    return [output async for output in request(f"llmrec-{uuid.uuid4().hex}")][-1]
