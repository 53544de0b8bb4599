"""The picture of a training, and who is told of it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from llmrec.pipeline.story import history, keep_events, plot
from llmrec.trainers import base
from llmrec.trainers.sft import SFT

LOG = [
    {"step": 5, "epoch": 0.5, "loss": 3.0},
    {"step": 10, "epoch": 1.0, "eval_ndcg@10": 0.1, "eval_runtime": 5.0},
    {"step": 15, "epoch": 1.5, "loss": 2.0, "train_samples_per_second": 7.0},
    {"step": 15, "epoch": 1.5, "train_loss": 2.5, "train_runtime": 9.0},
]
EPOCHS = [{"epoch": 1, "loss": 2.0, "ndcg@10": 0.1}, {"epoch": 2, "loss": 1.0}]


def test_times_are_no_part_of_a_history() -> None:
    assert history({"history": LOG}) == [
        {"step": 5, "epoch": 0.5, "loss": 3.0},
        {"step": 10, "epoch": 1.0, "eval_ndcg@10": 0.1},
        {"step": 15, "epoch": 1.5, "loss": 2.0},
    ]
    assert history({"history": EPOCHS}) == EPOCHS
    assert history({"best": 0.1}) == []


def test_the_same_logs_give_the_same_picture(tmp_path: Path) -> None:
    logs = {"train": history({"history": LOG}), "sdpo": EPOCHS, "none": []}
    for name in ("one.png", "two.png"):
        assert plot(logs, tmp_path / name)
    picture = (tmp_path / "one.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert picture == (tmp_path / "two.png").read_bytes()
    assert plot({"train": logs["train"]}, tmp_path / "three.png")
    width = {name: int.from_bytes((tmp_path / name).read_bytes()[16:20]) for name in ("one.png", "three.png")}
    assert width["one.png"] > 1.5 * width["three.png"]  # a panel a stage


def test_without_matplotlib_it_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not plot({"train": EPOCHS}, tmp_path / "training.png")
    assert "pip install 'llmrec[plots]'" in caplog.text
    assert not plot({"train": []}, tmp_path / "training.png")
    assert not list(tmp_path.iterdir())


def test_tensorboard_s_files_outlive_the_work_folder(tmp_path: Path) -> None:
    (tmp_path / "work" / "runs" / "Nov27").mkdir(parents=True)
    (tmp_path / "work" / "runs" / "Nov27" / "events.out.tfevents.1.host").write_text("x")
    (tmp_path / "target").mkdir()
    keep_events(tmp_path / "work", tmp_path / "target")
    assert [path.name for path in (tmp_path / "target" / "tensorboard").iterdir()] == ["events.out.tfevents.1.host"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({}, ["tensorboard"]),
        ({"report_to": "none"}, []),
        ({"report_to": "wandb"}, ["wandb"]),
        ({"report_to": ["mlflow", "trackio"]}, ["mlflow", "trackio"]),
    ],
)
def test_report_to_goes_to_the_trainer_as_it_is(args: dict[str, Any], told: list[str], tmp_path: Path) -> None:
    config = SFT(args={"use_cpu": True, "bf16": False, **args}).config(tmp_path, 0)
    assert config.report_to == told


def test_nobody_is_told_where_tensorboard_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "is_tensorboard_available", lambda: False)
    assert SFT(args={"use_cpu": True, "bf16": False}).config(tmp_path, 0).report_to == []
