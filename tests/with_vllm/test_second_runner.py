"""The class for model runner V2, through vLLM's own loader, request state and context. Not run here: its GPU kernels.

The kernel that writes tokens to the device needs Triton, so its staged writes are copied by hand.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.worker.gpu import buffer_utils
from vllm.v1.worker.gpu.sample.logits_processor import (
    LogitsContext,
    build_custom_logits_processors,
    build_custom_logits_processors_params_validator,
)
from vllm.v1.worker.gpu.states import RequestState
from worlds import TinyWorld

from llmrec.engines.logits_processor import TrieLogitsProcessorV2
from llmrec.engines.vllm import PROCESSOR


def write(staged: object) -> None:
    """What the Triton kernel of `StagedWriteTensor` does."""
    begin = 0
    for row, start, end in zip(
        staged._staged_write_indices, staged._staged_write_starts, staged._staged_write_cu_lens, strict=True
    ):
        contents = torch.tensor(staged._staged_write_contents[begin:end], dtype=staged.dtype)
        staged.gpu.view(staged.num_rows, -1)[row, start : start + end - begin] = contents
        begin = end
    staged.clear_staged_writes()


def test_it_constrains_rows_of_vllm_s_own_state(
    folder: Path, world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer_utils, "is_uva_available", lambda: False)  # it needs pinned memory
    size = len(world.items.tokenizer)
    states = RequestState(4, 64, 64, 0, size, torch.device("cpu"))
    config = SimpleNamespace(model_config=SimpleNamespace(model=str(folder), revision=None), speculative_config=None)
    (processor,) = build_custom_logits_processors(config, states, False, (PROCESSOR,))
    assert type(processor) is TrieLogitsProcessorV2
    code, other = world.items.encode(5), world.items.encode(9)
    requests = {
        "fresh": ([7, 8, 9], [], {}),
        "resumed": ([7, 8], code[:2], {"item_excluded": [5]}),
        "prefix": ([7, *other[:1]], [], {"item_prefix": 1, "item_scores": "codebook"}),
        "done": ([7], code, {}),
    }
    for name, (prompt, output, given) in requests.items():
        states.add_request(name, len(prompt), [*prompt, *output], 0, 8)
        processor.add_request(states.req_id_to_index[name], SamplingParams(extra_args=given or None))
    states.prompt_len.copy_to_uva()
    write(states.all_token_ids)
    write(states.total_len)
    processor.apply_staged_writes()
    order = ["done", "prefix", "fresh", "resumed"]
    slots = np.array([states.req_id_to_index[name] for name in order], np.int32)
    lengths = torch.tensor([len(requests[name][0] + requests[name][1]) for name in order])
    context = LogitsContext(
        expanded_idx_mapping=torch.from_numpy(slots),
        idx_mapping=torch.from_numpy(slots),
        idx_mapping_np=slots,
        expanded_local_pos=torch.zeros(4, dtype=torch.int32),
        input_ids=torch.zeros(4, dtype=torch.int32),
        pos=lengths - 1,
        seq_lens_upper_bound_np=lengths.numpy(),
    )
    logits = torch.randn(4, size)
    after = processor.apply(logits.clone(), context)
    kept = [set(torch.nonzero(row > -torch.inf).flatten().tolist()) for row in after]
    codes = [world.items.encode(row) for row in range(300)]
    assert kept[0] == {world.items.tokenizer.eos_token_id}
    assert kept[1] == {one[1] for one in codes if one[0] == other[0]}
    assert kept[2] == {one[0] for one in codes}
    siblings = {one[2] for one in codes if one[:2] == code[:2] and one != code}
    assert kept[3] == (siblings or {world.items.tokenizer.eos_token_id})
    book = torch.from_numpy(world.items.codebooks[1])
    expected = logits[1, book].log_softmax(0)[torch.tensor(sorted(kept[1])) - book[0]]
    torch.testing.assert_close(after[1, sorted(kept[1])], expected)


def test_the_frontend_s_validator_uses_ours() -> None:
    check = build_custom_logits_processors_params_validator((PROCESSOR,))
    check(SamplingParams(extra_args={"item_excluded": [1]}))
    with pytest.raises(VLLMValidationError, match="0 or more"):
        check(SamplingParams(extra_args={"item_prefix": -1}))
