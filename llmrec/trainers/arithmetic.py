"""What numbers a training computes with where the processor cannot do what the recipe asks.

bfloat16 is worth it on GPUs and on CPUs that multiply it (AVX512-BF16, AMX, ARM's bf16). On others every product is
converted first: on a CPU with AVX2 alone a matrix product took 57 times as long as in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

logger = logging.getLogger(__name__)

MULTIPLIES_BFLOAT16 = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16")
"""Of `torch.cpu.get_capabilities()`; the last is ARM's."""


@cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in MULTIPLIES_BFLOAT16)


def without_slow_bfloat16(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a training, in float32 where it is to run on a CPU that bfloat16 would only slow down.

    Args:
        args: fields of TRL's configuration, in which `bf16` is on unless it is set, or `fp16` is.
    """
    wanted = args.get("bf16")
    wanted = not args.get("fp16") if wanted is None else wanted
    if not (wanted and args.get("use_cpu")) or cpu_multiplies_bfloat16():
        return dict(args)
    logger.warning(
        "this CPU has no bfloat16 arithmetic, which would be tens of times slower: computing in float32. Set bf16: "
        "false to be rid of this line"
    )
    return {**args, "bf16": False}
