"""What surrounds the code: citation, hooks, workflows, issue forms and the check of a release."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from loading import module_from

import llmrec

ROOT = Path(__file__).resolve().parent.parent
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def check_release() -> ModuleType:
    return module_from(ROOT / "tools" / "check_release.py")


def test_this_version_can_be_released(check_release: ModuleType) -> None:
    assert check_release.problems(f"v{llmrec.__version__}") == []


def test_another_tag_cannot(check_release: ModuleType) -> None:
    assert len(check_release.problems("v99.0.0")) == 3
    (words,) = check_release.problems("release-1")
    assert "Give one such as v0.1.0" in words


def test_the_citation_has_what_the_format_requires() -> None:
    found = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert found["license"] == "Apache-2.0"


def test_hooks_run_what_make_check_runs() -> None:
    (repo,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    checks = (ROOT / "Makefile").read_text()
    for hook in repo["hooks"]:
        command = hook["entry"].removesuffix(" --force-exclude").split("/", 2)[2]
        assert f"$(BIN)/{command}" in checks, command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_commands_that_exist(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        first, *rest = command.split()
        if first == "make":
            assert rest[0] in TARGETS
        elif first == "python3":
            assert (ROOT / rest[0]).is_file()
        elif not first.startswith(".venv/"):
            assert (ROOT / first).is_file()


def test_there_are_workflows_and_forms() -> None:
    assert [path.stem for path in WORKFLOWS] == ["checks", "release"]
    assert [path.stem for path in FORMS] == ["bug", "question", "technique"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_what_is_required(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
