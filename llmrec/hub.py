"""Model folders on the Hugging Face Hub: fetched by name wherever a folder is taken, pushed in one commit.

    llmrec push runs/demo alice/demo --private
    llmrec recommend alice/demo --revision v1 --history 50,172,181

All the talking is done by `huggingface_hub`: its cache, its tokens (`hf auth login` or HF_TOKEN), its offline mode
(HF_HUB_OFFLINE=1). What is here says which files go, and turns its errors into what to do.
"""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import llmrec
from llmrec import artifact
from llmrec.card import answers_of, write_card
from llmrec.errors import ArtifactError, did_you_mean
from llmrec.recipe import CardRecipe

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""A repository: `user/name`."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt")
"""Neither pushed nor fetched: reading one runs what is in it."""

OURS = ("*.safetensors", "*.safetensors.index.json", f"{artifact.ITEM_INDEX}/*", f"{artifact.ITEM_HEAD}/*")
"""Files of an earlier push that the folder no longer has are removed where they look like this; others stay."""

SECRET = re.compile(r"\bhf_[A-Za-z0-9]{8,}|(?<=Bearer )\S+")


Doing = Literal["fetch", "push"]


class Pushed(NamedTuple):
    """Where a folder is now.

    Args:
        repository: `user/name`. url: its page. commit: what to pin (`revision=`).
        files, bytes: of the folder, whether they had to be sent or were there.
    """

    repository: str
    url: str
    commit: str
    files: int
    bytes: int


def local_folder(name: str | Path, revision: str | None = None, token: str | bool | None = None) -> Path:
    """The folder of a model: one that exists wins, any other `user/name` is fetched from the Hub into its cache.

    Args:
        name: a folder, or a repository.
        revision: of a repository: a branch, a tag or a commit; the head of `main` when None.
        token: for private repositories; what `hf auth login` or HF_TOKEN left when None.

    Returns:
        The folder. Without network, or with HF_HUB_OFFLINE=1, it is what the cache has of that revision. A path that is
        neither there nor a repository's name comes back as it is, for its reader to complain of.

    Raises:
        ArtifactError: the repository or the revision is not there, or may not be read; or a revision of a folder is
            asked for.
    """
    folder = Path(name)
    if folder.exists() or not NAME.fullmatch(str(name)):
        if revision is not None:
            raise ArtifactError(f"{name} is no repository of the Hub, so '{revision}' is no revision of it.")
        return folder

    with _explained("fetch", str(name), revision, token):
        fetched = _api(token).snapshot_download(str(name), revision=revision, ignore_patterns=list(PICKLES))
    logger.info("%s: commit %s", name, Path(fetched).name)
    return Path(fetched)


def push_folder(
    folder: str | Path,
    repository: str,
    *,
    private: bool = False,
    branch: str | None = None,
    message: str | None = None,
    answers: CardRecipe | None = None,
    token: str | bool | None = None,
) -> Pushed:
    """Upload a model folder. The repository changes in one commit, so nobody ever fetches half of it.

    A push that was interrupted is continued by the same call: large files that arrived are not sent again.

    Args:
        folder: a folder that `save_pretrained` or `llmrec run` wrote.
        repository: `user/name`; made where it does not exist.
        private: make it so that only you can read it. One that exists and is public is refused then.
        branch: where to commit; made where it does not exist. `main` when None.
        message: of the commit. token: as for `local_folder`; it must be allowed to write.
        answers: for the model card, which is written anew with them. Without any it goes as it is.

    Raises:
        ArtifactError: it is no model folder, its card does not state the licence of the training data, or the Hub does
            not take it.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    folder = Path(folder)
    if not NAME.fullmatch(repository):
        raise ArtifactError(f"'{repository}' is no repository. Name one as user/name, such as alice/{folder.name}.")
    files = _files(folder, answers)
    api = _api(token)
    with _explained("push", repository, branch, token):
        api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise ArtifactError(f"{repository} exists and is public. Make it private in its settings, or name another.")
        if branch is not None and not branch.startswith("refs/"):
            api.create_branch(repository, branch=branch, exist_ok=True)
        there = api.list_repo_files(repository, revision=branch)
        gone = [name for name in there if name not in files and any(fnmatch(name, ours) for ours in OURS)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")  # the catalog
            commit = api.create_commit(
                repository,
                [
                    *(CommitOperationAdd(name, path) for name, path in files.items()),
                    *(CommitOperationDelete(name) for name in gone),
                ],
                commit_message=message or f"A recommender by llmrec {llmrec.__version__}",
                revision=branch,
            )
    size = sum(path.stat().st_size for path in files.values())
    return Pushed(repository, f"{api.endpoint}/{repository}", commit.oid, len(files), size)


def push_saved(
    save: Callable[[Path], None],
    repository: str,
    *,
    private: bool = False,
    branch: str | None = None,
    message: str | None = None,
    answers: CardRecipe | None = None,
    token: str | bool | None = None,
) -> Pushed:
    """`push_folder` of what `save` writes into the folder that it is given."""
    with tempfile.TemporaryDirectory(prefix="llmrec-push-") as temporary:
        folder = Path(temporary) / repository.rpartition("/")[2]
        save(folder)
        return push_folder(
            folder, repository, private=private, branch=branch, message=message, answers=answers, token=token
        )


def _files(folder: Path, answers: CardRecipe | None) -> dict[str, Path]:
    """What is uploaded, by its name in the repository; hidden files and byte code stay at home.

    Raises:
        ArtifactError: it is no model folder, holds a pickle, or nobody has said what its training data allow.
    """
    if not (folder / artifact.RECOMMENDER).is_file():
        raise ArtifactError(f"{folder} is no model folder: it has no {artifact.RECOMMENDER}. Give one of 'llmrec run'.")
    for name in _visible(folder):
        if any(fnmatch(name, pickle) for pickle in PICKLES):
            raise ArtifactError(f"{folder / name} may run code when it is read, so it is not pushed. Move it away.")
    if answers is not None or not (folder / artifact.CARD).is_file():
        write_card(folder, answers)
    if not answers_of(folder).data_license:
        raise ArtifactError(
            f"{folder}: what is the licence of its training data? A model whose card does not say is not pushed. "
            "Answer with --data-license (an identifier such as cc-by-4.0, or words), in the recipe with 'card: "
            "{data_license: ...}', or in Python with answers=CardRecipe(data_license=...)."
        )
    return _visible(folder)


def _visible(folder: Path) -> dict[str, Path]:
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        place.as_posix(): path
        for place, path in found.items()
        if not any(part.startswith((".", "__")) for part in place.parts)
    }


def _api(token: str | bool | None) -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(token=token, library_name="llmrec", library_version=llmrec.__version__)


@contextmanager
def _explained(doing: Doing, repository: str, revision: str | None, token: str | bool | None) -> Iterator[None]:
    """Errors of the Hub and of the way to it as `ArtifactError`, without any token in them."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError:
        known = _revisions(repository, token)
        told = f"{repository} has no revision '{revision}'. {did_you_mean(str(revision), known) if known else ''}"
        raise ArtifactError(told.rstrip()) from None
    except (
        errors.HfHubHTTPError,
        errors.HFValidationError,
        errors.LocalTokenNotFoundError,
        httpx2.HTTPError,
        OSError,  # LocalEntryNotFoundError, OfflineModeIsEnabled, a full disk
        RuntimeError,  # what an upload makes of the error of one file
        ValueError,  # what the Hub finds wrong in a model card
    ) as error:
        raise ArtifactError(_clean(_explain(error, doing, repository), token)) from None


def _explain(error: Exception, doing: Doing, repository: str) -> str:
    """What happened and what to do."""
    import httpx2
    from huggingface_hub import constants, errors

    cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
    here = f"'{repository}' is no folder here, and " if doing == "fetch" else ""
    if constants.is_offline_mode():
        if here:
            return f"{here}not in the Hub's cache, and HF_HUB_OFFLINE is set. Fetch it once without that."
        return f"{repository} cannot be pushed to while HF_HUB_OFFLINE is set."
    if isinstance(cause, errors.HfHubHTTPError):
        status = cause.response.status_code
        if isinstance(cause, errors.GatedRepoError):
            return f"{repository} is gated. Ask for access on its page, then log in: hf auth login"
        if status == 401 and doing == "push":
            return "The Hub does not know who pushes. Log in with a token that may write: hf auth login, or HF_TOKEN."
        if status in (401, 404):
            return (
                f"{here}the Hub at {constants.ENDPOINT} shows no repository '{repository}'. Check its spelling; if it "
                "is private, log in with a token that may read it: hf auth login, or HF_TOKEN."
            )
        if status == 403:
            return (
                f"The Hub forbids this for {repository}: {_first_line(cause)}. Give a token that may "
                f"{'read' if here else 'write'} there: hf auth login, or HF_TOKEN."
            )
    if isinstance(cause, errors.LocalEntryNotFoundError | httpx2.HTTPError):
        return (
            f"{here}the Hub at {constants.ENDPOINT} could not be reached or broke off ({_first_line(cause)}). The same "
            "command again goes on with what is missing."
        )
    return f"{repository}: {_first_line(cause)}"


def _revisions(repository: str, token: str | bool | None) -> list[str]:
    """The branches and tags that there are; none where the Hub does not say."""
    import httpx2
    from huggingface_hub import errors

    try:
        refs = _api(token).list_repo_refs(repository)
    except (errors.HfHubHTTPError, httpx2.HTTPError, OSError):
        return []
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}" if lines else type(error).__name__


def _clean(text: str, token: str | bool | None) -> str:
    """A text in which no token is left, wherever it came from."""
    from huggingface_hub import get_token

    for secret in (token, get_token()):
        if isinstance(secret, str) and secret:
            text = text.replace(secret, "[token]")
    return SECRET.sub("[token]", text)
