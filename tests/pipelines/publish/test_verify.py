"""`gristmill verify`: whatever is wrong with a published directory is found, with its file."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.files import fingerprint
from pipelines.publish.manifest import text_of, write_manifest
from pipelines.publish.verify import verify


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the dataset that may be damaged."""
    shutil.copytree(made.root, tmp_path / "copy")
    return tmp_path / "copy"


def wrong(root, **options) -> list[str]:
    return [str(p.path.relative_to(root)) for p in verify(root, **options).problems]


def test_a_whole_directory_is_all_right_wherever_it_is(copy):
    (copy / ".gitattributes").write_text("*.parquet filter=lfs\n")  # the Hub's own
    (copy / ".cache" / "huggingface").mkdir(parents=True)
    (copy / ".cache" / "huggingface" / "x.metadata").write_text("x")
    seen = []
    found = verify(copy, deep=True, progress=lambda done, total: seen.append((done, total)))
    assert not found.problems and found.files == 8
    assert seen[-1] == (found.bytes, found.bytes)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_one_flipped_bit_anywhere_is_found(made, data):
    files = sorted(path for path in made.root.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    after = bytearray(before)
    after[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        path.write_bytes(after)
        assert wrong(made.root) == [str(path.relative_to(made.root))]
    finally:
        path.write_bytes(before)
    assert not wrong(made.root)


def test_a_missing_a_truncated_and_an_extra_file_are_found_at_once(copy):
    text, tokenized = "data/text/train-00000-of-00001.parquet", "data/tokenized/"
    (copy / text).unlink()
    short = next((copy / tokenized).glob("train-*"))
    short.write_bytes(short.read_bytes()[:-1])
    shutil.copy(short, copy / "data/text/train-00001-of-00002.parquet")
    (copy / "README.md").unlink()
    found = {str(p.path.relative_to(copy)): p.what for p in verify(copy).problems}
    assert list(found) == [
        "README.md",
        text,
        "data/text/train-00001-of-00002.parquet",
        str(short.relative_to(copy)),
    ]
    assert found["README.md"] == found[text] == "missing"
    assert "not in the manifest" in found["data/text/train-00001-of-00002.parquet"]
    assert f"expected {short.stat().st_size + 1:,}" in found[str(short.relative_to(copy))]


def test_rows_that_the_manifest_has_wrong_are_found(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    path = "data/text/train-00000-of-00001.parquet"
    (entry,) = [file for file in manifest["files"] if file["path"] == path]
    entry["rows"] += 1
    del manifest["checksum"]
    manifest["checksum"] = fingerprint(manifest)
    (copy / "manifest.json").write_text(text_of(manifest))
    found = verify(copy).problems
    assert [str(p.path.relative_to(copy)) for p in found] == [path, "manifest.json"]
    assert found[0].what == f"{entry['rows'] - 1} rows, expected {entry['rows']} by the manifest"


def test_sha256_is_compared_when_asked_and_croissants_always(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    path = "data/text/train-00000-of-00001.parquet"
    for file in manifest["files"]:
        if file["path"] == path:
            file["sha256"] = "0" * 64
    write_manifest(copy, "parquet", "x", manifest["files"], manifest["splits"])
    assert wrong(copy) == ["croissant.json"]
    assert wrong(copy, deep=True) == ["croissant.json", path]


def test_a_manifest_that_names_files_outside_is_refused(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][0]["path"] = "../../etc/passwd"
    write_manifest(copy, "parquet", "x", manifest["files"], manifest["splits"])
    (problem,) = verify(copy).problems
    assert problem.path == copy / "manifest.json" and "outside" in problem.what


def test_without_a_manifest_nothing_is_said_to_be_right(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        verify(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        verify(tmp_path / "y")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"gristmill": 2}', b"\xff\xfe", b"[" * 99999]
)
def test_a_damaged_manifest_is_one_problem(copy, content):
    (copy / "manifest.json").write_bytes(content)
    assert wrong(copy) == ["manifest.json"]


def test_the_command_names_the_file_and_exits_with_one(copy, gristmill):
    code, out = gristmill("verify", copy)
    assert code == 0 and out.endswith("by 1 manifests: all right\n")
    path = copy / "data" / "packed" / "train-00000-of-00001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, out = gristmill("verify", copy)
    assert code == 1 and f"wrong: {path}: damaged: xxh3" in out and "Traceback" not in out


@pytest.mark.slow
def test_a_run_and_a_stage_are_verified_too(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished.out, run)
    found = verify(run)
    assert not found.problems and found.files > 50
    assert str(run / "publish" / "dataset") in found.parts
    shard = sorted((run / "encode").glob("*.bin"))[0]
    data = bytearray(shard.read_bytes())
    data[7] ^= 4
    shard.write_bytes(data)
    shutil.copy(shard, run / "encode" / "shard-09999.bin")
    published = run / "publish" / "dataset" / "data" / "text" / "train-00000-of-00001.parquet"
    table = pq.read_table(published)
    pq.write_table(table.slice(1), published)
    expected = ["encode/shard-00000.bin", "encode/shard-09999.bin"]
    assert wrong(run / "encode") == [name.removeprefix("encode/") for name in expected]
    assert wrong(run) == [*expected, str(published.relative_to(run))]
