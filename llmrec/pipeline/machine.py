"""On what a stage was made: words for `stage.json` and the model card; no result depends on them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import llmrec

PACKAGES = ("torch", "transformers", "trl", "peft", "numpy")


def machine() -> str:
    """Processor, threads and, where torch found one, the GPU: `AMD EPYC 9R14, 2 threads`."""
    name = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():
        found = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = found[0] if found else name
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else os.cpu_count() or 1
    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if torch else []
    return ", ".join([*gpus, name, f"{threads} thread{'s' if threads > 1 else ''}"])


def versions() -> dict[str, str]:
    """Of llmrec, Python and the libraries that figures depend on."""
    found = {"llmrec": llmrec.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
