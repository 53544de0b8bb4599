"""What can go wrong between a client and a server, one class for each way of dealing with it."""

from __future__ import annotations

from llmrec.errors import LlmrecError


class ClientError(LlmrecError):
    """A call that did not succeed.

    Args:
        message: what happened, in the server's words where it has some.
        status: of HTTP; None where no answer came.
        code: the server's word for programs. param: the field of the request that it is about.
        request_id: what was sent as `X-Request-Id` with every try, for those who look into logs.
        retry_after: seconds after which the server says that another try makes sense.
        tries: how often the request was sent, or tried to be.
        did_nothing: the server has certainly not acted on the request, so that repeating it cannot do anything twice.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        tries: int = 1,
        did_nothing: bool = False,
    ) -> None:
        details = [
            f"{name} {value}"
            for name, value in (("status", status), ("code", code), ("param", param), ("request", request_id))
            if value is not None
        ]
        details += [f"tried {tries} times"] if tries > 1 else []
        super().__init__(f"{message} ({', '.join(details)})" if details else message)
        self.message, self.status, self.code, self.param = message, status, code, param
        self.request_id, self.retry_after, self.tries, self.did_nothing = request_id, retry_after, tries, did_nothing


class InvalidRequestError(ClientError):
    """The request is outside of what the server takes, or the client could not even write it (400, 413, 422, ...)."""


class UnauthorizedError(ClientError):
    """A key is missing or not known to the server (401, 403)."""


class NotFoundError(ClientError):
    """There is no such item, or no such route: the server may have been started without it (404)."""


class OverloadedError(ClientError):
    """The server has more requests than it can answer in time (429)."""


class UnavailableError(ClientError):
    """The server is starting, stopping or without its engine; or a proxy does not reach it (503, 502)."""


class DeadlineError(ClientError):
    """There was no answer in time, by the client's clock or by the server's (504, 408)."""


class ServerFailedError(ClientError):
    """The server failed at this request; its log says how (500 and the like)."""


class ConnectionFailedError(ClientError):
    """No connection came about, or it broke before the answer was there."""


class UnexpectedAnswerError(ClientError):
    """What answered is no llmrec server, or one of another version."""


def kind_of(status: int) -> type[ClientError]:
    """The class of an answer that is not a success."""
    named: dict[int, type[ClientError]] = {
        401: UnauthorizedError,
        403: UnauthorizedError,
        404: NotFoundError,
        408: DeadlineError,
        429: OverloadedError,
        502: UnavailableError,
        503: UnavailableError,
        504: DeadlineError,
    }
    if status in named:
        return named[status]
    if status >= 500:
        return ServerFailedError
    return InvalidRequestError if status >= 400 else UnexpectedAnswerError
