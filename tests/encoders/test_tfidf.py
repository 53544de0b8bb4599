"""TF-IDF vectors: alike texts lie close, small catalogs work, useless ones are refused."""

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.tfidf import TfidfEncoder
from llmrec.errors import DataError, RecipeError

TITLES = ["red wool scarf", "blue wool scarf", "steel kitchen knife", "small kitchen knife", ""]


def encode(titles: list[str], **settings: object) -> np.ndarray:
    ids = [f"i{row}" for row in range(len(titles))]
    catalog = Catalog(pa.table({"item_id": ids, "title": titles, "brand": ["Acme"] * len(titles)}))
    train = Interactions.from_columns(pa.array(["u"]), pa.array(["i0"]), np.zeros(1, np.int64), catalog.items)
    return TfidfEncoder.parse(settings).fit(catalog, train).vectors


def test_alike_texts_lie_close() -> None:
    vectors = encode(TITLES)
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.3
    assert similarity[2, 3] > 0.3
    assert abs(similarity[0, 2]) < 0.01


def test_rows_have_length_one_and_an_empty_text_is_zero() -> None:
    np.testing.assert_allclose(np.linalg.norm(encode(TITLES), axis=1), [1, 1, 1, 1, 0], atol=1e-6)


@pytest.mark.parametrize("titles", [["lamp"], ["lamp", "lamp"], ["oak table", "pine chair"]])
def test_small_catalogs_have_as_many_dimensions_as_they_can(titles: list[str]) -> None:
    vectors = encode(titles)
    assert vectors.shape == (len(titles), len(set(titles)))
    np.testing.assert_allclose(vectors @ vectors.T, np.equal.outer(titles, titles), atol=1e-5)


def test_dimensions_are_a_limit() -> None:
    assert encode(TITLES, dimensions=2).shape == (5, 2)


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert encode(TITLES, seed=1).tobytes() == encode(TITLES, seed=1).tobytes()


def test_fields_choose_the_columns() -> None:
    vectors = encode(TITLES, fields=["brand"])
    np.testing.assert_allclose(vectors @ vectors.T, np.ones((5, 5)), atol=1e-5)
    with pytest.raises(DataError, match=r"no column 'titel'. Did you mean 'title'\?"):
        encode(TITLES, fields=["titel"])


def test_a_catalog_without_words_is_refused() -> None:
    with pytest.raises(DataError, match=r"no item has a word .* the catalog has \['item_id', 'title', 'brand'\]"):
        encode(["", "a", "!"])


@pytest.mark.parametrize("settings", [{"dimensions": 0}, {"fields": []}, {"max_words": 0}])
def test_senseless_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=next(iter(settings))):
        TfidfEncoder.parse(settings)
