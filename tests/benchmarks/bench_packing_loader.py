"""How fast batches come out of a plan, what memory that takes, and how soon a trace answers.

    python tests/benchmarks/bench_packing_loader.py [--quick]

Speed, on documents of about 60, 800 and 4,000 tokens in 16 shards, sequences of 512 and 4,096,
micro-batches of 32,768 tokens, from the page cache: `Loader.batch` in one thread; two DataLoader
workers; beside them, in turn, what one gets from `datasets` for sequences that were packed into
rows beforehand (memory-mapped, shuffled, NumPy format, labels made by a shift), which needs no
look-up of pieces but a second copy of the corpus on disk. Memory: what is the process's own
(RssAnon) after going through 500 batches from all over the plan, for a run and one ten times as
large. Trace: the whole process of `gristmill trace`, on a run of a million documents.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from loader_corpus import write_documents, write_plan, write_record
from torch.utils.data import DataLoader

from packing.dataset import PackedDataset
from packing.loader import Loader

TOKENS = 1 << 15  # of a micro-batch
Claim = tuple[str, float, float]

MEMORY = """
import sys
from pathlib import Path
from packing.loader import Loader
run = Path(sys.argv[1])
loader = Loader.open(run / "plan", run / "encode")
for k in range(500):
    loader.batch(len(loader) * k // 500, 8)
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(x.split()[1]) for x in lines if x.startswith("RssAnon")))
"""


def rate(batches: Iterator[dict], most: int) -> tuple[float, float]:
    """Million tokens a second, and a CPU second of this process, until there are `most` tokens.

    The first four batches are free.
    """
    for _ in range(4):
        next(batches)
    tokens, started, used = 0, time.perf_counter(), time.process_time()
    for batch in batches:
        tokens += batch["input_ids"].numel()
        if tokens >= most:
            break
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    return tokens / wall / 1e6, tokens / cpu / 1e6


def packed_rows(loader: Loader, folder: Path, length: int) -> Callable[[], Iterator[dict]]:
    """The peer: the same sequences, written as rows of a `datasets` dataset."""
    import datasets

    datasets.disable_progress_bars()
    ids = np.concatenate([x["input_ids"].numpy() for x in loader.batches(TOKENS // length)])
    column = pa.FixedSizeListArray.from_arrays(pa.array(ids.astype(np.int32).ravel()), length)
    datasets.Dataset(pa.table({"input_ids": column})).save_to_disk(folder)
    packed = datasets.load_from_disk(str(folder)).shuffle(seed=0).with_format("numpy")

    def batches() -> Iterator[dict]:
        while True:
            for part in packed.iter(TOKENS // length):
                tokens = torch.from_numpy(part["input_ids"].astype(np.int64))
                labels = torch.full_like(tokens, -100)
                labels[:, :-1] = tokens[:, 1:]
                yield {"input_ids": tokens, "labels": labels}

    return batches


def again(loader: Loader, size: int) -> Iterator[dict]:
    while True:
        yield from loader.batches(size)


def workers(loader: Loader, size: int) -> Iterator[dict]:
    while True:
        yield from DataLoader(PackedDataset(loader, size), batch_size=None, num_workers=2)


def speed(folder: Path, quick: bool) -> list[Claim]:
    claims = []
    for mean in (60, 800) if quick else (60, 800, 4000):
        run = folder / f"of-{mean}"
        lengths = write_documents(run, (8 << 20) // mean if quick else (48 << 20) // mean, mean)
        for length in (512, 4096):
            write_plan(run, lengths, length, f"plan-{length}")
            loader = Loader.open(run / f"plan-{length}", run / "encode")
            size, most = TOKENS // length, (6 if quick else 48) << 20
            ways = {
                "loader": partial(again, loader, size),
                "two workers": partial(workers, loader, size),
                "datasets": packed_rows(loader, folder / f"rows-{mean}-{length}", length),
            }
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for _ in range(3 if quick else 5):
                for way, batches in ways.items():
                    found[way].append(rate(batches(), most // 4 if way == "two workers" else most))
            wall = {way: statistics.median(x for x, _ in rates) for way, rates in found.items()}
            ours, theirs = (
                statistics.median(x for _, x in found[way]) for way in ("loader", "datasets")
            )
            least, most_seen = min(found["loader"])[0], max(found["loader"])[0]
            print(
                f"documents of {mean:>5,} tokens, L = {length:>5,}, million tokens/s: loader "
                f"{wall['loader']:.1f} in one thread ({least:.0f} to {most_seen:.0f}; {ours:.0f} a "
                f"CPU second), {wall['two workers']:.1f} by two workers; datasets "
                f"{wall['datasets']:.1f} ({theirs:.0f} a CPU second)"
            )
            kind = f"{length}_documents_{mean}"
            best = max(wall["loader"], wall["two workers"])
            claims.append((f"loader_mtokens_per_second_{kind}", best, 50.0))
            ratio = wall["loader"] / wall["datasets"]
            claims.append((f"loader_vs_datasets_{kind}", ratio, 1.0))
    return claims


def memory(small: Path, large: Path) -> list[Claim]:
    own = []
    for run in (small, large):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(run)], capture_output=True, text=True, check=True
        )
        own.append(int(done.stdout))
    more = (own[1] - own[0]) / 1024
    print(
        f"memory of its own: {own[0] / 1024:.1f} MB, and {own[1] / 1024:.1f} MB for ten times as "
        f"many documents ({more:+.1f} MB; a byte each for the source, where a shard has several)"
    )
    return [("loader_memory_small_over_ten_times", own[0] / own[1], 0.95)]


def trace(run: Path, steps: int, runs: int) -> list[Claim]:
    claims = []
    command = [sys.executable, "-m", "pipelines.cli", "trace", str(run), "--json"]
    middle = [*command, "--step", str(steps // 2)]
    told = json.loads(subprocess.run(middle, capture_output=True, check=True).stdout)
    name = told["pieces"][7]["id"]
    assert all(piece["uri"] for piece in told["pieces"])
    for what, arguments in (("step", middle), ("document", [*command, "--document", name])):
        walls, cpus = [], []
        for _ in range(runs):
            before, started = os.times(), time.perf_counter()
            subprocess.run(arguments, capture_output=True, check=True)
            walls.append(time.perf_counter() - started)
            after = os.times()
            cpus.append(
                after.children_user + after.children_system
                - before.children_user - before.children_system
            )  # fmt: skip
        wall, cpu = statistics.median(walls), statistics.median(cpus)
        extra = f", {len(told['pieces'])} pieces" if what == "step" else ""
        print(f"trace a {what}: {wall:.2f} s ({cpu:.2f} s of CPU){extra}")
        claims.append((f"trace_{what}_per_second_of_a_million_documents", 1 / wall, 1.0))
    return claims


def claims(quick: bool) -> list[Claim]:
    """Measure everything: (name, value, target), larger being better."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as place:
        folder = Path(place)
        found = speed(folder, quick)
        small, large = folder / "small", folder / "large"
        documents = 1_000_000
        # Shards of one size, as a corpus grows: to read one takes memory, whatever their number.
        write_plan(small, write_documents(small, documents // 10, 40, shards=2), 512)
        sequences = write_plan(large, write_documents(large, documents, 40, shards=20), 512)
        steps = write_record(large, sequences)
        return found + memory(small, large) + trace(large, steps, 3 if quick else 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer tokens and runs")
    quick = parser.parse_args().quick
    started = time.perf_counter()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; Python "
          f"{platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}, "
          f"pyarrow {pa.__version__}")  # fmt: skip
    found = claims(quick)
    print(f"took {time.perf_counter() - started:.0f} s")
    for name, value, target in found:
        print(f"{name} {value:.3f} {target:g}")


if __name__ == "__main__":
    main()
