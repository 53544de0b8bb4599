"""The recipes of `models/`: each is checked, and each kind of them trains a tiny model of each architecture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from architectures import make_model
from transformers import AutoConfig, AutoModelForCausalLM
from worlds import make_tiny_tokenizer

from llmrec import assets
from llmrec.base_models import bitsandbytes_config
from llmrec.cli import on_this_machine
from llmrec.errors import RecipeError
from llmrec.pipeline.launch import check_launch, shipped_launches
from llmrec.pipeline.run import check_language_model, run
from llmrec.recipe import Recipe, distill_recipe, load_recipe, shipped_recipes

ARCHITECTURES = {
    "HuggingFaceTB/SmolLM2-135M": "llama",
    "HuggingFaceTB/SmolLM2-360M": "llama",
    "Qwen/Qwen3-0.6B": "qwen3",
    "Qwen/Qwen3-1.7B": "qwen3",
    "Qwen/Qwen3-4B": "qwen3",
    "meta-llama/Llama-3.2-1B": "llama",
    "meta-llama/Llama-3.2-3B": "llama",
    "google/gemma-3-270m": "gemma3_text",
    "google/gemma-3-1b-pt": "gemma3_text",
}
METHODS = ("full", "lora", "qlora", "chain")
RECIPES = [name for name in shipped_recipes() if name.startswith("models/")]
ONE_EACH = {"llama": "smollm2_135m", "qwen3": "qwen3_0.6b", "gemma3_text": "gemma3_270m"}
SMALL = [
    "data={kind: synthetic, users: 16, items: 24, categories: 3, events: 8}",
    "index.levels=[8,8]",
    "decoding.beams=4",
    "evaluation.users=6",
    "evaluation.precision=float32",
    "evaluation.samples=20",
    "evaluation.baselines=[popularity]",
    "train.batch_tokens=400",
    "train.valid_users=6",
]
TWO_STEPS = ["max_steps=2", "use_cpu=true", "bf16=false", "disable_tqdm=true"]


def test_every_model_has_every_method() -> None:
    found = {(load_recipe(name).model.name, name.split("/")[1]) for name in RECIPES}
    assert found == {(model, method) for model in ARCHITECTURES for method in METHODS}
    assert len(RECIPES) == len(found) == 36


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_asks_of_libraries_is_built(name: str) -> None:
    method = name.split("/")[1]
    recipe = load_recipe(name, on_this_machine(load_recipe(name)))
    assert isinstance(recipe, Recipe)
    parts = check_language_model(recipe)
    config = parts.trainer.config(Path("work"), recipe.seed)
    assert parts.trainer.tuning == ("full" if method == "full" else "lora")
    assert 0 < config.learning_rate <= 3e-4
    if method != "full":
        assert parts.trainer.peft_config().target_modules == "all-linear"
    if method == "qlora":
        assert recipe.model.quantization is not None
        quantized = bitsandbytes_config(recipe.model.quantization, recipe.model.dtype)
        assert (quantized.load_in_4bit, quantized.bnb_4bit_quant_type) == (True, "nf4")
        assert config.optim == "paged_adamw_8bit"
        assert config.gradient_checkpointing
    assert list(parts.aligners) == (["sdpo"] if method == "chain" else [])


@pytest.mark.parametrize("name", RECIPES)
def test_the_header_says_how_to_run_it(name: str) -> None:
    header = assets.path("recipes", f"{name}.yaml").read_text().split("extends:")[0]
    assert f"llmrec run {name} " in header
    assert "Hardware: " in header
    assert "Measured: " in header
    if name.startswith("models/chain"):
        assert f"llmrec distill runs/{name.split('/')[-1]} " in header
        assert "llmrec serve runs/" in header
    else:
        assert "accelerate launch --config_file " in header


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A tiny model of each architecture on disk; runs are written beside them."""
    home, folder = os.getcwd(), tmp_path_factory.mktemp("models")
    tokenizer = make_tiny_tokenizer()
    for kind in ONE_EACH:
        model = make_model(kind, len(tokenizer), hidden_size=64, sliding_window=128, initializer_range=0.05)
        model.save_pretrained(folder / kind)
        tokenizer.save_pretrained(folder / kind)
    os.chdir(folder)
    yield {kind: folder / kind for kind in ONE_EACH}
    os.chdir(home)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", list(ONE_EACH))
def test_a_dry_run_of_each_kind(tiny: dict[str, Path], architecture: str, method: str) -> None:
    """Two steps, an evaluation, a folder; a chain goes on to the student."""
    name = f"models/{method}/{ONE_EACH[architecture]}_{method}"
    assert ARCHITECTURES[load_recipe(name).model.name] == architecture
    changes = [*SMALL, f"model.name={tiny[architecture]}", *(f"train.args.{step}" for step in TWO_STEPS)]
    if method == "chain":
        changes += [f"align.sdpo.args.{step}" for step in TWO_STEPS]
        changes += ["align.sdpo.valid_users=6", "align.sdpo.preferences.per_user=1"]
    summary = run(load_recipe(name, changes))
    assert summary["invalid"] == 0
    plain = AutoModelForCausalLM.from_pretrained(summary["folder"])
    assert plain.config.model_type == architecture
    assert not hasattr(plain.config, "quantization_config")
    if method == "chain":
        assert set(summary["stages"]) == {"train", "sdpo"}
        student = [f"distill.args.{step}" for step in TWO_STEPS]
        taught = run(
            distill_recipe(Path(summary["folder"]), [*student, "distill.student.layers=1", "distill.valid_users=6"])
        )
        assert taught["folder"] == f"{summary['folder']}_student"
        assert AutoConfig.from_pretrained(taught["folder"]).num_hidden_layers == 1


def test_the_files_for_accelerate_become_its_plugins() -> None:
    assert shipped_launches() == ["accelerate/ddp", "accelerate/deepspeed_zero2", "accelerate/fsdp2"]
    before = dict(os.environ)
    found = {name: check_launch(assets.path("recipes", f"{name}.yaml")) for name in shipped_launches()}
    assert found["accelerate/ddp"] is None
    assert (found["accelerate/fsdp2"].fsdp_version, found["accelerate/fsdp2"].reshard_after_forward) == (2, True)
    assert found["accelerate/deepspeed_zero2"].zero_stage == 2
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("old", "new"), [("num_processes", "num_process"), ("distributed_type: FSDP", "distributed_type: FSDQ")]
)
def test_a_file_that_accelerate_refuses_is_named(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(assets.path("recipes", "accelerate/fsdp2.yaml").read_text().replace(old, new))
    with pytest.raises(RecipeError, match=r"mine.yaml: Accelerate cannot use this file"):
        check_launch(path)
