"""The clients of `llmrec serve`: `Client` for programs that wait, `AsyncClient` for asyncio.

    with llmrec.Client("http://127.0.0.1:8000") as client:
        for item in client.recommend(["i1", "i7"], k=5).items:
            print(item.title, item.score)

What they can be asked is in `calls`, how a call goes is in `exchange`; here bytes are sent and received.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, get_args, get_type_hints

import httpx2

from llmrec.client import calls
from llmrec.client.calls import Call
from llmrec.client.connection import LIMITS, Connection
from llmrec.client.exchange import Outcome, Pause, Step, exchange
from llmrec.client.outcomes import Answer
from llmrec.client.retries import Deadline

P = ParamSpec("P")
T = TypeVar("T")
Http = TypeVar("Http")
Method = TypeVar("Method", bound=Callable[..., Any])


def _waiting(make: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """The method of `Client` that carries out what a function of `calls` describes."""

    @wraps(make)
    def method(self: Client, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._carry_out(make(*args, **kwargs))

    return _documented(method, make)


def _awaited(make: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """The same for `AsyncClient`."""

    @wraps(make)
    async def method(self: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._carry_out(make(*args, **kwargs))

    return _documented(method, make)


def _documented(method: Method, make: Callable[..., Call[Any]]) -> Method:
    """For `help`: a method has a `self`, and returns what its call is answered."""
    signature, (answer,) = inspect.signature(make), get_args(get_type_hints(make)["return"])
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *signature.parameters.values()]
    method.__signature__ = signature.replace(parameters=parameters, return_annotation=answer)  # type: ignore[attr-defined]
    return method


class _Connected(ABC, Generic[Http]):
    """Settings, and an HTTP client that keeps connections open between calls."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        admin_key: str | None = None,
        timeout: float = 10.0,
        max_retries: int = 3,
    ) -> None:
        self._connection = Connection.read(base_url, api_key, admin_key, timeout, max_retries)
        self._http = self._open()

    @abstractmethod
    def _open(self) -> Http: ...

    def __repr__(self) -> str:
        it = self._connection
        return f"{type(self).__name__}({it.base_url!r}, timeout={it.timeout:g}, max_retries={it.max_retries})"


class Client(_Connected[httpx2.Client]):
    """A client that waits for its answers. Threads may share one; `close` it, or use it in a `with`.

    Args:
        base_url: the server's address, without `/v1`; else `LLMREC_BASE_URL`, else `http://127.0.0.1:8000`.
        api_key: where the server has keys; else `LLMREC_API_KEY`. It is never shown.
        admin_key: for `catalog` and `update_catalog`; else `LLMREC_ADMIN_KEY`.
        timeout: seconds for a call with all its tries; each method takes another one. The server is told what is left.
        max_retries: tries after the first, where it was answered 429, 502 or 503 or the connection failed.

    Raises:
        InvalidRequestError: a setting cannot be used.
    """

    recommend = _waiting(calls.recommend)
    recommend_batch = _waiting(calls.recommend_batch)
    search = _waiting(calls.search)
    score = _waiting(calls.score)
    item = _waiting(calls.item)
    search_items = _waiting(calls.search_items)
    models = _waiting(calls.models)
    is_ready = _waiting(calls.is_ready)
    catalog = _waiting(calls.catalog)
    update_catalog = _waiting(calls.update_catalog)

    def close(self) -> None:
        """Close the connections; nothing can be asked any more."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self) -> httpx2.Client:
        return httpx2.Client(limits=LIMITS)

    def _carry_out(self, call: Call[T]) -> T:
        steps = exchange(call, self._connection)
        outcome: Outcome | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = self._take(step)

    def _take(self, step: Step) -> Outcome | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            with closing(self._http.send(step, stream=True)) as response:
                body = b"".join(_in_time(response.iter_bytes(), step.extensions["timeout"]))
                return Answer(response.status_code, response.headers, body)
        except httpx2.RequestError as error:
            return error


def _in_time(chunks: Iterable[bytes], deadline: Deadline) -> Iterator[bytes]:
    """The parts of a body, each of which may come in time while the whole does not."""
    for chunk in chunks:
        if deadline.left() <= 0:
            raise httpx2.ReadTimeout("the body came too slowly")
        yield chunk


class AsyncClient(_Connected[httpx2.AsyncClient]):
    """A client for asyncio, with the settings and methods of `Client`; each method is awaited.

    It belongs to the event loop that it is first used in; `close` it there, or use it in an `async with`.
    """

    recommend = _awaited(calls.recommend)
    recommend_batch = _awaited(calls.recommend_batch)
    search = _awaited(calls.search)
    score = _awaited(calls.score)
    item = _awaited(calls.item)
    search_items = _awaited(calls.search_items)
    models = _awaited(calls.models)
    is_ready = _awaited(calls.is_ready)
    catalog = _awaited(calls.catalog)
    update_catalog = _awaited(calls.update_catalog)

    async def close(self) -> None:
        """Close the connections; nothing can be asked any more."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def _open(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(limits=LIMITS)

    async def _carry_out(self, call: Call[T]) -> T:
        steps = exchange(call, self._connection)
        outcome: Outcome | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = await self._take(step)

    async def _take(self, step: Step) -> Outcome | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            async with asyncio.timeout(step.extensions["timeout"].left()):
                response = await self._http.send(step)
                return Answer(response.status_code, response.headers, response.content)
        except TimeoutError:
            return httpx2.ReadTimeout("the answer came too slowly")
        except httpx2.RequestError as error:
            return error
