"""vLLM's asynchronous engine on an event loop of its own, for a server whose threads search over it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from llmrec.engines.vllm import AsyncBackend, require_vllm, settings_for
from llmrec.indexes.item_tokenizer import ItemTokenizer


class VLLMProcess:
    """A running `AsyncLLM`; the model itself lives in another process, which may die alone.

    Args:
        llm: the engine. loop, thread: where its answers arrive.
    """

    def __init__(self, llm: Any, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        self.llm, self.loop, self.thread = llm, loop, thread
        self.backend = AsyncBackend(llm, loop)

    @classmethod
    def start(cls, folder: Path, items: ItemTokenizer, **settings: Any) -> VLLMProcess:
        """Start vLLM on a model folder.

        Args:
            settings: further arguments of `AsyncEngineArgs`, such as `dtype`.

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
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**{**settings_for(folder, items), **settings}))

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
