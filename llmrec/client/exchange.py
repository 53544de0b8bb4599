"""One call from its first try to its answer, without the network: both clients only do what it says.

`exchange` is a generator. It gives requests to send and pauses to make, is told what came of each, and returns the
answer or raises why there is none. What to send, what to try again and when to give up are in it once.
"""

from __future__ import annotations

import itertools
import json
import logging
import numbers
import secrets
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

import httpx2

import llmrec
from llmrec.client.arguments import invalid
from llmrec.client.calls import Call
from llmrec.client.connection import ADMIN_KEY, Connection, checked_timeout
from llmrec.client.errors import ClientError
from llmrec.client.outcomes import Answer, Try, read
from llmrec.client.retries import Deadline, may_repeat, pause_after

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Pause(NamedTuple):
    """Wait so many seconds."""

    seconds: float


Step = httpx2.Request | Pause
Outcome = Answer | httpx2.RequestError
"""Of a request: an answer, or how the network failed."""


def exchange(call: Call[T], connection: Connection) -> Generator[Step, Outcome | None, T]:
    """Carry out a call; a pause is told nothing.

    Raises:
        ClientError: there is no answer.
    """
    seconds = connection.timeout if call.timeout is None else checked_timeout(call.timeout)
    deadline = Deadline(seconds)
    name = secrets.token_hex(8)  # the same for all tries, so that logs on the way show what belongs together
    for tries in itertools.count(1):
        outcome = yield _request(call, connection, deadline, name)
        assert outcome is not None
        try:
            return read(call, outcome, Try(connection, name, tries, seconds))
        except ClientError as error:
            if call.recover is not None:
                return call.recover(error)
            if tries > connection.max_retries or not may_repeat(error, call.is_repeatable):
                raise
            pause = pause_after(tries, error.retry_after)
            if pause >= deadline.left():  # an answer after the deadline is worth nothing, and waiting for none neither
                raise
            logger.info("%s; again in %.2f seconds", error, pause)
        yield Pause(pause)
    raise AssertionError("the tries are counted without end")


def _request(call: Call[Any], connection: Connection, deadline: Deadline, name: str) -> httpx2.Request:
    """A try, which tells the server how long its answer is wanted.

    Raises:
        InvalidRequestError: it cannot be written, or needs a key that the client lacks.
    """
    if call.is_admin and connection.admin_key is None:
        raise invalid(f"This needs the server's admin key: give admin_key, or set {ADMIN_KEY}.", "admin_key")
    key = connection.admin_key if call.is_admin else connection.api_key
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "User-Agent": f"llmrec/{llmrec.__version__}",
        "X-Request-Id": name,
    }
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    if key is not None:
        headers["Authorization"] = f"Bearer {key.get_secret_value()}"
    try:
        return httpx2.Request(
            call.method,
            connection.base_url + call.path,
            params=call.query or None,
            headers=headers,
            content=None if call.body is None else _json(call.body(max(1, int(deadline.left() * 1000)))),
            extensions={"timeout": deadline},
        )
    except httpx2.InvalidURL as error:
        raise invalid(f"It cannot be asked for: {error}.", "url") from None


def _json(body: Any) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, default=_number).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(f"The request is no JSON: {error}.", "body") from None


def _number(value: Any) -> int | float:
    """A number of numpy, say, as one of Python."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not among text, numbers, booleans, None, lists and mappings")
