"""States from vLLM's pooling runner: one request a prompt, whose answer is the last hidden state in place of a text.

Items that the model reads as one vector each go along as embeddings of their places, the words beside them as tokens.

    from llmrec.engines.vllm_states import VLLMStates
    from llmrec.recommenders.item_head import ItemHeadRecommender
    ItemHeadRecommender.from_pretrained("runs/shop", engine=lambda items: VLLMStates.load("runs/shop", items))
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from llmrec.engines.constraint import served_folder
from llmrec.engines.states import ItemInputs
from llmrec.engines.top_k import check_prompts
from llmrec.engines.vllm import plain_settings, require_vllm
from llmrec.engines.vllm_loop import OnLoop
from llmrec.errors import DecodingError

TASK = "embed"


class PoolingBackend(Protocol):
    """A running vLLM that pools."""

    @property
    def model_config(self) -> Any:
        """VLLM's `ModelConfig`."""
        ...

    def __call__(self, prompts: list[dict[str, Any]]) -> list[Tensor]:
        """The states `float32[H]` of `n` of vLLM's prompts, all asked for at once."""
        ...


class OfflinePooling:
    """A `vllm.LLM`."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    @property
    def model_config(self) -> Any:
        """See `PoolingBackend`."""
        return self.llm.llm_engine.vllm_config.model_config

    def __call__(self, prompts: list[dict[str, Any]]) -> list[Tensor]:
        """See `PoolingBackend`."""
        return [
            output.outputs.data for output in self.llm.encode(prompts, _as_it_is(), pooling_task=TASK, use_tqdm=False)
        ]


class AsyncPooling(OnLoop):
    """A `vllm.AsyncLLM` that pools, on an event loop; for threads that ask at the same time."""

    def __call__(self, prompts: list[dict[str, Any]]) -> list[Tensor]:
        """See `PoolingBackend`."""
        outputs = self.outputs(partial(self.llm.encode, prompt, _as_it_is()) for prompt in prompts)
        return [output.outputs.data for output in outputs]


class VLLMStates:
    """A `StateEngine` on vLLM.

    Args:
        backend: a vLLM that was started with `pooling_settings_for` the same folder.
        items: of a model that reads items as one vector each.

    Raises:
        DecodingError: vLLM was started with other settings, so its answers would not be states.
    """

    def __init__(self, backend: PoolingBackend, items: ItemInputs | None = None) -> None:
        _check_settings(backend.model_config, items)
        self.backend, self.items = backend, items

    @classmethod
    def load(cls, folder: str | Path, items: ItemInputs | None = None, **settings: Any) -> VLLMStates:
        """Start vLLM on a model folder.

        Args:
            settings: further arguments of `vllm.LLM`, such as `dtype` or `gpu_memory_utilization`.

        Raises:
            MissingExtraError: vLLM is not installed.
            ArtifactError: it is no model folder, or holds an adapter that is not merged.
        """
        require_vllm()
        from vllm import LLM

        return cls(OfflinePooling(LLM(**{**pooling_settings_for(folder, items), **settings})), items)

    @torch.inference_mode()
    def states(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """See `StateEngine.states`."""
        check_prompts(prompts)
        limit, longest = self.backend.model_config.max_model_len, max(map(len, prompts), default=0)
        if longest > limit:
            raise DecodingError(
                f"vLLM was started for prompts of {limit} tokens, this one has {longest}. Shorten the prompt "
                "(max_history), or start it with a larger max_model_len."
            )
        asked = [self._prompt(list(prompt)) for prompt in prompts]
        return torch.stack([state.float() for state in self.backend(asked)])

    def _prompt(self, ids: list[int]) -> dict[str, Any]:
        if self.items is None:
            return {"prompt_token_ids": ids}
        first = self.items.first
        rows = torch.tensor([one - first for one in ids if one >= first], dtype=torch.int64)
        read = self.items.read(rows).cpu()  # (n, H)
        inputs = read.new_zeros(len(ids), read.shape[1])
        inputs[torch.tensor(ids) >= first] = read
        return {
            "prompt_token_ids": [0 if one >= first else one for one in ids],
            "prompt_is_token_ids": [one < first for one in ids],
            "prompt_embeds": inputs,
        }


def pooling_settings_for(folder: str | Path, items: ItemInputs | None) -> dict[str, Any]:
    """Arguments of `vllm.LLM` or `AsyncEngineArgs` that `VLLMStates` needs for a model folder.

    Raises:
        ArtifactError: it is no model folder, or holds an adapter that is not merged.
    """
    served_folder(str(folder))
    return {
        **plain_settings(folder),
        "runner": "pooling",
        "convert": TASK,
        "pooler_config": {"task": TASK, "seq_pooling_type": "LAST"},
        "enable_prompt_embeds": items is not None,
    }


def _as_it_is() -> Any:
    """Ask for a state whose length is not made one: its own projection does that, and with weights."""
    from vllm import PoolingParams

    return PoolingParams(task=TASK, use_activation=False)


def _check_settings(config: Any, items: ItemInputs | None) -> None:
    wrong = []
    if config.runner_type != "pooling":
        wrong.append(f"runner={config.runner_type!r} (wanted: 'pooling')")
    elif config.pooler_config.seq_pooling_type != "LAST":
        wrong.append(f"seq_pooling_type={config.pooler_config.seq_pooling_type!r} (wanted: 'LAST')")
    if items is not None and not config.enable_prompt_embeds:
        wrong.append("enable_prompt_embeds=False (wanted: True, the model reads items as vectors)")
    if wrong:
        raise DecodingError(
            f"vLLM was started with {', '.join(wrong)}. Start it with `pooling_settings_for` the model folder."
        )
