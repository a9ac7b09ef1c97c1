"""Publishing to the Hub: `huggingface_hub` itself, and a server on loopback that speaks its API.

The server knows what is documented and what the library asks for: repositories, preupload, Git
LFS's batches, commits, the tree, files by range. It keeps a list of what was sent to it.
"""

import base64
import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from pipelines.publish.upload import target_of

GOOD, READER = "hf_good_for_tests", "hf_reader_for_tests"
REPO = "somebody/corpus"


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(ThreadingHTTPServer):
    """Repositories of data sets, in memory."""

    daemon_threads = True

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}  # name -> path -> content
        self.lfs: dict[str, bytes] = {}  # by SHA-256
        self.tracked: set[tuple[str, str]] = set()  # (name, path) of files in LFS
        self.sent: Counter = Counter()  # uploads by SHA-256
        self.commits: list[list[str]] = []
        self.before = lambda method, path: None  # may hold a request back, or answer (status, text)
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = "http://{}:{}".format(*self.server_address)

    def about(self, repo: str, path: str) -> dict:
        data = self.repos[repo][path]
        found = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
        if (repo, path) in self.tracked:
            oid = hashlib.sha256(data).hexdigest()
            found["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
            found["oid"] = hashlib.sha1(oid.encode()).hexdigest()
        return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status: int, content=None, headers: dict | None = None, data: bytes = b""):
        if content is not None:
            data = json.dumps(content).encode()
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str, why: str):
        self.reply(status, {"error": why}, {"X-Error-Code": code, "X-Error-Message": why})

    def answer(self):
        hub, path = self.server, unquote(urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(length)
        meddled = hub.before(self.command, path)
        if meddled:
            return self.refuse(meddled[0], "", meddled[1])
        if path.startswith("/lfs/"):
            oid = path.removeprefix("/lfs/")
            hub.sent[oid] += 1
            hub.lfs[oid] = body
            return self.reply(200)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in (GOOD, READER):
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        writes = "/commit/" in path or "/preupload/" in path or path == "/api/repos/create"
        if writes and token != GOOD:
            return self.refuse(403, "", "You don't have the rights to write here")
        if path == "/api/whoami-v2":
            return self.reply(200, {"name": "somebody", "type": "user"})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            hub.repos.setdefault(name, {".gitattributes": b"*.parquet filter=lfs\n"})
            return self.reply(200, {"url": f"{hub.url}/datasets/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        repo = next((r for r in hub.repos if f"/datasets/{r}" in path), None)
        if repo is None:
            return self.refuse(404, "RepoNotFound", "Repository not found")
        files = hub.repos[repo]
        action, _, rest = path.partition(f"/datasets/{repo}")[2].strip("/").partition("/")
        if action == "tree":
            below = rest.partition("/")[2]
            inside = [p for p in sorted(files) if p.startswith(below and f"{below}/")]
            if "recursive" not in self.path or "recursive=False" in self.path:
                inside = [p for p in inside if "/" not in p[len(below) :].strip("/")]
            folders = {p.rpartition("/")[0] for p in files if "/" in p}
            folders |= {f.rpartition("/")[0] for f in folders if "/" in f}
            wanted = [f for f in sorted(folders) if f.rpartition("/")[0] == below]
            entries = [{"type": "directory", "path": f, "size": 0, "oid": "0" * 40} for f in wanted]
            return self.reply(200, entries + [hub.about(repo, p) for p in inside])
        if action == "paths-info":
            asked = parse_qs(body.decode()).get("paths") or json.loads(body)["paths"]
            found = [hub.about(repo, p) for p in asked if p in files]
            known = {p.rpartition("/")[0] for p in files} | {"data"}
            found += [
                {"type": "directory", "path": p, "size": 0, "oid": "0" * 40}
                for p in asked
                if p in known and p
            ]
            return self.reply(200, found)
        if action == "preupload":
            return self.reply(
                200,
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["path"].endswith("parquet") else "regular",
                            "shouldIgnore": False,
                            "oid": hub.about(repo, file["path"])["oid"]
                            if file["path"] in files
                            else None,
                        }
                        for file in json.loads(body)["files"]
                    ]
                },
            )
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = []
            for asked in json.loads(body)["objects"]:
                there = asked["oid"] in hub.lfs
                href = {"upload": {"href": f"{hub.url}/lfs/{asked['oid']}"}}
                objects.append(asked | ({} if there else {"actions": href}))
            return self.reply(200, {"transfer": "basic", "objects": objects})
        if action == "commit":
            return self.commit(repo, [json.loads(line) for line in body.splitlines()])
        if action == "resolve":
            return self.resolve(repo, rest.partition("/")[2])
        if action in ("", "revision"):
            info = {"id": repo, "sha": "a" * 40, "private": False, "tags": [], "downloads": 0}
            info |= {"likes": 0, "siblings": [{"rfilename": name} for name in sorted(files)]}
            return self.reply(200, info)
        return self.refuse(404, "EntryNotFound", f"no {path}")

    def commit(self, repo: str, lines: list[dict]):
        hub, paths = self.server, []
        for line in lines[1:]:
            value = line["value"]
            path = value["path"]
            paths.append(path if line["key"] != "deletedFile" else f"-{path}")
            if line["key"] == "file":
                hub.repos[repo][path] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in hub.lfs:
                    return self.refuse(400, "", f"LFS pointer to nothing: {path}")
                hub.repos[repo][path] = hub.lfs[value["oid"]]
                hub.tracked.add((repo, path))
            else:
                del hub.repos[repo][path]
        hub.commits.append(paths)
        url = f"{hub.url}/datasets/{repo}/commit/{'b' * 40}"
        return self.reply(200, {"commitUrl": url, "commitOid": "b" * 40})

    def resolve(self, repo: str, path: str):
        if path not in self.server.repos[repo]:
            return self.refuse(404, "EntryNotFound", f"no {path}")
        data = self.server.repos[repo][path]
        headers = {
            "ETag": f'"{git_oid(data)}"',
            "X-Repo-Commit": "a" * 40,
            "Accept-Ranges": "bytes",
        }
        wanted = self.headers.get("Range")
        if self.command == "HEAD" or not wanted:
            return self.reply(200, data=data, headers=headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        end = min(int(last) + 1 if last else len(data), len(data))
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
        return self.reply(206, data=data[int(first) : end], headers=headers)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    running = Hub()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def environment(hub, tmp_path) -> dict:
    """What a process needs to take the server for the Hub."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",  # for the stub on loopback, and nothing else
        "HF_TOKEN": GOOD,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def content(root) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def there(hub) -> dict[str, bytes]:
    return {path: data for path, data in hub.repos[REPO].items() if path != ".gitattributes"}


TO = f"hf://datasets/{REPO}"


@pytest.mark.slow
def test_everything_arrives_in_commits_and_nothing_twice(phases, made, hub, environment, gristmill):
    code, out = gristmill("publish", phases.root, "--to", TO, **environment)
    assert code == 0 and f"{TO}: {len(content(phases.root))} files sent" in out, out
    assert there(hub) == content(phases.root)
    assert set(hub.commits[-1]) == {"README.md", "croissant.json", "manifest.json"}
    assert all(len(paths) <= 50 for paths in hub.commits) and len(hub.commits) == 2
    assert set(hub.sent.values()) == {1}

    commits = len(hub.commits)
    code, out = gristmill("publish", phases.root, "--to", TO, **environment)
    assert code == 0 and "0 files sent" in out and GOOD not in out
    assert len(hub.commits) == commits and set(hub.sent.values()) == {1}

    # Another version takes its place: files that only the first had are deleted.
    code, out = gristmill("publish", made.root, "--to", TO, **environment)
    assert code == 0 and "deleted" in out
    assert there(hub) == content(made.root)


@pytest.mark.slow
def test_a_publisher_that_was_killed_goes_on_with_the_file_it_was_at(
    phases, hub, environment, start, gristmill
):
    reached, killed = threading.Event(), threading.Event()

    def stop(method, path):
        if method == "PUT" and len(hub.sent) == 4 and not killed.is_set():
            reached.set()
            killed.wait(60)
            raise ConnectionError  # nobody is there to hear of it
        return None

    hub.before = stop
    process = start("publish", phases.root, "--to", TO, "--threads", "1", **environment)
    assert reached.wait(60), process.communicate()
    process.kill()
    process.communicate()
    killed.set()
    assert not hub.commits and len(hub.sent) == 4
    code, out = gristmill("publish", phases.root, "--to", TO, **environment)
    assert code == 0, out
    assert there(hub) == content(phases.root) and set(hub.sent.values()) == {1}


@pytest.mark.slow
def test_a_hub_that_is_busy_is_asked_again_and_one_that_has_other_bytes_is_named(
    made, hub, environment, gristmill
):
    busy = iter([(503, "busy"), (412, "A commit has happened since")])
    hub.before = lambda method, path: next(busy, None) if "/commit/" in path else None
    code, out = gristmill("publish", made.root, "--to", TO, **environment)
    assert code == 0 and there(hub) == content(made.root), out
    # A far side that keeps something else than it was sent.
    victim = "data/text/train-00000-of-00001.parquet"
    del hub.repos[REPO][victim]
    oid = hashlib.sha256((made.root / victim).read_bytes()).hexdigest()
    hub.lfs[oid] = bytes(len(hub.lfs[oid]))
    code, out = gristmill("publish", made.root, "--to", TO, **environment)
    assert code == 1 and out.startswith(f"error: {TO}/{victim}: the Hub has") and oid in out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"HF_TOKEN": ""}, "no token; set HF_TOKEN"),
        ({"HF_TOKEN": "hf_wrong_for_tests"}, "the token is not accepted"),
        ({"HF_TOKEN": READER}, "no permission; the token must be allowed to write"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "refused"),
    ],
)
def test_what_a_user_can_mend_is_one_line(made, environment, gristmill, changes, said):
    # A process of its own: the Hub's library reads its settings once, when it is imported.
    code, line = gristmill("publish", made.root, "--to", TO, **environment | changes)
    assert code == 1 and line.startswith(f"error: {TO}: ") and said in line
    assert line.count("\n") == 1
    assert not any(token in line for token in (GOOD, READER, "hf_wrong_for_tests"))


@pytest.mark.parametrize(
    "address", ["hf://somebody/model", "hf://datasets/corpus", "hf://datasets/a/b/c"]
)
def test_an_address_that_names_no_data_set_is_said(address):
    with pytest.raises(ValueError, match="expected hf://datasets/OWNER/NAME"):
        target_of(address)


@pytest.mark.slow
def test_what_was_published_is_a_source_again(made, hub, environment, gristmill, tmp_path):
    code, out = gristmill("publish", made.root, "--to", TO, **environment)
    assert code == 0, out
    source = {"path": f"{TO}/data/text", "name": "again", "domain": "web"}
    recipe = {"name": "r", "workers": 1, "sources": [source], "out": str(tmp_path / "run")}
    recipe["curate"] = {"steps": [{"length": {"min_chars": 1}}], "dedup": None}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    code, out = gristmill("curate", tmp_path / "r.yaml", **environment)
    assert code == 0 and f"{len(made.documents)} of {len(made.documents)} documents kept" in out, (
        out
    )
