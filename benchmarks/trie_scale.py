"""Does a trie of ten million items fit, build and step as a small one does?

    python benchmarks/trie_scale.py --store

Random codes on 4 levels of 256, from ten thousand to ten million items: memory and seconds to build, and the time of
what a decoding step asks of the trie, for 8 users with 50 beams. `step_ratio_10m_over_10k` compares `Trie.step`, which
follows one given code from every beam, as a logits processor does. `children_ratio` compares listing all children of
every beam, at the level where a node has most of them, by child: how many there are grows with the catalog, what one
costs must not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import report

from llmrec.indexes.base import ItemIndex
from llmrec.indexes.trie import Trie

SIZES = (256,) * 4
STATES = (8, 50)


def build(items: int, seed: int) -> tuple[Trie, np.ndarray, float]:
    """A trie of distinct random codes, the codes, and the seconds it took."""
    numbers = np.unique(np.random.default_rng(seed).integers(0, 256**4, int(items * 1.05), dtype=np.int64))
    numbers = np.random.default_rng(seed + 1).permutation(numbers)[:items]
    codes = np.stack(np.unravel_index(numbers, SIZES), 1).astype(np.int32)
    index = ItemIndex(codes, SIZES)
    began = time.perf_counter()
    trie = Trie.of(index)
    return trie, codes, time.perf_counter() - began


def step_calls(trie: Trie, codes: np.ndarray, seed: int) -> list[Callable[[], Any]]:
    """Following one code from 8 x 50 nodes, on each level."""
    chosen = torch.from_numpy(np.random.default_rng(seed).permutation(codes)[: STATES[0] * STATES[1]]).long()
    ways = torch.cat([torch.zeros(len(chosen), 1, dtype=torch.int64), trie.ways(chosen)[:, :-1]], 1)
    return [
        lambda level=level: trie.step(ways[:, level].view(STATES), chosen[:, level].view(STATES))
        for level in range(len(SIZES))
    ]


def listing(trie: Trie, codes: np.ndarray, seed: int) -> tuple[Callable[[], Any], int]:
    """Listing the children of 8 x 50 nodes of the first level, and how many cells that gives."""
    chosen = torch.from_numpy(np.random.default_rng(seed).permutation(codes)[: STATES[0] * STATES[1]]).long()
    nodes = trie.ways(chosen)[:, 0].view(STATES)

    def run() -> torch.Tensor:
        below, real = trie.children(nodes)
        return trie.scored_as(below).masked_fill(~real, -1)

    return run, run().numel()


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """The median of one call."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return float(np.median(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    tries: dict[int, Trie] = {}
    sizes: dict[str, dict[str, float]] = {}
    calls, lists = {}, {}
    for items in chosen.items:
        trie, codes, took = build(items, chosen.seed)
        tries[items] = trie
        calls[items], lists[items] = step_calls(trie, codes, chosen.seed), listing(trie, codes, chosen.seed)
        sizes[str(items)] = {"build_seconds": round(took, 3), "bytes_per_item": round(trie.nbytes / items, 2)}
        print(items, sizes[str(items)], flush=True)
        del codes
    steps: dict[int, list[float]] = {items: [] for items in chosen.items}
    per_child: dict[int, list[float]] = {items: [] for items in chosen.items}
    for _ in range(5):  # in turns, so that other work on the machine meets all sizes
        for items in chosen.items:
            steps[items].append(float(np.mean([seconds(call, chosen.repeats) for call in calls[items]])))
            run, cells = lists[items]
            per_child[items].append(seconds(run, chosen.repeats // 10) / cells)
    for items in chosen.items:
        sizes[str(items)]["step_microseconds"] = round(1e6 * float(np.median(steps[items])), 1)
        sizes[str(items)]["children_nanoseconds_each"] = round(1e9 * float(np.median(per_child[items])), 2)
    small, large = chosen.items[0], chosen.items[-1]
    figures = {
        "bytes_per_item_10m": sizes[str(large)]["bytes_per_item"],
        "build_seconds_10m": sizes[str(large)]["build_seconds"],
        "step_ratio_10m_over_10k": round(float(np.median(steps[large]) / np.median(steps[small])), 3),
        "children_ratio_10m_over_10k": round(float(np.median(per_child[large]) / np.median(per_child[small])), 3),
        "by_items": sizes,
        "states": STATES,
        "seed": chosen.seed,
    }
    report("trie_scale", figures, chosen.store)


if __name__ == "__main__":
    main()
