"""What an installation promises: light imports, core dependencies only, one version, fitting pins, right examples."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import llmrec

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
EXAMPLES = [path for path in sorted((ROOT / "llmrec").rglob("*.py")) if ">>> " in path.read_text()]

HEAVY = {"accelerate", "datasets", "pandas", "peft", "ray", "scipy", "sklearn", "torch", "transformers", "trl", "vllm"}

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    sys.modules[name] = None  # as if it were not installed
import llmrec
import llmrec.serving  # whose modules are what the extra `serve` is for
for module in pkgutil.walk_packages(llmrec.__path__, "llmrec."):
    if not module.name.endswith(".__main__") and not module.name.startswith("llmrec.serving."):
        importlib.import_module(module.name)
        print(module.name, "package" if module.ispkg else "file")
"""


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module", ["llmrec", "llmrec.registry", "llmrec.assets", "llmrec.cli", "llmrec.client.clients"]
)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    loaded = json.loads(python("-c", f"import {module}, json, sys; print(json.dumps(sorted(sys.modules)))"))
    assert module in loaded
    assert HEAVY.isdisjoint(loaded)


def test_every_module_imports_with_core_dependencies_only() -> None:
    wanted = {Requirement(line).name for name in EXTRAS if name != "dev" for line in EXTRAS[name]}
    optional = sorted(wanted - {"llmrec"})  # an extra may bring another
    imported = python("-c", IMPORT_EVERYTHING, *(name.replace("-", "_") for name in optional)).splitlines()
    files = [path for path in (ROOT / "llmrec").rglob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    files = [path for path in files if path.parent.name != "serving"]
    assert sum(line.endswith(" file") for line in imported) == len(files) > 0


def test_every_package_that_the_code_imports_is_declared() -> None:
    lines = [
        *PROJECT["dependencies"],
        *(line for name in EXTRAS if name not in ("test", "dev") for line in EXTRAS[name]),
    ]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    providers = importlib.metadata.packages_distributions()
    for path in (ROOT / "llmrec").rglob("*.py"):
        for name in imported_packages(path) - sys.stdlib_module_names - {"llmrec"}:
            # An extra that is not installed has no provider; its import name is its own.
            names = {canonicalize_name(found) for found in providers.get(name, [name])}
            assert names & declared, f"{path.relative_to(ROOT)} imports '{name}', which pyproject.toml does not declare"


def imported_packages(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    origins = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module}
    return {name.partition(".")[0] for name in plain | origins}


def test_there_is_one_version() -> None:
    assert importlib.metadata.version("llmrec") == llmrec.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == llmrec.__version__


def test_constraints_pin_a_version_of_every_requirement_that_its_range_allows() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#")
    versions = {canonicalize_name(name): version for name, version in pins.items()}
    # vLLM pins a torch of its own, so it is never installed with these constraints.
    wanted = [PROJECT["dependencies"], *(lines for name, lines in EXTRAS.items() if name != "vllm")]
    for requirement in (Requirement(line) for lines in wanted for line in lines):
        if requirement.name != "llmrec":
            version = versions.get(canonicalize_name(requirement.name))
            assert version is not None, f"constraints.txt does not pin {requirement.name}"
            assert requirement.specifier.contains(version), f"{requirement} does not allow the pinned {version}"


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.relative_to(ROOT).as_posix() for path in EXAMPLES])
def test_the_examples_in_a_docstring_are_right(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0
