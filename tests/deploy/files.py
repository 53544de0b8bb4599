"""What stands in deploy/, read for the tests: Dockerfiles by instruction, and every command line that is in there."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from llmrec.cli import _parser

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
README = (DEPLOY / "README.md").read_text()
DOCKERFILES = ["Dockerfile.cpu", "Dockerfile.cuda-vllm"]
INSTRUCTIONS = set("ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN STOPSIGNAL USER WORKDIR".split())


class Stage(NamedTuple):
    """One `FROM` and what follows it."""

    base: str
    name: str
    lines: list[tuple[str, str]]

    def all(self, instruction: str) -> list[str]:
        return [value for name, value in self.lines if name == instruction]

    def last(self, instruction: str) -> str:
        return self.all(instruction)[-1]


def stages(name: str) -> list[Stage]:
    """A Dockerfile, its comments gone, its lines joined and its ARGs filled in with their defaults."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / name).read_text(), flags=re.MULTILINE)
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for line in filter(str.strip, text.replace("\\\n", " ").splitlines()):
        instruction, _, value = line.strip().partition(" ")
        assert instruction in INSTRUCTIONS, f"{name}: {instruction} is no instruction"
        value = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], value.strip())
        if instruction == "FROM":
            base, _, alias = value.partition(" AS ")
            found.append(Stage(base, alias, []))
        elif instruction == "ARG":
            argument, _, default = value.partition("=")
            arguments.setdefault(argument, default)
        else:
            found[-1].lines.append((instruction, value))
    return found


def load(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


(COMPOSE,) = load("compose.yaml")
KUBERNETES = {part["kind"]: part for part in load("kubernetes.yaml")}
POD = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
GPU_POD = load("kubernetes-vllm.patch.yaml")[0]["spec"]["template"]["spec"]
(GPU_CONTAINER,) = GPU_POD["containers"]


def image_command(name: str) -> list[str]:
    final = stages(name)[-1]
    return [*json.loads(final.last("ENTRYPOINT")), *json.loads(final.last("CMD"))]


COMMANDS: dict[str, list[str]] = {
    **{name: image_command(name)[1:] for name in DOCKERFILES},
    **{f"compose {name}": ["serve", *service["command"]] for name, service in COMPOSE["services"].items()},
    "kubernetes": ["serve", *CONTAINER["args"]],
    "kubernetes on GPUs": ["serve", *GPU_CONTAINER["args"]],
}
"""Where it stands -> the words behind `llmrec`."""


def parsed(words: list[str]) -> Namespace:
    return _parser().parse_args(words)


DEFAULTS = parsed(["serve", "model"])


def health_check(name: str, port: int) -> int:
    """Run an image's own health check against a port of this machine; its exit status."""
    program, *arguments = json.loads(stages(name)[-1].last("HEALTHCHECK").partition(" CMD ")[2])
    assert program == "python3", "vLLM's image has no 'python'"
    arguments = [argument.replace(str(DEFAULTS.port), str(port)) for argument in arguments]
    return subprocess.run([sys.executable, *arguments], stderr=subprocess.DEVNULL).returncode


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
