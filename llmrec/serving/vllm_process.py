"""vLLM's asynchronous engine on an event loop of its own, for a server whose threads search over it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from llmrec.engines.vllm import require_vllm


class VLLMProcess:
    """A running `AsyncLLM`; the model itself lives in another process, which may die alone.

    Args:
        llm: the engine. loop, thread: where its answers arrive.
    """

    def __init__(self, llm: Any, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        self.llm, self.loop, self.thread = llm, loop, thread

    @classmethod
    def start(cls, settings: Mapping[str, Any]) -> VLLMProcess:
        """Start vLLM.

        Args:
            settings: arguments of `AsyncEngineArgs`, the model folder among them.

        Raises:
            MissingExtraError: vLLM is not installed.
        """
        require_vllm()
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="llmrec-vllm", daemon=True)
        thread.start()

        async def made() -> Any:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**settings))

        try:
            llm = asyncio.run_coroutine_threadsafe(made(), loop).result()
        except BaseException:
            loop.call_soon_threadsafe(loop.stop)
            raise
        return cls(llm, loop, thread)

    def is_alive(self) -> bool:
        """Whether it can still answer."""
        return not self.llm.errored

    def stop(self) -> None:
        """End the engine's process and the loop."""
        self.loop.call_soon_threadsafe(self.llm.shutdown)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
