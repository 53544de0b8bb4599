"""The engine, transformers' own beam search and the benchmark's reference keep the same beams."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from worlds import make_tiny_model, make_tiny_tokenizer

from llmrec.engines.transformers import TransformersEngine
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer

PROMPTS = [[5, 6, 7], [9, 3, 4], [200, 30, 11], [17, 17, 17]]
SIZES = (6, 5, 4)


def load_hf_beams() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "hf_beams.py"
    spec = importlib.util.spec_from_file_location("hf_beams", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hf_beams"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


hf_beams = load_hf_beams()


def bushy_codes(seed: int) -> np.ndarray:
    """Codes in which every prefix can go on in at least two ways: no run is followed in one step."""
    rng = np.random.default_rng(seed)
    codes = []
    for first in rng.permutation(SIZES[0])[:5]:
        for second in rng.permutation(SIZES[1])[: rng.integers(2, SIZES[1] + 1)]:
            for third in rng.permutation(SIZES[2])[: rng.integers(2, SIZES[2] + 1)]:
                codes.append([first, second, third])
    return rng.permutation(np.array(codes, np.int32))


@pytest.mark.parametrize("beams", [1, 4, 12])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_beam_searches_are_one(seed: int, beams: int) -> None:
    items = ItemTokenizer.bind(make_tiny_tokenizer(), ItemIndex(bushy_codes(seed), SIZES))
    model = make_tiny_model(len(items.tokenizer), seed)
    prompts = hf_beams.as_prompts(PROMPTS, "cpu")
    table = hf_beams.CodeTable(items, "cpu")
    engine = TransformersEngine(model, items)
    tries = [hf_beams.DictTrie(items, len(PROMPTS[0])), hf_beams.TableTrie(table, len(PROMPTS[0]))]
    for normalize in ("vocab", "children"):
        ours = engine.decode(PROMPTS, beams, beams, normalize)
        found = [
            hf_beams.generate(model, prompts, table, beams, trie, scores=True, renormalize=normalize == "children")
            for trie in (tries if beams > 1 else [])  # with one beam transformers does not search, and gives no scores
        ]
        for theirs in [*found, hf_beams.beam_search(model, prompts, table, beams, normalize)]:
            assert theirs.rows.tolist() == ours.rows.tolist()
            np.testing.assert_allclose(theirs.scores.numpy(), ours.scores, atol=1e-4)


@pytest.mark.parametrize("normalize", ["codebook", "children", "vocab"])
def test_items_scored_one_by_one_have_the_scores_of_the_search(normalize: str) -> None:
    codes = bushy_codes(3)
    items = ItemTokenizer.bind(make_tiny_tokenizer(), ItemIndex(codes, SIZES))
    model = make_tiny_model(len(items.tokenizer), 3)
    table = hf_beams.CodeTable(items, "cpu")
    scores = hf_beams.score_items(
        model, hf_beams.as_prompts(PROMPTS, "cpu"), table, torch.from_numpy(codes).long(), normalize, 24
    )
    found = TransformersEngine(model, items).decode(PROMPTS, len(codes), len(codes), normalize)
    np.testing.assert_allclose(np.take_along_axis(scores.numpy(), found.rows, 1), found.scores, atol=1e-4)
    assert table.rows(torch.tensor([[0, 0, 0], codes[4].tolist()])).tolist()[1] == 4
