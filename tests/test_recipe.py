"""What a recipe may say, how it inherits, and that every mistake is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec import assets
from llmrec.cli import on_this_machine
from llmrec.errors import LlmrecError, RecipeError
from llmrec.pipeline.run import check
from llmrec.recipe import Recipe, load_recipe, shipped_recipes

MINIMAL = """
name: mine
data: {kind: synthetic}
index: {kind: rqkmeans, levels: [4, 4], encoder: {kind: tfidf}}
model: {name: some/model}
train: {kind: sft, args: {use_cpu: true, bf16: false}}
"""
RUNS = shipped_recipes()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write(tmp_path, "mine.yaml", MINIMAL)


def test_what_is_not_said_has_its_default(recipe: Path) -> None:
    read = load_recipe(recipe)
    assert (read.name, read.seed, read.output) == ("mine", 0, Path("runs"))
    assert read.split.kind == "leave_one_out"
    assert (read.task.template, read.task.max_history) == ("next_item", 50)
    assert read.evaluation.baselines == ("popularity", "markov")


@pytest.mark.parametrize("name", RUNS)
def test_a_shipped_recipe_can_be_used(name: str, tmp_path: Path) -> None:
    read = load_recipe(name)
    overrides = [f"data.root={tmp_path}"] if read.data["kind"] == "table" else []
    read = load_recipe(name, [*overrides, *on_this_machine(read)])
    check(read)
    assert Path(f"{name}.yaml").stem == read.name  # its folder is found by the recipe's name


def test_shipped_recipes_were_found() -> None:
    files = {name.removesuffix(".yaml") for name in assets.names("recipes")}
    others = {name for name in files if name.endswith("/base") or name.startswith("accelerate/")}
    assert set(RUNS) == files - others
    assert len(RUNS) >= 77
    assert "demo" in RUNS


def test_a_recipe_extends_one_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", MINIMAL)
    child = write(tmp_path, "child.yaml", "extends: base.yaml\nname: child\nindex: {levels: [8]}\nseed: 3\n")
    read = load_recipe(child)
    assert (read.name, read.seed) == ("child", 3)
    assert read.index == {"kind": "rqkmeans", "levels": [8], "encoder": {"kind": "tfidf"}}  # lists are replaced
    assert read.train["args"] == {"use_cpu": True, "bf16": False}


def test_a_recipe_extends_a_shipped_one(tmp_path: Path) -> None:
    child = write(tmp_path, "child.yaml", "extends: demo\nname: child\ntrain: {args: {num_train_epochs: 1}}\n")
    read, demo = load_recipe(child), load_recipe("demo")
    assert read.train["args"] == {**demo.train["args"], "num_train_epochs": 1}
    assert read.model == demo.model
    assert load_recipe("demo.yaml") == load_recipe("recipes/demo.yaml") == demo


def test_extends_goes_through_several_files(tmp_path: Path) -> None:
    write(tmp_path, "shared/first.yaml", MINIMAL)
    write(tmp_path, "shared/second.yaml", "extends: first.yaml\nseed: 1\ntask: {max_history: 9}\n")
    third = write(tmp_path, "third.yaml", "extends: shared/second.yaml\ntask: {template: next_item_titles}\n")
    read = load_recipe(third)
    assert (read.name, read.seed) == ("mine", 1)
    assert (read.task.template, read.task.max_history) == ("next_item_titles", 9)


def test_another_kind_replaces_the_whole_mapping(tmp_path: Path) -> None:
    """The settings of one technique mean nothing to another."""
    write(tmp_path, "base.yaml", MINIMAL)
    child = write(tmp_path, "child.yaml", "extends: base.yaml\nindex: {kind: published, path: codes.parquet}\n")
    assert load_recipe(child).index == {"kind": "published", "path": "codes.parquet"}
    deep = write(tmp_path, "deep.yaml", "extends: base.yaml\nindex: {encoder: {kind: minilm}}\n")
    assert load_recipe(deep).index == {"kind": "rqkmeans", "levels": [4, 4], "encoder": {"kind": "minilm"}}


@pytest.mark.parametrize("last", ["a.yaml", "./a.yaml", "sub/../a.yaml"])
def test_a_circle_of_recipes_is_found_out(tmp_path: Path, last: str) -> None:
    (tmp_path / "sub").mkdir()
    first = write(tmp_path, "a.yaml", "extends: b.yaml\n")
    write(tmp_path, "b.yaml", f"extends: {last}\n")
    with pytest.raises(RecipeError, match=r"comes back to itself \(.*a\.yaml -> .*b\.yaml\)"):
        load_recipe(first)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: nothing.yaml\n", r"no 'nothing\.yaml' among the recipes"),
        ("extends: [a, b]\n", r"extends is \['a', 'b'\]\. Give the name of one"),
        ("- a list\n", "holds no keys"),
        ("", "holds no keys"),
        ("name: [\n", "cannot be read as YAML"),
        ("1: 2\n", "Keys should be strings"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(LlmrecError, match=words):
        load_recipe(write(tmp_path, "mine.yaml", text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(RecipeError, match="cannot be read as YAML"):
        load_recipe(tmp_path / "mine.yaml")


def test_a_name_that_nobody_knows_is_answered_with_the_closest() -> None:
    with pytest.raises(LlmrecError, match=r"Did you mean 'demo\.yaml'"):
        load_recipe("dem")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1e-4", 1e-4), ("1E3", 1000.0), ("-2e-5", -2e-5), ("2.5e-4", 2.5e-4), ("0.1", 0.1), ("3", 3), ("null", None),
        ("true", True), ("cosine", "cosine"), ("", None), ("[64, 128]", [64, 128]), ("{a: 1e-4}", {"a": 1e-4}),
        ("'1e-4'", "1e-4"), ("a=b", "a=b"), ("e4", "e4"),
    ],
)  # fmt: skip
def test_an_override_has_the_type_that_people_mean(recipe: Path, value: str, expected: Any) -> None:
    found = load_recipe(recipe, [f"train.args.learning_rate={value}"]).train["args"]["learning_rate"]
    assert found == expected
    assert type(found) is type(expected)


def test_overrides_reach_every_depth_and_the_last_one_wins(recipe: Path) -> None:
    read = load_recipe(
        recipe, ["seed=1", "seed=2", "task.max_history=7", "index.encoder.fields=[title]", "decoding.beams=3"]
    )
    assert (read.seed, read.task.max_history) == (2, 7)
    assert read.index["encoder"] == {"kind": "tfidf", "fields": ["title"]}
    assert read.decoding == {"beams": 3}
    assert load_recipe(recipe).seed == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", r"'seed' is no override\. Write dotted\.key=value"),
        ("=3", "is no override"),
        ("seed.more=3", "'seed' holds a value, not settings"),
        ("seed=[1", "is not a YAML value"),
        ("sead=1", r"sead: unknown setting\. Did you mean 'seed'"),
    ],
)
def test_an_override_that_cannot_be_meant_is_refused(recipe: Path, override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(recipe, ["seed=0", override])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("modle.name=x", r"modle: unknown setting\. Did you mean 'model'"),
        ("split.min_user_event=3", r"split\.min_user_event: unknown setting\. Did you mean 'min_user_events'"),
        ("model.layer=3", r"model\.layer: unknown setting\. Did you mean 'layers'"),
        ("data.user=3", r"data\.user: unknown setting\. Did you mean 'users'"),
        ("index.level=[4]", r"index\.level: unknown setting\. Did you mean 'levels'"),
        ("index.encoder.feilds=[title]", r"index\.encoder\.feilds: unknown setting\. Did you mean 'fields'"),
        ("index.behaviour={windo: 3}", r"index\.behaviour\.windo: unknown setting\. Did you mean 'window'"),
        ("train.tunning=lora", r"train\.tunning: unknown setting\. Did you mean 'tuning'"),
        ("train.args.learning_rat=1", r"train\.args: .*'learning_rat'"),
        ("decoding.beam=3", r"decoding\.beam: unknown setting\. Did you mean 'beams'"),
        (
            "data={kind: table, root: ., columns: {usr: who}}",
            r"data\.columns\.usr: unknown setting\. Did you mean 'user'",
        ),
        ("data.kind=syntetic", r"no source 'syntetic'\. Did you mean 'synthetic'"),
        ("data.kind=[synthetic]", r"There is no source"),
        ("index.encoder.kind=tfdif", r"no encoder 'tfdif'\. Did you mean 'tfidf'"),
        ("train={}", r"train: say which one with 'kind:'\. Known: .*sft"),
        ("evaluation.baselines=[markof]", r"no recommender 'markof'\. Did you mean 'markov'"),
        ("evaluation.baselines=[llm]", r"evaluation\.baselines: 'llm' cannot be fitted"),
        ("task.template=nextitem", r"Did you mean 'next_item\.jinja'"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_closest(recipe: Path, override: str, words: str) -> None:
    check(load_recipe(recipe))
    with pytest.raises(LlmrecError, match=words):
        check(load_recipe(recipe, [override]))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("name=a/b", r"name: .*pattern.*'a/b'"),
        ("name=../up", "name: "),
        ("model.layers=0", r"model\.layers: .*greater than or equal to 1.*got 0"),
        ("evaluation.ks=[5,0]", r"evaluation\.ks\.1: .*got 0"),
        ("evaluation.ks=[]", r"evaluation\.ks: "),
        ("split.kind=random", r"split\.kind: .*'leave_one_out'"),
        ("train=sft", "train: .*got 'sft'"),
        ("index.levels=[0]", r"index\.levels\.0: "),
        ("decoding.normalize=all", r"decoding\.normalize: .*'codebook'"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_was_allowed(recipe: Path, override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        check(load_recipe(recipe, [override]))


def test_a_key_without_default_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)data: this setting has no default.*train: this setting has no default"):
        load_recipe(write(tmp_path, "mine.yaml", "name: mine\n"))


@pytest.mark.parametrize("name", RUNS)
def test_the_resolved_recipe_says_everything(name: str, tmp_path: Path) -> None:
    read = load_recipe(name)
    again = load_recipe(write(tmp_path, "resolved.yaml", read.to_yaml()))
    assert again == read
    assert "extends" not in yaml.safe_load(read.to_yaml())


TEXTS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["1e5", "-1e-4", "1.e3", "null", "yes", "0x1", "a: b", "é\n", "12:30"]) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_any_setting_survives_being_written(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    """The text '1e5' must not come back as a number."""
    read = Recipe(name="1e5", data={}, index=value, model={"name": "m"}, train={})
    path = write(tmp_path_factory.getbasetemp(), "any.yaml", read.to_yaml())
    assert load_recipe(path) == read
