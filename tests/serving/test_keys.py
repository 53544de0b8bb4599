"""Who may ask, and who may change the catalog."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving.shop import client_of, make_service

from llmrec.errors import DataError
from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.keys import new_key, read_keys

OPEN = ["/health", "/ready", "/"]
CLOSED = ["/v1/models", "/v1/items", "/v1/items/i1", "/v1/users", "/metrics"]


def test_only_callers_with_a_key_are_answered(recommender: LLMRecommender, tmp_path: Path) -> None:
    (key, line), (other, _) = new_key("shop"), new_key("stranger")
    file = tmp_path / "keys.txt"
    file.write_text(f"# ours\n\n{line}\n{new_key('second')[1]}\n")
    with client_of(make_service(recommender), keys=read_keys(file)) as client:
        assert {client.get(path).status_code for path in OPEN} == {200}
        for headers in (
            {},
            {"Authorization": f"Bearer {other}"},
            {"Authorization": f"Basic {key}"},
            {"Authorization": "Bearer"},
        ):
            for path in CLOSED:
                refused = client.get(path, headers=headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")
                assert refused.headers["www-authenticate"] == "Bearer"
            assert client.post("/v1/recommend", json={"history": []}, headers=headers).status_code == 401
        headers = {"Authorization": f"Bearer {key}"}
        assert {client.get(path, headers=headers).status_code for path in CLOSED} == {200}
        assert client.post("/v1/recommend", json={"history": []}, headers=headers).status_code == 200


def test_the_catalog_has_a_key_of_its_own(recommender: LLMRecommender) -> None:
    (key, line), (admin, admin_line) = new_key("shop"), new_key("boss")
    keys, admin_keys = dict([line.split(" sha256:")]), dict([admin_line.split(" sha256:")])
    with client_of(make_service(recommender), keys=keys, admin_keys=admin_keys) as client:
        for path, good, bad in (("/v1/models", key, admin), ("/admin/catalog", admin, key)):
            assert client.get(path, headers={"Authorization": f"Bearer {good}"}).status_code == 200
            assert client.get(path, headers={"Authorization": f"Bearer {bad}"}).status_code == 401
    with client_of(make_service(recommender)) as client:
        assert client.get("/admin/catalog").status_code == 404
        assert client.post("/admin/catalog", json={}).status_code == 404


def test_a_file_holds_no_key_only_its_hash(tmp_path: Path) -> None:
    key, line = new_key("shop")
    assert key not in line
    assert len(key) > 40
    assert new_key("shop")[0] != key
    (tmp_path / "keys.txt").write_text(line)
    assert list(read_keys(tmp_path / "keys.txt")) == ["shop"]


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "shop", "shop sha256:abc", "shop md5:" + "0" * 64, "a b sha256:" + "0" * 64]
)
def test_a_file_without_usable_keys_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.txt").write_text(text)
    with pytest.raises(DataError, match="llmrec key"):
        read_keys(tmp_path / "keys.txt")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_keys(tmp_path / "none.txt")
