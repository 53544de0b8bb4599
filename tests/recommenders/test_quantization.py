"""Folders in eight bits; the tests of the result need torchao (`pip install 'llmrec[quantization]'`)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from circle import make_task
from worlds import TinyWorld, make_tiny_model

from llmrec.cli import main
from llmrec.errors import ArtifactError
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.quantization import quantize_folder

HISTORIES = [[], [3], [1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7], list(range(12))]


@pytest.fixture
def whole(tiny_world: TinyWorld, tmp_path: Path) -> Path:
    model = make_tiny_model(len(tiny_world.items.tokenizer), hidden_size=64, intermediate_size=256)
    LLMRecommender(model, make_task(tiny_world.catalog, tiny_world.items)).save_pretrained(tmp_path / "whole")
    return tmp_path / "whole"


@pytest.mark.parametrize("kind", ["int8", "int8_dynamic"])
def test_eight_bits_say_nearly_the_same(whole: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = whole.with_name("small")
    (whole / "recipe.yaml").write_text("name: whole\n")
    assert main(["quantize", str(whole), str(target), "--kind", kind]) == 0
    assert "MB of weights" in capsys.readouterr().out
    before, after = (LLMRecommender.from_pretrained(folder, device="cpu") for folder in (whole, target))
    everything = [each.score(HISTORIES) for each in (before, after)]
    assert 0 < np.abs(everything[0] - everything[1]).mean() < 0.3  # of scores that are 4 nats apart
    assert np.abs(everything[0] - everything[0].mean(1, keepdims=True)).mean() > 1.5
    found = after.recommend(HISTORIES, 5)
    np.testing.assert_allclose(found.scores, np.take_along_axis(everything[1], found.rows, 1), atol=0.05)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (target, whole)]
    assert sizes[0] < 0.6 * sizes[1]
    assert (target / "recipe.yaml").read_text() == "name: whole\n"


def test_without_torchao_the_error_names_the_extra(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ArtifactError, match=r"llmrec\[quantization\]"):
        quantize_folder(whole, whole.with_name("small"), "int8")


def test_a_folder_is_not_written_over_itself(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("quantize", "prune"):
        assert main([verb, str(whole), str(whole)]) == 1
        assert "Name another" in capsys.readouterr().err
