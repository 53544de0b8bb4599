"""bfloat16 on a CPU: only where it is fast, and never without a word."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from trl import SFTConfig

from llmrec.trainers.arithmetic import cpu_multiplies_bfloat16, without_slow_bfloat16
from llmrec.trainers.base import TrainerSettings


@pytest.fixture
def capabilities(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bool]]:
    """What the processor is said to have."""
    found: dict[str, bool] = {"avx2": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    cpu_multiplies_bfloat16.cache_clear()
    yield found
    cpu_multiplies_bfloat16.cache_clear()


@pytest.mark.parametrize("args", [{"use_cpu": True}, {"use_cpu": True, "bf16": True}])
def test_an_old_cpu_computes_in_float32_and_says_so(
    args: dict[str, bool], capabilities: dict[str, bool], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.WARNING):
        config = TrainerSettings(args=args).trl_config(SFTConfig, tmp_path, 0, {})
    assert config.bf16 is False
    assert "no bfloat16 arithmetic" in caplog.text


@pytest.mark.parametrize("args", [{}, {"use_cpu": True, "bf16": False}, {"use_cpu": True, "fp16": True}])
def test_what_is_not_slow_bfloat16_is_left_alone(
    args: dict[str, bool], capabilities: dict[str, bool], caplog: pytest.LogCaptureFixture
) -> None:
    assert without_slow_bfloat16(args) == args
    assert not caplog.text


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_that_multiplies_it_does(name: str, capabilities: dict[str, bool]) -> None:
    capabilities[name] = True
    assert without_slow_bfloat16({"use_cpu": True}) == {"use_cpu": True}
