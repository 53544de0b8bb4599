"""API keys: random, given out once, kept as hashes.

    llmrec key shop >> keys.txt        # the key itself appears on the screen only

A key has 256 random bits, so a plain SHA-256 of it tells nothing; slow hashes are for words that people choose.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from fastapi import Request
from fastapi.security import HTTPBearer

from llmrec.errors import DataError
from llmrec.serving.problems import Problem

LINE = re.compile(r"(?P<name>\S+)\s+sha256:(?P<digest>[0-9a-f]{64})")

bearer = HTTPBearer(auto_error=False, description="Only where the server was started with keys.")


def new_key(name: str) -> tuple[str, str]:
    """A key, and the line of a keys file that admits it."""
    key = f"llmrec_{secrets.token_urlsafe(32)}"
    return key, f"{name} sha256:{_digest(key)}"


def read_keys(path: Path) -> dict[str, str]:
    """Name -> hash, from a keys file; empty lines and those that begin with `#` say nothing.

    Raises:
        DataError: the file is missing or empty, or a line is not `NAME sha256:HEX`.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror}).", where=str(path), fix="Name a keys file.") from None
    keys = {}
    for row, line in enumerate(lines):
        if not (text := line.strip()) or text.startswith("#"):
            continue
        if not (match := LINE.fullmatch(text)):
            raise DataError(
                "this is no key.", where=str(path), row=row, fix="Write lines that 'llmrec key NAME' prints."
            )
        keys[match["name"]] = match["digest"]
    if not keys:
        raise DataError("it holds no key.", where=str(path), fix="Add one with 'llmrec key NAME >> FILE'.")
    return keys


class KeyCheck:
    """A FastAPI dependency that lets only callers with one of the keys in; everybody where there are none."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self.digests = list(keys.values())

    async def __call__(self, request: Request) -> None:
        """Raise `Problem` 401 for a caller without a key that is known."""
        if not self.digests:
            return
        given = await bearer(request)
        digest = _digest(given.credentials if given else "")
        # All are compared, each in constant time, so that the time of an answer tells nothing.
        if not sum([hmac.compare_digest(digest, known) for known in self.digests]):
            raise Problem(401, "unauthorized", "Give one of the server's keys: 'Authorization: Bearer KEY'.")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
