"""How fast published raw files are read, and in what memory: synthetic files in the formats of Amazon 2018 and Steam.

python benchmarks/raw_sources.py --events 1000000 --store

Each data set is read in a process of its own; its memory is the most that the process held, less what it held before.
Texts of 300 characters stand in every review, as in the real files; they are never kept.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import report

TEXT = "A sentence about what was bought, and whether it was good or not. " * 5


def draws(events: int, users: int, items: int) -> Iterator[tuple[int, int, int]]:
    """Users and items by a long tail; seconds."""
    rng = np.random.default_rng(0)
    who = (users * rng.random(events) ** 2).astype(int)
    what = (items * rng.random(events) ** 3).astype(int)
    return zip(who.tolist(), what.tolist(), range(events), strict=True)


def write(path: Path, lines: Iterator[str]) -> None:
    with gzip.open(path, "wt", compresslevel=1) as out:
        out.writelines(f"{line}\n" for line in lines)


def amazon(folder: Path, events: int, users: int, items: int) -> None:
    reviews = (
        {
            "reviewerID": f"A{user:013d}",
            "asin": f"B{item:09d}",
            "overall": 5.0,
            "reviewText": TEXT,
            "unixReviewTime": at,
        }
        for user, item, at in draws(events, users, items)
    )
    write(folder / "X.json.gz", map(json.dumps, reviews))
    records = ({"asin": f"B{item:09d}", "title": f"Thing {item}", "brand": "Y", "category": ["Z"], "also": [TEXT]}
               for item in range(items))  # fmt: skip
    write(folder / "meta_X.json.gz", map(json.dumps, records))


def steam(folder: Path, events: int, users: int, items: int) -> None:
    reviews = (
        {"username": f"name {user}", "product_id": str(item), "date": f"20{10 + at % 8}-01-01", "text": TEXT}
        for user, item, at in draws(events, users, items)
    )
    write(folder / "steam_reviews.json.gz", map(repr, reviews))
    games = ({"id": str(item), "title": f"Game {item}", "genres": ["Action"], "tags": []} for item in range(items))
    write(folder / "steam_games.json.gz", map(repr, games))


FORMATS: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "amazon_reviews": (amazon, {"category": "X", "year": 2018}),
    "steam": (steam, {}),
}


def read(kind: str, folder: Path) -> dict[str, Any]:
    """Load one data set in this process."""
    from llmrec.registry import build, resolve

    resolve("source", kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    data = build("source", {"kind": kind, "root": folder, **FORMATS[kind][1]}).load()
    seconds = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    kept = {"users": len(data.interactions.users), "items": len(data.catalog), "events": len(data.interactions)}
    return {"seconds": round(seconds, 2), "grown_bytes": grown, "kept": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read(arguments.read[0], Path(arguments.read[1]))))
        return
    figures: dict[str, Any] = {"events": arguments.events}
    for kind, (make, _) in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), arguments.events, arguments.events // 10, arguments.events // 50)
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
            command = [sys.executable, __file__, "--read", kind, folder]
            found = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
        figures[kind] = {
            **found,
            "events_a_second": round(arguments.events / found["seconds"]),
            "bytes_an_event": round(found["grown_bytes"] / arguments.events, 1),
            "compressed_mb": round(size / 1e6, 1),
        }
    report("raw_sources", figures, arguments.store)


if __name__ == "__main__":
    main()
