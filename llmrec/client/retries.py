"""When to try again: after what, and how much later."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime

from llmrec.client.errors import ClientError, ConnectionFailedError, OverloadedError, UnavailableError

FIRST, LONGEST = 0.1, 5.0
"""Seconds: the longest pause after the first try, and after any."""

PASSING = (OverloadedError, UnavailableError, ConnectionFailedError)
"""What may be over a moment later. A deadline is not among them: the next try would meet it too."""


def may_repeat(error: ClientError, is_repeatable: bool) -> bool:
    """Whether a call that failed may be sent again.

    Args:
        is_repeatable: sending it twice has the effect of sending it once; if not, the server must have done nothing.
    """
    return isinstance(error, PASSING) and (is_repeatable or error.did_nothing)


def pause_after(tries: int, retry_after: float | None) -> float:
    """Seconds to wait after so many tries: what the server asks for, and a random time on top ("full jitter").

    Clients that failed together must not come back together, so each draws its pause between nothing and a bound that
    doubles with every try. Paper: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    bound = min(LONGEST, FIRST * 2.0 ** min(tries - 1, 30))
    return (retry_after or 0.0) + random.uniform(0.0, bound)


def seconds_of(header: str | None) -> float | None:
    """What `Retry-After` says, a number of seconds or a date; None where it says nothing that can be read."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return None


class Deadline:
    """When a call is over. Each step of the network asks for what is left, so that all together keep to it.

    It stands in the place of the mapping that httpx2 takes for the timeouts of a request's steps.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds; below 0 when it is over."""
        return self.end - time.monotonic()

    def get(self, step: str, default: float | None = None) -> float:
        """The timeout of a step; 0 would mean something else to a socket."""
        return max(self.left(), 0.001)
