"""`gristmill curate` on a bucket: what local files give, and again only when an object changed."""

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

SECRET = "very-secret-for-tests"


@pytest.fixture(scope="module")
def store():
    """An S3 server on loopback with an empty bucket: its endpoint and a client."""
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "access-for-tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=endpoint)
        # Servers of one process share their buckets: this one is no other test's.
        client.create_bucket(Bucket="own-corpus")
        yield endpoint, client
        server.stop()


def rows(seed: int, count: int) -> list[dict]:
    rng = random.Random(seed)
    words = [rng.randbytes(2).hex() for _ in range(500)]
    texts = [" ".join(rng.choices(words, k=rng.randrange(20, 300))) for _ in range(count)]
    return [{"text": text} for text in [*texts, texts[0], "short"]]


def lines(seed: int, count: int) -> bytes:
    return b"\n".join(json.dumps(row).encode() for row in rows(seed, count)) + b"\n{broken\n"


@pytest.mark.slow
def test_a_bucket_is_curated_as_files_are_and_again_when_an_object_changed(store, make_run):
    endpoint, client = store
    run = make_run("run")
    folder = run.directory / "corpus"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines(1, 200))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(2, 100)))
    pq.write_table(pa.Table.from_pylist(rows(3, 50)), folder / "c.parquet", row_group_size=20)

    def put(name: str) -> None:
        client.put_object(
            Bucket="own-corpus", Key=f"deep/{name}", Body=(folder / name).read_bytes()
        )

    for path in folder.iterdir():
        put(path.name)

    def curate(name: str, path: str, **options) -> dict:
        source = {"path": path, "name": "crawl", "domain": "web"} | options
        steps = {"steps": ["length", "symbols"], "split_bytes": 60_000}
        recipe = {"name": name, "workers": 1, "sources": [source], "curate": steps}
        (run.directory / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
        run("curate", f"{name}.yaml")
        run.out = run.directory / "runs" / name
        return run.manifest("curate")

    there = {"storage_options": {"endpoint_url": endpoint}}
    local = curate("local", "corpus")
    remote = curate("remote", "s3://own-corpus/deep", **there)
    assert len(local["outputs"]) > 6
    assert remote["outputs"] == local["outputs"] and remote["metrics"] == local["metrics"]
    assert remote["metrics"]["problem_count"] == 2
    assert sorted(remote["config"]["sources"][0]["files"]) == ["a.jsonl", "b.jsonl.gz", "c.parquet"]

    def times() -> dict:
        return {p: p.stat().st_mtime_ns for p in (run.out / "curate").rglob("*") if p.is_file()}

    before = times()
    curate("remote", "s3://own-corpus/deep", **there)
    assert times() == before

    # Nothing of how the store is reached is left anywhere, and it is not in the key.
    port = endpoint.rpartition(":")[2].encode()
    for path in run.out.rglob("*.json"):
        assert port not in path.read_bytes() and SECRET.encode() not in path.read_bytes(), path
    same = {"storage_options": {"endpoint_url": endpoint, "default_block_size": 1 << 20}}
    curate("remote", "s3://own-corpus/deep", **same)
    assert times() == before

    (folder / "a.jsonl").write_bytes(lines(9, 200))
    put("a.jsonl")
    again, local = curate("remote", "s3://own-corpus/deep", **there), curate("local", "corpus")
    assert again["key"] != remote["key"] and again["outputs"] != remote["outputs"]
    assert again["outputs"] == local["outputs"]

    client.delete_object(Bucket="own-corpus", Key="deep/b.jsonl.gz")
    fewer = curate("remote", "s3://own-corpus/deep", **there)
    assert len(fewer["outputs"]) < len(again["outputs"])
    assert fewer["metrics"]["problem_count"] == 1


def test_a_store_that_is_not_there_is_one_line(store, make_run):
    endpoint, _ = store
    run = make_run("run")
    source = {"path": "s3://nobody/deep", "name": "crawl", "domain": "web"}
    options = {"storage_options": {"endpoint_url": endpoint}}
    recipe = {"name": "r", "sources": [source | options]}
    (run.directory / "r.yaml").write_text(yaml.safe_dump(recipe))
    _, err = run("curate", "r.yaml", code=1)
    assert err.startswith("error: s3://nobody/deep: cannot be listed") and err.count("\n") == 1
    assert SECRET not in err
