"""Requests to a running server: so many clients that wait for their answers, or so many requests a second."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None)


@dataclass
class Outcome:
    """What happened. `seconds[i]` is how long the request with `status[i]` took; status 0 is a broken connection."""

    seconds: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    wall: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Requests per second and milliseconds of the answered ones, and how many there were of each status."""
        good = np.array([s for s, code in zip(self.seconds, self.status, strict=True) if code == 200])
        spread = {f"p{q}_ms": round(float(np.percentile(good, q)) * 1000, 1) for q in (50, 95, 99)} if len(good) else {}
        return {
            "requests_per_second": round(len(good) / self.wall, 3),
            **spread,
            "status": {str(code): count for code, count in sorted(Counter(self.status).items())},
        }


async def ask(client: httpx2.AsyncClient, path: str, body: Mapping[str, Any], outcome: Outcome, keep: bool) -> None:
    """One request; its time is that of its caller."""
    began = time.perf_counter()
    try:
        answer = await client.post(path, json=body)
        status, said = answer.status_code, answer.json() if keep and answer.status_code == 200 else None
    except httpx2.TransportError:
        status, said = 0, None
    outcome.seconds.append(time.perf_counter() - began)
    outcome.status.append(status)
    if keep:
        outcome.answers.append(said)


async def closed_loop(
    address: str, path: str, bodies: Sequence[Mapping[str, Any]], clients: int, seconds: float, keep: bool = False
) -> Outcome:
    """So many clients ask one after the other until the time is over, each of them at least once."""
    outcome, turn = Outcome(), itertools.cycle(bodies)
    async with httpx2.AsyncClient(base_url=address, timeout=600, limits=LIMITS) as client:
        began = time.perf_counter()

        async def one() -> None:
            while True:
                await ask(client, path, next(turn), outcome, keep)
                if time.perf_counter() - began >= seconds:
                    return

        await asyncio.gather(*(one() for _ in range(clients)))
        outcome.wall = time.perf_counter() - began
    return outcome


async def open_loop(
    address: str, path: str, bodies: Sequence[Mapping[str, Any]], rate: float, seconds: float, timeout: float
) -> Outcome:
    """Requests at fixed times, whether the earlier ones are answered or not."""
    outcome, turn = Outcome(), itertools.cycle(bodies)
    async with httpx2.AsyncClient(base_url=address, timeout=timeout, limits=LIMITS) as client:
        began, running = time.perf_counter(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            running.append(asyncio.create_task(ask(client, path, next(turn), outcome, False)))
        outcome.wall = time.perf_counter() - began
        await asyncio.gather(*running)
    return outcome


class Server:
    """A server in a process of its own, from its start until the `with` block ends."""

    def __init__(self, command: Iterable[str], address: str, ready: str, log: Path, **environment: str) -> None:
        self.command, self.address, self.ready, self.log = list(command), address, ready, log
        self.environment = {**os.environ, **environment}

    def __enter__(self) -> Server:
        self.process = subprocess.Popen(
            self.command, stdout=self.log.open("w"), stderr=subprocess.STDOUT, env=self.environment
        )
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                if httpx2.get(self.address + self.ready, timeout=5).status_code == 200:
                    return self
            except httpx2.TransportError:
                pass
            time.sleep(0.5)
        self.process.kill()
        raise RuntimeError(f"{' '.join(self.command)} did not come up:\n{self.log.read_text()[-3000:]}")

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def measure(self, path: str, bodies: Sequence[Mapping[str, Any]], clients: int, seconds: float) -> dict[str, Any]:
        """Figures of a closed loop."""
        found = asyncio.run(closed_loop(self.address, path, bodies, clients, seconds)).figures()
        print(json.dumps({"clients": clients, **found}), flush=True)
        return found
