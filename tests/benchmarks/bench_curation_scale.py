"""Curation's memory against the size of its input: `gristmill curate` at 1x, 4x and 16x.

A corpus of made-up prose (Zipf's words, one document in ten a near copy of another) is written as
JSONL and curated by the real command with one worker, so that all phases, the merges of the rounds
among them, are in one process; its peak resident memory is what the kernel says at its end. Split
size is the same for all sizes. Two recipes: steps alone, and steps with the round of documents.

The exponent e of memory ~ input^e is the slope of a line through the logarithms: 0 is memory that
does not grow, 1 memory in proportion. The peak of one and the same run varies by a sixth, with the
allocator's luck. The last lines are `name value target`, a value to be at most its target.

With `--mixed GB` instead: one corpus of so many GB of text (`mixed_corpus.py`) through all steps
that need no model and all rounds; seconds by phase, MB/s, the memory of the largest process and of
all together, and what each step dropped. The disk takes about twice the size, in TMPDIR.

    python tests/benchmarks/bench_curation_scale.py [--quick] [--megabytes 8]
    python tests/benchmarks/bench_curation_scale.py --mixed 2 [--workers 2]
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from corpora import DATA, ROOT
from mixed_corpus import write_mixed
from process_memory import watch
from rich.console import Console

sys.path.insert(0, str(ROOT))
from pipelines.curate_cli import print_curation
from pipelines.steps import ROUNDS as ALL_ROUNDS
from pipelines.steps import STEPS, build_steps

SCALES = (1, 4, 16)
ROUNDS = {"steps": {}, "documents": {"documents": {"bands": 14, "rows": 8}}}


def write_corpus(folder: Path, size: int, file_bytes: int = 1 << 20) -> int:
    """Write about `size` bytes of documents of 300 words; returns how many there are."""
    rng = np.random.default_rng(size)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = ["".join(letters[rng.integers(26, size=rng.integers(2, 10))]) for _ in range(9000)]
    folder.mkdir()
    written = documents = 0
    words: list[str] = []
    file = None
    while written < size:
        if not words or rng.random() > 0.1:  # else the words of the one before, but for a few
            words = [vocabulary[k % 9000] for k in rng.zipf(1.3, 300)]
        else:
            words = [*words[:-5], *(vocabulary[k] for k in rng.integers(9000, size=5))]
        line = json.dumps({"text": " ".join(words) + "."}) + "\n"
        if written // file_bytes != (written - len(line)) // file_bytes or file is None:
            if file:
                file.close()
            file = (folder / f"{documents:09d}.jsonl").open("w")
        file.write(line)
        written += len(line)
        documents += 1
    file.close()
    return documents


def curate(folder: Path, source: Path, rounds: dict, split_bytes: int) -> tuple[float, int]:
    """Curate a corpus; returns seconds and the peak of resident memory in bytes."""
    recipe = {
        "name": "bench",
        "workers": 1,
        "sources": [{"path": str(source), "name": "prose", "domain": "web", "language": "en"}],
        "curate": {
            "steps": ["length", "symbols"],
            "dedup": rounds,
            "split_bytes": split_bytes,
            "merge_memory_bytes": 64 << 20,
        },
    }
    (folder / "bench.yaml").write_text(yaml.safe_dump(recipe))
    shutil.rmtree(folder / "runs", ignore_errors=True)
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "curate", "bench.yaml"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"gristmill curate failed: {said.decode(errors='replace')}")
    return time.monotonic() - started, usage.ru_maxrss * 1024


def all_steps() -> list[dict]:
    """Every step that can be had with its defaults, and decontamination if there are benchmarks."""
    steps, left_out = [], []
    for name in STEPS:
        benchmarks = DATA / "benchmarks"
        given = {"benchmarks": str(benchmarks)} if name == "decontaminate" else {}
        try:
            build_steps([{name: given}])
            steps.append({name: given})
        except ValueError:
            left_out.append(name)
    print(f"steps: {', '.join(name for step in steps for name in step)}; left out, as they need")
    print(f"settings: {', '.join(left_out) or 'none'}; rounds: {', '.join(ALL_ROUNDS)}")
    return steps


def mixed(folder: Path, size: int, workers: int) -> None:
    """Curate a mixed corpus with everything, and print what it took and what it dropped."""
    sources = write_mixed(folder / "corpus", size)
    stored = sum(path.stat().st_size for path in (folder / "corpus").rglob("*") if path.is_file())
    print(f"corpus: {size / 1e9:g} GB of text, {stored / 1e9:.2f} GB stored", flush=True)
    recipe = {
        "name": "mixed",
        "workers": workers,
        "sources": sources,
        "curate": {"steps": all_steps(), "dedup": {name: {} for name in ALL_ROUNDS}},
    }
    (folder / "mixed.yaml").write_text(yaml.safe_dump(recipe))
    stage = folder / "runs" / "mixed" / "curate"
    phases: dict[str, float] = {}

    def look(seconds: float) -> None:
        there = {path.name for path in (stage / "work" / "tasks").glob("*")}
        phase = next((name for name in reversed(order) if name in there), "plan")
        phases[phase] = phases.get(phase, 0.0) + seconds

    rounds = [f"{name}-{part}" for name in ALL_ROUNDS for part in ("merge", "apply")]
    order = ["filter", *rounds]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "curate", "mixed.yaml"],
            cwd=folder,
            stdout=said,
            stderr=said,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
            start_new_session=True,
        )
        try:
            peak = watch(process, look)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise SystemExit(f"gristmill curate failed: {(folder / 'said').read_text()}")
    manifest = json.loads((stage / "manifest.json").read_text("utf-8"))
    read = manifest["metrics"]["steps"][0]
    rate = read["bytes_in"] / peak.seconds / 1e6
    print(f"{read['documents_in']:,} documents, {read['bytes_in'] / 1e6:,.1f} MB of text read")
    print(f"{peak.seconds:,.1f} seconds with {workers} workers, {rate:.2f} MB/s")
    print("seconds by phase: " + ", ".join(f"{name} {t:.1f}" for name, t in phases.items()))
    print(f"largest process {peak.largest / 1e6:,.0f} MB, all together {peak.together / 1e6:,.0f}")
    print_curation(manifest, Console(width=120))


def exponent(sizes: list[int], peaks: list[int]) -> float:
    """Slope of log(peak) over log(size), by least squares."""
    x, y = [math.log(size) for size in sizes], [math.log(peak) for peak in peaks]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    products = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return products / sum((a - mx) ** 2 for a in x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 50 seconds")
    parser.add_argument("--megabytes", type=float, default=8.0, help="the input at 1x")
    parser.add_argument("--mixed", type=float, metavar="GB", help="one mixed corpus instead")
    parser.add_argument("--workers", type=int, default=2, help="of --mixed")
    options = parser.parse_args()
    if options.mixed:
        with tempfile.TemporaryDirectory(prefix="curation-mixed-") as name:
            mixed(Path(name), int(options.mixed * 1e9), options.workers)
        return
    unit = int((0.5 if options.quick else options.megabytes) * 1e6)
    claims = []
    with tempfile.TemporaryDirectory(prefix="curation-scale-") as name:
        folder = Path(name)
        sizes = [unit * scale for scale in SCALES]
        for size in sizes:
            count = write_corpus(folder / f"corpus-{size}", size)
            print(f"{size / 1e6:.1f} MB: {count:,} documents", file=sys.stderr)
        print(f"{'rounds':<12}{'input MB':>10}{'seconds':>10}{'MB/s':>8}{'peak MB':>10}")
        for rounds, settings in ROUNDS.items():
            peaks = []
            for size in sizes:
                seconds, peak = curate(folder, folder / f"corpus-{size}", settings, unit // 2)
                peaks.append(peak)
                row = f"{rounds:<12}{size / 1e6:>10.1f}{seconds:>10.1f}{size / seconds / 1e6:>8.2f}"
                print(f"{row}{peak / 1e6:>10.1f}", flush=True)
            print(f"{rounds}: memory grows as input^{exponent(sizes, peaks):.3f}")
            claims.append((f"curate_{rounds}_peak_1x_vs_16x", peaks[0] / peaks[-1], 0.66))
    for claim, value, target in claims:
        print(f"{claim} {value:.3f} {target}")


if __name__ == "__main__":
    main()
