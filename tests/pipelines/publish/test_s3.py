"""Publishing to S3, on a real server on loopback; what is sent is seen by a proxy before it."""

import http.client
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from pipelines.publish.manifest import entry, write_manifest
from pipelines.publish.s3 import PART
from pipelines.publish.upload import UploadError, target_of, upload

SECRET = "very-secret-for-tests"


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the server and keeps a list of them; `meddle` may change them.

    meddle: given (method, path, query, body), returns the body to send on, or (status, text) to
    answer with.
    """

    daemon_threads = True

    def __init__(self, behind: tuple[str, int]):
        self.behind, self.seen = behind, []
        self.meddle = lambda method, path, query, body: body
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = "http://{}:{}".format(*self.server_address)

    def sent(self) -> list[tuple[str, str]]:
        """What was uploaded: keys, and `key part` for parts, since the last time."""
        found = []
        for method, path, query in self.seen:
            if method == "PUT":
                key = path.partition("/")[2].partition("/")[2]
                found.append(f"{key} {query['partNumber'][0]}" if "partNumber" in query else key)
        self.seen.clear()
        return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = self.server.meddle(self.command, parts.path, query, body)
        if isinstance(body, tuple):
            status, content, headers = body[0], body[1].encode(), [("Content-Type", "text/xml")]
        else:
            link = http.client.HTTPConnection(*self.server.behind, timeout=60)
            dropped = ("host", "expect", "content-length")
            fields = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
            link.request(self.command, self.path, body, fields)
            answer = link.getresponse()
            status, content, headers = answer.status, answer.read(), answer.getheaders()
            link.close()
        self.server.seen.append((self.command, parts.path, query))
        self.send_response_only(status)
        length = [v for k, v in headers if k.lower() == "content-length"]
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        head = self.command == "HEAD" and length
        self.send_header("Content-Length", length[0] if head else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, http.client.HTTPException):
            self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    """An S3 server on loopback, and a client of it."""
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "access-for-tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        running.start()
        place = running.get_host_and_port()
        client = boto3.client("s3", endpoint_url="http://{}:{}".format(*place))
        yield place, client
        running.stop()


@pytest.fixture
def store(server, request, monkeypatch):
    """An empty bucket of the test's own: (its address, a client, the proxy before it)."""
    place, client = server
    bucket = "b" + sha256(request.node.name.encode()).hexdigest()[:40]
    client.create_bucket(Bucket=bucket)
    proxy = Proxy(place)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield f"s3://{bucket}", client, proxy
    proxy.shutdown()
    proxy.server_close()


def objects(client, address: str) -> dict[str, bytes]:
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())
    return {
        item["Key"].removeprefix(f"{prefix}/" if prefix else ""): client.get_object(
            Bucket=bucket, Key=item["Key"]
        )["Body"].read()
        for item in listed
    }


def content(root) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def large(root, parts: float = 3.5, seed: int = 0):
    """A published directory with a file of several parts and two small ones."""
    (root / "data" / "text").mkdir(parents=True)
    random = np.random.default_rng(seed)
    sizes = {"a-0.parquet": 1000, "b-0.parquet": int(parts * PART), "c-0.parquet": 2000}
    files = []
    for name, size in sizes.items():
        path = root / "data" / "text" / name
        path.write_bytes(random.bytes(size))
        files.append(entry(root, path, None))
    write_manifest(root, "parquet", "large", files, {})
    return root


def test_everything_arrives_with_the_manifest_last_and_nothing_is_sent_twice(made, store):
    address, client, proxy = store
    target = f"{address}/deep/prefix"
    sent = upload(made.root, target_of(target))
    assert (sent.files, sent.kept, sent.deleted) == (9, 0, 0)
    assert objects(client, target) == content(made.root)
    order = proxy.sent()
    assert len(order) == len(set(order)) == 9
    assert order[-1] == "deep/prefix/manifest.json"
    assert all("/data/" in key for key in order[:-3])

    again = upload(made.root, target_of(target))
    assert (again.files, again.bytes, again.kept) == (0, 0, 9) and not proxy.sent()
    # What was lost or spoilt over there, in the same size, is mended, and nothing else is sent.
    bucket, prefix = target.removeprefix("s3://").split("/", 1)
    client.delete_object(Bucket=bucket, Key=f"{prefix}/README.md")
    name = "data/text/train-00000-of-00001.parquet"
    spoilt = bytes(len((made.root / name).read_bytes()))
    client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=spoilt)
    upload(made.root, target_of(target))
    assert sorted(proxy.sent()) == [f"{prefix}/README.md", f"{prefix}/{name}"]
    assert objects(client, target) == content(made.root)


@pytest.mark.slow
def test_a_publisher_killed_within_a_file_goes_on_at_the_next_part(store, tmp_path, start):
    address, client, proxy = store
    root = large(tmp_path / "root")
    reached, killed = threading.Event(), threading.Event()

    def stop_at_the_third_part(method, path, query, body):
        if query.get("partNumber") == ["3"] and not killed.is_set():
            reached.set()
            killed.wait(60)
            raise ConnectionError  # nobody is there to hear of it
        return body

    proxy.meddle = stop_at_the_third_part
    process = start("publish", root, "--to", address, "--threads", "1")
    assert reached.wait(60), process.communicate()
    process.kill()
    process.communicate()
    killed.set()
    keys = ("data/text/a-0.parquet", "data/text/b-0.parquet", "data/text/c-0.parquet")
    assert proxy.sent() == [keys[0], f"{keys[1]} 1", f"{keys[1]} 2"]
    assert set(objects(client, address)) == {keys[0]}

    process = start("publish", root, "--to", address, "--threads", "1")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, out + err
    assert proxy.sent() == [f"{keys[1]} 3", f"{keys[1]} 4", keys[2], "manifest.json"]
    assert objects(client, address) == content(root)
    assert "3 files sent" in out and "1 were there" in out


def test_parts_of_another_version_are_not_mixed_in(store, tmp_path):
    address, client, _ = store
    bucket = address.removeprefix("s3://")
    key = "data/text/b-0.parquet"
    old, new = large(tmp_path / "old", 1.2, 1), large(tmp_path / "new", 1.2, 2)
    begun = client.create_multipart_upload(Bucket=bucket, Key=key, Metadata={"sha256": "old"})
    body = (old / key).read_bytes()[:PART]
    client.upload_part(Bucket=bucket, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=body)
    upload(new, target_of(address))
    assert objects(client, address) == content(new)
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_bytes_that_change_on_the_way_are_noticed(made, store):
    address, client, proxy = store
    name = "data/text/train-00000-of-00001.parquet"

    def flip(method, path, query, body):
        if method == "PUT" and path.endswith(name):
            return bytes([body[0] ^ 1]) + body[1:]
        return body

    proxy.meddle = flip
    with pytest.raises(UploadError) as error:
        upload(made.root, target_of(address))
    # Either the server has compared the MD5 that came with it, or what it says of it is not ours.
    assert address in str(error.value)
    assert "BadDigest" in str(error.value) or f"{name}: arrived with other bytes" in str(
        error.value
    )
    there = objects(client, address)
    assert name not in there and "manifest.json" not in there
    proxy.meddle = lambda method, path, query, body: body
    upload(made.root, target_of(address))
    assert objects(client, address) == content(made.root)


def test_a_file_that_was_changed_after_it_was_published_is_not_sent(store, tmp_path):
    address, client, _ = store
    root = large(tmp_path / "root", 1.2)
    for name in ("a-0.parquet", "b-0.parquet"):
        path = root / "data" / "text" / name
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(UploadError, match=f"{name}: not what the manifest says"):
            upload(root, target_of(f"{address}/{name}"))
        assert f"data/text/{name}" not in objects(client, f"{address}/{name}")
        path.write_bytes(good)
    bucket = address.removeprefix("s3://")
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_files_of_the_version_before_go_and_those_of_strangers_stop_it(made, phases, store):
    address, client, proxy = store
    bucket = address.removeprefix("s3://")
    upload(phases.root, target_of(address))
    client.put_object(Bucket=bucket, Key="notes.txt", Body=b"mine")
    sent = upload(made.root, target_of(address))
    gone = content(phases.root).keys() - content(made.root).keys()
    assert sent.deleted == len(gone) > 5
    there = objects(client, address)
    assert there.pop("notes.txt") == b"mine" and there == content(made.root)

    client.put_object(Bucket=bucket, Key="data/text/train-of-others.parquet", Body=b"x")
    proxy.sent()
    with pytest.raises(UploadError, match=r"data/text/train-of-others\.parquet would be read"):
        upload(made.root, target_of(address))
    assert not proxy.sent()
    assert upload(made.root, target_of(address), replace=True).deleted == 1
    assert "data/text/train-of-others.parquet" not in objects(client, address)


def denied(method, path, query, body):
    if method == "PUT":
        return 403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    return body


@pytest.mark.parametrize(
    ("place", "environment", "meddle", "said"),
    [
        ("s3://nobody-has-this/x", {}, None, "there is no such bucket"),
        (None, {}, denied, "no permission"),
        (None, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, None, "cannot be reached"),
        (
            None,
            {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_SECRET_ACCESS_KEY": "",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": "/dev/null",
                "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            },
            None,
            "no credentials",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    made, store, monkeypatch, place, environment, meddle, said
):
    address, _, proxy = store
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if meddle:
        proxy.meddle = meddle
    with pytest.raises(UploadError) as error:
        upload(made.root, target_of(place or address))
    line = str(error.value)
    assert line.startswith(f"{place or address}: ") and said in line and "\n" not in line
    assert SECRET not in line


def test_a_store_that_cannot_be_published_to_is_said():
    with pytest.raises(ValueError, match="expected a folder, s3://BUCKET/PREFIX or hf://datasets"):
        target_of("ftp://x/y")
