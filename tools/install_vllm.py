"""Set up `.venv-vllm`: llmrec beside vLLM's build for CPUs, for `make test-vllm`. `.venv` stays as it is.

vLLM pins a torch and a numpy of its own, so it cannot share an environment with the rest. Everything is installed by
the exact list in `constraints-vllm.txt`, without what the packages ask for beyond it (see there).
"""

from __future__ import annotations

import hashlib
import sys
import time

import install

VENV = install.ROOT / ".venv-vllm"
LIST = "constraints-vllm.txt"


def main() -> None:
    """Install what is not yet there."""
    if sys.platform != "linux":
        sys.exit(f"vLLM's build for CPUs is made for Linux; this is {sys.platform}.")
    stamp = VENV / "llmrec-install.txt"
    digest = hashlib.sha256((install.inputs_hash() + (install.ROOT / LIST).read_text()).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        install.say(f"{VENV.name} is up to date")
        return
    started = time.monotonic()
    install.VENV, install.PYTHON = VENV, VENV / "bin" / "python"
    install.make_venv()
    stamp.unlink(missing_ok=True)
    install.install_cpu_torch()
    install.say(f"vLLM and llmrec ({LIST})")
    install.pip("install", "--no-deps", "-r", LIST, check=True)
    install.pip("install", "--no-deps", "-e", ".", check=True)
    stamp.write_text(digest)
    install.say(f"{VENV.name} is ready after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
