"""A Hugging Face Hub on this machine: the endpoints that `huggingface_hub` asks for models, over real HTTP.

    with HubServer() as hub:
        hub.users["hf_secret"] = User("alice")
        subprocess.run([..., "llmrec", "push", "runs/demo", "alice/demo"], env={**os.environ, **hub.environment(cache)})

Written after the requests in the client's source (`hf_api.py`, `_commit_api.py`, `lfs.py`, `file_download.py`) and the
answers that it reads. As on the Hub, large files lie on another host, which is reached by signed addresses and must
never be sent a token. Xet, the newer protocol for large files, is turned off by `HF_HUB_DISABLE_XET`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import yaml

LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m bsd
bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0
cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m
deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1
lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail
openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
""".split()
"""https://huggingface.co/docs/hub/repositories-licenses"""

LARGE = ("*.safetensors", "*.parquet", "*.bin", "*.gguf", "*.onnx", "*.pt", "*.png")
LARGE_BYTES = 10 << 20
BLOCK = 1 << 16


TOKEN, READER, STRANGER = "hf_alicesecret", "hf_alicereads", "hf_bobsecret"


class User(NamedTuple):
    name: str
    may_write: bool = True


class Request(NamedTuple):
    """What came: `host` is "hub" or "storage", `token` what the Authorization header said."""

    host: str
    method: str
    path: str
    token: str | None
    received: int
    sent: int
    status: int


class Blob(NamedTuple):
    content: bytes
    is_large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_oid(self) -> str:
        """Of a large file it is that of its pointer."""
        text = self.content
        if self.is_large:
            size = len(text)
            text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {size}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.git_oid


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, Blob], message: str) -> str:
        """A new commit at the head of a branch."""
        text = repr((self.branches.get(branch), message, sorted((name, b.etag) for name, b in files.items())))
        oid = hashlib.sha1(f"{len(self.commits)} {text}".encode()).hexdigest()
        self.commits[oid], self.branches[branch], self.messages[oid] = files, oid, message
        return oid

    def find(self, revision: str) -> str | None:
        found = self.branches.get(revision) or self.tags.get(revision) or revision
        return found if found in self.commits else None


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, body: Any = None) -> None:
        self.status, self.message, self.code, self.body = status, message, code, body


class HubServer:
    """Repositories, users and large objects in memory.

    Args:
        part_bytes: larger objects are uploaded in parts of this size.
        page: entries on a page of a listing.
    """

    def __init__(self, part_bytes: int = 1 << 20, page: int = 4) -> None:
        self.part_bytes, self.page = part_bytes, page
        self.users: dict[str, User] = {}
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.requests: list[Request] = []
        self.lock = threading.RLock()
        # Levers for what goes wrong on the way.
        self.hold: Callable[[str], bool] = lambda oid: False
        """Whether the upload of an object stops in its middle, until `released`."""
        self.released, self.held = threading.Event(), threading.Event()
        self.cut: set[str] = set()
        """Objects whose next download ends in its middle."""
        self.refuse_uploads: int | None = None
        """A status for all uploads of large objects."""
        self.repeats_tokens = False
        """Errors say what the client sent."""
        self.hub = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, HubHandler))
        self.storage = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, StorageHandler))
        for server in (self.hub, self.storage):
            server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.hub.server_port}"

    @property
    def storage_url(self) -> str:
        return f"http://127.0.0.1:{self.storage.server_port}"

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """What a process needs to take this for the Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": token or "",
            "NO_PROXY": "127.0.0.1",
        }

    def uploaded(self) -> int:
        """Bytes of large objects that came, whether they were complete or not."""
        return sum(request.received for request in self.requests if request.host == "storage")

    def __enter__(self) -> Self:
        for server in (self.hub, self.storage):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        for server in (self.hub, self.storage):
            server.shutdown()
            server.server_close()


class Handler(BaseHTTPRequestHandler):
    """What both hosts share: bodies, answers and a record of all requests."""

    hub: HubServer
    host: str
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def answer(self) -> None:
        split = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(split.query).items()}
        self.place = [unquote(part) for part in split.path.strip("/").split("/")]
        self.received, self.sent, self.status, self.body_read = 0, 0, 0, False
        try:
            self.act()
        except Refusal as refusal:
            headers = {"X-Error-Message": refusal.message}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            for _ in self.blocks():
                pass
            self.reply(refusal.status, refusal.body or {"error": refusal.message}, headers)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        finally:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
            request = Request(self.host, self.command, self.path, token, self.received, self.sent, self.status)
            with self.hub.lock:
                self.hub.requests.append(request)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def act(self) -> None:
        raise NotImplementedError

    def blocks(self) -> Iterator[bytes]:
        """The body as it comes."""
        if self.body_read:
            return
        self.body_read = True
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self._block(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            block = self._block(min(left, BLOCK))
            left -= len(block)
            yield block

    def _block(self, size: int) -> bytes:
        block = self.rfile.read(size)
        self.received += len(block)
        if len(block) < size:
            raise ConnectionError("the client is gone")
        return block

    def json(self) -> Any:
        return json.loads(b"".join(self.blocks()) or b"{}")

    def reply(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        """JSON, or bytes as they are."""
        raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.status = status
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.sent += len(raw)
            self.wfile.write(raw)

    def reply_file(self, content: bytes, headers: dict[str, str]) -> None:
        """A file, or the range of it that is asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self.reply(200, content, headers)
            return
        start, end = int(asked[1]), int(asked[2] or len(content) - 1)
        ranged = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        self.reply(206, content[start : end + 1], {**headers, **ranged})


class HubHandler(Handler):
    """huggingface.co."""

    host = "hub"

    def act(self) -> None:
        route = next((r for r in ROUTES if r.matches(self.command, self.place)), None)
        if route is None:
            raise Refusal(404, f"this Hub has no {self.command} {self.path}")
        with self.hub.lock:
            route.function(self)

    def user(self) -> User | None:
        """Who asks.

        Raises:
            Refusal: the token is nobody's.
        """
        header = self.headers.get("Authorization")
        if header is None:
            return None
        user = self.hub.users.get(header.removeprefix("Bearer "))
        if user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return user

    def repository(self, name: str, write: bool = False) -> Repository:
        """A repository that the one who asks may use. One that may not be read looks as if it were not there."""
        user, found = self.user(), self.hub.repositories.get(name)
        if found is None or (found.private and (user is None or user.name != name.split("/")[0])):
            if user is None:
                raise Refusal(401, "Invalid username or password.")
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if write:
            self.check_may_write(user, name.split("/")[0])
        return found

    def check_may_write(self, user: User | None, namespace: str) -> None:
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        if not user.may_write or user.name != namespace:
            said = f" (you sent {self.headers['Authorization']})" if self.hub.repeats_tokens else ""
            raise Refusal(403, f"Forbidden: you need a token with write access to {namespace}{said}")

    def files(self, name: str, revision: str) -> tuple[str, dict[str, Blob]]:
        """The commit and the files of a revision."""
        found = self.repository(name)
        commit = found.find(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit, found.commits[commit]

    def whoami(self) -> None:
        user = self.user()
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        self.reply(200, {"type": "user", "name": user.name, "orgs": []})

    def create(self) -> None:
        asked, user = self.json(), self.user()
        namespace = asked.get("organization") or (user.name if user else "")
        self.check_may_write(user, namespace)
        name = f"{namespace}/{asked['name']}"
        if name in self.hub.repositories:
            raise Refusal(
                409, "You already created this model repo", body={"error": "exists", "url": f"{self.hub.url}/{name}"}
            )
        made = self.hub.repositories[name] = Repository(asked.get("visibility") == "private")
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE)
        made.commit("main", {".gitattributes": Blob(attributes.encode(), False)}, "initial commit")
        self.reply(200, {"url": f"{self.hub.url}/{name}", "name": name, "private": made.private})

    def validate_yaml(self) -> None:
        errors, warned = check_metadata(self.json()["content"])
        told = {"errors": [{"message": e} for e in errors], "warnings": [{"message": w} for w in warned]}
        if errors:
            raise Refusal(400, "Invalid metadata in README.md", body=told)
        self.reply(200, told)

    def info(self) -> None:
        name = "/".join(self.place[2:4])
        commit, files = self.files(name, self.place[5] if len(self.place) > 5 else "main")
        private = self.hub.repositories[name].private
        siblings = [{"rfilename": path} for path in files]
        self.reply(200, {"id": name, "sha": commit, "private": private, "siblings": siblings, "tags": []})

    def tree(self) -> None:
        _, files = self.files("/".join(self.place[2:4]), self.place[5])
        below = "/".join(self.place[6:])
        entries = [_entry(path, blob) for path, blob in sorted(files.items()) if path.startswith(below)]
        if below and not entries:
            raise Refusal(404, f"{below} does not exist", "EntryNotFound")
        start = int(self.query.get("cursor", 0))
        more = {}
        if start + self.hub.page < len(entries):
            query = urlencode({**self.query, "cursor": start + self.hub.page})
            more = {"Link": f'<{self.hub.url}{urlsplit(self.path).path}?{query}>; rel="next"'}
        self.reply(200, entries[start : start + self.hub.page], more)

    def refs(self) -> None:
        found = self.repository("/".join(self.place[2:4]))
        kinds = {"branches": ("heads", found.branches), "tags": ("tags", found.tags)}
        listed = {
            kind: [{"name": n, "ref": f"refs/{ref}/{n}", "targetCommit": oid} for n, oid in names.items()]
            for kind, (ref, names) in kinds.items()
        }
        self.reply(200, {**listed, "converts": []})

    def branch(self) -> None:
        found, name = self.repository("/".join(self.place[2:4]), write=True), self.place[5]
        if name in found.branches:
            raise Refusal(409, f"branch {name} exists")
        start = found.find(self.json().get("startingPoint", "main"))
        if start is None:
            raise Refusal(404, "Invalid rev id", "RevisionNotFound")
        found.branches[name] = start
        self.reply(200)

    def tag(self) -> None:
        found = self.repository("/".join(self.place[2:4]), write=True)
        commit = found.find(self.place[5])
        if commit is None:
            raise Refusal(404, "Invalid rev id", "RevisionNotFound")
        found.tags[self.json()["tag"]] = commit
        self.reply(200)

    def preupload(self) -> None:
        """How each file is to be sent, and what is there under its name."""
        name = "/".join(self.place[2:4])
        self.repository(name, write=True)
        _, files = self.files(name, self.place[5])
        answers = []
        for asked in self.json()["files"]:
            path, there = asked["path"], files.get(asked["path"])
            is_large = asked["size"] > LARGE_BYTES or any(fnmatch(path, pattern) for pattern in LARGE)
            mode = {"uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
            answers.append({"path": path, **mode, "oid": None if there is None else there.etag})
        self.reply(200, {"files": answers})

    def lfs_batch(self) -> None:
        """Where to send large objects; those that are there already need no action."""
        self.repository(f"{self.place[0]}/{self.place[1].removesuffix('.git')}", write=True)
        objects = []
        for asked in self.json()["objects"]:
            oid, size = asked["oid"], asked["size"]
            if oid in self.hub.objects:
                objects.append({"oid": oid, "size": size})
                continue
            verify = {"href": f"{self.hub.url}/api/lfs/verify", "header": {}}
            if size > self.hub.part_bytes:
                count = -(-size // self.hub.part_bytes)
                urls = {str(n): f"{self.hub.storage_url}/part/{oid}/{n}?signature=s" for n in range(1, count + 1)}
                href = f"{self.hub.url}/api/lfs/complete/{oid}?signature=s"
                header: dict[str, str] = {"chunk_size": str(self.hub.part_bytes), **urls}
            else:
                href, header = f"{self.hub.storage_url}/object/{oid}?signature=s", {}
            actions = {"upload": {"href": href, "header": header}, "verify": verify}
            objects.append({"oid": oid, "size": size, "actions": actions})
        self.reply(200, {"transfer": "multipart", "objects": objects})

    def lfs_complete(self) -> None:
        oid = self.place[3]
        parts = [self.hub.parts[oid, part["partNumber"]] for part in self.json()["parts"]]
        _keep(self.hub, oid, b"".join(parts))
        self.reply(200)

    def lfs_verify(self) -> None:
        asked = self.json()
        if len(self.hub.objects.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(404, "the object did not arrive whole")
        self.reply(200)

    def commit(self) -> None:
        name = "/".join(self.place[2:4])
        found = self.repository(name, write=True)
        _, files = self.files(name, self.place[5])
        lines = [json.loads(line) for line in b"".join(self.blocks()).splitlines()]
        changed = dict(files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                changed[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise Refusal(400, f"{value['path']}: its object was never uploaded")
                changed[value["path"]] = Blob(self.hub.objects[value["oid"]], True)
            elif line["key"] == "deletedFile":
                del changed[value["path"]]
        oid = found.commit(self.place[5], changed, lines[0]["value"]["summary"])
        self.reply(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def resolve(self) -> None:
        """A file, or for a large one the way to it."""
        commit, files = self.files("/".join(self.place[:2]), self.place[3])
        path = "/".join(self.place[4:])
        if path not in files:
            raise Refusal(404, "Entry not found", "EntryNotFound", body=None)
        blob = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.etag}"'}
        if not blob.is_large:
            self.reply_file(blob.content, headers)
            return
        linked = {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.content))}
        location = {"Location": f"{self.hub.storage_url}/object/{blob.sha256}?signature=s&name={quote(path)}"}
        self.reply(302, b"", {**headers, **linked, **location})


class StorageHandler(Handler):
    """Where large objects lie; who knows a signed address may use it."""

    host = "storage"

    def act(self) -> None:
        if self.query.get("signature") != "s":
            raise Refusal(403, "the address is not signed")
        kind, oid, *rest = self.place
        if self.command == "PUT":
            self.upload(oid, int(rest[0]) if kind == "part" else None)
        else:
            self.download(oid)

    def upload(self, oid: str, part: int | None) -> None:
        if self.hub.refuse_uploads is not None:
            raise Refusal(self.hub.refuse_uploads, "no more uploads today")
        blocks = []
        for block in self.blocks():
            blocks.append(block)
            if self.hub.hold(oid) and not self.hub.released.is_set():
                self.hub.held.set()
                self.hub.released.wait()
        content = b"".join(blocks)
        with self.hub.lock:
            if part is None:
                _keep(self.hub, oid, content)
            else:
                self.hub.parts[oid, part] = content
        self.reply(200, b"", {"ETag": f'"{hashlib.md5(content).hexdigest()}"'})

    def download(self, oid: str) -> None:
        content = self.hub.objects[oid]
        if oid in self.hub.cut and self.command == "GET":
            self.hub.cut.discard(oid)
            self.status, half = 200, content[: len(content) // 2]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(half)
            self.sent += len(half)
            self.close_connection = True
            return
        self.reply_file(content, {"ETag": f'"{oid}"'})


class Route(NamedTuple):
    """A path with `*` for one part and `**` for any number of them."""

    method: str
    pattern: tuple[str, ...]
    function: Callable[[HubHandler], None]

    def matches(self, method: str, place: list[str]) -> bool:
        if method != self.method and (method, self.method) != ("HEAD", "GET"):
            return False
        if self.pattern[-1:] == ("**",):
            fixed = self.pattern[:-1]
            return len(place) >= len(fixed) and all(map(fnmatch, place, fixed))
        return len(place) == len(self.pattern) and all(map(fnmatch, place, self.pattern))


def _route(method: str, path: str, function: Callable[[HubHandler], None]) -> Route:
    return Route(method, tuple(path.split("/")), function)


ROUTES = [
    _route("GET", "api/whoami-v2", HubHandler.whoami),
    _route("POST", "api/repos/create", HubHandler.create),
    _route("POST", "api/validate-yaml", HubHandler.validate_yaml),
    _route("POST", "api/lfs/complete/*", HubHandler.lfs_complete),
    _route("POST", "api/lfs/verify", HubHandler.lfs_verify),
    _route("GET", "api/models/*/*", HubHandler.info),
    _route("GET", "api/models/*/*/revision/*", HubHandler.info),
    _route("GET", "api/models/*/*/refs", HubHandler.refs),
    _route("GET", "api/models/*/*/tree/*/**", HubHandler.tree),
    _route("POST", "api/models/*/*/preupload/*", HubHandler.preupload),
    _route("POST", "api/models/*/*/commit/*", HubHandler.commit),
    _route("POST", "api/models/*/*/branch/*", HubHandler.branch),
    _route("POST", "api/models/*/*/tag/*", HubHandler.tag),
    _route("POST", "*/*.git/info/lfs/objects/batch", HubHandler.lfs_batch),
    _route("GET", "*/*/resolve/*/**", HubHandler.resolve),
]


def check_metadata(card: str) -> tuple[list[str], list[str]]:
    """Errors and warnings of a model card's metadata, by the Hub's published rules (`modelcard.md` of its docs).

    Checked are the licence's identifier, ids of models and data sets, and the evaluation results, whose required fields
    must be there and of their kind.
    """
    head = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    if head is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        found = yaml.safe_load(head[1])
    except yaml.YAMLError as error:
        return [f"YAML: {error}"], []
    if not isinstance(found, dict):
        return ["the metadata are no mapping"], []
    errors = []

    def check(right: bool, name: str, wanted: str) -> bool:
        if not right:
            errors.append(f'"{name}" must be {wanted}')
        return right

    if "license" in found:
        check(found["license"] in LICENSES, "license", f"one of {', '.join(LICENSES)}")
    for name in ("library_name", "pipeline_tag", "license_name", "license_link"):
        check(isinstance(found.get(name, ""), str), name, "a string")
    for name, pattern in {
        "base_model": r"([\w.-]+/)?[\w.-]+",
        "datasets": r"([\w.-]+/)?[\w.-]+",
        "language": r"[a-z]{2,3}",
        "tags": r".+",
    }.items():
        values = found.get(name, [])
        values = values if isinstance(values, list) else [values]
        check(all(isinstance(v, str) and re.fullmatch(pattern, v) for v in values), name, f"of the form {pattern}")
    index = found.get("model-index", [])
    if not check(isinstance(index, list) and all(isinstance(model, dict) for model in index), "model-index", "a list"):
        return errors, []
    required = {"task": ("type",), "dataset": ("type", "name")}
    for place, model in enumerate(index):
        where = f"model-index[{place}]"
        check(isinstance(model.get("name"), str), f"{where}.name", "a string")
        results = model.get("results")
        if not check(isinstance(results, list) and bool(results), f"{where}.results", "a list that is not empty"):
            continue
        for number, result in enumerate(results):
            at = f"{where}.results[{number}]"
            for part, keys in required.items():
                for key in keys:
                    check(isinstance((result.get(part) or {}).get(key), str), f"{at}.{part}.{key}", "a string")
            metrics = result.get("metrics")
            check(isinstance(metrics, list) and bool(metrics), f"{at}.metrics", "a list that is not empty")
            for metric in metrics or []:
                check(isinstance(metric.get("type"), str), f"{at}.metrics.type", "a string")
                check(metric.get("value") is not None, f"{at}.metrics.value", "given")
    return errors, []


def _handler(hub: HubServer, kind: type[Handler]) -> type[Handler]:
    return type(kind.__name__, (kind,), {"hub": hub})


def _keep(hub: HubServer, oid: str, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != oid:
        raise Refusal(400, "the object is not what its name says")
    hub.objects[oid] = content


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.git_oid}
    if blob.is_large:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 134}
    return entry
