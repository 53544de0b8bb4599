"""What the documentation shows is true: links resolve, files and commands exist, recipes parse, marked blocks run.

Behind the language of a fenced block may stand:

- `run`: the block is executed, in the order of its document and in a new folder. Python blocks of a document share one
  namespace, and what a line `print(...)  # text` says behind the `#` must be printed. In shell blocks every line is an
  `llmrec` command and goes through the real command line, with a tiny model in place of the named one. `llmrec serve`
  goes on beside what follows, on a port that clients find in their environment.
- `file=NAME`: the block is written to that file.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from circle import circle, make_task
from contracts.index_contract import IndexContract
from loading import module_from
from serving.shop import running
from worlds import make_tiny_model, make_tiny_tokenizer, make_tiny_world

from llmrec.cli import _parser, main
from llmrec.engines.transformers import TransformersEngine
from llmrec.pipeline.run import check
from llmrec.recipe import BaselineRecipe, DistillRecipe, Recipe, load_recipe
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.registry import REGISTRY
from llmrec.serving import server
from llmrec.serving.app import create_app
from llmrec.serving.service import Service
from llmrec.sources.table import TableSource
from llmrec.trainers.sft import SFT

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = ("*.md", "deploy/*.md", "docs/*.md", "examples/*.md")
DOCUMENTS = [path for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))]
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]

FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"""\]\(([^)\s]+)[^)]*\)|(?:src|href|srcset)=["']([^"'\s]+)""")
PATH = re.compile(r"`((?:benchmarks|deploy|docs|examples|llmrec|model_cards|prompts|recipes|tests|tools)/[\w./-]*)`")
SHELLS = ("bash", "sh", "shell", "console")
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


class Block(NamedTuple):
    document: str
    line: int
    language: str
    marks: list[str]
    text: str

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each line of a shell block, without comments, prompts and assignments."""
        lines = [shlex.split(line, comments=True) for line in self.text.replace("\\\n", " ").splitlines()]
        words = [line[1:] if line[:1] == ["$"] else line for line in lines]
        return [line[next((i for i, word in enumerate(line) if "=" not in word), 0) :] for line in words if line]


def blocks_of(name: str) -> Iterator[Block]:
    text = (ROOT / name).read_text()
    for found in FENCE.finditer(text):
        yield Block(name, text.count("\n", 0, found.start()) + 1, found[1], found[2].split(), found[3])


BLOCKS = [block for name in NAMES for block in blocks_of(name)]
RECIPE_KEYS = {"extends", *Recipe.model_fields, *DistillRecipe.model_fields, *BaselineRecipe.model_fields}
RECIPES = [b for b in BLOCKS if b.language == "yaml" and RECIPE_KEYS & set(yaml.safe_load(b.text))]


def prose(name: str) -> str:
    return FENCE.sub("", (ROOT / name).read_text())


def anchors(path: Path) -> set[str]:
    """The ids that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small random base model."""
    folder, tokenizer = tmp_path_factory.mktemp("tiny"), make_tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    make_tiny_model(len(tokenizer), initializer_range=0.05).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    for found in LINK.findall(prose(name)):
        target, _, anchor = "".join(found).partition("#")
        if re.match(r"\w+:", target):
            continue
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), f"{name} links to {target}, which does not exist"
        assert path.resolve().is_relative_to(ROOT), f"{name} links to {target}, outside of the repository"
        assert not anchor or anchor in anchors(path), f"{name} links to {target}#{anchor}, which is no heading there"


@pytest.mark.parametrize("name", NAMES)
def test_named_files_exist(name: str) -> None:
    for path in PATH.findall(prose(name)):
        assert "NAME" in path or (ROOT / path).exists(), f"{name} names {path}, which does not exist"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in SHELLS], ids=lambda block: block.place)
def test_commands_exist(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    for program, *line in block.commands:
        words = line[: next((at for at, word in enumerate(line) if word in (">", ">>", "|", "&")), len(line))]
        if program in ("llmrec", ".venv/bin/llmrec"):
            words = list(takewhile(lambda word: word not in (">", ">>", "|"), words))
            try:
                _parser().parse_args(words)
            except SystemExit:
                pytest.fail(f"{block.place}: llmrec {shlex.join(words)}: {capsys.readouterr().err}")
        elif program == "make":
            assert {word for word in words if "=" not in word} <= set(TARGETS), block.place
        elif program.endswith("python") or program == "python3":
            assert not words[0].endswith(".py") or (ROOT / words[0]).is_file(), block.place


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_the_text_have_a_known_verb(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for program, verb in re.findall(r"`(llmrec|make) ([a-z]+)", prose(name)):
        if program == "make":
            assert verb in TARGETS
        else:
            with pytest.raises(SystemExit) as stop:
                _parser().parse_args([verb, "--help"])
            assert stop.value.code == 0, f"{name}: llmrec {verb}: {capsys.readouterr().err}"


@pytest.mark.parametrize(
    "block", [b for b in RECIPES if b.document != "CONTRIBUTING.md"], ids=lambda block: block.place
)
def test_recipes_can_be_used(block: Block, tmp_path: Path) -> None:
    """A part of a recipe is read as a change to the demo."""
    check_recipe(block, tmp_path)


def check_recipe(block: Block, folder: Path) -> None:
    whole = {"name", "data", "index", "model", "train"} <= set(yaml.safe_load(block.text)) or "extends:" in block.text
    file = folder / "recipe.yaml"
    file.write_text(block.text if whole else f"extends: demo\n{block.text}")
    check(load_recipe(file))


def test_the_example_runs(tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = module_from(ROOT / "examples" / "end_to_end.py")
    example.main(["--model", tiny_model, "--epochs", "1", "--output", str(tmp_path / "model")])
    printed = capsys.readouterr().out
    assert "No faults" in printed
    assert {"llm", "markov", "popularity"} <= {line.partition(" ")[0] for line in printed.splitlines()}
    assert (tmp_path / "model" / "recommender.json").is_file()


def test_the_sample_tables_of_the_quickstart_are_read(tmp_path: Path) -> None:
    for block in blocks_of("docs/quickstart.md"):
        if block.language == "csv":
            write(block, tmp_path)
    data = TableSource(root=tmp_path / "shop").load()
    assert data.interactions.history(data.interactions.users.row("ann")).tolist() == [0, 1]


@pytest.fixture
def _servers_run_aside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ExitStack() as servers:

        def run(
            service: Service,
            host: str,
            port: int,
            keys: Mapping[str, str],
            admin_keys: Mapping[str, str],
            grace_s: float,
        ) -> int:
            # The machine of a test may be slow.
            service.settings = service.settings.model_copy(update={"timeout_ms": 60_000})
            monkeypatch.setenv("LLMREC_BASE_URL", servers.enter_context(running(create_app(service, keys, admin_keys))))
            return 0

        monkeypatch.setattr(server, "run", run)
        yield


@pytest.mark.usefixtures("_servers_run_aside")
def test_marked_blocks_run(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The quickstart first: others use the model that it makes."""
    monkeypatch.chdir(tmp_path)
    for name in sorted(NAMES, key=lambda name: name != "docs/quickstart.md"):
        namespace: dict[str, Any] = {"__name__": "documentation"}
        for block in blocks_of(name):
            write(block, tmp_path)
            if "run" in block.marks:
                execute(block, namespace, tiny_model)
                printed = capsys.readouterr().out.splitlines()
                for expected in re.findall(r"^print\(.+\)  # (.+)$", block.text, re.MULTILINE):
                    assert expected in printed, block.place
    assert (tmp_path / "runs" / "shop" / "eval.json").is_file()


def write(block: Block, folder: Path) -> None:
    for mark in block.marks:
        if mark.startswith("file="):
            file = folder / mark.removeprefix("file=")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)


def execute(block: Block, namespace: dict[str, Any], tiny_model: str) -> None:
    if block.language == "python":
        source = "\n" * block.line + block.text  # so that a traceback names the line of the document
        exec(compile(source, block.document, "exec", dont_inherit=True), namespace)
        return
    assert block.language in SHELLS, block.place
    for program, verb, *words in block.commands:
        assert program == "llmrec", block.place
        if verb == "run":
            quick = [f"model.name={tiny_model}", "model.layers=null", "train.args.num_train_epochs=1"]
            words = [words[0], *quick, *words[1:]]
        assert main([verb, *words]) == 0, f"{block.place}: llmrec {verb} {shlex.join(words)}"


def test_the_walked_example_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("contributing")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(REGISTRY["index"], "hashed", "contributing:HashedIndex")
    checked = 0
    for block in blocks_of("CONTRIBUTING.md"):
        if block.language == "python" and "run" in block.marks:
            execute(block, vars(module), "")
        elif block.language == "yaml":
            check_recipe(block, tmp_path)
            checked += 1
    contract = module.TestHashed()
    assert isinstance(contract, IndexContract)
    tests = [name for name in dir(contract) if name.startswith("test_")]
    for number, name in enumerate(tests):
        (folder := tmp_path / str(number)).mkdir()
        getattr(contract, name)(folder)
    assert checked == 1
    assert len(tests) > 5


def walked(folder: Path, name: str) -> ModuleType:
    """A file that CONTRIBUTING.md writes, imported."""
    for block in blocks_of("CONTRIBUTING.md"):
        write(block, folder)
    return module_from(folder / name)


def test_the_walked_baseline_keeps_the_contract(tmp_path: Path) -> None:
    walked(tmp_path, "again.py")
    line = 'from llmrec.registry import REGISTRY\n\nREGISTRY["recommender"]["again"] = "again:Again"\n'
    (tmp_path / "conftest.py").write_text(line)
    paths = [str(tmp_path), str(ROOT), str(ROOT / "tests")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_again.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 10


def test_the_walked_trainer_sees_the_last_events_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(SFT, "train", lambda self, model, task, train, *rest: seen.append(train))
    world = make_tiny_world()
    split = circle(world.catalog)
    walked(tmp_path, "recent_sft.py").RecentSFT(last=3).train(None, None, split.train, None, tmp_path, 0)
    (train,) = seen
    for user in range(len(split.train.users)):
        assert train.history(user).tolist() == split.train.history(user)[-3:].tolist()


def test_the_walked_engine_recommends_the_same(tmp_path: Path) -> None:
    world = make_tiny_world()
    task, engine = make_task(world.catalog, world.items), TransformersEngine(world.model, world.items)
    counting = walked(tmp_path, "counting.py").CountingEngine(engine)
    histories = [np.array([1, 2], np.int32), np.array([5], np.int32)]
    found = LLMRecommender(None, task, Decoding(), counting).recommend(histories, 5)
    plain = LLMRecommender(world.model, task, Decoding()).recommend(histories, 5)
    np.testing.assert_array_equal(found.rows, plain.rows)
    assert counting.tokens == sum(len(task.prompt(history)) for history in histories)


def test_there_is_something_to_test() -> None:
    assert len(RECIPES) > 5
    assert sum("run" in block.marks for block in BLOCKS) > 5
