"""Build the sdist and the wheel as a release would, and use the wheel where nothing else is: `make check` runs this.

A checkout hides what a release forgets: files that are not packed, a heavy import at the top of a light module. So the
wheel is built from the sdist, installed alone with the few light packages below into an empty environment far from the
checkout, and must then import, list its assets and answer `--help` without torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ("prompts", "recipes", "model_cards")
LIGHT = ("jinja2", "numpy", "pyarrow", "pydantic", "pyyaml", "rich", "tqdm")

LIST_ASSETS = """
import json, llmrec, llmrec.assets as assets
print(json.dumps({"version": llmrec.__version__, **{kind: assets.names(kind) for kind in assets.KINDS}}))
"""


def main() -> None:
    """Build, install, compare; exit with the first difference."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llmrec-wheel-") as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT))
        (wheel,) = (folder / "dist").glob("*.whl")
        find_all(wheel)
        venv.create(folder / "venv", with_pip=True, symlinks=sys.platform != "win32")
        python = str(folder / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))
        pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
        run(*pip, "-c", str(ROOT / "constraints.txt"), *LIGHT)
        run(*pip, "--no-deps", str(wheel))
        packed = json.loads(run(python, "-c", LIST_ASSETS, cwd=folder))
        compare(packed, wheel.name.split("-")[1])
        run(python, "-m", "llmrec", "--help", cwd=folder)
        run(python, "-m", "llmrec", "recipes", "ls", cwd=folder)
        size = wheel.stat().st_size / 1024
    counts = ", ".join(f"{len(packed[kind])} {kind.replace('_', ' ')}" for kind in ASSETS)
    print(f"{wheel.name}: {size:.0f} KiB, {counts}; imports and answers alone ({time.monotonic() - started:.0f} s)")


def run(*command: str, cwd: Path = ROOT) -> str:
    """The output of a command; its failure, with all it said, ends the check."""
    # An inherited PYTHONPATH would bring the checkout back in.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nThe wheel check stopped: {' '.join(command)}")
    return done.stdout


def find_all(wheel: Path) -> None:
    """Compare the files of the package, pages and templates among them, with those in the wheel."""
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "llmrec").rglob("*") if path.is_file()}
    there = {name for name in there if "__pycache__" not in name}
    if missing := sorted(there - set(zipfile.ZipFile(wheel).namelist())):
        sys.exit(f"The wheel lacks these files of the package: {missing}")


def compare(packed: dict[str, Any], version: str) -> None:
    """Compare what the installed wheel finds with the version in its name and the files in the checkout."""
    if packed["version"] != version:
        sys.exit(f"The wheel is called {version} but llmrec.__version__ says {packed['version']}.")
    checkout = json.loads(run(sys.executable, "-c", LIST_ASSETS))
    for kind in ASSETS:
        if not checkout[kind] or packed[kind] != checkout[kind]:
            sys.exit(f"The wheel finds these {kind}:\n  {packed[kind]}\nbut the checkout has:\n  {checkout[kind]}")


if __name__ == "__main__":
    main()
