"""What came of one try: the answer as a value, or an error that says what happened and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from llmrec.client.calls import Call
from llmrec.client.connection import Connection
from llmrec.client.errors import ClientError, ConnectionFailedError, DeadlineError, UnexpectedAnswerError, kind_of
from llmrec.client.retries import seconds_of

T = TypeVar("T")

MOST_CHARACTERS = 300
"""Of a text from outside in a message; what answers may be a page of a proxy."""

NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
"""Failures of the network before the server can have seen anything."""

IN_DOUBT = "Whether the change was made is not known; look at the catalog before you send it again."


class Answer(NamedTuple):
    """What came back, whatever it says."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Try(NamedTuple):
    """What a message says besides.

    Args:
        name: of the request, its `X-Request-Id`. number: of the try, from 1. seconds: the timeout of the call.
    """

    connection: Connection
    name: str
    number: int
    seconds: float


class _Said(BaseModel):
    """What llmrec's server puts under `error`."""

    message: str
    code: str
    param: str | None = None


class _ErrorBody(BaseModel):
    error: _Said


def read(call: Call[T], outcome: Answer | httpx2.RequestError, this: Try) -> T:
    """The value that was asked for.

    Raises:
        ClientError: there is none.
    """
    if isinstance(outcome, httpx2.RequestError):
        raise _of_network(call, outcome, this) from outcome
    if not 200 <= outcome.status < 300:
        raise _of_status(call, outcome, this)
    try:
        return call.read(outcome.body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        problem = f"{place + ': ' if place else ''}{first['msg']}"
        raise _unexpected(call, problem, outcome.status, this) from None


def _of_network(call: Call[Any], failure: httpx2.RequestError, this: Try) -> ClientError:
    was_sent, address = not isinstance(failure, NOT_SENT), this.connection.base_url
    if isinstance(failure, httpx2.TimeoutException):
        message = f"No answer from {address} within {this.seconds:g} seconds."
        return _error(DeadlineError, call, message, this, did_nothing=not was_sent)
    reason = _clean(str(failure) or type(failure).__name__, this)
    if isinstance(failure, httpx2.DecodingError):
        return _unexpected(call, reason, None, this)
    if was_sent:
        message = f"The connection to {address} broke before the answer was there: {reason}."
    else:
        message = f"No connection to {address}: {reason}. Does 'llmrec serve' run there?"
    return _error(ConnectionFailedError, call, message, this, did_nothing=not was_sent)


def _of_status(call: Call[Any], answer: Answer, this: Try) -> ClientError:
    kind, after = kind_of(answer.status), seconds_of(answer.headers.get("Retry-After"))
    facts: dict[str, Any] = {"status": answer.status, "retry_after": after}
    try:
        said = _ErrorBody.model_validate_json(answer.body).error
    except ValidationError:
        text = _clean(answer.body.decode(errors="replace"), this)
        message = f"The answer is not llmrec's: {text or '(nothing)'}"
        return _error(kind, call, message, this, did_nothing=400 <= answer.status < 500, **facts)
    facts["code"] = _clean(said.code, this)
    facts["param"] = None if said.param is None else _clean(said.param, this)
    # llmrec's own 503 is said at the door; a proxy's may follow a connection that broke in the middle.
    refused = 400 <= answer.status < 500 or answer.status == 503
    return _error(kind, call, _clean(said.message, this), this, did_nothing=refused, **facts)


def _unexpected(call: Call[Any], problem: str, status: int | None, this: Try) -> ClientError:
    message = f"The answer cannot be read ({_clean(problem, this)}). Is {this.connection.base_url} a server of llmrec?"
    return _error(UnexpectedAnswerError, call, message, this, status=status)


def _error(
    kind: type[ClientError], call: Call[Any], message: str, this: Try, did_nothing: bool = False, **facts: Any
) -> ClientError:
    if not (call.is_repeatable or did_nothing):
        message = f"{message} {IN_DOUBT}"
    return kind(message, request_id=this.name, tries=this.number, did_nothing=did_nothing, **facts)


def _clean(text: str, this: Try) -> str:
    """A text from outside: on one line, not long, and without a key that something has sent back."""
    for key in this.connection.secrets:
        text = text.replace(key, "[key]")
    text = " ".join(text.split())[:MOST_CHARACTERS]
    return "".join(letter if letter.isprintable() else "?" for letter in text)
