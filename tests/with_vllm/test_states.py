"""vLLM's pooling runner gives the states of the embedded engine, and so the same lists; offline and served."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
import torch
from projected import make_projected
from server import Server
from worlds import TinyWorld

from llmrec.engines.vllm_states import OfflinePooling, VLLMStates
from llmrec.errors import DecodingError
from llmrec.recommenders.item_head import ItemHeadRecommender

TOLERANCE = 2e-4  # float32, nats


@pytest.fixture(scope="module")
def reader(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads items as one vector each."""
    target = tmp_path_factory.mktemp("served") / "vectors"
    make_projected(world, reads=True, batch_size=16).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def remote(reader: Path) -> Iterator[ItemHeadRecommender]:
    """Parts of 64 tokens, for 16 requests at once."""
    small = {"dtype": "float32", "max_model_len": 128, "max_num_seqs": 16, "max_num_batched_tokens": 64}
    made = ItemHeadRecommender.from_pretrained(reader, engine=lambda items: VLLMStates.load(reader, items, **small))
    yield made
    assert isinstance(made.engine, VLLMStates)
    assert isinstance(made.engine.backend, OfflinePooling)
    made.engine.backend.llm.llm_engine.engine_core.shutdown()


def histories_of(rng: random.Random, count: int) -> list[np.ndarray]:
    return [np.array(rng.sample(range(300), rng.randint(0, 12)), np.int32) for _ in range(count)]


def test_the_lists_of_a_model_that_reads_vectors(remote: ItemHeadRecommender, world: TinyWorld) -> None:
    histories, embedded = histories_of(random.Random(1), 60), make_projected(world, reads=True)
    for repeat in range(2):  # the second time out of vLLM's prefix cache
        found, expected = remote.recommend(histories, 20), embedded.recommend(histories, 20)
        np.testing.assert_array_equal(found.rows, expected.rows, err_msg=f"repeat {repeat}")
        np.testing.assert_allclose(found.scores, expected.scores, atol=TOLERANCE)


def test_the_states_of_a_model_that_reads_codes(remote: ItemHeadRecommender, world: TinyWorld) -> None:
    """The same vLLM, asked for tokens alone: long prompts are read in parts."""
    engine, embedded = VLLMStates(remote.engine.backend), make_projected(world).engine
    rng = random.Random(2)
    prompts = [[rng.randrange(2, len(world.items.tokenizer)) for _ in range(rng.randint(1, 100))] for _ in range(40)]
    torch.testing.assert_close(engine.states(prompts), embedded.states(prompts), atol=1e-3, rtol=1e-4)
    with pytest.raises(DecodingError, match="prompts of 128 tokens, this one has 129"):
        engine.states([[5] * 129])


def test_the_command_serves_it(reader: Path, world: TinyWorld, tmp_path: Path) -> None:
    embedded = make_projected(world, reads=True)
    server = Server(reader, tmp_path / "log.txt")
    try:
        server.wait()
        for history in histories_of(random.Random(3), 20):
            expected = embedded.recommend([history], 10)
            items = server.ask(history=[f"i{row}" for row in history], k=10).json()["items"]
            assert [item["item_id"] for item in items] == [f"i{row}" for row in expected.rows[0]]
            np.testing.assert_allclose([item["score"] for item in items], expected.scores[0], atol=TOLERANCE)
        (model,) = httpx2.get(f"{server.address}/v1/models").json()["data"]
        assert (model["kind"], model["engine"]) == ("item_head", "vllm")
        server.process.terminate()
        assert server.process.wait(60) == 0
    finally:
        server.kill()
