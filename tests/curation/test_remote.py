"""Reading at addresses: a real S3 server and misbehaving HTTP servers, on loopback."""

import gzip
import json
import re
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from curation import remote
from curation.readers import Source, SourceError, plan_splits, read_split, versions

ROWS = [{"text": f"text {i} " + "é" * (i % 50)} for i in range(3000)]


def read(path, split_bytes=32 << 20, **options):
    source = Source(str(path), "src", options.pop("domain", "web"), **options)
    problems, rows = [], []
    for split in json.loads(json.dumps(plan_splits(source, split_bytes))):
        for batch in read_split(split, problems.append):
            rows += batch.to_pylist()
    return rows, [str(problem) for problem in problems]


def write_corpus(folder):
    """One file of each format, under names that keep each folder to one of them."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    for name in ("lines", "tables", "prose", "pages"):
        (folder / name).mkdir(parents=True)
    (folder / "lines" / "a.jsonl").write_bytes(lines)
    (folder / "lines" / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    with pa.output_stream(folder / "lines" / "c.jsonl.zst", compression="zstd") as out:
        out.write(lines)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "tables" / "a.parquet", row_group_size=500)
    (folder / "prose" / "sub").mkdir()
    (folder / "prose" / "a.txt").write_text("one")
    (folder / "prose" / "sub" / "b.md").write_text("two")
    (folder / "prose" / ".hidden.txt").write_text("no")
    Dataset.from_list(ROWS).save_to_disk(str(folder / "saved"), num_shards=2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def bucket(corpus):
    """The corpus on an S3 server on loopback; gives its endpoint."""
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "access-for-tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-for-tests")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="corpus")
        for path in corpus.rglob("*"):
            if path.is_file():
                key = f"deep/{path.relative_to(corpus).as_posix()}"
                client.put_object(Bucket="corpus", Key=key, Body=path.read_bytes())
        yield endpoint
        server.stop()


@pytest.mark.parametrize("folder", ["lines", "tables", "prose", "saved", "lines/b.jsonl.gz"])
def test_s3_gives_what_the_same_files_give_here(bucket, corpus, folder):
    options = {"storage_options": {"endpoint_url": bucket}}
    for size in (32 << 20, 20_000):
        there = read(f"s3://corpus/deep/{folder}", size, **options)
        assert there == read(corpus / folder, size)
        assert there[1] == []


def test_the_standard_variable_names_the_endpoint_and_no_secret_is_in_a_split(
    bucket, corpus, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
    source = Source("s3://corpus/deep/tables", "src", "web")
    splits = json.dumps(plan_splits(source, 5000))
    assert len(json.loads(splits)) > 2
    assert "secret" not in splits
    assert "access-for-tests" not in splits
    assert read("s3://corpus/deep/tables")[0] == read(corpus / "tables")[0]
    assert list(versions(source)) == ["a.parquet"]
    assert re.fullmatch(r"\d+ [0-9a-f]{32}", versions(source)["a.parquet"])


def test_what_is_not_there_is_refused_by_its_address(bucket):
    options = {"endpoint_url": bucket}
    for path in ("s3://corpus/nothing", "s3://nobody/deep"):
        with pytest.raises(SourceError, match=f"^{path}: "):
            read(path, storage_options=options)


class Handler(BaseHTTPRequestHandler):
    """Files from a dictionary, with ranges; `broken` names answer half of what is asked."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        files, name = self.server.files, self.path.strip("/")
        self.server.asked.append((self.command, name))
        if name == "":
            links = "".join(f'<a href="/{n}">{n}</a>' for n in files).encode()
            return self.answer(200, links, {"Content-Type": "text/html"})
        if name not in files:
            return self.answer(404, b"no", {})
        data = files[name]
        fields = {"Accept-Ranges": "bytes", "Last-Modified": "Mon, 06 May 2024 07:08:09 GMT"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not self.server.ranges:
            return self.answer(200, data, {})
        if wanted is None:
            return self.answer(200, data, fields)
        start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
        fields["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self.answer(206, data[start:end], fields, half=name in self.server.broken)

    def answer(self, status, data, fields, half=False):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: len(data) // 2] if half else data)
        if half:
            self.close_connection = True
            self.server.broken[self.path.strip("/")] -= 1
            if not self.server.broken[self.path.strip("/")]:
                del self.server.broken[self.path.strip("/")]


@contextmanager
def serving(files, broken=None, ranges=True):
    """Serve files on loopback; `broken`: name to how many answers are broken off."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.broken, server.ranges, server.asked = files, broken or {}, ranges, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def test_a_web_folder_and_a_file_are_read(corpus):
    files = {"a.jsonl": LINES, "b.parquet": (corpus / "tables" / "a.parquet").read_bytes()}
    with serving(files) as (_, url):
        rows, problems = read(f"{url}/", 20_000)
        assert problems == []
        assert [row["text"] for row in rows] == [row["text"] for row in ROWS] * 2
        assert read(f"{url}/a.jsonl") == (rows[:3000], [])
        with pytest.raises(SourceError, match="cannot be listed"):
            read(f"{url}/absent.jsonl")


def test_the_files_of_a_web_folder_have_versions(monkeypatch):
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    date = "Mon, 06 May 2024 07:08:09 GMT"
    with serving({"a.jsonl": b"{}\n", "b.jsonl": LINES}) as (server, url):
        found = versions(Source(f"{url}/", "src", "web"))
        assert found == {"a.jsonl": f"3 {date}", "b.jsonl": f"{len(LINES)} {date}"}
        assert versions(Source(f"{url}/a.jsonl", "src", "web")) == {"a.jsonl": f"3 {date}"}
        server.files["a.jsonl"] = b"{} \n"
        assert versions(Source(f"{url}/", "src", "web")) == found | {"a.jsonl": f"4 {date}"}


def test_a_connection_broken_midway_is_asked_again_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    with serving({"a.jsonl": LINES}, {"a.jsonl": remote.TRIES - 1}) as (_, url):
        rows, problems = read(f"{url}/a.jsonl")
    assert problems == []
    assert len(rows) == len(ROWS)


def test_a_file_that_breaks_every_time_is_told_by_name_and_the_others_are_read(monkeypatch):
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    files = {"a.jsonl": LINES, "b.jsonl.gz": gzip.compress(LINES), "c.jsonl": LINES}
    with serving(files, {"b.jsonl.gz": 10**6}) as (server, url):
        rows, problems = read(f"{url}/")
        asked = server.asked.count(("GET", "b.jsonl.gz"))
    assert len(rows) == 2 * len(ROWS)
    assert len(problems) == 1
    assert problems[0].startswith("b.jsonl.gz: after line 0: ")
    assert f"tried {remote.TRIES} times" in problems[0]
    assert asked == remote.TRIES


@pytest.mark.parametrize("times", [3, 10**6])
def test_a_store_that_breaks_answers_off_is_asked_again_the_stated_number_of_times(
    monkeypatch, times
):
    pytest.importorskip("s3fs")
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access-for-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-for-tests")
    with serving({"b/a.jsonl": LINES}, {"b/a.jsonl": times}) as (server, url):
        rows, problems = read("s3://b/a.jsonl", storage_options={"endpoint_url": url})
        asked = server.asked.count(("GET", "b/a.jsonl"))
    if times == 3:
        assert (len(rows), problems) == (len(ROWS), [])
    else:
        assert (rows, len(problems), asked) == ([], 1, remote.TRIES)
        assert problems[0].startswith("a.jsonl: after line 0: ")
        assert problems[0].count(f"tried {remote.TRIES} times") == 1
        assert "secret" not in problems[0]


def test_a_footer_that_cannot_be_had_while_planning_is_asked_for_again_when_read(
    corpus, monkeypatch
):
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    data = (corpus / "tables" / "a.parquet").read_bytes()
    with serving({"a.parquet": data}, {"a.parquet": remote.TRIES}) as (_, url):
        rows, problems = read(f"{url}/a.parquet", 1000)
    assert problems == []
    assert [row["uri"] for row in rows] == [f"a.parquet#{i}" for i in range(3000)]


def test_a_server_that_refuses_is_a_source_error_with_the_address(monkeypatch):
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/a.jsonl", f"http://127.0.0.1:{port}/"):
        with pytest.raises(SourceError, match=rf"^{url}: cannot be listed: .*tried 4 times"):
            read(url)
    endpoint = {"endpoint_url": f"http://127.0.0.1:{port}"}
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access-for-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-for-tests")
    with pytest.raises(SourceError, match=r"^s3://b/x: cannot be listed: .*tried 4 times") as info:
        read("s3://b/x", storage_options=endpoint)
    assert "secret" not in str(info.value)


def test_a_large_file_without_ranges_is_refused_and_a_small_one_is_read():
    with serving({"a.jsonl": LINES, "b.jsonl": LINES[:4000]}, ranges=False) as (_, url):
        rows, problems = read(f"{url}/a.jsonl")
        assert rows == []
        assert "no byte ranges" in problems[0]
        rows, _ = read(f"{url}/b.jsonl")
        assert len(rows) > 20


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("https://me:pass-word@host/a.jsonl", {}),
        ("https://host/a.jsonl?X-Amz-Signature=pass-word", {}),
        ("https://host/a.jsonl?token=pass-word", {}),
        ("https://host/a.jsonl?se=2024&sig=pass-word", {}),
        ("s3://b/a.jsonl", {"key": "AKIA", "secret": "pass-word"}),
        ("s3://b/a.jsonl", {"client_kwargs": {"aws_secret_access_key": "pass-word"}}),
        ("s3://b/a.jsonl", {"endpoint_url": "http://me:pass-word@host"}),
        ("https://h/a.jsonl", {"headers": {"Authorization": "pass-word"}}),
    ],
)
def test_credentials_in_a_source_are_refused_without_being_said(path, options):
    with pytest.raises(SourceError, match="environment") as info:
        plan_splits(Source(path, "s", "web", storage_options=options))
    assert "pass-word" not in str(info.value)
    assert "AKIA" not in str(info.value)


def test_settings_that_only_sound_like_credentials_are_taken():
    harmless = {"config_kwargs": {"signature_version": "s3v4"}, "token": "anon", "anon": True}
    remote.check("s3://b/keys/secret.jsonl", harmless)
    remote.check("https://host/tokens.jsonl?version=2&keyword=x", {})


def test_values_of_secret_variables_are_blanked_out_of_messages(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    assert remote.redact("no entry with\nhf_abcdefgh") == "no entry with ***"


@given(
    st.binary(max_size=400),
    st.lists(st.tuples(st.sampled_from(["seek", "read"]), st.integers(0, 450)), max_size=12),
)
def test_reading_in_ranges_is_reading(data, steps):
    import io

    ranged = remote._Ranges(lambda a, b: data[a:b], len(data))
    plain = io.BytesIO(data)
    for kind, n in steps:
        if kind == "seek":
            assert ranged.seek(n) == plain.seek(n)
        else:
            assert ranged.read(n) == plain.read(n)
