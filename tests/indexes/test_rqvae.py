"""RQ-VAE: it finds what is there, uses its codes, and its updates are those of the papers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts.index_contract import clustered_world

from llmrec.errors import RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.provenance import level_usage
from llmrec.indexes.quantized import SavedState, Vectors, residual_codes
from llmrec.indexes.rqvae import ResidualQuantizer, RQVAEIndex, Update

TFIDF = {"kind": "tfidf", "dimensions": 32}
FAST = {"encoder": TFIDF, "latent_dimensions": 8, "hidden": [32], "steps": 200, "batch_size": 64}
UPDATES = ["ema", "gradient"]


def family(coarse: int = 4, fine: int = 4, members: int = 20) -> tuple[Vectors, np.ndarray, np.ndarray]:
    """Groups far apart, each of subgroups that lie alike in all groups: vectors, group and subgroup of each."""
    rng = np.random.default_rng(3)
    axes = np.linalg.qr(rng.normal(size=(24, 24)))[0].astype(np.float32)
    groups, subgroups = (part.ravel() for part in np.indices((coarse, fine, members))[:2])
    vectors = 10 * axes[groups] + 3 * axes[coarse + subgroups] + rng.normal(scale=0.05, size=(len(groups), 24))
    return vectors.astype(np.float32), groups, subgroups


def quantizer(*codebooks: list[list[float]], **settings: Any) -> ResidualQuantizer:
    """One whose codebooks are given."""
    defaults = {"update": "ema", "decay": 0.5, "commitment": 0.25, "revive_after": 0}
    sizes = [len(codebook) for codebook in codebooks]
    made = ResidualQuantizer(
        sizes, len(codebooks[0][0]), **{**defaults, **settings}, random=torch.Generator().manual_seed(0)
    )
    for level, codebook in enumerate(codebooks):
        made._set(level, torch.arange(len(codebook)), torch.tensor(codebook), 1.0)
    return made


def quantize(made: ResidualQuantizer, latents: torch.Tensor, kept: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    return made.quantize(latents, torch.full((len(latents),), kept))


@pytest.mark.parametrize("update", UPDATES)
def test_groups_are_the_first_level_and_subgroups_the_second(update: Update) -> None:
    vectors, groups, subgroups = family()
    learned = RQVAEIndex.parse({**FAST, "levels": [4, 4], "codebook_update": update}).fit_quantizer(vectors)
    codes, errors = residual_codes(learned.latents, learned.codebooks)
    assert len(set(zip(groups.tolist(), codes[:, 0].tolist(), strict=True))) == 4
    assert len(set(zip(groups.tolist(), subgroups.tolist(), *codes.T.tolist(), strict=True))) == 16
    assert len(np.unique(codes, axis=0)) == 16
    assert errors[1] < errors[0]
    # The groups are 100 of a squared length of 109.06, the subgroups 9; noise is not described.
    assert learned.report["decoded_error"][1] < 0.02 < learned.report["decoded_error"][0] < 0.15


@pytest.mark.parametrize("update", UPDATES)
def test_losses_fall_and_are_told(update: Update) -> None:
    vectors, _, _ = family()
    losses = (
        RQVAEIndex.parse({**FAST, "levels": [8, 8], "codebook_update": update}).fit_quantizer(vectors).report["losses"]
    )
    assert losses[-1]["step"] == 200
    assert len(losses) == 50
    assert losses[-1]["reconstruction"] < 0.3 * losses[0]["reconstruction"]
    assert "used" not in losses[0]  # a fifth of the steps has no codes
    quantized = [entry for entry in losses if "used" in entry]
    assert len(quantized) == 40
    assert all(0 < count <= 8 for entry in quantized for count in entry["used"])
    assert all(entry["loss"] > entry["reconstruction"] for entry in quantized)
    assert np.mean([entry["loss"] for entry in quantized[-5:]]) < np.mean([entry["loss"] for entry in quantized[:5]])


def test_the_topics_of_a_catalog_are_its_first_level() -> None:
    world = clustered_world()
    first = RQVAEIndex.parse({**FAST, "levels": [8, 8]}).build(world.catalog, world.train).codes[:, 0]
    topics_of_a_code = [np.bincount(world.topics[first == code]) for code in np.unique(first)]
    assert sum(counts.max() for counts in topics_of_a_code) > 0.9 * len(first)  # a topic may have several codes


@pytest.mark.parametrize("update", UPDATES)
def test_codes_that_start_far_from_everything_are_revived(update: Update) -> None:
    """One code amid the latents, seven in the far corner: without revival all items take the one."""
    start = [[0.0, 0.0], *([[1e3, 1e3 + corner] for corner in range(7)])]
    latents = torch.randn(400, 2, generator=torch.Generator().manual_seed(1))
    perplexity = {}
    for revive_after in (0, 5):
        made = quantizer(start, update=update, decay=0.9, revive_after=revive_after)
        for step in range(60):
            quantize(made, latents[step % 4 :: 4])
        codes, _ = residual_codes(latents.numpy(), [made.codebooks[0].detach().numpy()])
        perplexity[revive_after] = level_usage(codes, [8])[0]["perplexity"]
    assert perplexity[0] == 1
    assert perplexity[5] > 5


def test_revival_waits_for_as_many_idle_steps_as_were_said() -> None:
    made = quantizer([[0.0], [100.0]], revive_after=3)
    for _ in range(2):
        quantize(made, torch.tensor([[1.0], [-1.0]]))
    assert made.codebooks[0][1].item() == 100
    quantize(made, torch.tensor([[1.0], [-1.0]]))
    assert made.codebooks[0][1].item() in (1, -1)  # a residual of the batch


def test_a_code_in_use_is_not_revived() -> None:
    made = quantizer([[0.0], [100.0]], revive_after=2)
    for step in range(20):
        quantize(made, torch.tensor([[1.0], [100.0 if step % 2 else -1.0]]))
    assert made.codebooks[0][1].item() == pytest.approx(100)


def test_moving_averages_by_hand() -> None:
    """Half of the past: the first code had 1 item at 0 and gets 2 and 4, so (0 + 6/2) / (1/2 + 2/2) = 2."""
    made = quantizer([[0.0], [10.0]], decay=0.5)
    quantize(made, torch.tensor([[2.0], [4.0]]))
    assert made.codebooks[0].flatten().tolist() == [2, 10]
    quantize(made, torch.tensor([[12.0], [16.0]]))  # the second had 1/2 at 10: (2.5 + 14) / (1/4 + 1)
    assert made.codebooks[0].flatten().tolist() == pytest.approx([2, 13.2])


def test_a_code_that_nobody_uses_for_long_stays_where_it_is() -> None:
    made = quantizer([[0.0], [10.0]], decay=0.5)
    for _ in range(300):  # 2 ** -300 is no float32
        quantize(made, torch.tensor([[1.0], [-1.0]]))
    assert made.codebooks[0][1].item() == pytest.approx(10)


def test_the_decoder_gets_entries_and_latents_the_gradient() -> None:
    made = quantizer([[4.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, -1.0]], update="gradient")
    latents = torch.tensor([[5.5, 0.0]], requires_grad=True)
    shown, _ = quantize(made, latents)
    assert shown.tolist() == [[5, 0]]
    (shown * torch.tensor([2.0, 3.0])).sum().backward()
    assert latents.grad is not None
    assert latents.grad.tolist() == [[2, 3]]
    first, _ = quantize(made, latents, kept=1)
    assert first.tolist() == [[4, 0]]


def test_the_added_loss_by_hand() -> None:
    """Residuals (3, 0) and (1, 0), squared 9 and 1; means over two dimensions, 4.5 and .5."""
    levels = [[2.0, 0.0], [-9.0, 0.0]], [[2.0, 0.0], [-9.0, 0.0]]
    latents = torch.tensor([[5.0, 0.0]], requires_grad=True)
    _, added = quantize(quantizer(*levels, update="ema"), latents)
    assert added.item() == pytest.approx(0.25 * 5)
    added.backward()
    assert latents.grad is not None
    assert latents.grad.tolist() == [[pytest.approx(0.25 * (3 + 1)), 0]]  # d(r²/2)/dr of both levels
    made = quantizer(*levels, update="gradient")
    _, added = quantize(made, latents)
    assert added.item() == pytest.approx(1.25 * 5)
    added.backward()
    assert [codebook.grad[0, 0].item() for codebook in made.codebooks] == pytest.approx([-3, -1])


def test_codes_used_since_it_was_asked_last() -> None:
    made = quantizer([[0.0], [10.0], [20.0]], [[0.0], [1.0]])
    quantize(made, torch.tensor([[0.0], [11.0]]))
    quantize(made, torch.tensor([[0.0]]))
    assert made.used() == [2, 2]
    assert made.used() == [0, 0]


def test_what_is_saved_encodes_as_what_was_trained(tmp_path: Path) -> None:
    world = clustered_world()
    indexer = RQVAEIndex.parse({**FAST, "levels": [8, 4]})
    index = indexer.build(world.catalog, world.train)
    index.save(tmp_path)
    saved = SavedState.of(ItemIndex.load(tmp_path).state)
    vectors = indexer._space().fit(world.catalog, world.train).vectors
    latents = indexer.latents(vectors, saved.quantizer)
    codes, _ = residual_codes(latents, saved.codebooks)
    np.testing.assert_array_equal(codes, index.codes[:, :2])
    np.testing.assert_array_equal(latents, indexer.fit_quantizer(vectors).latents)
    np.testing.assert_allclose(indexer.latents(vectors[7:8], saved.quantizer), latents[7:8], atol=1e-5)


def test_the_seed_matters() -> None:
    vectors, _, _ = family()
    first, second = (RQVAEIndex.parse({**FAST, "levels": [4], "steps": 2, "seed": seed}) for seed in (1, 2))
    assert (first.fit_quantizer(vectors).latents != second.fit_quantizer(vectors).latents).any()


def test_one_item_alone() -> None:
    learned = RQVAEIndex.parse({**FAST, "levels": [4, 4], "steps": 3}).fit_quantizer(np.ones((1, 6), np.float32))
    assert learned.latents.shape == (1, 8)
    assert np.isfinite(learned.latents).all()
    assert learned.report["decoded_error"][-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codebook_update": "adam"}, r"codebook_update.*'ema' or 'gradient'"),
        ({"ema_decay": 1}, "ema_decay"),
        ({"warmup": 1}, "warmup"),
        ({"hidden": [8, 0]}, r"hidden\.1"),
        ({"latent_dimension": 8}, r"Did you mean 'latent_dimensions'\?"),
        ({"nested_dropout": 1}, "nested_dropout"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_read(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        RQVAEIndex.parse({"encoder": TFIDF, **settings})
