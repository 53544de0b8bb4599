"""A running `llmrec serve --engine vllm`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest


class Server:
    """The process, its address and its log."""

    def __init__(self, folder: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address, self.log = f"http://127.0.0.1:{port}", log
        command = [sys.executable, "-m", "llmrec", "serve", str(folder), "--engine", "vllm", "--dtype", "float32"]
        command += ["--port", str(port), "--timeout-ms", "60000"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)

    def wait(self) -> Server:
        for _ in range(2400):
            if self.process.poll() is not None:
                pytest.fail(f"it ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            try:
                if httpx2.get(f"{self.address}/ready").status_code == 200:
                    return self
            except httpx2.TransportError:
                time.sleep(0.1)
        pytest.fail(f"it did not come up:\n{self.log.read_text()[-4000:]}")

    def ask(self, **body: Any) -> httpx2.Response:
        return httpx2.post(f"{self.address}/v1/recommend", json=body, timeout=120)

    def kill(self) -> None:
        """With vLLM's own processes, which would outlive it."""
        if self.process.poll() is not None:
            return
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
