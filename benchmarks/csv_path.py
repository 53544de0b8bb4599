"""The path of docs/csv_to_curl.md for whoever walks it: its commands, its recipe, its CSV files, its server."""

from __future__ import annotations

import csv
import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PORT = "8000"
"""The one of the page."""
BUSY = ("deadline", "overloaded", "unavailable")
"""What a server says that may be asked again."""


def commands(page: str) -> list[list[str]]:
    """The words of every line of the blocks that are the path, in their order."""
    blocks = re.findall(r"^```bash path\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def adapted(words: Sequence[str], port: int, python: str | None = None) -> list[str]:
    """A command of the page on a free port, and with an interpreter that has llmrec in place of `.venv`."""
    first = words[:1] if python is None or words[0] != ".venv/bin/llmrec" else [python, "-m", "llmrec"]
    return [*first, *(word.replace(PORT, str(port)) for word in words[1:])]


def write_shop(page: str, data: Path, folder: Path) -> dict[str, str]:
    """The two CSV files as GroupLens writes them, and the recipe of the page.

    Args:
        data: ml-latest-small as two parquet files. folder: where the commands will run.

    Returns:
        Film id -> title, of all films.
    """
    (folder / "movies").mkdir()
    ratings, movies = (pq.read_table(data / f"{name}.parquet").to_pylist() for name in ("interactions", "items"))
    with (folder / "movies" / "ratings.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["userId", "movieId", "rating", "timestamp"])
        lines.writerows([row["user_id"], row["item_id"], row["rating"], row["timestamp"]] for row in ratings)
    with (folder / "movies" / "movies.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["movieId", "title", "genres"])
        lines.writerows([row["item_id"], row["title"], row["genres"]] for row in movies)
    (recipe,) = re.findall(r"^```yaml file=movies.yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (folder / "movies.yaml").write_text(recipe)
    return {str(row["item_id"]): row["title"] for row in movies}


@contextmanager
def going_on(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server beside what follows, ended by Ctrl-C as a person would."""
    server = subprocess.Popen(words, cwd=folder, env=environment)
    try:
        yield server
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(60)
        finally:
            server.kill()


def answer(asking: Sequence[str], server: subprocess.Popen[bytes], seconds: float = 600) -> dict[str, Any]:
    """What curl prints, as soon as it is an answer: not before the server listens, nor that the machine is too busy.

    Raises:
        RuntimeError: the server has ended, refuses the question, or the time is over.
    """
    until, said = time.monotonic() + seconds, ""
    while server.poll() is None and time.monotonic() < until:
        said = subprocess.run(asking, capture_output=True, text=True, check=False).stdout
        found: dict[str, Any] = json.loads(said or "{}")
        if "items" in found:
            return found
        if said and found["error"]["code"] not in BUSY:
            break
        time.sleep(0.25)
    raise RuntimeError(f"no answer to {shlex.join(asking)}: {said}; the server's status is {server.poll()}")
