"""What a server does at ten times the load that it can bear, and how soon it is itself again.

    .venv/bin/python benchmarks/overload.py --store

First the rate that the server can bear is measured, with as many clients as fill its batches. Then requests come ten
times as fast for a minute, whether they are answered or not. Every answer is timed by its caller; a late one is a list
(status 200) that came after the server's own time for a request. Refusals (429) and 504 are what an overloaded server
should say. The caller runs on the same cores, which makes it harder for both.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
from common import report
from load import Outcome, Server, closed_loop, open_loop
from shop_model import MODEL, make_histories, make_model

PATH = "/v1/recommend"
CALM = 1.5
"""A server is itself again once three answers in a row take at most so many times what they took before."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--timeout-ms", type=int, default=4000, help="the server's time for a request")
    parser.add_argument("--seconds", type=float, default=60, help="of overload")
    parser.add_argument("--times", type=float, default=10, help="the rate that the server can bear, times this")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        make_model(chosen.model, chosen.items, rng, chosen.k).save_pretrained(folder)
        histories = make_histories(500, chosen.items, rng)
        bodies = [{"history": [f"i{row}" for row in history], "k": chosen.k} for history in histories]
        port = free_port()
        command = [
            *(sys.executable, "-m", "llmrec", "serve", str(folder), "--engine", "transformers", "--port", str(port)),
            *("--dtype", chosen.dtype, "--timeout-ms", str(chosen.timeout_ms)),
        ]
        with Server(command, f"http://127.0.0.1:{port}", "/ready", Path(temporary) / "log.txt") as server:
            report("overload", measure(server, bodies, chosen), chosen.store)


def measure(server: Server, bodies: list[dict[str, Any]], chosen: argparse.Namespace) -> dict[str, Any]:
    process, seconds = psutil.Process(server.process.pid), chosen.timeout_ms / 1000
    sustainable = asyncio.run(closed_loop(server.address, PATH, bodies, 32, 20)).figures()
    alone = asyncio.run(closed_loop(server.address, PATH, bodies, 1, 10)).figures()
    normal, before = alone["p50_ms"] / 1000, process.memory_info().rss
    print({"sustainable": sustainable, "alone": alone}, flush=True)
    memory, health = [before], []
    stop = threading.Event()
    watching = threading.Thread(target=watch, args=(server.address, process, stop, memory, health))
    watching.start()
    rate = chosen.times * sustainable["requests_per_second"]
    outcome = asyncio.run(open_loop(server.address, PATH, bodies, rate, chosen.seconds, timeout=seconds + 30))
    ended = time.perf_counter()
    stop.set()
    watching.join()
    recovered = recover(server.address, bodies, normal, ended)
    return {
        "crashed": server.process.poll() is not None,
        "late_answers": late(outcome, seconds),
        "rss_growth_ratio": round(max(memory) / before, 3),
        "rss_mb": [round(memory[at * (len(memory) - 1) // 4] / 2**20) for at in range(5)],  # start, quarters, end
        "rejected_429": outcome.status.count(429),
        "recovered_seconds": round(recovered, 2),
        "overload": {"requests_per_second_sent": round(rate, 1), "seconds": chosen.seconds, **outcome.figures()},
        "sustainable": sustainable,
        "alone": alone,
        "health_checks": {"count": len(health), "failed": health.count(None), "slowest_ms": slowest(health)},
        "deadline_ms": chosen.timeout_ms,
        "dtype": chosen.dtype,
        "k": chosen.k,
        "items": chosen.items,
    }


def late(outcome: Outcome, seconds: float) -> int:
    """Lists that came after the server's time for a request, on the caller's clock."""
    return sum(code == 200 and took > seconds for took, code in zip(outcome.seconds, outcome.status, strict=True))


def watch(
    address: str, process: psutil.Process, stop: threading.Event, memory: list[int], health: list[float | None]
) -> None:
    """Twice a second the server's memory, and how long a health check takes (None: no answer)."""
    with httpx2.Client(base_url=address, timeout=10) as client:
        while not stop.wait(0.5):
            memory.append(process.memory_info().rss)
            began = time.perf_counter()
            try:
                client.get("/health").raise_for_status()
                health.append(time.perf_counter() - began)
            except httpx2.HTTPError:
                health.append(None)


def slowest(health: list[float | None]) -> float | None:
    answered = [seconds for seconds in health if seconds is not None]
    return round(max(answered) * 1000, 1) if answered else None


def recover(address: str, bodies: list[dict[str, Any]], normal: float, ended: float) -> float:
    """Seconds from the end of the overload to the first of three answers in a row that take their normal time."""
    quick, first = 0, ended
    with httpx2.Client(base_url=address, timeout=60) as client:
        for body in bodies:
            began = time.perf_counter()
            answer = client.post(PATH, json=body)
            if answer.status_code == 200 and time.perf_counter() - began <= CALM * normal:
                first = time.perf_counter() if quick == 0 else first
                quick += 1
                if quick == 3:
                    return first - ended
            else:
                quick = 0
    return float("inf")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
