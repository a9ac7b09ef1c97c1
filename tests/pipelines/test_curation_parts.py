"""A long split goes on where its task was killed: the same bytes, and nothing finished read again.

The command is the real one in a process of its own, which knows one more step: `seen` notes every
document that it is given, and kills its own process with SIGKILL when it has noted enough.
"""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.curation_maps import filter_split
from pipelines.curation_parts import Parts

MAIN = """
import os, signal
from dataclasses import dataclass
from typing import ClassVar
from pipelines.cli import main
from pipelines.steps import STEPS

@dataclass(frozen=True)
class Seen:
    name: ClassVar[str] = "seen"

    def __call__(self, batch):
        with open("seen", "a") as file:
            file.writelines(f"{uri}\\n" for uri in batch["uri"].to_pylist())
        if os.path.exists("enough") and len(open("seen").readlines()) >= int(open("enough").read()):
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

STEPS["seen"] = Seen
if __name__ == "__main__":
    main()
"""
DOCUMENTS, BAD = 1100, 37
PART = (
    1 << 20
)  # less than the reader's batches, so each of them is a part: some two hundred documents


def lines() -> bytes:
    """22 MB of text in lines: duplicates, texts too short, and lines that are no JSON."""
    rng = random.Random(5)
    words = [rng.randbytes(3).hex() for _ in range(4000)]
    made = []
    for n in range(DOCUMENTS):
        text = " ".join(rng.choices(words, k=3000)) if n % 9 else "too short"
        made.append(json.dumps({"text": made_text(made, n) if n % 50 == 49 else text}).encode())
        if n % 30 == 0:
            made[-1] += b"\n{broken"
    assert sum(n % 30 == 0 for n in range(DOCUMENTS)) == BAD
    return b"\n".join(made)


def made_text(made: list[bytes], n: int) -> str:
    """The text of an earlier document."""
    return json.loads(made[n - 7])["text"] if (n - 7) % 30 else "too short"


class Folder:
    """A folder with one long split, and the command to curate it."""

    def __init__(self, path: Path, packed: dict[str, bytes], **curate):
        self.path, self.out = path, path / "runs" / "long" / "curate"
        (path / "source").mkdir(parents=True)
        for name, data in packed.items():
            (path / "source" / name).write_bytes(data)
        (path / "main.py").write_text(MAIN)
        recipe = {
            "name": "long",
            "workers": 1,
            "sources": [{"path": "source", "name": "s", "domain": "web"}],
            "curate": {"steps": ["seen", "length"], "part_bytes": PART} | curate,
        }
        (path / "long.yaml").write_text(yaml.safe_dump(recipe))

    def start(self) -> subprocess.Popen:
        with (self.path / "said").open("w") as said:
            return subprocess.Popen(
                [sys.executable, "main.py", "curate", "long.yaml"],
                cwd=self.path,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def curate(self, enough: int | None = None) -> list[str]:
        """Run until killed or, without `enough`, to the end; returns what the step was given."""
        (self.path / "seen").unlink(missing_ok=True)
        (self.path / "enough").unlink(missing_ok=True)
        if enough is not None:
            (self.path / "enough").write_text(str(enough))
        process = self.start()
        process.wait(timeout=120)
        if enough is not None:
            os.killpg(process.pid, signal.SIGKILL)  # what it may have started
        said = (self.path / "said").read_text()
        assert process.returncode == (0 if enough is None else -signal.SIGKILL), said
        return (self.path / "seen").read_text().split() if (self.path / "seen").exists() else []

    def state(self) -> dict:
        return json.loads((self.out / "work" / "parts" / "00000" / "state.json").read_text())

    def manifest(self) -> dict:
        return json.loads((self.out / "manifest.json").read_text())

    def made(self) -> list[tuple]:
        return [
            (entry["path"], entry["rows"], entry["xxh3"]) for entry in self.manifest()["outputs"]
        ]

    def texts(self) -> list[str]:
        return pq.read_table(self.out / "documents" / "00000.parquet")["text"].to_pylist()


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


@pytest.fixture(scope="module")
def corpus() -> bytes:
    return lines()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, corpus) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("undisturbed"), {"a.jsonl.zst": zstd(corpus)})
    assert len(folder.curate()) == DOCUMENTS
    return folder


def test_a_killed_split_goes_on_behind_its_last_whole_part(tmp_path, corpus, undisturbed):
    folder = Folder(tmp_path, {"a.jsonl.zst": zstd(corpus)})
    every = [
        f"a.jsonl.zst#{n + 1}" for n, line in enumerate(corpus.split(b"\n")) if line[-1:] == b"}"
    ]
    done = 0
    for enough in (700, 300, 1):  # in the fourth batch, in the fifth, and there again
        seen = folder.curate(enough)
        assert seen == every[done : done + len(seen)] and len(seen) >= enough
        before, done = done, folder.state()["state"]["documents_in"]
        assert before < done or enough == 1
        assert not (folder.out / "manifest.json").exists()
    assert 800 < done < DOCUMENTS
    files = sorted((folder.out / "work" / "parts").rglob("*.parquet"))
    times = [path.stat().st_mtime_ns for path in files]
    assert len(files) == 3 * folder.state()["parts"] >= 12
    assert folder.curate() == every[done:]
    assert folder.made() == undisturbed.made()
    assert folder.manifest()["metrics"] == undisturbed.manifest()["metrics"]
    assert folder.manifest()["metrics"]["problem_count"] == BAD
    assert times and not (folder.out / "work").exists()


def test_parts_hold_the_documents_of_one_whole_reading(tmp_path, corpus, undisturbed):
    at_once = Folder(tmp_path, {"a.jsonl.zst": zstd(corpus)}, part_bytes=1 << 40)
    at_once.curate()
    assert at_once.texts() == undisturbed.texts() and 800 < len(at_once.texts()) < 1000
    found = [folder.manifest()["metrics"] for folder in (at_once, undisturbed)]
    peaks = [metrics.pop("peak_work_bytes") for metrics in found]
    assert found[0] == found[1] and peaks[0] < peaks[1]
    rejected = [
        pq.read_table(folder.out / "rejected" / "00000.parquet")
        for folder in (at_once, undisturbed)
    ]
    assert rejected[0].equals(rejected[1]) and len(rejected[0]) > 100


@pytest.mark.slow
def test_a_killed_group_of_processes_goes_on(tmp_path, corpus):
    """Killed from outside, with two workers on two long splits and a short one."""
    files = {
        "a.jsonl.gz": gzip.compress(corpus[:13_000_000], 1),
        "b.jsonl.zst": zstd(corpus[-13_000_000:]),
    }
    files["c.jsonl"] = json.dumps({"text": "a text that is long enough " * 9}).encode()
    folder, whole = (Folder(tmp_path / name, files, dedup=None) for name in ("killed", "whole"))
    recipe = yaml.safe_load((folder.path / "long.yaml").read_text())
    (folder.path / "long.yaml").write_text(yaml.safe_dump(recipe | {"workers": 2}))
    process = folder.start()
    deadline = time.monotonic() + 60
    while len(list(folder.out.glob("work/parts/*/state.json"))) < 2:
        assert process.poll() is None, (folder.path / "said").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder.out / "manifest.json").exists()
    states = sorted((folder.out / "work" / "parts").glob("*/state.json"))
    assert [path.parent.name for path in states] == ["00000", "00001"]
    done = sum(json.loads(path.read_text())["state"]["documents_in"] for path in states)
    left = len(folder.curate())
    # The short split has one document, and may have been finished as well.
    assert len(whole.curate()) - (left + done) in (0, 1) and done >= 400
    assert folder.made() == whole.made()


def arguments(folder: Path, job: dict, part_bytes: int = PART) -> tuple:
    rounds = [["documents", {}]]
    return 0, job, str(folder), [{"length": {}}], rounds, 0, "skip", part_bytes


def test_a_split_whose_parts_are_all_whole_is_joined_without_reading_it(tmp_path, corpus):
    from curation.readers import Source, plan_splits

    source = tmp_path / "a.jsonl.zst"
    source.write_bytes(zstd(corpus[:9_000_000]))
    (job,) = plan_splits(Source(str(source), "s", "web"))
    record = filter_split(*arguments(tmp_path / "out", job))
    outputs = {p: p.read_bytes() for p in (tmp_path / "out").glob("**/00000.parquet")}
    outputs = {p: data for p, data in outputs.items() if "parts" not in p.parts}
    assert len(outputs) == 3 and record["part_bytes"] > 1e6
    for path in outputs:
        path.unlink()
    source.unlink()  # as if killed between the last part and the join
    assert filter_split(*arguments(tmp_path / "out", job)) == record
    assert {path: path.read_bytes() for path in outputs} == outputs


def test_a_short_split_has_no_parts(tmp_path):
    from curation.readers import Source, plan_splits

    source = tmp_path / "a.jsonl"
    source.write_bytes(b'{"text": "' + b"a text that is long enough " * 20 + b'"}\n')
    (job,) = plan_splits(Source(str(source), "s", "web"))
    record = filter_split(*arguments(tmp_path / "out", job))
    assert record["part_bytes"] == 0 and record["kept"] == 1
    assert not (tmp_path / "out" / "work" / "parts").exists()


def test_a_part_without_documents_or_signatures_is_joined(tmp_path):
    """A file of which all but the last part is rejected, and one of which everything is."""
    from curation.readers import Source, plan_splits

    short, long = (
        json.dumps({"text": "x " * 3}),
        json.dumps({"text": "long enough, so kept. " * 40}),
    )
    for name, rows in (("some", [short] * 70_000 + [long] * 3), ("none", [short] * 70_000)):
        source = tmp_path / f"{name}.jsonl.zst"
        source.write_bytes(zstd("\n".join(rows).encode()))
        (job,) = plan_splits(Source(str(source), "s", "web"))
        out = tmp_path / name
        record = filter_split(*arguments(out, job, 200_000))
        assert Parts(out, 0).count >= 2 and record["documents_in"] == len(rows)
        kept = len(rows) - 70_000
        assert record["kept"] == kept
        assert pq.read_metadata(out / "work" / "kept-0" / "00000.parquet").num_rows == kept
        assert (out / "work" / "signed-0" / "00000.parquet").exists() == (kept > 0)
        assert pq.read_metadata(out / "rejected" / "00000.parquet").num_rows == 70_000
        shutil.rmtree(out)
