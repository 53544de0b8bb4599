"""Push and pull over real HTTP, against a Hub on this machine (`hub_server.py`)."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from answer import Answer
from hub_server import READER, STRANGER, TOKEN, HubServer
from huggingface_hub import HfApi, ModelCard, constants
from transformers import AutoModelForCausalLM, AutoTokenizer
from worlds import make_tiny_world

from llmrec import cli
from llmrec.card import write_card
from llmrec.data.interactions import Interactions
from llmrec.errors import ArtifactError
from llmrec.hub import local_folder, push_folder
from llmrec.recipe import CardRecipe
from llmrec.recommenders.as_lists import AsLists
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.popularity import Popularity
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate

ROOT = Path(__file__).resolve().parent.parent
ANSWERS = CardRecipe(data_license="made for a test", license="apache-2.0")


@pytest.fixture(scope="module")
def recommender() -> LLMRecommender:
    world = make_tiny_world(300, (8, 8, 16), seed=3)
    template = PromptTemplate("Next:{% for item in history %}{{ item.code }}{% endfor %}")
    return LLMRecommender(world.model, NextItemTask(template, world.catalog, world.items, 8))


@pytest.fixture(scope="module")
def folder(recommender: LLMRecommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("made") / "model"
    recommender.save_pretrained(target)
    write_card(target, ANSWERS)
    return target


def run(hub: HubServer, home: Path, *words: object, token: str | None = None, **more: str) -> subprocess.Popen[str]:
    """The command line in a process of its own that finds the server by its environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "llmrec", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **hub.environment(home, token), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> Answer:
    out, err = process.communicate(timeout=120)
    return Answer(process.returncode, out, err)


def contents(folder: Path) -> dict[str, bytes]:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in files.items() if name != ".gitattributes"}


def hundred(recommender: Recommender) -> tuple[np.ndarray, np.ndarray]:
    found = recommender.recommend([np.arange(row, row + 4, dtype=np.int32) for row in range(10)], k=10)
    return found.rows, found.scores


def test_a_round_trip_gives_the_same_bytes_and_recommendations(
    hub: HubServer, cache: Path, folder: Path, recommender: LLMRecommender
) -> None:
    pushed = push_folder(folder, "alice/shop", token=TOKEN)
    assert pushed.url == f"{hub.url}/alice/shop"
    fetched = local_folder("alice/shop")
    assert contents(fetched) == contents(folder)
    assert (pushed.files, pushed.bytes) == (len(contents(folder)), sum(map(len, contents(folder).values())))
    assert fetched.name == pushed.commit
    for read in (Recommender.from_pretrained("alice/shop"), LLMRecommender.from_pretrained("alice/shop")):
        for found, expected in zip(hundred(read), hundred(recommender), strict=True):
            np.testing.assert_array_equal(found, expected)
    # The weights went in parts, the codes in one piece, both to the storage; the prompt went with the commit.
    ways = {request.path.split("/")[1] for request in hub.requests if request.method == "PUT"}
    assert ways == {"part", "object"}
    assert not any("prompt.jinja" in request.path for request in hub.requests if request.host == "storage")


def test_other_recommenders_push_themselves(hub: HubServer, cache: Path, recommender: LLMRecommender) -> None:
    items = recommender.catalog
    train = Interactions.from_columns(
        pa.array(["u", "u", "v"]), items.items.ids.take(pa.array([4, 5, 5])), np.arange(3, dtype=np.int64), items.items
    )
    popular = Popularity().fit(train, items)
    for name, one in {"popular": popular, "llm": recommender, "lists": AsLists(recommender)}.items():
        one.push_to_hub(f"alice/{name}", token=TOKEN, private=True, answers=ANSWERS)
        read = Recommender.from_pretrained(f"alice/{name}", token=TOKEN)
        expected = one.recommender if isinstance(one, AsLists) else one
        for found, wanted in zip(hundred(read), hundred(expected), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_the_command_line_pushes_and_recommends(
    hub: HubServer,
    cache: Path,
    folder: Path,
    tmp_path: Path,
    recommender: LLMRecommender,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("push", folder, "alice/shop", "--private", "--message", "The first")
    pushed = finished(run(hub, tmp_path / "alice", *words, "--json", token=TOKEN))
    assert pushed.status == 0, pushed.err
    commit = pushed.json["commit"]
    assert hub.repositories["alice/shop"].private
    assert hub.repositories["alice/shop"].messages[commit] == "The first"
    refused = finished(run(hub, tmp_path / "bob", *words, token=STRANGER))
    assert refused.status == 1
    assert "forbids this for alice/shop" in refused.err

    monkeypatch.setenv("HF_TOKEN", READER)
    asked = ["recommend", "alice/shop", "--revision", commit, "--history", "i1,i2", "--json"]
    assert cli.main(asked) == 0
    found = Answer(0, *capfd.readouterr())
    expected = recommender.recommend([np.asarray([1, 2], np.int32)], 10)
    assert [item["item_id"] for item in found.json["items"]] == [f"i{row}" for row in expected.rows[0]]
    for answer in (pushed, refused, found):
        assert not re.search("hf_[a-z]", answer.out + answer.err)


def test_plain_transformers_reads_the_repository(
    hub: HubServer, cache: Path, folder: Path, recommender: LLMRecommender
) -> None:
    push_folder(folder, "alice/shop", token=TOKEN)
    tokenizer = AutoTokenizer.from_pretrained("alice/shop")
    model = AutoModelForCausalLM.from_pretrained("alice/shop")
    code = recommender.task.items.encode([7])
    assert tokenizer(tokenizer.decode(code), add_special_tokens=False).input_ids == list(code)
    for name, weight in recommender.model.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), weight.numpy())
    assert model.generation_config.do_sample is not True


def test_a_killed_push_goes_on_where_it_stopped(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    large = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.safetensors")}
    large[folder / "catalog.parquet"] = hashlib.sha256((folder / "catalog.parquet").read_bytes()).hexdigest()
    weights = large.pop(folder / "model.safetensors")
    hub.hold = lambda oid: oid == weights
    pushing = run(hub, tmp_path, "push", folder, "alice/shop", token=TOKEN)
    assert hub.held.wait(60)
    until = time.monotonic() + 60
    while not set(large.values()) <= hub.objects.keys():
        assert time.monotonic() < until, "the other files never arrived"
        time.sleep(0.05)
    pushing.kill()
    pushing.communicate()
    hub.released.set()
    hub.hold = lambda oid: False
    while not any(request.path.startswith(f"/part/{weights}") for request in hub.requests):
        time.sleep(0.05)  # what was on its way is still counted to the first push
    repository = hub.repositories["alice/shop"]
    assert list(repository.commits[repository.branches["main"]]) == [".gitattributes"], "half a model can be seen"

    hub.requests.clear()
    answer = finished(run(hub, tmp_path, "push", folder, "alice/shop", token=TOKEN))
    assert answer.status == 0, answer.err
    assert hub.uploaded() == (folder / "model.safetensors").stat().st_size
    sent = {request.path.split("/")[2].split("?")[0] for request in hub.requests if request.host == "storage"}
    assert sent == {weights}
    files = repository.commits[repository.branches["main"]]
    assert {name: blob.content for name, blob in files.items() if name != ".gitattributes"} == contents(folder)

    hub.requests.clear()
    again = finished(run(hub, tmp_path, "push", folder, "alice/shop", "--json", token=TOKEN))
    assert hub.uploaded() == 0
    assert again.json["commit"] == repository.branches["main"], "nothing changed, so nothing is committed"


def test_a_broken_download_is_continued(
    hub: HubServer, cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 12)  # what came is kept in steps of this size
    push_folder(folder, "alice/shop", token=TOKEN)
    weights = hub.repositories["alice/shop"]
    blob = weights.commits[weights.branches["main"]]["model.safetensors"]
    hub.cut.add(blob.sha256)
    hub.requests.clear()
    assert contents(local_folder("alice/shop")) == contents(folder)
    parts = [request for request in hub.requests if f"/object/{blob.sha256}" in request.path]
    assert [request.status for request in parts] == [200, 206]
    assert sum(request.sent for request in parts) <= len(blob.content) + (1 << 12)


def test_a_revision_can_be_pinned(hub: HubServer, cache: Path, folder: Path, recommender: LLMRecommender) -> None:
    first = push_folder(folder, "alice/shop", token=TOKEN)
    HfApi(token=TOKEN).create_tag("alice/shop", tag="v1")
    changed = cache.parent / "changed"
    recommender.save_pretrained(changed)
    settings = json.loads((changed / "recommender.json").read_text())
    settings["settings"]["beams"] = 7
    (changed / "recommender.json").write_text(json.dumps(settings))
    second = push_folder(changed, "alice/shop", answers=ANSWERS, token=TOKEN)
    third = push_folder(folder, "alice/shop", branch="try/out", token=TOKEN)
    assert len({first.commit, second.commit, third.commit}) == 3
    beams = {
        revision: LLMRecommender.from_pretrained("alice/shop", revision=revision).decoding.beams
        for revision in (None, "main", "v1", first.commit, second.commit, "try/out")
    }
    assert beams == {None: 7, "main": 7, "v1": 20, first.commit: 20, second.commit: 7, "try/out": 20}
    with pytest.raises(ArtifactError, match=r"no revision 'v11'\. Did you mean 'v1'"):
        local_folder("alice/shop", "v11")


def test_offline_means_from_the_cache(
    hub: HubServer, cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_folder(folder, "alice/shop", private=True, token=TOKEN)
    fetched = local_folder("alice/shop", token=TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert local_folder("alice/shop") == fetched
    assert local_folder("alice/shop", revision=fetched.name) == fetched
    with pytest.raises(ArtifactError, match="'alice/other' is no folder here, and not in the Hub's cache"):
        local_folder("alice/other")
    with pytest.raises(ArtifactError, match="cannot be pushed to while HF_HUB_OFFLINE is set"):
        push_folder(folder, "alice/other")
    assert hub.requests == []


def test_a_private_repository_needs_the_right_token(hub: HubServer, cache: Path, folder: Path) -> None:
    push_folder(folder, "alice/secret", private=True, token=TOKEN)
    for token in (None, STRANGER, "hf_mistyped"):
        with pytest.raises(ArtifactError, match=r"shows no repository 'alice/secret'.* log in") as caught:
            local_folder("alice/secret", token=token)
        assert "hf_" not in str(caught.value)
    assert not list(cache.glob("models--*/snapshots/*/*"))
    assert contents(local_folder("alice/secret", token=READER)) == contents(folder)


def test_who_may_not_write_is_told(hub: HubServer, cache: Path, folder: Path) -> None:
    push_folder(folder, "alice/shop", token=TOKEN)
    with pytest.raises(ArtifactError, match="does not know who pushes"):
        push_folder(folder, "alice/shop")
    for token in (READER, STRANGER):
        with pytest.raises(ArtifactError, match=r"forbids this for alice/shop: .*write access to alice.* may write"):
            push_folder(folder, "alice/shop", token=token)
    with pytest.raises(ArtifactError, match="exists and is public"):
        push_folder(folder, "alice/shop", private=True, token=TOKEN)


def test_no_token_is_ever_said(
    hub: HubServer, cache: Path, folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even where the server repeats it, and a storage that needs none gets none."""
    caplog.set_level(logging.INFO)
    push_folder(folder, "alice/shop", token=TOKEN)
    local_folder("alice/shop", token=TOKEN)
    hub.refuse_uploads, hub.repeats_tokens = 403, True
    hub.objects.clear()
    with pytest.raises(ArtifactError, match="no more uploads") as uploading:
        push_folder(folder, "alice/another", token=TOKEN)
    with pytest.raises(ArtifactError, match=r"you sent Bearer \[token\]") as echoed:
        push_folder(folder, "alice/shop", token=STRANGER)
    for text in (str(uploading.value), str(echoed.value), caplog.text, "".join(capfd.readouterr())):
        assert not re.search("hf_(alice|bob)", text)
    assert {request.token for request in hub.requests if request.host == "storage"} == {None}
    assert {request.token for request in hub.requests if request.host == "hub"} >= {TOKEN}


def test_what_the_training_data_allow_must_be_said(hub: HubServer, cache: Path, folder: Path, tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    shutil.copytree(folder, silent)
    (silent / "README.md").unlink()
    asked = finished(run(hub, tmp_path, "push", silent, "alice/shop", token=TOKEN))
    assert asked.status == 1
    assert "what is the licence of its training data?" in asked.err
    assert "--data-license" in asked.err
    assert hub.requests == []
    told = ("--data-license", "cc-by-4.0", "--data-link", "https://example.org/terms")
    answered = finished(run(hub, tmp_path, "push", silent, "alice/shop", *told, token=TOKEN))
    assert answered.status == 0, answered.err
    card = ModelCard.load("alice/shop")
    assert card.data["training_data_license"] == "cc-by-4.0"
    assert "cc-by-4.0. See <https://example.org/terms>." in card.text
    with pytest.raises(ArtifactError, match=r'Invalid metadata in README\.md.*"license" must be one of'):
        push_folder(silent, "alice/shop", answers=CardRecipe(license="free"), token=TOKEN)


def test_stale_weights_are_removed_and_other_files_stay(hub: HubServer, cache: Path, folder: Path) -> None:
    api = HfApi(token=TOKEN)
    api.create_repo("alice/shop")
    for name in ("model-00001-of-00002.safetensors", "item_index/old.json", "picture.svg"):
        api.upload_file(path_or_fileobj=name.encode(), path_in_repo=name, repo_id="alice/shop")
    push_folder(folder, "alice/shop", token=TOKEN)
    assert set(api.list_repo_files("alice/shop")) == {*contents(folder), ".gitattributes", "picture.svg"}


def test_what_is_no_model_folder_is_not_pushed(hub: HubServer, cache: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no model folder: it has no recommender\.json"):
        push_folder(tmp_path, "alice/shop", token=TOKEN)
    with pytest.raises(ArtifactError, match=r"'shop' is no repository\. Name one as user/name, such as alice/model"):
        push_folder(folder, "shop", token=TOKEN)
    (tmp_path / "recommender.json").write_text("{}")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.bin").touch()
    with pytest.raises(ArtifactError, match=r"model\.bin may run code"):
        push_folder(tmp_path, "alice/shop", token=TOKEN)
    assert hub.requests == []


def test_pickles_are_not_fetched(hub: HubServer, cache: Path, folder: Path) -> None:
    push_folder(folder, "alice/shop", token=TOKEN)
    api = HfApi(token=TOKEN)
    api.upload_file(path_or_fileobj=b"\x80\x04.", path_in_repo="pytorch_model.bin", repo_id="alice/shop")
    assert contents(local_folder("alice/shop")) == contents(folder)


def test_a_folder_wins_over_a_repository_of_its_name(
    hub: HubServer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    assert local_folder("runs/demo") == Path("runs/demo")
    assert local_folder(tmp_path / "nowhere") == tmp_path / "nowhere"
    assert local_folder("nowhere") == Path("nowhere")
    with pytest.raises(ArtifactError, match="no repository of the Hub, so 'v1' is no revision"):
        local_folder("runs/demo", "v1")
    assert hub.requests == []
    with pytest.raises(ArtifactError, match=r"'runs/dem0' is no folder here, and the Hub at .* shows no repository"):
        local_folder("runs/dem0")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ArtifactError, match=r"'runs/dem0' is no folder here.*could not be reached"):
        local_folder("runs/dem0")
