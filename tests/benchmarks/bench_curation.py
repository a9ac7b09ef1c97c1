"""Speed of curation on one core, side by side with the libraries that do the same.

    python tests/benchmarks/bench_curation.py            # everything, some minutes
    python tests/benchmarks/bench_curation.py --quick    # under a minute, ratios are rougher
    python tests/benchmarks/bench_curation.py --only quality --runs 7

A part is a module with `run(bench)`, named in PARTS; each says what it measures and on what. Texts
are the real ones of `../shared/data`; without them there is nothing to measure. Peers that are not
installed (the extra `test` brings spaCy, which datatrove's filters need) are left out, and so are
the claims about them.

All runs in this process on one core, so the figures are CPU seconds of the process, which other
work on the machine disturbs least. Both sides get the same documents, in turn (ours, peer, ours,
peer, …), ours as often each time as it takes to be measurable. Ratios are of medians.

The last lines are the claims, one a line: name, value, target; larger is better. `x_vs_y` is y's
time over ours.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import bench_curation_quality
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from curation.document import make_batch

PARTS = {"quality": bench_curation_quality.run}
PACKAGES = ("datatrove", "spacy", "rensa", "pyarrow", "numpy", "xxhash")
DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MB = 1_000_000
SHORTEST = 0.2  # CPU seconds of one measurement; shorter jobs are repeated


@dataclass
class Bench:
    """What one invocation knows: its settings, and the claims so far."""

    options: argparse.Namespace
    console: Console
    claims: list[tuple[str, float, float]] = field(default_factory=list)

    def texts(self, language: str, size: int) -> list[str]:
        """About `size` bytes of a language (`eng_Latn`; `*`: all), spread over the corpus."""
        return _texts(language, size)

    def batches(self, texts: list[str], language: str | None = None) -> list[pa.RecordBatch]:
        """The texts as a step gets them: batches of a thousand documents."""
        rows = [
            {"text": text, "source": "bench", "domain": "web", "uri": str(i), "language": language}
            for i, text in enumerate(texts)
        ]
        return [make_batch(rows[at : at + 1000]) for at in range(0, len(rows), 1000)]

    def measure(self, jobs: dict[str, Callable[[], object]]) -> dict[str, float]:
        """Run the jobs in turn, as often as `--runs` says: median CPU seconds of each."""
        seconds: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(self.options.runs):
            for name, job in jobs.items():
                times, start = 0, time.process_time()
                while times == 0 or time.process_time() - start < SHORTEST:
                    job()
                    times += 1
                seconds[name].append((time.process_time() - start) / times)
                print(f"{name}: {seconds[name][-1]:.4g} s", file=sys.stderr)
        return {name: statistics.median(found) for name, found in seconds.items()}

    def claim(self, name: str, value: float, target: float) -> None:
        """Note a claim for the last lines."""
        self.claims.append((name, value, target))

    def table(self, title: str, columns: str, rows: list[list[str]]) -> None:
        """Print a table; columns by name, separated by `|`."""
        self.console.print(title, style="bold", markup=False, highlight=False)
        table = Table()
        for i, column in enumerate(columns.split("|")):
            table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)


@cache
def _texts(language: str, size: int) -> list[str]:
    files = sorted((DATA / "multilingual").glob("train-*.parquet"))
    corpus = pa.concat_tables([pq.read_table(path, columns=["text", "language"]) for path in files])
    if language != "*":
        corpus = corpus.filter(pc.equal(corpus["language"], language))
    texts = corpus["text"]
    total = pc.sum(pc.binary_length(texts)).as_py()
    step = max(total / size, 1)
    chosen = texts.take([int(i * step) for i in range(int(len(texts) / step))]).to_pylist()
    return [text for text in chosen if text.strip()]


def describe() -> None:
    """Print the machine and the versions."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = Counter(x.split(": ", 1)[1] for x in lines if "model name" in x).most_common(1)[0][0]
    except (OSError, IndexError):
        pass
    print(f"{cpu}, {os.cpu_count()} cores, one used")
    print(f"{platform.platform()}, Python {platform.python_version()}")
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    print(", ".join(found))
    if missing:
        print(f"missing peers: {', '.join(missing)}")


def main() -> None:
    """Measure what the command line asks for, and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="less text, under a minute")
    parser.add_argument("--only", action="append", choices=tuple(PARTS), help="only these parts")
    parser.add_argument("--runs", type=int, help="runs of each measurement (5; --quick: 3)")
    options = parser.parse_args()
    options.runs = options.runs or (3 if options.quick else 5)
    if not (DATA / "multilingual").is_dir():
        raise SystemExit(f"{DATA}: no real data here, nothing to measure")

    start = time.perf_counter()
    bench = Bench(options, Console(width=None if sys.stdout.isatty() else 110))
    describe()
    for name, run in PARTS.items():
        if options.only is None or name in options.only:
            run(bench)
    print(f"took {time.perf_counter() - start:.0f} s")
    for name, value, target in bench.claims:
        print(f"{name} {value:.3g} {target:g}")


if __name__ == "__main__":
    main()
