"""What all routes share: the live catalog, the batcher, and how a request waits for its answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request

from llmrec.errors import LlmrecError
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.batching import Batcher, Closed, Expired, Full, Question
from llmrec.serving.live import LiveCatalog
from llmrec.serving.metrics import Metrics
from llmrec.serving.problems import Problem, invalid, overloaded, too_late, unavailable
from llmrec.serving.questions import answer_all
from llmrec.serving.settings import ServingSettings
from llmrec.serving.users import Users

logger = logging.getLogger(__name__)

LOOK_UP = 0.1
"""Seconds between two looks at whether the caller is still there."""

MARGIN = 0.05
"""The share of a request's time that is kept for writing and sending its answer."""


class Service:
    """A recommender that answers over HTTP.

    Args:
        recommender: any. settings: limits. users: histories to try it with. engine: what decodes, by name.
        is_alive: whether the engine can still answer; vLLM's may die alone. stop: ends the engine.
    """

    def __init__(
        self,
        recommender: Recommender,
        settings: ServingSettings,
        users: Users | None = None,
        engine: str = "transformers",
        is_alive: Callable[[], bool] = lambda: True,
        stop: Callable[[], object] = lambda: None,
    ) -> None:
        self.settings, self.users, self.engine, self.is_alive = settings, users or Users.none(), engine, is_alive
        self._stop = stop
        self.catalog = LiveCatalog(recommender, settings.cached_filters)
        self.metrics = Metrics()
        self.batcher = Batcher(answer_all, settings.max_queue, settings.max_batch, settings.workers, self.metrics.batch)
        self.metrics.watch(
            lambda: len(self.batcher),
            lambda: len(self.catalog.current.catalog),
            lambda: int(self.catalog.current.in_stock.sum()),
            lambda: self.catalog.current.version,
        )
        self.created = int(time.time())
        self.is_draining = False

    @property
    def is_ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.is_alive() and not self.is_draining

    def beams(self, k: int) -> int:
        """Prefixes that a list of k is searched with; k itself where every item is scored."""
        recommender = self.catalog.current.recommender
        return max(recommender.decoding.beams, k) if isinstance(recommender, LLMRecommender) else k

    async def answers(self, request: Request, questions: Sequence[Question], timeout_ms: int | None) -> list[Any]:
        """Queue questions and wait for all answers, as long as the caller does and its time lasts.

        Raises:
            Problem: 422, 429, 503, 504, or 499 where nobody listens any more.
        """
        if not self.is_alive():
            raise unavailable("The engine has died; another server may answer.")
        seconds = min(timeout_ms or self.settings.timeout_ms, self.settings.timeout_ms) / 1000
        deadline = request.state.arrived + seconds * (1 - MARGIN)
        try:
            futures = [asyncio.wrap_future(one) for one in self.batcher.submit(questions, deadline)]
        except Full as full:
            raise overloaded(full.retry_after) from None
        except Closed:
            raise unavailable("The server is stopping.") from None
        try:
            await self._wait(request, futures, deadline)
            return [future.result() for future in futures]
        except Expired:
            raise too_late() from None
        except (Problem, LlmrecError):
            raise
        except Exception as error:
            if not self.is_alive():
                raise unavailable("The engine has died; another server may answer.") from error
            raise
        finally:
            for future in futures:  # what has not begun need not begin
                future.cancel()

    async def _wait(self, request: Request, futures: Sequence[asyncio.Future[Any]], deadline: float) -> None:
        waiting: set[asyncio.Future[Any]] = set(futures)
        while waiting:
            left = deadline - time.monotonic()
            if left <= 0:
                raise too_late()
            done, waiting = await asyncio.wait(waiting, timeout=min(left, LOOK_UP), return_when=asyncio.FIRST_EXCEPTION)
            for future in done:
                future.result()
            if waiting and await request.is_disconnected():
                raise Problem(499, "gone", "The caller has gone.")

    def check_size(self, count: int, most: int, what: str, param: str) -> None:
        """Raise `Problem` 422 where a list is longer than the server takes."""
        if count > most:
            raise invalid(f"{what} may have {most:,} items, this one has {count:,}.", param)

    def close(self) -> None:
        """Answer what was accepted, then stop."""
        self.is_draining = True
        self.batcher.close()
        self._stop()
