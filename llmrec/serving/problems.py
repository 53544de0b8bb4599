"""Everything that a server refuses, in one shape: `{"error": {"message", "type", "param", "code"}}`.

It is the shape of OpenAI's API, so its clients read our errors too. An answer never holds a stack trace, nor what the
caller sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from llmrec.errors import LlmrecError

FORM = re.compile(r"(str|int|float|bool|none|list\[.*|constrained-str|Event)$")
"""Parts of a place in a schema that name a form and no field."""

MOST_CHARACTERS = 500
"""Of a message; a caller may have named a field with a megabyte."""


class ErrorBody(BaseModel):
    """What went wrong, for people (`message`) and for programs (`code`)."""

    message: str
    type: str
    param: str | None = None
    code: str


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


class Problem(Exception):
    """An answer that is not a success.

    Args:
        status: of HTTP. code: a word for programs. message: a sentence for people. param: the field that it is about.
        retry_after: seconds after which another try makes sense, where one does.
    """

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after


def invalid(message: str, param: str | None = None) -> Problem:
    """422: the request cannot be understood or is outside of the limits."""
    return Problem(422, "invalid_request", message, param)


def not_found(message: str, param: str | None = None) -> Problem:
    """404."""
    return Problem(404, "not_found", message, param)


def overloaded(retry_after: float) -> Problem:
    """429: the queue is full, or its end could not be reached in time."""
    return Problem(429, "overloaded", "The server has more requests than it can answer in time.", None, retry_after)


def unavailable(message: str, retry_after: float = 5.0) -> Problem:
    """503: the engine is dead or the server is stopping."""
    return Problem(503, "unavailable", message, None, retry_after)


def too_late() -> Problem:
    """504: the time of the request is over."""
    return Problem(504, "deadline", "There was no answer within the request's time.")


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem as a response."""
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    param = None if problem.param is None else _readable(problem.param)
    body = ErrorBody(message=_readable(problem.message), type=kind, param=param, code=problem.code)
    extra = dict(headers or {})
    if problem.retry_after is not None:
        extra["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))
    return JSONResponse(ErrorAnswer(error=body).model_dump(), problem.status, extra)


def add_handlers(app: FastAPI) -> None:
    """Answer every exception in the one shape."""

    @app.exception_handler(Problem)
    async def of_ours(request: Request, error: Problem) -> JSONResponse:
        return answer(error, {"WWW-Authenticate": "Bearer"} if error.status == 401 else None)

    @app.exception_handler(LlmrecError)
    async def of_the_library(request: Request, error: LlmrecError) -> JSONResponse:
        return answer(invalid(str(error)))

    @app.exception_handler(RequestValidationError)
    async def of_a_schema(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(_first(error))

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # what a JSON parser stumbles over is no reason for another status
            return answer(invalid("The body cannot be read."))
        phrase = HTTPStatus(error.status_code)
        code = phrase.name.lower()
        headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
        return answer(Problem(error.status_code, code, f"{phrase.phrase}."), headers)

    @app.exception_handler(Exception)
    async def of_a_bug(request: Request, error: Exception) -> JSONResponse:
        return answer(Problem(500, "internal", "The server failed at this request; its log says how."))


def _methods(request: Request) -> list[str]:
    """What a path can be asked for; the framework names the methods of its first route only."""
    found: set[str] = set()
    for path, operations in request.app.openapi()["paths"].items():
        pattern = re.sub(r"\\{.*?\\}", ".+", re.escape(path))
        if re.fullmatch(pattern, request.url.path):
            found.update(name.upper() for name in operations)
    return sorted(found)


def _readable(text: str) -> str:
    """Short, and without halves of surrogate pairs, which JSON may smuggle into a field's name."""
    return text[:MOST_CHARACTERS].encode(errors="replace").decode()


def _first(error: RequestValidationError) -> Problem:
    """One complaint of a schema, without the value that it is about.

    Where a field may have several forms, pydantic says what is wrong with each; the one that got furthest helps most.
    """
    line: Mapping[str, Any] = max(error.errors(), key=lambda line: len(line["loc"]))
    place = ".".join(str(part) for part in line["loc"] if part != "body" and not FORM.match(str(part)))
    if line["type"] == "json_invalid":
        return invalid("The body is no JSON.")
    rest = len(error.errors()) - 1
    more = f" ({rest} more {'problem' if rest == 1 else 'problems'}.)" if rest else ""
    return invalid(f"{place + ': ' if place else ''}{line['msg']}.{more}", place or None)
