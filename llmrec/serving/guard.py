"""What stands before every route: a name for the request, limits on its body, and the clock.

Plain ASGI, because it must see the body before any framework has read it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmrec.serving.metrics import Metrics
from llmrec.serving.problems import Problem, answer
from llmrec.serving.settings import ServingSettings

logger = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


class Guard:
    """Middleware. Puts `request_id` and `arrived` (of `time.monotonic`) into the scope's state."""

    def __init__(self, app: ASGIApp, settings: ServingSettings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other traffic passes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        arrived, status = time.monotonic(), 500
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {}).update(request_id=name, arrived=arrived)

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({**SECURITY, "X-Request-Id": name})
            await send(message)

        try:
            body = await self._body(scope, receive)
        except Problem as problem:
            await answer(problem, {"Connection": "close"})(scope, receive, named)
        else:
            await self.app(scope, _again(body, receive), named)
        finally:
            route = getattr(scope.get("route"), "path", "none")  # as it is written in the code: a bounded set
            took = time.monotonic() - arrived
            self.metrics.requests.labels(route, status).observe(took)
            if status >= 500:
                logger.warning("request %s: %s %s after %.3f s", name, route, status, took)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            Problem: it is too large (413), or does not arrive in time (408).
        """
        most, chunks, size = self.settings.max_body_bytes, [], 0
        too_large = Problem(413, "too_large", f"A request may have {most:,} bytes.")
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > most:
            raise too_large
        try:
            async with asyncio.timeout(self.settings.body_timeout_s):
                while (message := await receive())["type"] == "http.request":
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > most:
                        raise too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Problem(408, "slow_body", "The body of the request did not arrive in time.") from None
        return b"".join(chunks)


def _again(body: bytes, receive: Receive) -> Any:
    """A `receive` that gives the body once, and then what the connection says."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again
