"""How long does it take, and how much memory, to give a million items their codes?

    python benchmarks/index_build.py --items 1000000
    python benchmarks/index_build.py --semantic-id-python PYTHON    # an interpreter with the PyPI package of that name

The whole build of `rqkmeans` (3 levels of 256 codes, a digit for what collides, provenance) on given vectors: 256
numbers an item, unit rows, topics with subtopics. Every size runs in a process of its own, so peaks do not mix; the
vectors count in its memory and their loading does not count in its time. Beside it, on the same vectors and as many
iterations from one start, the PyPI package `semantic-id` where it is there (`null` where not).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np  # the other package's environment has this, and nothing of llmrec

DIMENSIONS = 256
LEVELS = [256, 256, 256]
ITERATIONS = 25
LIMITS = {"seconds": 300, "peak_gb": 6}
"""What a million items may cost on two cores."""

T = TypeVar("T")
COMPARED = ("seconds", "cpu_seconds", "peak_gb", "reconstruction_error")
CHUNK = 50_000


def make_vectors(path: Path, items: int, seed: int) -> None:
    """Write `float32[items, 256]`: topics, subtopics within them, and noise, all strongest in the first columns."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(1 + np.arange(DIMENSIONS) / 8)
    topics = rng.normal(size=(1000, 1, DIMENSIONS)) * scale
    centres = (topics + rng.normal(size=(1000, 50, DIMENSIONS)) * scale).reshape(-1, DIMENSIONS)
    shares = rng.permutation(1 / (1000 + np.arange(len(centres))))  # the largest subtopic has 50 times the smallest
    vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(items, DIMENSIONS))
    for start in range(0, items, CHUNK):
        count = min(CHUNK, items - start)
        rows = centres[rng.choice(len(centres), count, p=shares / shares.sum())]
        rows += rng.normal(size=rows.shape) * scale
        vectors[start : start + count] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    vectors.flush()


def timed(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """What it gives; its time, and that of all its threads: with other work on the machine, the second grows less."""
    wall, busy = time.perf_counter(), time.process_time()
    result = work()
    return result, {"seconds": time.perf_counter() - wall, "cpu_seconds": round(time.process_time() - busy, 2)}


def measure_llmrec(vectors: np.ndarray, seed: int, sample: int | None) -> dict[str, Any]:
    """Build an index as a recipe does; only the encoder is replaced."""
    from types import SimpleNamespace

    import pyarrow as pa
    from threadpoolctl import threadpool_info

    from llmrec.data.catalog import Catalog
    from llmrec.data.interactions import Interactions
    from llmrec.encoders.base import Encoded
    from llmrec.indexes import kmeans
    from llmrec.indexes.rqkmeans import RQKMeansIndex

    class GivenVectors(RQKMeansIndex):
        def _space(self) -> Any:
            return SimpleNamespace(fit=lambda catalog, train: Encoded(vectors, {}))

    names = pa.array(np.arange(len(vectors)).astype(str))
    catalog = Catalog(pa.table({"item_id": names, "title": names}))
    train = Interactions.from_columns(pa.array(["u"]), names[:1], np.zeros(1, np.int64), catalog.items)
    settings = {"encoder": {"kind": "given"}, "levels": LEVELS, "iterations": ITERATIONS, "seed": seed}
    indexer = GivenVectors.parse({**settings, "collisions": "digit"})
    kmeans.SAMPLE = sample or kmeans.SAMPLE
    index, times = timed(lambda: indexer.build(catalog, train))
    collisions = index.provenance["collisions"]
    blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {
        **times,
        "reconstruction_error": index.provenance["reconstruction_error"][-1],
        "collisions": index.collisions,
        "collisions_before": collisions["before"]["colliding"],
        "level_sizes": index.level_sizes,
        "sample": min(len(vectors), max(kmeans.SAMPLE * max(LEVELS), kmeans.ENOUGH)),
        "digest": index.digest,
        "blas": sorted({f"{lib['internal_api']} {lib.get('architecture')}" for lib in blas}),
    }


def measure_semantic_id(vectors: np.ndarray, seed: int, sample: int | None) -> dict[str, Any]:
    """Its residual k-means and its engine, which appends a number where items collide; as many iterations as ours."""
    from semantic_id import RQKMeans, SemanticIdEngine

    settings = {"max_iter": ITERATIONS, "tol": 0, "n_init": 1, "random_state": seed}
    encoder = RQKMeans(n_levels=len(LEVELS), n_clusters=LEVELS, **settings)
    engine = SemanticIdEngine(encoder=encoder)
    names, times = timed(lambda: engine.fit(vectors).unique_ids(vectors))
    peak = peak_gb()
    codes = encoder.encode(vectors, batch_size=CHUNK)
    left = 0.0
    for first in range(0, len(vectors), CHUNK):
        part = slice(first, first + CHUNK)
        left += float(np.square(vectors[part] - encoder.decode(codes[part]), dtype=np.float64).sum())
    return {
        **times,
        "peak_gb": peak,
        "reconstruction_error": round(left / float(np.einsum("nd,nd->", vectors, vectors, dtype=np.float64)), 6),
        "collisions": len(names) - len(set(names)),
        "collisions_before": len(codes) - len(np.unique(codes, axis=0)),
        "versions": {name: importlib.metadata.version(name) for name in ("semantic-id", "scikit-learn", "numpy")},
    }


MEASURES = {"llmrec": measure_llmrec, "semantic-id": measure_semantic_id}


def peak_gb() -> float:
    """The most memory that this process held, in GiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # `getrusage` would begin with the peak of the process that started this one
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def load_average() -> list[float]:
    """Runnable processes in the last 1, 5 and 15 minutes: above the number of cores, times say little."""
    return [round(load, 2) for load in os.getloadavg()]


def measure(what: str, path: Path, seed: int, sample: int | None) -> None:
    """What the processes of single sizes do: print one JSON line."""
    vectors = np.load(path)
    figures = {"peak_gb": 0.0, **MEASURES[what](vectors, seed, sample)}
    figures["peak_gb"] = round(figures["peak_gb"] or peak_gb(), 3)
    figures["items_per_second"] = round(len(vectors) / figures["seconds"])
    figures["seconds"] = round(figures["seconds"], 2)
    print(json.dumps(figures))


def in_own_process(python: str, what: str, path: Path, options: list[str], limit: float | None) -> dict[str, Any]:
    """The figures of one size, or why there are none."""
    command = [python, __file__, *options, "--measure", what, str(path)]
    try:
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit:g} seconds"}
    if answer.returncode:
        return {"failed": f"ended with exit status {answer.returncode}"}
    figures: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return figures


def growth(sizes: dict[str, dict[str, Any]]) -> dict[str, float]:
    """From each size to the next, how much more an item costs: 1 where time grows as the items do."""
    done = [(int(items), figures["seconds"]) for items, figures in sizes.items() if "seconds" in figures]
    pairs = itertools.pairwise(done)
    return {f"{small} to {large}": round(b / large / (a / small), 3) for (small, a), (large, b) in pairs}


def semantic_id_python(given: str | None) -> str | None:
    """The interpreter that has the package, or None."""
    if given is None:
        return sys.executable if importlib.util.find_spec("semantic_id") else None
    if subprocess.run([given, "-c", "import semantic_id"], check=False).returncode:
        raise SystemExit(f"{given} cannot import semantic_id. Install it there: {given} -m pip install semantic-id")
    return given


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--sample", type=int, help="points a code that k-means learns from; llmrec's own number if left out"
    )
    parser.add_argument("--semantic-id-python", metavar="PYTHON", help="interpreter that has the package semantic-id")
    parser.add_argument("--semantic-id-limit", type=float, default=1800, help="seconds that it may take for one size")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]), arguments.seed, arguments.sample)
        return

    options = ["--seed", str(arguments.seed)] + (["--sample", str(arguments.sample)] if arguments.sample else [])
    other = semantic_id_python(arguments.semantic_id_python)
    ours: dict[str, dict[str, Any]] = {}
    theirs: dict[str, dict[str, Any]] = {}
    load = {"before": load_average()}
    with tempfile.TemporaryDirectory() as folder:
        for items in sorted(arguments.items):
            path = Path(folder) / "vectors.npy"
            make_vectors(path, items, arguments.seed)
            ours[str(items)] = in_own_process(sys.executable, "llmrec", path, options, None)
            print(f"{items} items, llmrec: {ours[str(items)]}", file=sys.stderr)
            if other:
                limit = arguments.semantic_id_limit
                theirs[str(items)] = in_own_process(other, "semantic-id", path, options, limit)
                print(f"{items} items, semantic-id: {theirs[str(items)]}", file=sys.stderr)
    load["after"] = load_average()
    if failed := [items for items, figures in ours.items() if "failed" in figures]:
        raise SystemExit(f"the build of {', '.join(failed)} items failed; its message is above.")

    from common import report  # not above: the other package's environment has no llmrec

    largest = ours[str(max(arguments.items))]
    figures = {
        "items": max(arguments.items),
        **{name: largest[name] for name in ("seconds", "peak_gb", "collisions", "items_per_second")},
        "limits": LIMITS,
        "within_limits": all(largest[name] <= limit for name, limit in LIMITS.items()),
        "sizes": ours,
        "growth_of_cost_per_item": growth(ours),
        "semantic_id": theirs or None,
        "semantic_id_over_llmrec": {
            items: {name: round(figures[name] / ours[items][name], 3) for name in COMPARED}
            for items, figures in theirs.items()
            if "seconds" in figures
        }
        or None,
        "vectors": {"dimensions": DIMENSIONS, "dtype": "float32"},
        "levels": LEVELS,
        "iterations": ITERATIONS,
        "seed": arguments.seed,
        "load_average": load,
    }
    if arguments.semantic_id_python:  # where it lies on this machine says nothing elsewhere
        sys.argv = [argument.replace(arguments.semantic_id_python, "PYTHON") for argument in sys.argv]
    report("index_build", figures, arguments.store)


if __name__ == "__main__":
    main()
