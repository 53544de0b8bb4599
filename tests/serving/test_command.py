"""`llmrec serve` as a process: it comes up, answers, and stops without losing what it accepted."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from serving.process import Process, free_port
from serving.shop import make_recommender


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "shop"
    make_recommender().save_pretrained(folder)
    return folder


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(folder: Path, port: int, tmp_path: Path) -> Iterator[Process]:
    history = tmp_path / "users.csv"
    history.write_text('user,history\nu1,"i1,i2"\n')
    made = Process(folder, port, tmp_path / "log.txt", "--users", str(history))
    try:
        made.wait()
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def test_it_answers_and_a_signal_stops_it_after_what_it_accepted(server: Process) -> None:
    assert httpx2.get(f"{server.address}/v1/users").json() == {"users": ["u1"]}
    assert "<title>" in httpx2.get(server.address).text

    def ask(number: int) -> int:
        body = {"history": [f"i{number % 30}"], "k": 30}
        return httpx2.post(f"{server.address}/v1/recommend", json=body, timeout=60).status_code

    with ThreadPoolExecutor(64) as pool:
        asking = [pool.submit(ask, number) for number in range(64)]
        while 'llmrec_stage_seconds_count{stage="read"} 64.0' not in httpx2.get(f"{server.address}/metrics").text:
            time.sleep(0.005)
        server.process.send_signal(signal.SIGTERM)  # all are accepted, and some of them wait
        outcomes = [one.result() for one in asking]
    assert server.process.wait(60) == 0
    assert outcomes == [200] * 64
    assert "Traceback" not in server.log.read_text()


def test_a_key_from_the_command_line_opens_the_server(folder: Path, port: int, tmp_path: Path) -> None:
    made = subprocess.run([sys.executable, "-m", "llmrec", "key", "me"], capture_output=True, text=True, check=True)
    secret = re.search(r"llmrec_\S+", made.stderr)
    assert secret is not None
    assert secret[0] not in made.stdout
    (tmp_path / "keys.txt").write_text(made.stdout)
    server = Process(folder, port, tmp_path / "log.txt", "--api-keys", str(tmp_path / "keys.txt"))
    try:
        server.wait()
        models = f"{server.address}/v1/models"
        assert httpx2.get(models).status_code == 401
        assert httpx2.get(models, headers={"Authorization": f"Bearer {secret[0]}"}).json()["data"][0]["id"] == "shop"
    finally:
        server.process.kill()
        server.process.wait()
    assert secret[0] not in server.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "does not describe a recommender"),
        (["FOLDER", "--port", "70000"], "--port"),
        (["FOLDER", "--api-keys", "nowhere"], "cannot be read"),
        (["FOLDER", "--engine", "vllm"], "llmrec[vllm]"),
        (["FOLDER", "--max-queue", "0"], "max_queue"),
    ],
)
def test_what_cannot_be_served_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    from llmrec.cli import main

    assert main(["serve", *[str(folder) if word == "FOLDER" else word for word in arguments]]) == 1
    assert words in capsys.readouterr().err
