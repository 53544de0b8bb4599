"""Weights in eight bits: a model folder of a quarter of the bytes, by torchao, which transformers and vLLM read too.

The linear layers of the blocks are quantized, a scale a row; embedding and head keep their numbers, because the search
reads single rows of them. Both kinds run on a CPU and on a GPU. Four bits are not offered: bitsandbytes 0.50 gave other
answers on a CPU after a folder was saved and read again, and torchao's kernels for them need a GPU.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

from llmrec.errors import ArtifactError
from llmrec.recommenders.llm_folder import read_quantized, read_task, write_folder

Kind = Literal["int8", "int8_dynamic"]
"""`int8`: weights alone, the products as before. `int8_dynamic`: activations too, so products are of integers."""


def quantize_folder(source: Path, target: Path, kind: Kind) -> None:
    """Write a quantized copy of a model folder.

    Args:
        source: what `LLMRecommender.save_pretrained` wrote. target: another folder.

    Raises:
        ArtifactError: torchao is not installed, or `source` is not complete.
    """
    task, settings = read_task(source)
    write_folder(target, read_quantized(source, _configuration(kind)), task, settings)


def _configuration(kind: Kind) -> Any:
    if importlib.util.find_spec("torchao") is None:
        raise ArtifactError("torchao quantizes and is not installed. Run: pip install 'llmrec[quantization]'")
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig({"int8": Int8WeightOnlyConfig, "int8_dynamic": Int8DynamicActivationInt8WeightConfig}[kind]())
