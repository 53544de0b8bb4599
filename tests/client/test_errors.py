"""How a refusal reads, and that no key is ever in what can be read."""

from __future__ import annotations

import logging
import pickle
import traceback
from typing import Any

import pytest
from client.conftest import Ask
from client.scripted import Reply, Scripted, Seen, refusal

import llmrec
from llmrec.client.errors import (
    ClientError,
    ConnectionFailedError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    ServerFailedError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from llmrec.errors import LlmrecError

KEY, ADMIN = "llmrec_my-own-secret", "llmrec_the-boss-secret"


def recommend(client: Any) -> Any:
    return client.recommend(["i1"])


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthorized", UnauthorizedError),
        (403, "forbidden", UnauthorizedError),
        (404, "not_found", NotFoundError),
        (405, "method_not_allowed", InvalidRequestError),
        (408, "slow_body", DeadlineError),
        (413, "too_large", InvalidRequestError),
        (422, "invalid_request", InvalidRequestError),
        (500, "internal", ServerFailedError),
        (504, "deadline", DeadlineError),
    ],
)
def test_a_refusal_says_what_the_server_said(
    ask: Ask, server: Scripted, status: int, code: str, kind: type[ClientError]
) -> None:
    server.replies = [refusal(status, code, "k may be at most 100; it is 500.", "k")]
    with pytest.raises(kind) as caught:
        ask(recommend)
    error, (seen,) = caught.value, server.seen
    assert (error.status, error.code, error.param, error.tries) == (status, code, "k", 1)
    assert error.message == "k may be at most 100; it is 500."
    assert error.request_id == seen.headers["x-request-id"]
    assert str(error) == f"{error.message} (status {status}, code {code}, param k, request {error.request_id})"
    assert error.did_nothing is (status < 500)
    assert isinstance(error, LlmrecError)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply(500, b"<html>\n<b>Oh\x1b[31m</b>"), ServerFailedError, r"not llmrec's: <html> <b>Oh\?\[31m</b>"),
        (Reply(404, b""), NotFoundError, r"not llmrec's: \(nothing\)"),
        (Reply(400, b'{"error": "no"}'), InvalidRequestError, "not llmrec's"),
        (Reply(418, b"\xff\xfe"), InvalidRequestError, "not llmrec's"),
        (Reply(200, b"<html>"), UnexpectedAnswerError, "JSON.*a server of llmrec?"),
        (Reply(200, b""), UnexpectedAnswerError, "JSON"),
        (Reply(200, {"model": "shop"}), UnexpectedAnswerError, "catalog_version: Field required"),
        (Reply(200, {"model": "m", "catalog_version": "x"}), UnexpectedAnswerError, "catalog_version: .*integer"),
        (Reply(200, b"?", {"Content-Encoding": "gzip"}), UnexpectedAnswerError, "cannot be read"),
        (Reply(302, b"", {"Location": "/elsewhere"}), UnexpectedAnswerError, "status 302"),
    ],
)
def test_an_answer_that_is_not_ours(
    ask: Ask, server: Scripted, reply: Reply, kind: type[ClientError], words: str
) -> None:
    server.replies = [reply]
    with pytest.raises(kind, match=words):
        ask(recommend)
    assert len(server.seen) == 1


def test_a_long_answer_is_cut(ask: Ask, server: Scripted) -> None:
    server.replies = [Reply(500, b"x" * 100_000)]
    with pytest.raises(ServerFailedError) as caught:
        ask(recommend)
    assert len(str(caught.value)) < 500


def test_no_key_can_be_read_anywhere(ask: Ask, server: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in errors and what they came from, also where something sends it back, nor in logs."""
    caplog.set_level(logging.DEBUG)

    def told(seen: Seen) -> bytes:
        return f"You sent {seen.headers['authorization']}, that is {KEY} or {ADMIN}".encode()

    echo = {"message": f"unknown key {KEY}", "type": "x", "param": ADMIN, "code": KEY}
    texts = []
    for reply in [
        Reply(401, {"error": echo}),
        Reply(503, f"Bearer {KEY}".encode()),
        Reply(200, f"Bearer {KEY}".encode()),
        Reply(200, b"?", {"Content-Encoding": "gzip"}),
        Reply(200, {"model": KEY, "catalog_version": ADMIN}),
        Reply(breaks=True),
    ]:
        server.replies = [reply]
        for question in (recommend, lambda client: client.update_catalog(add=[])):
            with pytest.raises(ClientError) as caught:
                ask(question, api_key=KEY, admin_key=ADMIN)
            texts += ["".join(traceback.format_exception(caught.value)), repr(caught.value), repr(vars(caught.value))]
            texts += [repr(pickle.dumps(caught.value))]
    assert "authorization" in server.seen[0].headers
    for client in (llmrec.Client(api_key=KEY, admin_key=ADMIN), llmrec.AsyncClient(api_key=KEY, admin_key=ADMIN)):
        texts += [repr(client), str(client), repr(vars(client)), repr(client._connection)]
    for secret in (KEY, ADMIN):
        assert not [text for text in texts if secret in text]
        assert secret not in caplog.text
    assert "[key]" in texts[0]


def test_a_refused_connection_does_not_show_the_key(ask: Ask) -> None:
    with pytest.raises(ConnectionFailedError) as caught:
        ask(recommend, base_url="http://127.0.0.1:1", api_key=KEY, max_retries=0)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("bad", [f"{KEY}\n", f" {KEY}", f"{KEY}ü", f"Bearer {KEY}", f"{KEY}\x7f"])
@pytest.mark.parametrize("name", ["api_key", "admin_key"])
def test_a_key_that_no_header_carries(name: str, bad: str) -> None:
    with pytest.raises(InvalidRequestError, match=name) as caught:
        llmrec.Client(**{name: bad})
    assert KEY not in str(caught.value)


def test_a_password_in_the_address_is_not_repeated() -> None:
    with pytest.raises(InvalidRequestError, match="given as api_key") as caught:
        llmrec.Client(f"http://me:{KEY}@localhost")
    assert KEY not in str(caught.value)


def test_the_key_does_not_follow_a_redirect(ask: Ask, server: Scripted) -> None:
    server.replies = [Reply(307, b"", {"Location": f"{server.url}/elsewhere"}), Reply()]
    with pytest.raises(UnexpectedAnswerError):
        ask(recommend, api_key=KEY)
    assert len(server.seen) == 1


def test_errors_travel_between_processes() -> None:
    error = OverloadedError("Too many.", status=429, retry_after=2.0, tries=3, request_id="ab", did_nothing=True)
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))
    assert str(error) == "Too many. (status 429, request ab, tried 3 times)"
    assert isinstance(UnavailableError("x"), ClientError)
