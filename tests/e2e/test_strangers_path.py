"""docs/csv_to_curl.md as a stranger would do it: its own commands, real CSV files, a real server, curl."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT.parent / "shared" / "data" / "ml-latest-small"
PAGE = (ROOT / "docs" / "csv_to_curl.md").read_text()
QUICK = "train.args.max_steps=8 train.args.bf16=false train.valid_users=20 evaluation.users=40 model.layers=1".split()
"""The same path with less training, beside what the page says."""


def commands() -> list[list[str]]:
    """Every line of the blocks that are the path."""
    blocks = re.findall(r"^```bash path\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the two CSV files as GroupLens writes them, and the recipe of the page."""
    if not DATA.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{DATA} is missing")
        pytest.skip(f"{DATA} is missing")
    folder = tmp_path / "movies"
    folder.mkdir()
    ratings, movies = (pq.read_table(DATA / f"{name}.parquet").to_pylist() for name in ("interactions", "items"))
    with (folder / "ratings.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["userId", "movieId", "rating", "timestamp"])
        lines.writerows([row["user_id"], row["item_id"], row["rating"], row["timestamp"]] for row in ratings)
    with (folder / "movies.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["movieId", "title", "genres"])
        lines.writerows([row["item_id"], row["title"], row["genres"]] for row in movies)
    (recipe,) = re.findall(r"^```yaml file=movies.yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "movies.yaml").write_text(recipe)
    return tmp_path


@contextmanager
def going_on(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A server beside what follows, ended by Ctrl-C as a person would."""
    server = subprocess.Popen(words, cwd=folder, env=environment)
    try:
        yield
    finally:
        server.send_signal(2)
        assert server.wait(60) in (0, 130)


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def test_every_command_of_the_page_leads_to_an_answer(shop: Path) -> None:
    assert shutil.which("curl"), "the page asks with curl"
    check, run, serve, curl = commands()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LLMREC_OFFLINE": "1"}
    port = free_port()

    def here(words: list[str], *more: str) -> list[str]:
        """With the interpreter of the tests in place of `.venv`, and a port that is free."""
        assert words[0] == ".venv/bin/llmrec"
        return [sys.executable, "-m", "llmrec", *(port if word == "8000" else word for word in words[1:]), *more]

    subprocess.run(here(check), cwd=shop, env=environment, check=True)
    subprocess.run(here(run, *QUICK), cwd=shop, env=environment, check=True)
    assert json.loads((shop / "runs" / "movies" / "eval.json").read_text())["test"]["examples"] == 40
    asking = [word.replace("8000", port) for word in curl]
    with going_on(here(serve), shop, environment):
        answer = ""
        for _ in range(120):
            answer = subprocess.run(asking, capture_output=True, text=True, check=False).stdout
            if answer:
                break
            time.sleep(1)
    items = json.loads(answer)["items"]
    movies = {row["movieId"]: row["title"] for row in csv.DictReader((shop / "movies" / "movies.csv").open())}
    assert len({item["item_id"] for item in items}) == 5
    assert all(movies[item["item_id"]].split(" (")[0] in item["title"] for item in items)
    assert not {"1", "2"} & {item["item_id"] for item in items}
