"""Publishing to a folder, and what all places have in common."""

import errno
import os
import shutil
import stat
import time

import pytest

from pipelines.publish.manifest import ManifestError
from pipelines.publish.upload import UploadError, target_of, upload
from pipelines.publish.verify import verify


def content(root) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_folder_gets_everything_once_and_is_verified_there(made, tmp_path):
    target = tmp_path / "deep" / "place"
    seen = []
    sent = upload(
        made.root, target_of(str(target)), progress=lambda done, total: seen.append((done, total))
    )
    assert content(target) == content(made.root) and sent.files == 9
    assert seen[-1] == (sent.bytes, sent.bytes)
    assert not verify(target, deep=True).problems
    times = {p: p.stat().st_mtime_ns for p in target.rglob("*")}
    again = upload(made.root, target_of(str(target)))
    assert (again.files, again.kept) == (0, 9)
    assert {p: p.stat().st_mtime_ns for p in target.rglob("*")} == times
    path = target / "data" / "text" / "train-00000-of-00001.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    assert upload(made.root, target_of(str(target))).files == 1
    assert content(target) == content(made.root)


@pytest.mark.slow
def test_a_publisher_that_was_killed_goes_on(phases, tmp_path, start, gristmill):
    target = tmp_path / "place"
    names = [path.name for path in phases.files("text")]
    stuck = target / "data" / "text" / names[1]
    stuck.parent.mkdir(parents=True)
    os.mkfifo(stuck)  # whoever writes to it waits for a reader
    process = start("publish", phases.root, "--to", target, "--threads", "1")
    before = stuck.with_name(names[0])
    deadline = time.monotonic() + 60
    while not before.exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert stat.S_ISFIFO(stuck.stat().st_mode) and not (target / "manifest.json").exists()
    stuck.unlink()
    (stuck.parent / f".{stuck.name}.123.partial").write_bytes(b"left by a writer that was killed")
    done = len(content(target)) - 1
    code, out = gristmill("publish", phases.root, "--to", target)
    assert code == 0 and f"{len(content(phases.root)) - done} files sent" in out
    assert f"{done} were there" in out and content(target) == content(phases.root)


def test_a_full_disk_is_one_line(made, tmp_path):
    target = tmp_path / "place"
    target.mkdir()
    (target / "README.md").symlink_to("/dev/full")
    with pytest.raises(UploadError) as error:
        upload(made.root, target_of(str(target)))
    said = os.strerror(errno.ENOSPC)
    assert str(error.value).startswith(f"{target}/README.md: cannot be written: {said}")
    assert not (target / "manifest.json").exists()
    (target / "README.md").unlink()
    assert upload(made.root, target_of(str(target))).files == 3


def test_a_place_that_is_no_folder_is_one_line(made, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UploadError, match=r"file/below: cannot be written: Not a directory"):
        upload(made.root, target_of(str(tmp_path / "file" / "below")))


def test_what_is_not_whole_is_not_published(made, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made.root, copy)
    (copy / "data" / "text" / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(ManifestError, match=r"train-00000-of-00001\.parquet: missing"):
        upload(copy, target_of(str(tmp_path / "there")))
    (copy / "manifest.json").unlink()
    with pytest.raises(ManifestError, match=r"manifest\.json: cannot be read"):
        upload(copy, target_of(str(tmp_path / "there")))
    assert not (tmp_path / "there").exists()


def test_bytes_that_are_not_the_manifests_are_not_sent(made, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made.root, copy)
    path = copy / "data" / "text" / "train-00000-of-00001.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(UploadError, match=f"{path.name}: not what the manifest says"):
        upload(copy, target_of(str(tmp_path / "there")))
    assert not (tmp_path / "there" / "manifest.json").exists()
    assert path.name not in {p.name for p in (tmp_path / "there" / "data" / "text").iterdir()}


@pytest.mark.slow
def test_what_is_wrong_with_a_command_is_one_line(made, tmp_path, gristmill):
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        ([tmp_path / "empty", "--to", tmp_path / "x"], "nothing published in it"),
        ([made.root], "--to: missing"),
        ([made.root, "--to", made.root / "data"], "lies in what is published"),
        ([made.root, "--to", "s3://b/x", "--format", "mds"], "--format mds writes into a folder"),
        ([made.root, "--to", tmp_path / "x", "--config", "text"], "only with --format mds"),
    ):
        code, out = gristmill("publish", *arguments)
        assert code == 1 and out.count("\n") == 1 and said in out, out
    code, out = gristmill("publish", made.root, "--to", tmp_path / "m", "--format", "mds")
    assert code == 0 and f"text/train {made.splits['text']['train']}" in out
