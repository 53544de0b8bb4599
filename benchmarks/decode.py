"""How long does a search for the best items take, and how much memory, and what would be possible on this machine?

    python benchmarks/decode.py
    python benchmarks/decode.py --device cuda --users 64
    python benchmarks/decode.py --only prefills --repeats 9

Random items with random codes, random prompts, SmolLM2-135M. Times are counted in *prefills*: the time of one pass of
the model's body over the same batch of prompts, measured before and after whatever is timed, so that the ratios hold on
a machine that others use too. Each is the median of some repeats, which take turns. `cpu` is the same with the time
that the processors worked; it grows less when others are at work.

What is compared (see `hf_beams.py`) keeps the same beams of the same items: beam search of transformers with a
dictionary of prefixes; with one lookup for all beams, so that the time of the dictionary is seen; ordinary beam search
that computes the prompt once and copies its keys and values for each beam, so that the tree mask is seen; and a score
for every item, measured on some of them.

Memory is the growth of a process of its own over the loaded model.

Parts of the engine are timed one call at a time, which costs time itself; their shares, not their sum, are of use. The
floors say what they could be: the linear layers alone on as many rows as the engine fed, and the time that the fed
tokens need at the price of a token of the prompt.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import report
from hf_beams import Beams, CodeTable, DictTrie, TableTrie, as_prompts, beam_search, generate, score_items
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from llmrec.base_models import load_model, load_tokenizer
from llmrec.engines.transformers import TransformersEngine
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.types import Ragged, ScoredItems

NORMALIZATIONS = ("codebook", "children", "vocab")
PARTS = ("same", "prefills", "wide", "floors", "memory")
TARGETS = {
    "prefills": {"codebook": {"20": 2.3, "50": 4.0}, "children": {"20": 1.8, "50": 2.5}},
    "speedup_over_hf": {"codebook": {"20": 12, "50": 18}, "children": {"20": 16, "50": 30}},
}
"""For 8 users, prompts of 60 tokens, 5,000 items and 4 levels of 256 codes on two cores."""
CLOSE = 1e-3
"""Nats by which float32 scores of one item may differ between programs."""


def log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# The world


class World:
    """The model, its items and the prompts, the same for the same arguments in every process.

    Args:
        arguments: of the command line. dtype: of the model. users: prompts.
        folder: where `save` left the model; it is made anew if None.
    """

    def __init__(self, arguments: argparse.Namespace, dtype: str, users: int, folder: str | None = None) -> None:
        rng = np.random.default_rng(arguments.seed)
        sizes = (arguments.size,) * arguments.levels
        chosen = rng.choice(arguments.size**arguments.levels, arguments.items, replace=False)
        codes = np.stack(np.unravel_index(chosen, sizes), axis=1).astype(np.int32)
        index = ItemIndex(codes, sizes)
        if folder is None:
            self.items = ItemTokenizer.bind(load_tokenizer(arguments.model), index)
            self.model = self._model(arguments, dtype)
        else:
            self.items = ItemTokenizer(load_tokenizer(folder), index)
            self.model = load_model(folder, dtype=dtype)[0].to(arguments.device).eval()
        # Drawn for all users first, so that fewer users are the first of them.
        words = len(self.items.tokenizer) - len(self.items.token_ids)
        prompts = rng.integers(words // 2, size=(max(users, arguments.users), arguments.prompt_tokens))
        self.lists = prompts[:users].tolist()
        self.prompts = as_prompts(self.lists, arguments.device)
        self.table = CodeTable(self.items, arguments.device)

    def _model(self, arguments: argparse.Namespace, dtype: str) -> PreTrainedModel:
        """Item rows of the size of the old ones, drawn in float32, so that all types round the same numbers."""
        model, tokenizer = load_model(arguments.model, dtype=dtype)
        old = len(tokenizer)
        model.resize_token_embeddings(len(self.items.tokenizer), mean_resizing=False)
        generator = torch.Generator().manual_seed(arguments.seed)
        with torch.no_grad():
            weights = {id(e.weight): e.weight for e in (model.get_input_embeddings(), model.get_output_embeddings())}
            for weight in weights.values():
                known = weight[:old].float()
                drawn = torch.randn(len(weight) - old, weight.shape[1], generator=generator)
                weight[old:] = (known.mean(0) + known.std(0) * drawn).to(weight.dtype)
        return model.to(arguments.device).eval()

    def save(self, folder: str) -> None:
        """For processes that need the same world."""
        self.model.save_pretrained(folder)
        self.items.tokenizer.save_pretrained(folder)

    @property
    def body(self) -> torch.nn.Module:
        return self.model.get_decoder()

    def prefill(self) -> None:
        """The bare pass over the prompts that everything is compared with."""
        with torch.inference_mode():
            self.body(input_ids=self.prompts, use_cache=True)


class CheckedEngine:
    """The engine, and a count of what it should never return.

    Args:
        world: whose model and items. counts: where faults are counted; shared by all engines of a run.
    """

    def __init__(self, world: World, counts: Counter[str]) -> None:
        self.engine, self.world, self.counts = TransformersEngine(world.model, world.items), world, counts

    def decode(
        self, beams: int, normalize: str, users: int | None = None, excluded: list[list[int]] | None = None
    ) -> ScoredItems:
        prompts = self.world.lists[:users]
        closed = None if excluded is None else Ragged.from_lists([np.array(rows, np.int32) for rows in excluded])
        found = self.engine.decode(prompts, beams, beams, normalize, excluded=closed)
        for user, rows in enumerate(found.rows):
            self._count(rows, set() if excluded is None else set(excluded[user]))
        return found

    def _count(self, rows: np.ndarray, excluded: set[int]) -> None:
        returned = [int(row) for row in rows if row != -1]
        count = len(self.world.items.index)
        self.counts["lists"] += 1
        self.counts["items"] += len(returned)
        self.counts["unreal"] += sum(not 0 <= row < count for row in returned)
        self.counts["repeated"] += len(returned) - len(set(returned))
        self.counts["excluded"] += sum(row in excluded for row in returned)
        self.counts["missing"] += min(len(rows), count - len(excluded)) - len(returned)


# Time


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any], device: str) -> tuple[float, float]:
    """Of the wall clock, and of all threads of this process."""
    synchronize(device)
    wall, busy = time.perf_counter(), time.process_time()
    work()
    synchronize(device)
    return time.perf_counter() - wall, time.process_time() - busy


class Stopwatch:
    """Times in prefills.

    Args:
        world: whose prompts.
    """

    def __init__(self, world: World, device: str) -> None:
        self.world, self.device = world, device
        self.prefills: list[float] = []
        self.wall: dict[str, list[float]] = defaultdict(list)
        self.cpu: dict[str, list[float]] = defaultdict(list)

    def measure(self, name: str, work: Callable[[], Any], around: int = 2) -> None:
        """Time something, with that many prefills before and after it."""
        prefills = [seconds(self.world.prefill, self.device) for _ in range(around)]
        taken = seconds(work, self.device)
        prefills += [seconds(self.world.prefill, self.device) for _ in range(around)]
        wall, cpu = (statistics.median(values) for values in zip(*prefills, strict=True))
        self.prefills += [prefill for prefill, _ in prefills]
        self.wall[name].append(taken[0] / wall)
        self.cpu[name].append(taken[1] / cpu)
        log(f"{name}: {taken[0]:.2f} s, {self.wall[name][-1]:.2f} prefills of {wall:.3f} s")

    def nested(self, values: dict[str, list[float]], kinds: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """The medians of `kind beams` as `{kind: {beams: ...}}`."""
        found: dict[str, dict[str, float]] = {}
        for name, ratios in values.items():
            kind, _, beams = name.rpartition(" ")
            if kind in kinds:
                found.setdefault(kind, {})[beams] = round(statistics.median(ratios), 3)
        return found


def measure_prefills(world: World, engine: CheckedEngine, arguments: argparse.Namespace) -> dict[str, Any]:
    """The engine and what it is compared with, in turns."""
    prompt_tokens = arguments.prompt_tokens
    by_dictionary = DictTrie(world.items, prompt_tokens)
    by_table = TableTrie(world.table, prompt_tokens)
    quick: dict[str, Callable[[], Any]] = {}
    slow: dict[str, Callable[[], Any]] = {}
    theirs: dict[int, Beams] = {}
    for beams in arguments.beams:
        for normalize in NORMALIZATIONS:
            quick[f"{normalize} {beams}"] = lambda b=beams, n=normalize: engine.decode(b, n)
        quick[f"keys copied for each beam {beams}"] = lambda b=beams: beam_search(
            world.model, world.prompts, world.table, b, "codebook"
        )
        slow[f"generate {beams}"] = lambda b=beams: theirs.update(
            {b: generate(world.model, world.prompts, world.table, b, by_dictionary)}
        )
        slow[f"generate, one lookup {beams}"] = lambda b=beams: generate(
            world.model, world.prompts, world.table, b, by_table
        )
    codes = torch.from_numpy(world.items.index.codes).long().to(arguments.device)
    scored = min(arguments.scored_items, len(codes))
    slow[EVERY] = lambda: score_items(world.model, world.prompts, world.table, codes[:scored])
    for _ in range(2):
        world.prefill()
    for work in quick.values():
        work()  # once for what is built at the first call
    watch = Stopwatch(world, arguments.device)
    for repeat in range(max(arguments.repeats, arguments.slow_repeats)):
        if repeat < arguments.repeats:
            for name, work in quick.items():
                watch.measure(name, work)
        if repeat < arguments.slow_repeats:
            for name, work in slow.items():
                watch.measure(name, work, around=6)
    same = {str(beams): agreement(engine.decode(beams, "vocab"), found) for beams, found in theirs.items()}
    return {**summary(watch, scored, len(codes)), f"agreement_{arguments.dtype}": same}


OTHERS = ("generate", "generate, one lookup", "keys copied for each beam")
EVERY = "every item scored"


def ratios(theirs: dict[str, float], ours: dict[str, dict[str, float]], digits: int = 2) -> dict[str, dict[str, float]]:
    """How many times as long the others take, by normalization and beams."""
    return {kind: {b: round(theirs[b] / p, digits) for b, p in line.items()} for kind, line in ours.items()}


def summary(watch: Stopwatch, scored: int, items: int) -> dict[str, Any]:
    ours, theirs = (watch.nested(watch.wall, kinds) for kinds in (NORMALIZATIONS, OTHERS))
    cpu_ours, cpu_theirs = (watch.nested(watch.cpu, kinds) for kinds in (NORMALIZATIONS, OTHERS))
    # Measured on some of the items; all but the one prefill grows with their number.
    every = 1 + (statistics.median(watch.wall[EVERY]) - 1) * items / scored
    over = {other: ratios(theirs[other], ours) for other in OTHERS}
    over[EVERY] = ratios(dict.fromkeys(theirs["generate"], every), ours, 1)
    return {
        "prefill_seconds": round(statistics.median(watch.prefills), 4),
        "prefills": ours,
        "speedup_over_hf": over.pop("generate"),
        "speedup_over": over,
        "others_in_prefills": {**theirs, EVERY: {"estimate": round(every, 1), "scored": scored, "items": items}},
        "prefills_range": {name: [round(min(all_), 3), round(max(all_), 3)] for name, all_ in watch.wall.items()},
        "cpu": {
            "prefills": cpu_ours,
            "speedup_over_hf": ratios(cpu_theirs["generate"], cpu_ours),
            "others_in_prefills": cpu_theirs,
        },
    }


# The same items


def agreement(ours: ScoredItems, theirs: Beams) -> dict[str, float]:
    """The share of equal lists, and of items that a list has in common with the other's."""
    rows = theirs.rows.cpu().numpy()
    shared = [len(set(a) & set(b)) / len(a) for a, b in zip(ours.rows.tolist(), rows.tolist(), strict=True)]
    return {"lists": float((ours.rows == rows).all(axis=1).mean()), "items": round(statistics.mean(shared), 4)}


def measure_same(world: World, engine: CheckedEngine, beams: list[int]) -> dict[str, Any]:
    """Against transformers, with the same scores and beams.

    The engine follows a run of single children in one step and keeps as many other beams beside it, where ordinary beam
    search drops some. Such lists differ; then it is counted whether ours is at least as good at every place. That
    `beam_search` has the lists of transformers shows that the difference is there and nowhere else.
    """
    trie = TableTrie(world.table, world.prompts.shape[1])
    found = {}
    for count in beams:
        ours = engine.decode(count, "vocab")
        theirs = generate(world.model, world.prompts, world.table, count, trie, scores=True)
        plain = beam_search(world.model, world.prompts, world.table, count)
        reference = ScoredItems(plain.rows.cpu().numpy(), plain.scores.cpu().numpy(), np.zeros(len(ours.rows), bool))
        gain = ours.scores - theirs.scores.cpu().numpy()
        common = ours.rows == theirs.rows.cpu().numpy()
        found[str(count)] = {
            **agreement(ours, theirs),
            "reference_lists": agreement(reference, theirs)["lists"],
            "lists_as_good_at_every_place": float((gain >= -CLOSE).all(axis=1).mean()),
            "largest_loss": round(float(-gain.min()), 6),
            "largest_gain": round(float(gain.max()), 6),
            "largest_difference_of_same_item": round(float(np.abs(gain[common]).max(initial=0)), 6),
        }
        log(f"float32, {count} beams, against generate: {found[str(count)]}")
    return found


# Memory


def megabytes(field: str) -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) / 2**10


def growth(work: Callable[[], Any], device: str) -> float | None:
    """The most memory held while `work` runs, over that before, in MiB; None where the system cannot say."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        synchronize(device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten: loading takes more than searching
        before = megabytes("VmRSS")
    except OSError:
        return None
    work()
    return megabytes("VmHWM") - before


def memory_of(arguments: argparse.Namespace, folder: str, what: str, beams: int) -> float | None:
    """In a process of its own: what one search needs."""
    torch.set_num_threads(arguments.threads)
    world = World(arguments, arguments.dtype, arguments.memory_users, folder)
    for parameter in world.model.parameters():
        parameter.data = parameter.data.clone()  # all of it is in memory now, not only in a mapped file
    with torch.inference_mode():
        world.body(input_ids=world.prompts[:1])
    engine, trie = TransformersEngine(world.model, world.items), DictTrie(world.items, arguments.prompt_tokens)
    searches = {
        "engine": lambda: engine.decode(world.lists, beams, beams),
        "generate": lambda: generate(world.model, world.prompts, world.table, beams, trie),
        "keys copied for each beam": lambda: beam_search(world.model, world.prompts, world.table, beams, "codebook"),
    }
    return growth(searches[what], arguments.device)


def measure_memory(arguments: argparse.Namespace, folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {"users": arguments.memory_users}
    for beams in arguments.memory_beams:
        line: dict[str, Any] = {}
        for what in ("engine", "keys copied for each beam", "generate"):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                grown = pool.submit(memory_of, arguments, folder, what, beams).result()
            line[what] = None if grown is None else round(grown, 1)
            log(f"memory, {beams} beams, {what}: {line[what]} MiB")
        if line["engine"]:
            line["generate_over_engine"] = round(line["generate"] / line["engine"], 1)
        found[str(beams)] = line
    return {"memory_mib": found}


# Floors


class PartTimes(TorchFunctionMode):
    """Seconds of the calls to torch that matter, told apart by where they happen.

    Linear layers outside the body are the head; inside it, products of two activations are attention.
    """

    ATTENTION = frozenset(
        {"scaled_dot_product_attention", "matmul", "__matmul__", "bmm", "baddbmm", "baddbmm_", "einsum", "softmax"}
    )

    def __init__(self, body: torch.nn.Module, device: str) -> None:
        super().__init__()
        self.body, self.device = body, device
        self.seconds: Counter[str] = Counter()
        self.fed: list[int] = []  # tokens of each pass
        self.inside = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name == "linear" or (not self.inside and name in {"log_softmax", "logsumexp"}):
            part = f"{self.stage} linear" if self.inside else "head"
        elif self.inside and name in self.ATTENTION:
            part = f"{self.stage} attention"
        else:
            return func(*args, **(kwargs or {}))
        synchronize(self.device)
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        synchronize(self.device)
        self.seconds[part] += time.perf_counter() - start
        return result

    @property
    def stage(self) -> str:
        return "prompt" if len(self.fed) == 0 else "beams"

    @contextmanager
    def watching(self) -> Iterator[None]:
        def enter(*_: Any) -> None:
            synchronize(self.device)
            self.inside, self.entered = True, time.perf_counter()

        def leave(_module: Any, _inputs: Any, output: Any) -> None:
            synchronize(self.device)
            self.seconds[f"{self.stage} all"] += time.perf_counter() - self.entered
            self.fed.append(output.last_hidden_state.shape[:-1].numel())
            self.inside = False

        hooks = [self.body.register_forward_pre_hook(enter), self.body.register_forward_hook(leave)]
        synchronize(self.device)
        start = time.perf_counter()
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()
        synchronize(self.device)
        self.seconds["all"] = time.perf_counter() - start

    def parts(self) -> dict[str, float]:
        """Disjoint parts, in seconds."""
        found = {}
        for stage in ("prompt", "beams"):
            named = {kind: self.seconds[f"{stage} {kind}"] for kind in ("linear", "attention")}
            found |= {f"{stage}: {kind}": value for kind, value in named.items()}
            found[f"{stage}: rest of the model"] = self.seconds[f"{stage} all"] - sum(named.values())
        found["head"] = self.seconds["head"]
        found["trie and search"] = self.seconds["all"] - sum(found.values())
        return found


def linear_layers(body: torch.nn.Module, rows: int, device: str, repeats: int = 5) -> dict[str, float]:
    """What the linear layers of the body take for that many rows, and at which rate."""
    layers = [module for module in body.modules() if isinstance(module, torch.nn.Linear)]
    first = layers[0].weight
    inputs = {w: torch.randn(rows, w).to(first) for w in {layer.in_features for layer in layers}}

    def work() -> None:
        with torch.inference_mode():
            for layer in layers:
                layer(inputs[layer.in_features])

    work()
    taken = statistics.median(seconds(work, device)[0] for _ in range(repeats))
    operations = 2 * rows * sum(layer.weight.numel() for layer in layers)
    return {"seconds": round(taken, 4), "gflops": round(operations / taken / 1e9, 1)}


def copy_rate(device: str, repeats: int = 5) -> float:
    """GB that are read and written a second when a large array is copied."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    taken = statistics.median(seconds(lambda: target.copy_(source), device)[0] for _ in range(repeats))
    return round(2 * source.numel() * source.element_size() / taken / 1e9, 1)


def measure_floors(world: World, engine: CheckedEngine, arguments: argparse.Namespace) -> dict[str, Any]:
    device = arguments.device
    prompt_rows = world.prompts.numel()
    rows = {prompt_rows}
    searches: dict[str, dict[str, Any]] = {}
    for normalize in NORMALIZATIONS:
        for beams in arguments.beams:
            engine.decode(beams, normalize)
            watched = []
            for _ in range(arguments.part_repeats):
                prefill = statistics.median(seconds(world.prefill, device)[0] for _ in range(3))
                times = PartTimes(world.body, device)
                with times.watching():
                    engine.decode(beams, normalize)
                watched.append((times, prefill))
            times, prefill = sorted(watched, key=lambda one: one[0].seconds["all"] / one[1])[len(watched) // 2]
            parts, total = times.parts(), times.seconds["all"]
            rows.update(times.fed)
            searches.setdefault(normalize, {})[str(beams)] = {
                "tokens_fed": times.fed,
                "tokens_alone_in_prefills": round(sum(times.fed) / prompt_rows, 3),
                "in_prefills": round(total / prefill, 3),
                "seconds": {name: round(value, 4) for name, value in parts.items()},
                "share": {name: round(value / total, 3) for name, value in parts.items()},
            }
            log(f"parts, {normalize} {beams}: {searches[normalize][str(beams)]}")
    prefill = statistics.median(seconds(world.prefill, device)[0] for _ in range(5))
    linear = {count: linear_layers(world.body, count, device) for count in sorted(rows)}
    for lines in searches.values():
        for line in lines.values():
            alone = sum(linear[count]["seconds"] for count in line["tokens_fed"])
            line["linear_layers_alone_in_prefills"] = round(alone / prefill, 3)
    return {
        "floors": {
            "prefill_seconds": round(prefill, 4),
            "linear_layers_by_rows": {str(count): found for count, found in linear.items()},
            "copy_gb_per_second": copy_rate(device),
            "weights_mib": round(sum(p.numel() * p.element_size() for p in world.body.parameters()) / 2**20, 1),
            "searches": searches,
        }
    }


# More beams


def measure_wide(engine: CheckedEngine, beams: int, device: str) -> dict[str, Any]:
    found: list[ScoredItems] = []
    taken, _ = seconds(lambda: found.append(engine.decode(beams, "codebook", users=1)), device)
    rows = found[0].rows[0]
    valid = {int(row) for row in rows if 0 <= row < len(engine.world.items.index)}
    return {"wide": {"beams": beams, "users": 1, "seconds": round(taken, 2), "valid_items": len(valid)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=60)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="codes of a level")
    parser.add_argument("--beams", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--wide-beams", type=int, default=1000, help="for one user, to see that it works")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slow-repeats", type=int, default=3, help="of transformers and of scoring items")
    parser.add_argument("--part-repeats", type=int, default=3, help="of the engine's parts")
    parser.add_argument("--scored-items", type=int, default=250, help="measured for the estimate of scoring all")
    parser.add_argument("--memory-beams", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--memory-users", type=int, default=2)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts of the benchmark to run")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    counts: Counter[str] = Counter({name: 0 for name in ("unreal", "repeated", "excluded", "missing")})
    figures: dict[str, Any] = {}
    load = {"before": [round(value, 2) for value in os.getloadavg()]}
    start = time.perf_counter()

    world = World(arguments, "float32", arguments.users)
    engine = CheckedEngine(world, counts)
    if "same" in arguments.only:
        figures["agreement"] = measure_same(world, engine, arguments.beams)
        figures["same_items"] = {beams: found["lists"] for beams, found in figures["agreement"].items()}
    world.model.to(getattr(torch, arguments.dtype))
    engine = CheckedEngine(world, counts)
    for beams in arguments.beams:
        for normalize in NORMALIZATIONS:
            best = engine.decode(beams, normalize).rows
            engine.decode(beams, normalize, excluded=[rows[::2].tolist() for rows in best])
    if "prefills" in arguments.only:
        figures |= measure_prefills(world, engine, arguments)
        figures["targets"] = TARGETS
    if "wide" in arguments.only:
        figures |= measure_wide(engine, arguments.wide_beams, arguments.device)
    if "floors" in arguments.only:
        figures |= measure_floors(world, engine, arguments)
    settings = {name: getattr(arguments, name) for name in ("users", "prompt_tokens", "items", "levels", "size")}
    if "memory" in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            world.save(folder)
            del world, engine
            figures |= measure_memory(arguments, folder)
    figures["invalid"] = counts["unreal"] + counts["repeated"] + counts["excluded"]
    figures["counted"] = dict(counts)
    load["after"] = [round(value, 2) for value in os.getloadavg()]
    figures |= {
        "settings": settings | {name: getattr(arguments, name) for name in ("model", "dtype", "device", "seed")},
        "repeats": {"quick": arguments.repeats, "slow": arguments.slow_repeats, "parts": arguments.part_repeats},
        "load_average": load,
        "seconds": round(time.perf_counter() - start, 1),
    }
    report("decode", figures, arguments.store)
    if figures["invalid"]:
        raise SystemExit(f"{json.dumps(dict(counts))}: the engine returned what it must not.")


if __name__ == "__main__":
    main()
