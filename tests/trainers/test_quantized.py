"""QLoRA on this machine's processor: bitsandbytes really quantizes, and what trains beside it is whole."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import make_model
from circle import QUICK, base_model, circle, make_task
from peft import LoraConfig, get_peft_model
from toy_run import make_base_model, write_recipe
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.integrations.bitsandbytes import dequantize_bnb_weight
from worlds import TinyWorld, make_tiny_tokenizer

from llmrec.base_models import load_model
from llmrec.errors import MissingExtraError, RecipeError
from llmrec.evaluation.protocol import evaluate
from llmrec.pipeline.run import check, run
from llmrec.recipe import QuantizationRecipe, load_recipe
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.trainers.item_rows import add_item_rows, trained_item_rows
from llmrec.trainers.quantized import is_quantized, merge
from llmrec.trainers.samples import training_dataset
from llmrec.trainers.sft import SFT, RecommenderTrainer

NF4, INT8 = QuantizationRecipe(kind="nf4"), QuantizationRecipe(kind="int8")
LINEAR = {"nf4": "Linear4bit", "int8": "Linear8bitLt"}
KINDS = pytest.mark.parametrize("quantization", [NF4, INT8], ids=["nf4", "int8"])


@pytest.fixture
def base(tmp_path: Path) -> str:
    folder = tmp_path / "base"
    base_model(hidden_size=64, intermediate_size=128).save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def lora(**changes: Any) -> SFT:
    return SFT.parse({"tuning": "lora", "lora": {"r": 8}, **changes, "args": {**QUICK, **changes.get("args", {})}})


@KINDS
def test_it_learns_a_circle_and_leaves_an_ordinary_folder(
    tiny_world: TinyWorld, base: str, tmp_path: Path, quantization: QuantizationRecipe
) -> None:
    split, (model, _) = circle(tiny_world.catalog), load_model(base, quantization=quantization)
    assert type(model.model.layers[0].mlp.up_proj).__name__ == LINEAR[quantization.kind]
    args = {"learning_rate": 1e-2, "num_train_epochs": 8, "optim": "adamw_8bit", "gradient_checkpointing": True}
    task = make_task(tiny_world.catalog, tiny_world.items)
    recommender, log = lora(args=args).train(model, task, split.train, split.valid, tmp_path / "work", seed=0)
    found = evaluate(recommender, split.test, progress=False)
    assert found.metrics["hr@5"] > 0.6  # about 0.4 by chance: 5 of the 13 unseen items
    assert log["best"] is not None
    recommender.save_pretrained(tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert type(plain.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert not hasattr(plain.config, "quantization_config")
    assert {weight.dtype for weight in plain.parameters()} == {torch.float32}
    loaded = LLMRecommender.from_pretrained(tmp_path / "model", device="cpu")
    before, after = (each.recommend(split.test.histories, 5) for each in (recommender, loaded))
    assert (before.rows == after.rows).all()
    np.testing.assert_allclose(before.scores, after.scores, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_trains_is_whole_whatever_the_rest_is(
    tiny_world: TinyWorld, base: str, tmp_path: Path, dtype: str
) -> None:
    """TRL rounds adapters beside quantized weights to bfloat16, which item rows must not suffer."""
    model, _ = load_model(base, dtype=dtype, quantization=NF4)
    add_item_rows(model, tiny_world.items, tiny_world.catalog, "text", seed=0)
    first = model.get_input_embeddings().weight[tiny_world.items.new_token_ids.tolist()].clone()
    task, split, sft = make_task(tiny_world.catalog, tiny_world.items), circle(tiny_world.catalog), lora()
    data = training_dataset(task, split.train, packing=True)
    trainer = RecommenderTrainer(model, sft.config(tmp_path, 0), task, sft, data, split.valid, Decoding(), True)
    assert {weight.dtype for weight in trainer.model.parameters() if weight.requires_grad} == {torch.float32}
    rows = trained_item_rows(trainer.bare_model)
    assert rows is not None
    assert torch.equal(rows, first.float())
    trainer.train()
    moved = (rows - first.float()).norm(dim=1)
    assert (moved > 0).float().mean() > 0.9
    assert (rows != rows.bfloat16().float()).any()
    assert is_quantized(trainer.bare_model)
    assert model.get_input_embeddings().weight.dtype == getattr(torch, dtype)


def with_adapter(model: PreTrainedModel, **changes: Any) -> Any:
    config = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, **changes}
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config)).eval()


@KINDS
@pytest.mark.parametrize(
    "settings",
    [{}, {"target_modules": ["q_proj"]}, {"use_dora": True}, {"trainable_token_indices": {"embed_tokens": [5, 9]}}],
    ids=["all", "some", "dora", "rows"],
)
def test_a_merged_model_says_what_the_quantized_one_said(
    base: str, quantization: QuantizationRecipe, settings: dict[str, Any]
) -> None:
    model, _ = load_model(base, quantization=quantization)
    ids = torch.tensor([[5, 9, 33, 70, 5, 9]])
    adapted = with_adapter(model, **settings)
    with torch.no_grad():
        before = adapted(ids).logits
        after = merge(adapted)(ids).logits
    # LLM.int8() rounds what comes into a layer too, which an ordinary layer does not.
    close = 1e-4 if quantization.kind == "nf4" else 0.1
    torch.testing.assert_close(before, after, atol=close * before.std().item(), rtol=0)


def test_the_merge_keeps_what_peft_would_round_away(base: str) -> None:
    model, _ = load_model(base, quantization=NF4)
    adapted = with_adapter(model)
    layer = adapted.base_model.model.model.layers[0].mlp.up_proj
    dense = dequantize_bnb_weight(layer.base_layer.weight) + layer.get_delta_weight("default")
    again = copy.deepcopy(layer)
    again.merge()
    rounded = dequantize_bnb_weight(again.base_layer.weight)
    torch.testing.assert_close(merge(adapted).model.layers[0].mlp.up_proj.weight.data, dense.detach())
    assert (rounded - dense).abs().max() > 1e-3


def test_a_gpt2_keeps_its_own_kind_of_layer(tmp_path: Path) -> None:
    make_model("gpt2", 258).save_pretrained(tmp_path)
    make_tiny_tokenizer().save_pretrained(tmp_path)
    model, _ = load_model(str(tmp_path), quantization=NF4)
    adapted = with_adapter(model)
    ids = torch.tensor([[5, 9, 33, 70]])
    with torch.no_grad():
        before = adapted(ids).logits
        merged = merge(adapted)
        torch.testing.assert_close(before, merged(ids).logits, atol=1e-4, rtol=1e-4)
        merged.save_pretrained(tmp_path / "merged")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(before, again(ids).logits, atol=1e-4, rtol=1e-4)


def test_a_killed_run_continues_to_the_same_weights(tiny_world: TinyWorld, base: str, tmp_path: Path) -> None:
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    sft = lora(args={"num_train_epochs": 2, "optim": "paged_adamw_8bit"})

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        model, _ = load_model(base, quantization=NF4)
        recommender, _ = sft.train(model, task, split.train, split.valid, folder, seed=0)
        return copy.deepcopy(recommender.model.state_dict())

    whole = weights(tmp_path / "whole")
    last = max((tmp_path / "whole").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (last / "trainer_state.json").unlink()  # as if killed while the last one was being written
    again = weights(tmp_path / "whole")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_run_with_an_alignment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path, make_base_model(tmp_path / "base"))
    cpu = "use_cpu: true, bf16: false, disable_tqdm: true, num_train_epochs: 1"
    align = f"{{sdpo: {{kind: dpo, tuning: lora, preferences: {{per_user: 1}}, args: {{{cpu}}}}}}}"
    summary = run(
        load_recipe(
            recipe,
            ["model.quantization.kind=nf4", "train.tuning=lora", f"align={align}", "train.args.num_train_epochs=1"],
        )
    )
    assert summary["invalid"] == 0
    assert set(summary["stages"]) == {"train", "sdpo"}
    plain = AutoModelForCausalLM.from_pretrained(summary["folder"])
    assert {weight.dtype for weight in plain.parameters()} == {torch.float32}


def test_what_cannot_be_is_refused(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path, Path("base"))
    with pytest.raises(RecipeError, match=r"train.tuning is 'full'.*Set tuning: lora"):
        check(load_recipe(recipe, ["model.quantization.kind=nf4"]))
    more = "align={more: {kind: dpo, tuning: full, args: {use_cpu: true, bf16: false}}}"
    with pytest.raises(RecipeError, match=r"align.more.tuning is 'full'"):
        check(load_recipe(recipe, ["model.quantization.kind=int8", "train.tuning=lora", more]))
    with pytest.raises(RecipeError, match="nf4"):
        load_recipe(recipe, ["model.quantization.kind=nf5"])
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "bitsandbytes" else find(name))
    with pytest.raises(MissingExtraError, match=r"llmrec\[quantization\]"):
        load_model(base, quantization=NF4)


def test_an_optimizer_that_is_not_installed_is_named(
    tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.trainer_optimizer.is_bitsandbytes_available", lambda: False)
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    with pytest.raises(RecipeError, match=r"args.optim.*llmrec\[quantization\]"):
        lora(args={"optim": "adamw_8bit"}).train(base_model(), task, split.train, split.valid, tmp_path, seed=0)
