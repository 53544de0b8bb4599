"""docs/csv_to_curl.md as a stranger would do it: its own commands, real CSV files, a real server, curl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from loading import module_from
from serving.process import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "csv_to_curl.md").read_text()
QUICK = "train.args.max_steps=8 train.args.bf16=false train.valid_users=20 evaluation.users=40 model.layers=1".split()
"""The same path with less training, beside what the page says."""

path = module_from(ROOT / "benchmarks" / "csv_path.py")


def test_every_command_of_the_page_leads_to_an_answer(shared_data: Path, tmp_path: Path) -> None:
    """But for the installation, which has made the environment of the tests."""
    assert shutil.which("curl"), "the page asks with curl"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LLMREC_OFFLINE": "1"}
    titles = path.write_shop(PAGE, shared_data / "ml-latest-small", tmp_path)
    port = free_port()
    install, check, run, serve, curl = (path.adapted(words, port, sys.executable) for words in path.commands(PAGE))
    assert install[:2] == ["python3", "tools/install.py"]
    subprocess.run(check, cwd=tmp_path, env=environment, check=True)
    subprocess.run([*run, *QUICK], cwd=tmp_path, env=environment, check=True)
    assert json.loads((tmp_path / "runs" / "movies" / "eval.json").read_text())["test"]["examples"] == 40
    with path.going_on(serve, tmp_path, environment) as server:
        items = path.answer(curl, server)["items"]
    assert server.returncode in (0, 130)
    assert len({item["item_id"] for item in items}) == 5
    assert all(titles[item["item_id"]].split(" (")[0] in item["title"] for item in items)
    assert not {"1", "2"} & {item["item_id"] for item in items}
