"""What RQ-VAE and FSQ share: the training repeats itself anywhere, and leaves the torch around it alone."""

import hashlib
import random
from typing import Any

import numpy as np
import pytest
import torch
from threads import on_threads

from llmrec.indexes import autoencoder as module
from llmrec.indexes.autoencoder import Autoencoder, decoded_errors, one_torch_thread, restored
from llmrec.indexes.quantized import QuantizedIndex, Vectors
from llmrec.indexes.training import Schedule, train
from llmrec.registry import build

SETTINGS: dict[str, dict[str, Any]] = {
    "rqvae": {"kind": "rqvae", "levels": [16, 16], "latent_dimensions": 8, "hidden": [256, 64], "steps": 40},
    "fsq": {"kind": "fsq", "groups": [[4, 4], [5, 3]], "hidden": [256, 64], "steps": 40},
}


def indexer(kind: str, **settings: Any) -> QuantizedIndex:
    made: QuantizedIndex = build("index", {**SETTINGS[kind], "encoder": {"kind": "tfidf"}, **settings}, "index")
    return made


def some_vectors() -> Vectors:
    return np.random.default_rng(0).normal(size=(600, 96)).astype(np.float32)


def digest(kind: str) -> str:
    """Of every bit that was learned."""
    learned = indexer(kind).fit_quantizer(some_vectors())
    arrays = [learned.latents, *learned.codebooks, *learned.state.values()]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


class Nothing:
    """A bottleneck that lets everything through, and remembers what it was asked."""

    depth = 3

    def __init__(self) -> None:
        self.started: list[torch.Tensor] = []
        self.kept: list[torch.Tensor] = []
        self.threads: set[int] = set()

    def start(self, latents: torch.Tensor) -> None:
        self.started.append(latents)

    def quantize(self, latents: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.kept.append(kept)
        self.threads.add(torch.get_num_threads())
        return latents, torch.zeros(())

    def learned(self) -> list[torch.Tensor]:
        return []

    def used(self) -> list[int]:
        return [1, 2, 3]


def trained(
    schedule: Schedule, vectors: Vectors, sizes: list[int]
) -> tuple[Autoencoder, Nothing, list[dict[str, Any]]]:
    source, nothing = torch.Generator().manual_seed(0), Nothing()
    model = Autoencoder(sizes, source)
    return model, nothing, train(model, nothing, vectors, schedule, source, "test")


def test_another_number_of_threads_gives_the_same_bits() -> None:
    code = "from indexes.test_autoencoder import digest; print(digest('rqvae'), digest('fsq'))"
    answer = on_threads(1 if torch.get_num_threads() > 1 else 3, "-c", code)
    assert answer.split() == [digest("rqvae"), digest("fsq")]


@pytest.mark.parametrize("kind", ["rqvae", "fsq"])
def test_sources_of_chance_and_threads_are_left_as_they_were(kind: str) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.manual_seed(11)
        before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
        learned = indexer(kind).fit_quantizer(some_vectors())
        indexer(kind).latents(some_vectors(), learned.state)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
        assert random.getstate() == before[2]
        assert torch.is_grad_enabled()
        torch.manual_seed(12)  # another global seed is no other training
        np.testing.assert_array_equal(indexer(kind).fit_quantizer(some_vectors()).latents, learned.latents)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", ["rqvae", "fsq"])
def test_training_works_where_gradients_are_switched_off(kind: str) -> None:
    with torch.no_grad():
        learned = indexer(kind).fit_quantizer(some_vectors())
    np.testing.assert_array_equal(learned.latents, indexer(kind).fit_quantizer(some_vectors()).latents)


def test_training_takes_one_thread_and_gives_the_others_back() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyError), one_torch_thread():
            {1: "one"}[torch.get_num_threads() - 1]  # one thread, so there is no 0
        assert torch.get_num_threads() == 2
        _, nothing, _ = trained(Schedule(3, 100, 1e-3), some_vectors(), [96, 4])
        assert nothing.threads == {1}
    finally:
        torch.set_num_threads(threads)


def test_a_wide_enough_autoencoder_learns_to_copy() -> None:
    vectors = 3 + 0.01 * np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)  # far off, and small
    model, _, history = trained(Schedule(400, 64, 3e-3), vectors, [8, 32, 8])
    assert history[-1]["reconstruction"] < 0.05 < history[0]["reconstruction"]
    rebuilt = np.concatenate([part for _, part in model.decode(model.encode(vectors))])
    assert ((rebuilt - vectors) ** 2).mean() < 0.05 * vectors.var(axis=0).mean()


def test_warmup_comes_before_the_bottleneck() -> None:
    _, nothing, history = trained(Schedule(100, 32, 1e-3, warmup=40, sample=50), some_vectors(), [96, 4])
    assert [latents.shape for latents in nothing.started] == [(50, 4)]
    assert len(nothing.kept) == 60
    assert [entry["step"] for entry in history] == list(range(2, 101, 2))
    assert [entry.get("used") for entry in history] == [None] * 20 + [[1, 2, 3]] * 30


def test_nested_dropout_hides_last_levels_of_its_share() -> None:
    _, nothing, _ = trained(Schedule(50, 100, 1e-3, nested_dropout=0.5), some_vectors(), [96, 4])
    counts = torch.bincount(torch.cat(nothing.kept), minlength=4).numpy() / 5000
    np.testing.assert_allclose(counts, [0, 0.25, 0.25, 0.5], atol=0.03)
    _, nothing, _ = trained(Schedule(5, 100, 1e-3), some_vectors(), [96, 4])
    assert set(torch.cat(nothing.kept).tolist()) == {3}


def test_every_item_is_seen_once_a_pass() -> None:
    vectors = np.eye(12, dtype=np.float32)
    model, seen = Autoencoder([12, 2], torch.Generator()), []
    inputs = model.inputs
    model.inputs = lambda rows: seen.append(rows.argmax(axis=1)) or inputs(rows)  # type: ignore[method-assign,func-returns-value]
    train(model, Nothing(), vectors, Schedule(6, 4, 1e-3, warmup=6), torch.Generator().manual_seed(0), "test")
    passes = [np.concatenate(seen[:3]), np.concatenate(seen[3:])]
    assert [sorted(rows.tolist()) for rows in passes] == [list(range(12))] * 2
    assert (passes[0] != passes[1]).any()


@pytest.mark.parametrize("hidden", [[], [7], [7, 5]])
def test_the_state_is_enough_to_encode(hidden: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, _ = trained(Schedule(5, 100, 1e-3), some_vectors(), [96, *hidden, 3])
    latents = model.encode(some_vectors())
    again = restored({name: value.copy() for name, value in model.state().items()})
    np.testing.assert_array_equal(again.encode(some_vectors()), latents)
    monkeypatch.setattr(module, "CHUNK", 77)
    np.testing.assert_allclose(again.encode(some_vectors()), latents, atol=1e-5)
    assert again.encode(some_vectors()[:0]).shape == (0, 3)


def test_vectors_that_are_all_the_same_are_no_error() -> None:
    vectors = np.full((5, 4), 0.5, np.float32)
    model, _, history = trained(Schedule(3, 2, 1e-3), vectors, [4, 6, 2])
    assert np.isfinite(model.encode(vectors)).all()
    assert history[-1]["reconstruction"] == 0


def test_decoded_errors_by_hand() -> None:
    """A decoder that copies: after the first level 1 + 4 of 1 + 4 + 20 is left, after the second 1."""
    model = Autoencoder([2, 2], torch.Generator())
    with torch.no_grad():
        model.decoder.path.weight.copy_(torch.eye(2))
        model.decoder.layers[0].weight.zero_()  # type: ignore[operator]
    vectors = np.array([[1, 0], [0, 2], [2, 4]], np.float32)
    codebooks = [np.array([[0, 0], [2, 4]], np.float32), np.array([[0, 0], [0, 2]], np.float32)]
    assert decoded_errors(model, vectors, vectors, codebooks) == [0.2, 0.04]
