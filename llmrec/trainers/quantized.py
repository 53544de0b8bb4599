"""QLoRA: an adapter and item rows in float32 beside frozen weights of four or eight bits (Dettmers et al., 2023).

bitsandbytes quantizes the linear layers of the blocks while they are loaded (`llmrec.base_models`). Embedding and head
keep their numbers, and so do the item rows in them. Where the paper has adapters of bfloat16, ours are float32, as with
ordinary LoRA: item rows take many small steps, which bfloat16's eight bits would swallow.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.trainable_tokens import TrainableTokensLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.bitsandbytes import dequantize_bnb_weight
from transformers.pytorch_utils import Conv1D


def is_quantized(model: PreTrainedModel) -> bool:
    """Whether bitsandbytes holds the linear layers of a model."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


@torch.no_grad()
def keep_full_precision(model: PeftModel) -> None:
    """Undo, in place, that TRL rounds what trains beside quantized weights to bfloat16."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for layer in model.modules():
        if isinstance(layer, TrainableTokensLayer):
            for name, rows in layer.trainable_tokens_original.items():
                layer.trainable_tokens_delta[name].data.copy_(rows)  # the first values, before they were rounded


@torch.no_grad()
def merge(model: PeftModel) -> PreTrainedModel:
    """The model with its adapter in ordinary linear layers, which any library reads.

    PEFT's own merge would round the sums to four bits again, where most of what was learned falls between two codes.
    Here the weights that training saw, dequantized, and the adapter's product are added in float32.
    """
    bare = model.get_base_model()
    if not is_quantized(bare):
        return model.merge_and_unload()
    dtype = bare.get_input_embeddings().weight.dtype
    for name, layer in list(bare.named_modules()):
        if isinstance(layer, LoraLayer) and _is_quantized_linear(layer.get_base_layer()):
            bare.set_submodule(name, _dense(layer.get_base_layer(), layer, dtype))
    for name, layer in list(bare.named_modules()):
        if _is_quantized_linear(layer):  # without an adapter
            bare.set_submodule(name, _dense(layer, None, dtype))
    merged: PreTrainedModel = model.merge_and_unload()  # the item rows, and adapters of layers that were not quantized
    merged.hf_quantizer.remove_quantization_config(merged)
    merged.is_loaded_in_4bit = merged.is_loaded_in_8bit = False
    return merged


def _is_quantized_linear(layer: nn.Module) -> bool:
    return type(getattr(layer, "weight", None)).__name__ in ("Params4bit", "Int8Params")


def _dense(layer: Any, adapter: Any, dtype: torch.dtype) -> nn.Module:
    """An ordinary layer with the weights of a quantized one and what its adapters learned."""
    weight = dequantize_bnb_weight(layer.weight, getattr(layer, "state", None)).float()  # (out, in)
    bias = None if layer.bias is None else layer.bias.float()
    for name in [] if adapter is None else adapter.active_adapters:
        weight, bias = _with_adapter(adapter, name, weight, bias)
    found: nn.Module
    if layer.source_cls is Conv1D:
        found, weight = Conv1D(layer.out_features, layer.in_features), weight.T
    else:
        found = nn.Linear(layer.in_features, layer.out_features, bias=bias is not None, device="meta")
    found.weight = nn.Parameter(weight.to(dtype).contiguous())
    if bias is not None:
        found.bias = nn.Parameter(bias.to(dtype))
    return found


def _with_adapter(adapter: Any, name: str, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if name not in adapter.lora_A:
        return weight, bias
    if name in adapter.lora_variant:  # such as DoRA
        weight = adapter.lora_variant[name].merge_safe(adapter, name, weight)
    else:
        weight = weight + adapter.get_delta_weight(name).float()
    if bias is not None and adapter.lora_bias[name]:  # PEFT refuses it for layers without a bias
        bias = bias + adapter.lora_B[name].bias.float()
    return weight, bias
