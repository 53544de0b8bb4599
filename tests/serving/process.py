"""`llmrec serve` as a process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A running server."""

    def __init__(self, folder: Path, port: int, log: Path, *more: str) -> None:
        self.address, self.log = f"http://127.0.0.1:{port}", log
        command = [sys.executable, "-m", "llmrec", "serve", str(folder), "--port", str(port), "--timeout-ms", "60000"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [*command, *more], stdout=log.open("w"), stderr=subprocess.STDOUT, env=environment
        )

    def wait(self) -> None:
        for _ in range(1200):
            if self.process.poll() is not None:
                pytest.fail(f"it ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")
            try:
                if httpx2.get(f"{self.address}/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.1)
        pytest.fail(f"it did not come up: {self.log.read_text()[-3000:]}")
