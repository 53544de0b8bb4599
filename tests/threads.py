"""Run Python in a process of its own, on another number of threads."""

from __future__ import annotations

import os
import subprocess
import sys


def on_threads(threads: int, *command: str) -> str:
    """What `python *command` prints when BLAS and OpenMP use so many threads; it finds the same modules."""
    variables = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
