"""The verbs `serve` and `key`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import sys
from pathlib import Path

from llmrec.errors import DataError, MissingExtraError

logger = logging.getLogger("llmrec")

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def add_arguments(serve: argparse.ArgumentParser, key: argparse.ArgumentParser) -> None:
    """What the verbs take, beside the model; limits that are not here are the fields of `ServingSettings`."""
    serve.add_argument(
        "--engine",
        choices=("auto", "transformers", "vllm"),
        default="auto",
        help="auto: vLLM where it and a GPU are there, else the embedded engine",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; this machine only by default")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--name", help="its name in answers; that of the folder or repository by default")
    serve.add_argument("--users", type=Path, help="histories to try it with on the page; see 'recommend --input'")
    serve.add_argument("--api-keys", type=Path, help="keys of 'llmrec key'; without such a file anybody may ask")
    serve.add_argument("--admin-keys", type=Path, help="keys for /admin; without such a file there is none")
    serve.add_argument("--timeout-ms", type=int, default=2000, help="an answer that takes longer is none")
    serve.add_argument("--max-queue", type=int, default=256, help="histories that wait; one more is answered 429")
    serve.add_argument("--max-batch", type=int, default=32, help="histories decoded together")
    serve.add_argument("--dtype", default="auto", help="such as bfloat16; as it was saved by default")
    serve.add_argument("--grace-s", type=float, default=30, help="after a signal, the time to finish what was accepted")
    key.add_argument("name", nargs="?", default="key", help="whose it is; stands in the keys file only")


def serve(chosen: argparse.Namespace) -> int:
    """Serve a model folder until a signal."""
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "serve", "llmrec serve")
    # Before torch is loaded: threads that spin while they wait take the cores that requests are read on.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from llmrec.hub import local_folder
    from llmrec.serving.keys import read_keys
    from llmrec.serving.server import load, run
    from llmrec.serving.settings import ServingSettings

    settings = ServingSettings.parse(
        {
            "name": chosen.name or chosen.model.resolve().name,
            "timeout_ms": chosen.timeout_ms,
            "max_queue": chosen.max_queue,
            "max_batch": chosen.max_batch,
        },
        "serve",
    )
    keys = read_keys(chosen.api_keys) if chosen.api_keys else {}
    admin_keys = read_keys(chosen.admin_keys) if chosen.admin_keys else {}
    if not 0 < chosen.port < 2**16:
        raise DataError(f"--port is {chosen.port}.", fix="Give a number from 1 to 65535.")
    if chosen.host not in LOOPBACK and not keys:
        logger.warning("anybody who reaches %s can ask this server: it has no --api-keys", chosen.host)
    service = load(local_folder(chosen.model, chosen.revision), chosen.engine, settings, chosen.users, chosen.dtype)
    catalog, address = service.catalog.current.catalog, f"http://{chosen.host}:{chosen.port}"
    logger.info("%s: %d items, engine %s, on %s", settings.name, len(catalog), service.engine, address)
    return run(service, chosen.host, chosen.port, keys, admin_keys, chosen.grace_s)


def key(chosen: argparse.Namespace) -> None:
    """Make a key: itself on stderr, once, and its line for a keys file on stdout."""
    from llmrec.serving.keys import new_key

    if not chosen.name.split() == [chosen.name]:
        raise DataError(f"the name {chosen.name!r} has spaces or is empty.", fix="Give one word.")
    secret, line = new_key(chosen.name)
    print(f"key (it is shown only now): {secret}", file=sys.stderr)
    print(json.dumps({"key": secret, "line": line}) if chosen.json else line)
