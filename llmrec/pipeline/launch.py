"""How Accelerate starts a run on several processes: the files of `recipes/accelerate`, checked as it reads them.

llmrec recipes cp accelerate/ddp ddp.yaml
accelerate launch --config_file ddp.yaml -m llmrec run RECIPE
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmrec import assets
from llmrec.errors import RecipeError

FOLDER = "accelerate"


def shipped_launches() -> list[str]:
    """The names of the shipped files, such as `accelerate/ddp`."""
    return [name.removesuffix(".yaml") for name in assets.names("recipes") if name.startswith(f"{FOLDER}/")]


def is_launch(path: Path) -> bool:
    """Whether this is a file of Accelerate rather than a recipe."""
    return re.search(r"^distributed_type:", path.read_text(errors="replace"), re.MULTILINE) is not None


def check_launch(path: Path) -> Any:
    """Read a file of Accelerate as its launcher does, and build the plugin that every process would build from it.

    Returns:
        Accelerate's plugin for FSDP or DeepSpeed; None where gradients are only averaged.

    Raises:
        RecipeError: Accelerate does not know a key, or refuses a value.
    """
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    try:
        config = load_config_from_file(str(path))
        with contextlib.redirect_stderr(io.StringIO()):  # argparse's usage; the exit is caught below
            asked = launch_command_parser().parse_args(["--config_file", str(path), "-m", "llmrec", "run", "RECIPE"])
        arguments, _, _ = _validate_launch_command(asked)
        if arguments.use_deepspeed:
            arguments.deepspeed_fields_from_accelerate_config = ",".join(config.deepspeed_config)
            environment = prepare_deepspeed_cmd_env(arguments)[1]
            with _environment(environment):
                return DeepSpeedPlugin()
        with _environment(prepare_multi_gpu_env(arguments)):
            return FullyShardedDataParallelPlugin() if arguments.use_fsdp else None
    except (OSError, ValueError, TypeError, KeyError, SystemExit) as error:
        raise RecipeError(f"{path}: Accelerate cannot use this file: {error}") from error


@contextlib.contextmanager
def _environment(changed: Mapping[str, str]) -> Iterator[None]:
    """What a launched process finds in its environment."""
    before = dict(os.environ)
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
