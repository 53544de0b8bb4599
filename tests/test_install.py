"""tools/install.py: a machine without a GPU gets the CPU torch or a clear word, and a second call does nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TORCH = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))


def load() -> Any:
    spec = importlib.util.spec_from_file_location("llmrec_install", ROOT / "tools" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module whose environment is an empty folder and whose pip only writes down what it is asked."""
    module = load()
    module.calls = []
    module.failing = 0  # so many calls of pip fail, then the rest succeed

    def pip(*arguments: str, check: bool = False) -> int:
        module.calls.append(arguments)
        return int(len(module.calls) <= module.failing)

    monkeypatch.setattr(module, "VENV", tmp_path)
    monkeypatch.setattr(module, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(module, "make_venv", lambda: None)
    monkeypatch.setattr(module, "takes_cpu_torch", lambda: True)
    monkeypatch.setattr(module, "pip", pip)
    return module


def call(install: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[tuple[str, ...]]:
    """What pip was asked for by one call of the script."""
    install.calls.clear()
    monkeypatch.setattr(sys, "argv", ["install.py", *arguments])
    install.main()
    return list(install.calls)


def test_a_second_call_installs_nothing(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(install, monkeypatch, "--extras", "test", "--embedded")
    assert call(install, monkeypatch, "--extras", "test", "--embedded") == []
    assert call(install, monkeypatch) == []


def test_an_extra_that_another_brings_is_not_installed_again(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (".[als,dev,plots,quantization,ray,serve,test,tracking]") in call(install, monkeypatch, "--extras", "dev")[1]
    assert call(install, monkeypatch, "--extras", "test") == []


def test_a_new_extra_keeps_what_was_there(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call(install, monkeypatch, "--extras", "plots", "--embedded")
    _, project, embedded = call(install, monkeypatch, "--extras", "test")
    assert ".[als,plots,quantization,ray,serve,test,tracking]" in project
    assert "--no-deps" in embedded


def test_a_changed_project_is_installed_again(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call(install, monkeypatch)
    monkeypatch.setattr(install, "inputs_hash", lambda: "another")
    assert call(install, monkeypatch)


def test_an_interrupted_installation_is_taken_up_again(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    call(install, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(install, "refuse_cuda_packages", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(install, patch, "--extras", "test")
    assert ".[als,plots,quantization,ray,serve,test,tracking]" in call(install, monkeypatch)[1]


def test_an_unknown_extra_is_refused(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"no extra 'tests'\. Known: als, dev, plots"):
        call(install, monkeypatch, "--extras", "tests")
    assert install.calls == []


def test_the_cpu_build_comes_from_where_pip_looks_first(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(install, monkeypatch)[0] == ("install", "--no-deps", f"{TORCH}+cpu")


def test_then_from_the_index_of_cpu_builds(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install.failing = 1
    _, second, _ = call(install, monkeypatch)
    assert second == ("install", "--no-deps", "--index-url", install.TORCH_CPU_INDEX, f"{TORCH}+cpu")


def test_and_a_machine_that_finds_none_is_told_what_to_do(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install.failing = 2
    with pytest.raises(SystemExit, match="--torch default"):
        call(install, monkeypatch)
    assert len(install.calls) == 2, "nothing else is installed, or pip would bring the CUDA build along"


def test_a_machine_with_a_gpu_takes_the_default_build(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "takes_cpu_torch", lambda: False)
    assert all("torch" not in argument for asked in call(install, monkeypatch) for argument in asked)


def test_the_choice_of_the_default_build_is_remembered(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = call(install, monkeypatch, "--torch", "default")
    assert only[-1] == "."
    (only,) = call(install, monkeypatch, "--extras", "test")
    assert only[-1] == ".[als,plots,quantization,ray,serve,test,tracking]"


@pytest.mark.parametrize("name", ["nvidia-cublas", "nvidia-cudnn-cu13", "cuda-bindings", "triton"])
def test_cuda_packages_on_a_cpu_machine_are_refused(
    install: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    site = Path(install.sysconfig.get_path("purelib", "venv", {"base": str(tmp_path), "platbase": str(tmp_path)}))
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    with pytest.raises(SystemExit, match=name):
        call(install, monkeypatch)
    assert call(install, monkeypatch, "--torch", "default"), "no stamp was left, and what was asked for is allowed"


@pytest.mark.parametrize(
    ("system", "machine", "gpus", "cpu"),
    [
        ("linux", "x86_64", None, True),
        ("linux", "x86_64", "GPU 0: NVIDIA H100", False),
        ("linux", "x86_64", "No devices were found", True),
        ("linux", "aarch64", None, True),
        ("darwin", "arm64", None, False),
        ("win32", "AMD64", None, False),
    ],
)
def test_which_machines_need_the_cpu_build(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, gpus: str | None, cpu: bool
) -> None:
    module = load()
    answer = SimpleNamespace(returncode=0, stdout=gpus)
    monkeypatch.setattr(module, "sys", SimpleNamespace(platform=system))
    monkeypatch.setattr(module, "platform", SimpleNamespace(machine=lambda: machine))
    monkeypatch.setattr(module, "shutil", SimpleNamespace(which=lambda _: "nvidia-smi" if gpus else None))
    monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=lambda *_, **__: answer))
    assert module.takes_cpu_torch() is cpu


def test_the_environment_for_vllm_is_installed_once_from_its_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("llmrec_install_vllm", ROOT / "tools" / "install_vllm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(module, "VENV", tmp_path)
    for name in ("VENV", "PYTHON"):
        monkeypatch.setattr(module.install, name, tmp_path)
    monkeypatch.setattr(module.install, "make_venv", lambda: None)
    monkeypatch.setattr(module.install, "pip", lambda *arguments, check=False: calls.append(arguments) or 0)
    module.main()
    assert [call[:3] for call in calls[1:]] == [("install", "--no-deps", "-r"), ("install", "--no-deps", "-e")]
    module.main()
    assert len(calls) == 3


def test_the_list_for_vllm_has_the_torch_of_the_other() -> None:
    pins = (ROOT / "constraints-vllm.txt").read_text().splitlines()
    assert TORCH in pins
    assert not [pin for pin in pins if pin.startswith(("torchvision", "torchaudio", "torchcodec", "nvidia"))]
