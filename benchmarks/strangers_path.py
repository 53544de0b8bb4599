"""From a fresh clone to an answer over HTTP: every command of docs/csv_to_curl.md as written, and what each one took.

    python benchmarks/strangers_path.py --data ../shared/data/ml-latest-small --store
    python benchmarks/strangers_path.py --python .venv/bin/python train.args.max_steps=8    # a quick look

The last commit of this repository is cloned into a temporary folder, and ml-latest-small lies there as the CSV files of
the page. `--python` leaves the installation out: the interpreter named must have what llmrec needs, llmrec itself is
the clone's. pip takes from its cache what it finds there. `serve` is timed from its start to the first answer that curl
gets, `curl` by asking once more; the port is a free one. What stands behind changes the recipe.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import report
from csv_path import adapted, answer, commands, going_on, write_shop
from overload import free_port

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="changes to the recipe, such as train.args.max_steps=8")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "ml-latest-small")
    parser.add_argument("--python", type=Path, help="use this one, and install nothing")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report("strangers_path", walk(Path(temporary) / "llmrec", chosen), chosen.store)


def walk(clone: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The whole path in the clone; a command that fails ends it."""
    seconds: dict[str, float] = {}
    environment, python = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, None
    if chosen.python is not None:  # not resolved: a virtual environment's interpreter is a link
        python = str(chosen.python.absolute())
        environment["PYTHONPATH"] = str(clone)

    def timed(name: str, words: Sequence[str], folder: Path = clone) -> None:
        print(f"$ {shlex.join(words)}", flush=True)
        began = time.perf_counter()
        subprocess.run(words, cwd=folder, env=environment, check=True)
        seconds[name] = time.perf_counter() - began

    timed("clone", ["git", "clone", "-q", str(ROOT), str(clone)], ROOT)
    page = (clone / "docs" / "csv_to_curl.md").read_text()
    titles = write_shop(page, chosen.data, clone)
    port = free_port()
    install, check, run, serve, curl = (adapted(words, port, python) for words in commands(page))
    if python is None:
        timed("install", install)
    timed("check", check)
    timed("run", [*run, *chosen.overrides])
    began = time.perf_counter()
    with going_on(serve, clone, environment) as server:
        items = answer(curl, server)["items"]
        seconds["serve"] = time.perf_counter() - began
        timed("curl", curl)
        print(flush=True)
    return {
        "seconds": {name: round(took, 2) for name, took in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 1),
        "items": len(items),
        "items_in_catalog": len({item["item_id"] for item in items} & titles.keys()),
        "titles": [item["title"] for item in items],
        "films": len(titles),
        "test": json.loads((clone / "runs" / "movies" / "eval.json").read_text())["test"]["metrics"],
        "installed": python is None,
        "peak_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),  # of the largest process
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=clone, text=True).strip(),
    }


if __name__ == "__main__":
    main()
