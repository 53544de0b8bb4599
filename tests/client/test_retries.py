"""When a client asks again, how long it waits before, and when it must not."""

from __future__ import annotations

import logging
import socket
import time
from email.utils import formatdate
from typing import Any

import pytest
from client.conftest import Ask
from client.scripted import OVERLOADED, STOPPING, Reply, Scripted, refusal

from llmrec.client import retries
from llmrec.client.errors import (
    ClientError,
    ConnectionFailedError,
    DeadlineError,
    OverloadedError,
    UnavailableError,
    UnexpectedAnswerError,
)

STATE = {"catalog_version": 4, "items": 9, "in_stock": 8, "out_of_stock": []}
NEW = [{"item_id": "n", "title": "N"}]


def recommend(client: Any) -> Any:
    return client.recommend(["i1"])


def add(client: Any) -> Any:
    return client.update_catalog(add=NEW)


def take_out(client: Any) -> Any:
    return client.update_catalog(out_of_stock=["i1"])


@pytest.mark.parametrize("first", [OVERLOADED, STOPPING, Reply(502, b"<html>"), Reply(503, b""), Reply(breaks=True)])
def test_what_passes_is_tried_again(ask: Ask, server: Scripted, first: Reply) -> None:
    server.replies = [first, first, Reply()]
    assert ask(recommend).items[0].item_id == "i7"
    assert len({seen.headers["x-request-id"] for seen in server.seen}) == 1
    waits = [seen.body["timeout_ms"] for seen in server.seen]
    assert len(waits) == 3
    assert 0 < waits[2] <= waits[1] <= waits[0] <= 10_000


def test_the_server_says_when(ask: Ask, server: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "llmrec.client")
    server.replies = [refusal(429, "overloaded", Retry_After="1"), Reply()]
    assert ask(recommend).items
    first, second = server.seen
    assert second.at - first.at >= 1
    assert "again in 1.0" in caplog.text


def test_tries_are_counted(ask: Ask, server: Scripted) -> None:
    server.replies = [STOPPING]
    with pytest.raises(UnavailableError, match=r"The server is stopping\. .*tried 3 times") as caught:
        ask(recommend, max_retries=2)
    assert len(server.seen) == caught.value.tries == 3
    with pytest.raises(UnavailableError):
        ask(recommend, max_retries=0)
    assert len(server.seen) == 4


def test_nobody_waits_for_a_try_after_the_deadline(ask: Ask, server: Scripted) -> None:
    server.replies = [refusal(429, "overloaded", Retry_After="3600")]
    with pytest.raises(OverloadedError) as caught:  # at once: this test would take an hour
        ask(recommend)
    assert caught.value.retry_after == 3600
    assert len(server.seen) == 1


def test_the_deadline_ends_the_tries(ask: Ask, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more tries left than anybody would live to see; no try may begin without a time for its answer."""
    monkeypatch.setattr(retries, "FIRST", 0.05)
    server.replies = [STOPPING]
    with pytest.raises((UnavailableError, DeadlineError)):
        ask(lambda client: client.recommend([], timeout=0.5), max_retries=10**9)
    left = [seen.body["timeout_ms"] for seen in server.seen]
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] <= left[0] <= 500


def test_a_slow_server_is_left(ask: Ask, server: Scripted) -> None:
    server.replies = [Reply(before=lambda seen: server.stopped.wait())]
    with pytest.raises(DeadlineError, match=r"within 0\.2 seconds") as caught:
        ask(lambda client: client.recommend([], timeout=0.2))
    assert caught.value.status is None
    assert caught.value.tries == 1


def test_an_answer_that_never_ends_is_left(ask: Ask, server: Scripted) -> None:
    """Each of its parts comes in time."""
    server.replies = [Reply(drips=True, headers={"Content-Length": "1000000000"})]
    with pytest.raises(DeadlineError):
        ask(lambda client: client.recommend([], timeout=0.3))


def test_nobody_there(ask: Ask) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"  # bound, and nobody listens
        with pytest.raises(
            ConnectionFailedError, match=f"No connection to {address}.*llmrec serve.*tried 3 times"
        ) as e:
            ask(add, base_url=address, max_retries=2, admin_key="boss")
        assert e.value.did_nothing
        assert ask(lambda client: client.is_ready(), base_url=address) is False


@pytest.mark.parametrize("first", [OVERLOADED, STOPPING, Reply(429, b"a proxy's")])
def test_new_items_are_sent_again_where_nothing_was_done(ask: Ask, server: Scripted, first: Reply) -> None:
    server.replies = [first, Reply(body=STATE)]
    assert ask(add, admin_key="boss").items == 9
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (Reply(breaks=True), ConnectionFailedError),
        (Reply(503, b"upstream connect error or disconnect/reset before headers"), UnavailableError),
        (Reply(502, b"<html>"), UnavailableError),
        (Reply(200, b"not JSON"), UnexpectedAnswerError),
    ],
)
def test_new_items_are_not_sent_twice_in_doubt(
    ask: Ask, server: Scripted, first: Reply, kind: type[ClientError]
) -> None:
    """They may have been added: the second time would be refused, as if the first had failed."""
    server.replies = [first, Reply(body=STATE)]
    with pytest.raises(kind, match="not known; look at the catalog") as caught:
        ask(add, admin_key="boss")
    assert not caught.value.did_nothing
    assert len(server.seen) == 1


def test_new_items_and_a_slow_server(ask: Ask, server: Scripted) -> None:
    server.replies = [Reply(before=lambda seen: server.stopped.wait())]
    with pytest.raises(DeadlineError, match="not known; look at the catalog"):
        ask(lambda client: client.update_catalog(add=NEW, timeout=0.2), admin_key="boss")


def test_stock_can_be_set_twice(ask: Ask, server: Scripted) -> None:
    server.replies = [Reply(breaks=True), Reply(body=STATE)]
    assert ask(take_out, admin_key="boss").items == 9
    assert len(server.seen) == 2


def test_not_ready_is_an_answer(ask: Ask, server: Scripted) -> None:
    server.replies = [STOPPING, Reply(body={"status": "ready"})]
    assert ask(lambda client: client.is_ready()) is False
    assert len(server.seen) == 1


@pytest.mark.parametrize("reply", [refusal(404, "not_found"), Reply(200, b"hello"), Reply(301, b"")])
def test_another_server_is_not_simply_unready(ask: Ask, server: Scripted, reply: Reply) -> None:
    server.replies = [reply]
    with pytest.raises(ClientError):
        ask(lambda client: client.is_ready())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3.0), (" 0 ", 0.0), ("", None), ("-3", None), ("soon", None), ("1.5", None), ("²", None)],
)
def test_what_retry_after_says(header: str | None, seconds: float | None) -> None:
    assert retries.seconds_of(header) == seconds


def test_retry_after_may_be_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    assert retries.seconds_of(formatdate(1_000_000_030, usegmt=True)) == 30
    assert retries.seconds_of(formatdate(999_999_000, usegmt=True)) == 0


def test_an_endless_number_is_a_long_time() -> None:
    assert retries.seconds_of("9" * 5000) == float("inf")


def test_pauses_double_up_to_a_bound_and_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real constants
    for tries, bound in [(1, 0.1), (2, 0.2), (4, 0.8), (8, 5.0), (10**6, 5.0)]:
        drawn = [retries.pause_after(tries, None) for _ in range(1000)]
        assert 0 <= min(drawn) < bound / 10
        assert bound * 0.9 < max(drawn) <= bound
    assert all(2 <= retries.pause_after(1, 2.0) <= 2.1 for _ in range(100))
