"""Where a client sends its requests, with which keys, and how patient it is."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import httpx2
from pydantic import SecretStr

from llmrec.client.arguments import invalid

BASE_URL, API_KEY, ADMIN_KEY = "LLMREC_BASE_URL", "LLMREC_API_KEY", "LLMREC_ADMIN_KEY"
"""Environment variables for what the constructor of a client is not given."""

DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `llmrec serve` listens unless told otherwise."""

LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=4.0)
"""Connections stay open for the next request, for less than the 5 seconds after which uvicorn closes an idle one: a
request must not meet a connection that is being closed."""


@dataclass(frozen=True)
class Connection:
    """The settings of a client.

    Args:
        base_url: without a slash at its end. api_key, admin_key: never shown.
        timeout: seconds for a call, all tries together. max_retries: tries after the first.
    """

    base_url: str
    api_key: SecretStr | None
    admin_key: SecretStr | None
    timeout: float
    max_retries: int

    @classmethod
    def read(
        cls, base_url: str | None, api_key: str | None, admin_key: str | None, timeout: float, max_retries: int
    ) -> Connection:
        """Settings from arguments, or else from the environment.

        Raises:
            InvalidRequestError: one of them cannot be used.
        """
        if max_retries < 0:
            raise invalid(f"max_retries is {max_retries}; 0 is the least.", "max_retries")
        return cls(
            _url(base_url or os.environ.get(BASE_URL) or DEFAULT_URL),
            _key(api_key or os.environ.get(API_KEY), "api_key"),
            _key(admin_key or os.environ.get(ADMIN_KEY), "admin_key"),
            checked_timeout(timeout),
            max_retries,
        )

    @property
    def secrets(self) -> list[str]:
        """What must not appear in any message."""
        return [key.get_secret_value() for key in (self.api_key, self.admin_key) if key]


def checked_timeout(timeout: float) -> float:
    """Seconds, more than none and not without end.

    Raises:
        InvalidRequestError: it is something else.
    """
    if not 0 < timeout < math.inf:
        raise invalid(f"A timeout is a number of seconds above 0; this is {timeout}.", "timeout")
    return timeout


def _url(text: str) -> str:
    try:
        url = httpx2.URL(text.rstrip("/"))
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.userinfo:
        raise invalid("base_url holds a user name or a password; a key is given as api_key.", "base_url")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise invalid(f"base_url is the address of a server, such as {DEFAULT_URL}.", "base_url")
    return str(url)


def _key(text: str | None, name: str) -> SecretStr | None:
    """A key that a header can carry; httpx2 would quote another one in its error."""
    if not text:
        return None
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise invalid(f"{name} has a space, a line end or a letter that no key has.", name)
    return SecretStr(text)
