"""From a model folder to a running server: load, warm up, listen, and stop without losing what was accepted."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Literal

import numpy as np
import torch
import uvicorn

from llmrec.errors import LlmrecError
from llmrec.recommenders.base import Recommender, load_recommender_settings
from llmrec.registry import resolve
from llmrec.serving.app import create_app
from llmrec.serving.on_vllm import STARTS
from llmrec.serving.service import Service
from llmrec.serving.settings import ServingSettings
from llmrec.serving.users import Users

logger = logging.getLogger(__name__)

EngineName = Literal["auto", "transformers", "vllm"]

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than proxies keep theirs, so that they close first."""

GOODBYE = 5.0
"""Seconds that a server without an engine still answers 503, before it ends for its supervisor to start it again."""


def load(
    folder: Path, engine: EngineName, settings: ServingSettings, users: Path | None = None, dtype: str = "auto"
) -> Service:
    """Read a model folder and answer one request, so that the first caller does not wait for it.

    Raises:
        ArtifactError: it is no model folder. MissingExtraError: vLLM is asked for and not installed.
    """
    name = choose_engine(folder, engine)
    kind = load_recommender_settings(folder).kind
    if name == "vllm":
        made = STARTS[kind](folder, settings, dtype)
        process = made.process
        service = Service(made.recommender, made.settings, None, name, process.is_alive, process.stop)
    elif name == "transformers":
        service = Service(resolve("recommender", kind).from_pretrained(folder, dtype=dtype), settings, engine=name)
    else:
        service = Service(Recommender.from_pretrained(folder), settings, engine=name)
    recommender = service.catalog.current.recommender
    if users is not None:
        service.users = Users.read(users, recommender.catalog.items)
    recommender.recommend([np.empty(0, np.int32)], 1)
    return service


def choose_engine(folder: Path, engine: EngineName) -> Literal["transformers", "vllm", "none"]:
    """`auto` is vLLM where it and a GPU are there; on CPUs the embedded engine is the faster one.

    Recommenders that are no language models have no engine.
    """
    if load_recommender_settings(folder).kind not in STARTS:
        if engine == "vllm":
            raise LlmrecError(f"{folder} holds no language model; vLLM cannot serve it.")
        return "none"
    if engine == "auto":
        return "vllm" if find_spec("vllm") and torch.cuda.is_available() else "transformers"
    return engine


def run(
    service: Service,
    host: str,
    port: int,
    keys: Mapping[str, str],
    admin_keys: Mapping[str, str],
    grace_s: float,
) -> int:
    """Serve until a signal; the exit status is 1 where the engine died."""
    app = create_app(service, keys, admin_keys)
    config = uvicorn.Config(
        app,
        host,
        port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=int(grace_s),
        timeout_keep_alive=KEEP_ALIVE,
    )
    server = Server(config, service)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # uvicorn has its own while it runs, and raises the signal again behind
    server.run()
    return 1 if server.engine_died else 0


class Server(uvicorn.Server):
    """Uvicorn that says so before it stops, and stops when the engine has died."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service, self.engine_died = service, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """At a signal: not ready any more, then finish what was accepted."""
        self.service.is_draining = True
        super().handle_exit(sig, frame)

    async def main_loop(self) -> None:
        """Uvicorn's own, beside a look at the engine."""
        watch = asyncio.create_task(self._watch())
        try:
            await super().main_loop()
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        while self.service.is_alive():
            await asyncio.sleep(0.5)
        self.engine_died = True
        logger.error("the engine has died; this server ends in %.0f seconds", GOODBYE)
        await asyncio.sleep(GOODBYE)
        self.should_exit = True
