"""What every benchmark prints last: one JSON with its figures, the hardware, the versions and the command."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import llmrec

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "transformers", "trl", "peft", "numpy")


def hardware() -> dict[str, Any]:
    """The machine in words that mean something elsewhere."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu}


def report(name: str, figures: dict[str, Any], store: bool, script: str | None = None) -> None:
    """Print the JSON line; keep it under `benchmarks/results/` when asked.

    Args:
        name: of the benchmark; the file is `NAME.json`, with the GPU's name behind it where there is one.
        figures: what was measured; `peak_gb` is that of this process where they do not say.
        store: whether to write the file.
        script: the benchmark's file, where it has another name.
    """
    machine = hardware()
    result = {
        "benchmark": name,
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        **figures,
        "hardware": machine,
        "versions": {"llmrec": llmrec.__version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
        "command": " ".join(["python", f"benchmarks/{script or name}.py", *sys.argv[1:]]),
    }
    if store:
        suffix = f".{machine['gpu'].replace(' ', '_')}" if machine["gpu"] else ""
        path = RESULTS / f"{name}{suffix}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
