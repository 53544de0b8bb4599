"""A server that answers from a script and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

LIST: dict[str, Any] = {
    "model": "shop",
    "catalog_version": 3,
    "exact": True,
    "unknown_items": ["zzz"],
    "items": [
        {
            "item_id": "i7",
            "title": "A lamp",
            "score": -3.25,
            "explanation": {
                "code": "<a_1><b_2>",
                "levels": [{"token": "<a_1>", "log_p": -1.25}, {"token": "<b_2>", "log_p": -2.0}],
                "nearest": [{"item_id": "i1", "title": "Lamps", "shared_levels": 1, "similarity": 0.5}],
            },
        },
        {"item_id": "i8", "title": "A desk", "score": -4.5, "explanation": None},
    ],
}


class Seen(NamedTuple):
    """A request, and when and on which connection it came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Any
    at: float
    connection: int


@dataclass
class Reply:
    """What a request is answered.

    Args:
        body: JSON, or the bytes themselves. before: called first, given the request.
        breaks: close the connection in place of an answer. drips: send the body so slowly that it never ends.
    """

    status: int = 200
    body: Any = field(default_factory=lambda: LIST)
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[Seen], object] = lambda seen: None
    breaks: bool = False
    drips: bool = False


def refusal(status: int, code: str, message: str = "No.", param: str | None = None, **headers: str) -> Reply:
    """An error as llmrec's server says it."""
    error = {"message": message, "type": "x", "param": param, "code": code}
    return Reply(status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()})


OVERLOADED = refusal(429, "overloaded", "Too many requests.")
STOPPING = refusal(503, "unavailable", "The server is stopping.")


class Scripted:
    """Answers with the replies in their order, and with the last one from then on."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [Reply()]
        self.seen: list[Seen] = []
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url, size = urlsplit(self.path), int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size)) if size else None
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(
                    self.command, unquote(url.path), url.query, headers, body, time.monotonic(), self.client_address[1]
                )
                reply = script.next(seen)
                reply.before(seen)
                if reply.breaks:
                    self.close_connection = True
                    return
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                while reply.drips and not script.stopped.wait(0.01):
                    self.wfile.write(b" ")
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *words: object) -> None:
                """Nothing to the screen."""

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # the client has gone
                    pass

        return Handler
