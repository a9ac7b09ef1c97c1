"""The sample as it lies on the disk: whole, sorted, counted, and the same bytes every time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import xxhash

from curation.document import SCHEMA, derived_id, document_id
from curation.sample import SampleError, build_sample, code
from curation.sample.build import ROW_GROUP_BYTES, SHARD_BYTES, installed_packages

TARGET = 3_000_000


ALL_PROJECTS = code.PROJECTS
FEW_PROJECTS = code.PROJECTS[:2]


@pytest.fixture(scope="module", autouse=True)
def few_projects():
    """Let two small packages be all of the code: reading all seven takes ten seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "PROJECTS", FEW_PROJECTS)
        yield


@pytest.fixture(scope="module")
def sample(tmp_path_factory, few_projects):
    out = tmp_path_factory.mktemp("sample")
    return out, build_sample(out, target_bytes=TARGET)


def shards(out):
    return sorted(out.glob("*.parquet"))


def table(path):
    return pq.read_table(path, schema=SCHEMA)


def test_shards_hold_documents_of_the_schema_with_their_ids(sample):
    out, _ = sample
    for path in shards(out):
        assert pq.read_schema(path).remove_metadata() == SCHEMA
        rows = table(path).to_pylist()
        assert {row["domain"] for row in rows} == {path.name.split("-")[0]}
        for row in rows:
            if row["domain"] == "code":
                part = json.loads(row["metadata"])["part"]
                assert row["id"] == derived_id(row["parents"], part)
            else:
                assert row["id"] == document_id(row["source"], row["uri"], row["text"])


def test_documents_are_sorted_by_source_and_uri_across_shards_and_all_distinct(sample):
    out, _ = sample
    for domain in ("code", "math", "multilingual", "web"):
        keys = [
            (row["source"], row["uri"])
            for path in shards(out)
            if path.name.startswith(domain)
            for row in table(path).select(["source", "uri"]).to_pylist()
        ]
        assert keys == sorted(set(keys))
        assert keys


def test_sample_json_counts_what_the_shards_hold(sample):
    out, said = sample
    assert json.loads((out / "sample.json").read_bytes()) == said
    assert [f["path"] for f in said["files"]] and {f["path"] for f in said["files"]} == {
        path.name for path in shards(out)
    }
    for entry in said["files"]:
        data = (out / entry["path"]).read_bytes()
        assert len(data) == entry["size"]
        assert xxhash.xxh3_128_hexdigest(data) == entry["xxh3"]
    for domain, summary in said["domains"].items():
        tables = [table(p) for p in shards(out) if p.name.startswith(domain)]
        assert summary["documents"] == sum(t.num_rows for t in tables)
        size = sum(pc.sum(pc.binary_length(t["text"])).as_py() for t in tables)
        assert summary["bytes"] == size
        for part in ("sources", "languages"):
            assert sum(entry["bytes"] for entry in summary[part].values()) == size
    assert said["bytes"] == sum(said["licenses"].values()) <= TARGET
    assert said["bytes"] > 0.9 * TARGET
    assert said["packages"] == installed_packages()


def test_nothing_but_shards_and_sample_json_is_left_in_the_folder(sample):
    out, said = sample
    assert {p.name for p in out.iterdir()} == {"sample.json", *(f["path"] for f in said["files"])}


def test_a_second_call_writes_nothing_and_says_the_same(sample):
    out, said = sample
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    assert build_sample(out, target_bytes=TARGET) == said
    assert {p: p.stat().st_mtime_ns for p in out.iterdir()} == before


def test_the_bytes_are_the_same_in_another_process_with_another_hash_seed(sample, tmp_path):
    _, said = sample
    script = (
        "import sys; from pathlib import Path; from curation.sample import build_sample, code; "
        f"code.PROJECTS = {FEW_PROJECTS}; build_sample(Path(sys.argv[1]), target_bytes={TARGET})"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        check=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
    )
    assert json.loads((tmp_path / "sample.json").read_bytes()) == said


def test_another_seed_gives_another_sample_and_clears_the_old_one(tmp_path):
    first = build_sample(tmp_path, target_bytes=TARGET // 2)
    (tmp_path / "code-00007-of-00009.parquet").write_bytes(b"of an older build")
    (tmp_path / ".web-00000-of-00001.parquet.123").write_bytes(b"of a killed build")
    (tmp_path / "notes.txt").write_text("mine")
    second = build_sample(tmp_path, seed=1, target_bytes=TARGET // 2)
    assert {f["xxh3"] for f in first["files"]}.isdisjoint(f["xxh3"] for f in second["files"])
    kept = {"sample.json", "notes.txt", *(f["path"] for f in second["files"])}
    assert {p.name for p in tmp_path.iterdir()} == kept


@pytest.mark.parametrize("damage", ["shard cut short", "shard gone", "sample.json cut short"])
def test_a_damaged_sample_is_built_again(tmp_path, damage):
    said = build_sample(tmp_path, target_bytes=1_000_000)
    victim = tmp_path / ("sample.json" if "json" in damage else said["files"][0]["path"])
    victim.unlink() if "gone" in damage else victim.write_bytes(victim.read_bytes()[:-9])
    assert build_sample(tmp_path, target_bytes=1_000_000) == said
    for entry in said["files"]:
        data = (tmp_path / entry["path"]).read_bytes()
        assert xxhash.xxh3_128_hexdigest(data) == entry["xxh3"]


def test_a_target_too_small_for_a_sample_is_refused(tmp_path):
    with pytest.raises(SampleError, match="target_bytes is 5"):
        build_sample(tmp_path, target_bytes=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_default_sample_is_a_real_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "PROJECTS", ALL_PROJECTS)
    calls = []
    said = build_sample(tmp_path, progress=lambda *call: calls.append(call))
    assert 75_000_000 < said["bytes"] <= 90_000_000
    domains = said["domains"]
    assert domains["multilingual"]["bytes"] > 15_000_000
    assert len(domains["multilingual"]["languages"]) >= 60
    assert len(domains["multilingual"]["scripts"]) >= 12
    assert domains["math"]["bytes"] > 10_000_000
    assert domains["web"]["bytes"] > 12_000_000
    assert domains["code"]["bytes"] > 30_000_000
    assert set(domains["code"]["languages"]) >= {"python", "javascript", "c", "cpp"}
    assert "unknown" not in said["licenses"]
    assert {name for name, _, _ in calls} == set(domains)
    assert all(done <= planned for _, done, planned in calls)
    for path in tmp_path.glob("*.parquet"):
        file = pq.ParquetFile(path)
        sizes = [
            pc.sum(pc.binary_length(file.read_row_group(k)["text"])).as_py()
            for k in range(file.num_row_groups)
        ]
        assert max(sizes) < ROW_GROUP_BYTES + 500_000
        assert sum(sizes) < SHARD_BYTES + 500_000
