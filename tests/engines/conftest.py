"""Both engines behind one name, for tests of what any engine must do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_vllm import OneStep, patch_one_step
from worlds import TinyWorld

from llmrec.engines.base import Engine
from llmrec.engines.transformers import TransformersEngine
from llmrec.engines.vllm import VLLMEngine

Make = Callable[[TinyWorld], Engine]


@pytest.fixture(params=["transformers", "vllm"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    patch_one_step(monkeypatch)
    if request.param == "vllm":
        return lambda world: VLLMEngine(OneStep(world), world.items)
    return lambda world: TransformersEngine(world.model, world.items)
