"""Deduplication: MinHash signatures beside datatrove's and rensa's, and how the merge grows.

    python tests/benchmarks/bench_curation_minhash.py            # a few minutes
    python tests/benchmarks/bench_curation_minhash.py --quick    # under a minute

Signatures: 5-grams of words, 112 permutations, the same source files of this machine in the same
run, one thread, CPU seconds, the best of some rounds in turn (datatrove, the slowest, goes once).
Ours is all of `DocumentDedup.sign` without the exact hash. rensa takes n-grams as Python strings
and is called as its documentation has it for bulk work, `digest_matrix_from_token_sets` of
R-MinHash over the whole set (its `rho` samples tokens, which is another measure), and C-MinHash;
cutting the text into n-grams in Python is part of using it, and its own time without that is shown
too. Both are left out where they are not installed.

The merge: signatures of random documents of which a tenth are exact and a fifth near duplicates,
one, four and sixteen times as many, each merged in a process of its own with the same memory.
`peak` is the resident memory above what the process has after its imports, mapped files included:
Parquet takes some 80 MB whatever the corpus, so the claim is about its growth from 1x to 16x.

The last lines are the claims, one a line: name, value, target; larger is better.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"  # read when rensa is imported

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from curation.dedup import DocumentDedup
from curation.document import make_batch

MB = 1_000_000
MEMORY = 64 << 20  # bytes for each merge
Claims = list[tuple[str, float, float]]

_MERGE = """
import json, resource, sys, time
from pathlib import Path
from curation.dedup import DocumentDedup
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
names, config = [Path(name) for name in sys.argv[3:]], DocumentDedup()
before, begin, cpu = peak(), time.perf_counter(), time.process_time()
config.merge(names, Path(sys.argv[1]), int(sys.argv[2]))
print(json.dumps([time.perf_counter() - begin, time.process_time() - cpu, peak() - before]))
"""


def source_files(size: int) -> list[str]:
    """Read Python's library and the installed packages, in a fixed order, up to `size` bytes."""
    texts, total = [], 0
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")):
        for path in sorted(Path(folder).rglob("*.py")):
            text = path.read_text("utf-8", "ignore")
            if 1000 < len(text) < 200_000:
                texts.append(text)
                total += len(text.encode())
            if total >= size:
                return texts
    return texts


def _signers(texts: list[str]) -> dict[str, Callable[[], object]]:
    batch = make_batch(
        {"text": text, "source": "s", "domain": "code", "uri": str(i)}
        for i, text in enumerate(texts)
    )
    config = DocumentDedup(exact=False)
    signers: dict[str, Callable[[], object]] = {"ours": lambda: config.sign(batch)}
    word = re.compile(r"\w+")

    def shingles() -> list[list[str]]:
        found = []
        for text in texts:
            words = word.findall(text.lower())
            found.append([" ".join(words[i : i + 5]) for i in range(len(words) - 4)])
        return found

    try:
        from rensa import CMinHash, RMinHash
    except ImportError:
        print("not installed: rensa")
    else:
        ready = shingles()
        by_r, by_c = RMinHash.digest_matrix_from_token_sets, CMinHash.digests64_from_token_sets
        signers["rensa (R)"] = lambda: by_r(shingles(), 112, 0)
        signers["rensa (C)"] = lambda: by_c(shingles(), 112, 0)
        signers["rensa (R), n-grams given"] = lambda: by_r(ready, 112, 0)
    try:
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

        with tempfile.TemporaryDirectory() as folder:
            sign = MinhashDedupSignature(folder, MinhashConfig())
        sign.get_shingles("loads spaCy")
    except ImportError as error:
        print(f"not installed: datatrove's MinHash ({error})")
    else:
        signers["datatrove"] = lambda: [
            sign.get_signature(grams) for t in texts if (grams := sign.get_shingles(t)).size
        ]
    return signers


def signatures(console: Console, size: int, rounds: int) -> Claims:
    """Measure the signing of `size` bytes of source files."""
    texts = source_files(size)
    megabytes = sum(len(text.encode()) for text in texts) / MB
    signers = _signers(texts)
    best = dict.fromkeys(signers, math.inf)
    for number in range(rounds):
        for name, sign in signers.items():
            if name == "datatrove" and number:
                continue
            begin = time.process_time()
            sign()
            best[name] = min(best[name], time.process_time() - begin)
    table = Table(title=f"MinHash signatures, {len(texts)} files, {megabytes:.1f} MB, one thread")
    for column in ("", "MB/s", "documents/s", "times ours"):
        table.add_column(column, justify="left" if not column else "right")
    for name, seconds in best.items():
        row = (megabytes / seconds, len(texts) / seconds, seconds / best["ours"])
        table.add_row(name, *(f"{value:,.1f}" for value in row))
    console.print(table)
    claims = [("dedup_sign_mb_per_s", megabytes / best["ours"], 70.0)]
    if "datatrove" in best:
        claims.append(("dedup_sign_vs_datatrove", best["datatrove"] / best["ours"], 60.0))
    if "rensa (R)" in best:
        fastest = min(best["rensa (R)"], best["rensa (C)"])
        claims.append(("dedup_sign_vs_rensa", fastest / best["ours"], 3.0))
    return claims


def _random_signatures(documents: int, folder: Path) -> Iterator[Path]:
    """Write signatures, 50,000 documents a file; copies are of documents of the same file."""
    config = DocumentDedup()
    for first in range(0, documents, 50_000):
        size = min(50_000, documents - first)
        rng = np.random.default_rng(first)
        exact = np.frombuffer(rng.bytes(16 * size), "<u8").reshape(-1, 2).copy()
        exact[: size // 10] = exact[rng.integers(size // 2, size, size // 10)]
        columns = {
            "id": pa.Array.from_buffers(
                pa.binary(16), size, [None, pa.py_buffer(rng.bytes(16 * size))]
            ),
            "exact": pa.Array.from_buffers(pa.binary(16), size, [None, pa.py_buffer(exact)]),
        }
        near = rng.integers(size // 2, size, size // 5)
        for band in range(config.bands):
            keys = rng.integers(0, 2**64, size, dtype=np.uint64)
            alike = rng.random(len(near)) < 0.5
            keys[: len(near)][alike] = keys[near[alike]]
            columns[f"band_{band:02d}"] = pa.array(keys)
        table = pa.table(columns).replace_schema_metadata({"dedup": json.dumps(config.settings)})
        path = folder / f"{first:09d}.parquet"
        pq.write_table(table, path, compression="zstd")
        yield path


def merges(console: Console, documents: int, runs: int) -> Claims:
    """Measure merges of `documents`, four and sixteen times as many."""
    table = Table(title=f"merge with {MEMORY >> 20} MiB, two rounds of keys and 14 bands")
    for column in ("documents", "seconds", "CPU seconds", "µs/document", "peak MB"):
        table.add_column(column, justify="right")
    taken, peaks = [], []
    for factor in (1, 4, 16):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            paths = list(_random_signatures(factor * documents, folder))
            arguments = [str(folder / "out"), str(MEMORY), *map(str, paths)]
            found = [
                json.loads(
                    subprocess.run(
                        [sys.executable, "-c", _MERGE, *arguments],
                        check=True,
                        capture_output=True,
                        text=True,
                    ).stdout
                )
                for _ in range(runs)
            ]
        wall, cpu, peak = min(found, key=lambda each: each[1])
        taken.append(cpu)
        peaks.append(peak)
        count = factor * documents
        table.add_row(
            f"{count:,}",
            f"{wall:.2f}",
            f"{cpu:.2f}",
            f"{cpu / count * 1e6:.1f}",
            f"{peak / MB:.0f}",
        )
    console.print(table)
    return [
        ("dedup_merge_16x_vs_16_times_1x", 16 * taken[0] / taken[2], 0.7),
        ("dedup_merge_memory_vs_growth_of_peak", MEMORY / max(peaks[2] - peaks[0], 1), 1.0),
    ]


def run(console: Console, quick: bool) -> Claims:
    """Measure everything; gives the claims as (name, value, target)."""
    claims = signatures(console, MB if quick else 8 * MB, 5)
    return claims + merges(console, 20_000 if quick else 100_000, 1 if quick else 3)


def part(bench) -> None:
    """Run as a part of bench_curation.py."""
    for claim in run(bench.console, bench.options.quick):
        bench.claim(*claim)


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="little of everything")
    begin = time.perf_counter()
    claims = run(Console(width=100), parser.parse_args().quick)
    print(f"took {time.perf_counter() - begin:.0f} s")
    for name, value, target in claims:
        print(f"{name} {value:.3g} {target:g}")


if __name__ == "__main__":
    main()
