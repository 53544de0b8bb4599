"""What do scores for every item cost beside the pass over the prompts, and how good are the lists?

    python benchmarks/item_head.py --data ../shared/data/amazon14_office --store
    python benchmarks/item_head.py --parts prefills --repeats 15                    (the timing alone; needs no data)
    python benchmarks/item_head.py --parts quality --data ../shared/data/amazon14_office

`prefills`: one batch of users is answered, from prompts to the best k of the whole catalog without what each has seen,
by SmolLM2-135M with all its layers and random item vectors. The time is counted in bare prefills of the same batch,
measured before and after it, so that the ratio holds on a machine that others use too; medians over repeats in which
the catalogs take turns. `cpu` is the same with the time that the processors worked. What was predicted from
multiplications alone is printed beside it. The lists are compared with a sort of everything, and the largest tensor
that an answer makes is looked for: none may have a place for each user and item.

`quality`: test NDCG@10 of the recipe with an item head beside the one that writes codes, of the same base model, layers
and data. A finished run of `--runs`, or a stored result of `benchmarks/recipe.py`, is read; otherwise it is trained.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, report
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from llmrec.base_models import load_model
from llmrec.engines.projection import Best, best_items
from llmrec.engines.states import TransformersStates
from llmrec.recommenders.item_projection import ItemProjection
from llmrec.types import Ragged

GOAL = 1.05
RECIPES = {"item_head": "sft/office_item_head_cpu", "codes": "sft/office_smollm2_cpu"}
SEEN = 16
CLOSE = 1e-3
"""Nats by which a float32 score may differ from one computed in float64, or in blocks of another shape."""


class Batch:
    """Users, their prompts and what they have seen; and one catalog size after another.

    Args:
        model: the language model. arguments: of the command line.
    """

    def __init__(self, model: PreTrainedModel, arguments: argparse.Namespace) -> None:
        rng = np.random.default_rng(arguments.seed)
        lengths = rng.integers(arguments.shortest, arguments.longest + 1, arguments.users)
        words = model.get_input_embeddings().num_embeddings
        self.prompts: list[list[int]] = [rng.integers(words, size=length).tolist() for length in lengths]
        self.ids = torch.zeros(len(lengths), int(lengths.max()), dtype=torch.int64)
        for row, prompt in zip(self.ids, self.prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        self.ids = self.ids.to(arguments.device)
        self.model, self.engine, self.k, self.device = model, TransformersStates(model), arguments.k, arguments.device
        self.heads: dict[int, ItemProjection] = {}
        self.vectors: dict[int, torch.Tensor] = {}
        self.seen: dict[int, Ragged] = {}
        for items in arguments.items:
            torch.manual_seed(arguments.seed)
            head = ItemProjection(torch.zeros(items, 0), model.config.hidden_size, arguments.dimensions)
            head.table.data *= 10  # chances that differ
            self.heads[items] = head.to(arguments.device).eval()
            with torch.inference_mode():
                self.vectors[items] = self.heads[items].vectors().contiguous()
            rows = [rng.choice(items, SEEN, replace=False).astype(np.int32) for _ in range(arguments.users)]
            self.seen[items] = Ragged.from_lists(rows)

    @torch.inference_mode()
    def prefill(self) -> None:
        """The bare pass over the prompts that everything is compared with."""
        self.model.get_decoder()(input_ids=self.ids, use_cache=False)

    @torch.inference_mode()
    def states(self) -> torch.Tensor:
        """Of the prompts; the first half of an answer."""
        return self.engine.states(self.prompts)

    @torch.inference_mode()
    def project(self, states: torch.Tensor, items: int) -> Best:
        """The other half."""
        return best_items(self.heads[items].queries(states), self.vectors[items], self.k, self.seen[items])


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def clock(device: str) -> tuple[float, float]:
    """Of the wall, and of all threads of this process."""
    synchronize(device)
    return time.perf_counter(), time.process_time()


def measure(batch: Batch, sizes: list[int], repeats: int) -> dict[str, Any]:
    """Answers in prefills, and how long the projection alone takes."""
    wall: dict[int, list[float]] = {size: [] for size in sizes}
    cpu: dict[int, list[float]] = {size: [] for size in sizes}
    alone: dict[int, list[float]] = {size: [] for size in sizes}
    share: dict[int, list[float]] = {size: [] for size in sizes}
    prefills: list[tuple[float, float]] = []

    def prefill() -> tuple[float, float]:
        before = clock(batch.device)
        batch.prefill()
        after = clock(batch.device)
        prefills.append((after[0] - before[0], after[1] - before[1]))
        return prefills[-1]

    last = prefill()
    for repeat in range(repeats):
        for size in sizes:
            began = clock(batch.device)
            states = batch.states()
            middle = clock(batch.device)
            batch.project(states, size)
            ended = clock(batch.device)
            following = prefill()
            around = [(a + b) / 2 for a, b in zip(last, following, strict=True)]
            wall[size].append((ended[0] - began[0]) / around[0])
            cpu[size].append((ended[1] - began[1]) / around[1])
            alone[size].append(ended[0] - middle[0])
            share[size].append((ended[1] - middle[1]) / around[1])
            last = following
            print(f"{repeat}: {size:,} items: {wall[size][-1]:.3f} prefills of {around[0]:.3f} s", file=sys.stderr)

    def medians(values: dict[int, list[float]], digits: int) -> dict[str, float]:
        return {str(size): round(statistics.median(values[size]), digits) for size in sizes}

    return {
        "prefills": medians(wall, 4),
        "goal": GOAL,
        "prefills_range": {str(size): [round(min(wall[size]), 3), round(max(wall[size]), 3)] for size in sizes},
        "cpu": {"prefills": medians(cpu, 4), "projection_in_prefills": medians(share, 4)},
        "projection_ms": medians({size: [1000 * one for one in alone[size]] for size in sizes}, 2),
        "prefill_seconds": round(statistics.median(seconds for seconds, _ in prefills), 4),
    }


def predicted(batch: Batch, sizes: list[int], dimensions: int) -> dict[str, Any]:
    """Multiplications of a prefill and of a projection, and their ratio."""
    config, tokens = batch.model.config, batch.ids.numel()
    weights = sum(
        weight.numel()
        for name, weight in batch.model.get_decoder().named_parameters()
        if weight.ndim == 2 and "embed" not in name
    )
    # Scores and sums of attention, each over the half of the positions that a token sees.
    attention = config.num_hidden_layers * config.num_attention_heads * config.head_dim * batch.ids.shape[1]
    prefill = tokens * (weights + attention)
    projection = {size: len(batch.prompts) * dimensions * (size + config.hidden_size) for size in sizes}
    return {
        "prefill_gmac": round(prefill / 1e9, 2),
        "projection_gmac": {str(size): round(one / 1e9, 4) for size, one in projection.items()},
        "predicted_prefills": {str(size): round(1 + one / prefill, 5) for size, one in projection.items()},
    }


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes, views and inputs aside."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `TorchDispatchMode`."""
        made = func(*args, **(kwargs or {}))
        if not func.is_view:
            for tensor in tree_leaves(made):
                if isinstance(tensor, torch.Tensor):
                    self.elements = max(self.elements, tensor.numel())
        return made


@torch.inference_mode()
def check(batch: Batch, states: torch.Tensor, size: int) -> dict[str, Any]:
    """The lists beside those of a sort of all scores in float64, one user after another.

    Raises:
        SystemExit: a list is not the best one, or an answer held a score of each user for each item.
    """
    with Largest() as largest:
        found = batch.project(states, size)
    queries, same, worst = batch.heads[size].queries(states).double(), 0, 0.0
    vectors = batch.vectors[size].double()
    for user, query in enumerate(queries):
        scores = (vectors @ query).log_softmax(0)
        scores[torch.from_numpy(batch.seen[size][user].astype(np.int64)).to(scores.device)] = -math.inf
        order = scores.sort(descending=True, stable=True).indices[: batch.k]
        same += int(torch.equal(order, found.rows[user]))
        # By place, and by row: another row may stand there only where both scores are equal to rounding.
        for other in (scores[order], scores[found.rows[user]]):
            worst = max(worst, float((other - found.scores[user].double()).abs().max()))
    if worst > CLOSE:
        raise SystemExit(f"{size:,} items: a score differs by {worst:.5f} nats from that of a sort of everything.")
    if size > 100_000 and largest.elements >= len(batch.prompts) * size:
        raise SystemExit(f"{size:,} items: a tensor of {largest.elements:,} elements holds every score.")
    return {
        "equal_lists": same / len(queries),
        "largest_difference": float(f"{worst:.2g}"),
        "largest_tensor": largest.elements,
        "users_times_items": len(batch.prompts) * size,
    }


def measure_prefills(arguments: argparse.Namespace) -> dict[str, Any]:
    model = load_model(arguments.model, arguments.layers, arguments.dtype)[0].to(arguments.device).eval()
    batch = Batch(model, arguments)
    expected = predicted(batch, arguments.items, arguments.dimensions)
    print(json.dumps(expected), file=sys.stderr)
    states = batch.states()  # also what is built at the first call
    checked = {str(size): check(batch, states, size) for size in arguments.items}
    return {
        **measure(batch, arguments.items, arguments.repeats),
        **expected,
        "checked": checked,
        "batch": {
            "users": len(batch.prompts),
            "tokens": [min(map(len, batch.prompts)), max(map(len, batch.prompts))],
            "k": batch.k,
            "seen_items_left_out": SEEN,
        },
        "model": {
            "name": arguments.model,
            "layers": model.config.num_hidden_layers,
            "hidden": model.config.hidden_size,
            "dtype": arguments.dtype,
        },
        "item_vectors": {"dimensions": arguments.dimensions, "dtype": "float32"},
        "repeats": arguments.repeats,
    }


def tested(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The test figures of a recipe: of a finished run, of a stored result, or of a training now."""
    base = name.rpartition("/")[2]
    for path in (Path(arguments.runs) / base / "eval.json", RESULTS / f"recipe_{base}.json"):
        if path.is_file():
            break
    else:
        from llmrec.pipeline.run import run
        from llmrec.recipe import load_recipe

        changes = {"data.root": arguments.data, "output": arguments.runs}
        path = (
            Path(run(load_recipe(name, [f"{key}={value}" for key, value in changes.items()]))["folder"]) / "eval.json"
        )
    read = json.loads(path.read_text())
    test = read["test"]
    metrics, interval = test.get("metrics", test), test.get("intervals", {}).get("ndcg@10")
    return {
        "ndcg@10": round(metrics["ndcg@10"], 4),
        "hr@10": round(metrics["hr@10"], 4),
        "interval": interval,
        "protocol": test.get("protocol", read.get("protocol")),
    }


def measure_quality(arguments: argparse.Namespace) -> dict[str, Any]:
    found = {kind: tested(name, arguments) for kind, name in RECIPES.items()}
    return {"ndcg@10": {kind: one["ndcg@10"] for kind, one in found.items()}, "quality": found, "recipes": RECIPES}


PARTS = {"prefills": measure_prefills, "quality": measure_quality}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--layers", type=int, help="only so many first layers")
    parser.add_argument("--dtype", default="bfloat16", help="of the language model; the projection is float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--shortest", type=int, default=60, help="tokens of the shortest prompt")
    parser.add_argument("--longest", type=int, default=100)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default="../shared/data/amazon14_office", help="what is trained on where it must be")
    parser.add_argument("--runs", default="runs", help="where finished runs are looked for")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    figures: dict[str, Any] = {}
    for part in dict.fromkeys(arguments.parts):
        figures |= PARTS[part](arguments)
    report("item_head", {**figures, "seed": arguments.seed}, arguments.store)


if __name__ == "__main__":
    main()
