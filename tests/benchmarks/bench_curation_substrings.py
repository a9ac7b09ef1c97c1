"""Substring deduplication: speed, size of the state and memory, as the corpus grows.

    python tests/benchmarks/bench_curation_substrings.py [--quick] [--peers PYTHON]

The corpus is a sample of the real data's languages (`corpora.py`), once, and 4 and 16 times as much
of it. Each is signed and written as Parquet with zstd, merged with 64 MiB, and applied, in one
process each; times are of the processor, all threads together. Speeds are of text; "state" is the
size of the signatures on disk. The last row is the worst case, a corpus of which every document is
there twice: all of its windows are sorted on disk.

The peer is a suffix array of the bytes with its common prefixes (pydivsufsort: divsufsort and
Kasai's), which is the longer part of what Lee et al.'s tool does; it is left out where `--peers`
(default: this Python, or $GRISTMILL_PEERS) has no such package.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from corpora import DATA, Corpus, prepare
from rich.console import Console
from rich.table import Table

from curation import _native
from curation.document import SCHEMA
from curation.substrings import SubstringDedup

MB = 1_000_000
MEMORY = 64 << 20
BATCH = 4 << 20  # bytes of text
STEP = SubstringDedup()
PEER = """
import json, re, sys, time
import numpy, pydivsufsort
text = numpy.fromfile(sys.argv[1], numpy.uint8)[: int(sys.argv[2])]
begin = time.process_time()
found = pydivsufsort.divsufsort(text)
pydivsufsort.kasai(text, found)
seconds = time.process_time() - begin
peak = int(re.search("VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
print(json.dumps({"seconds": seconds, "peak": peak, "bytes": len(text)}))
"""


def batches(path: str, limit: int, times: int):
    """The documents of a corpus, `times` over."""
    for _ in range(times):
        for texts in Corpus.read(path, limit).stream(BATCH):
            filled = {"text": texts, "domain": pa.array(["web"] * len(texts))}
            yield pa.record_batch(
                [filled.get(f.name, pa.nulls(len(texts), f.type)) for f in SCHEMA],
                names=SCHEMA.names,
            )


def peak() -> int:
    """The most memory that this process has held, in bytes; not what its parent held before."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) * 1024


def child(job: dict) -> dict:
    """Do one part of a round, and say what it took. A few texts go first, to load libraries."""
    with tempfile.TemporaryDirectory() as name:
        warm = Path(name)
        batch = next(batches(job["corpus"], 1, 1))
        pq.write_table(STEP.sign(batch), warm / "signed.parquet", compression="zstd")
        STEP.merge([warm / "signed.parquet"], warm, MEMORY)
        STEP.apply(batch, warm / "decisions.parquet", 0)
    folder = Path(job["folder"])
    signed, decisions = folder / "signed.parquet", folder / "decisions.parquet"
    size = documents = tokens = left = 0
    begin = time.process_time()
    if job["part"] == "merge":
        STEP.merge([signed], folder, MEMORY)
    else:
        writer = None
        spent = 0.0
        for batch in batches(job["corpus"], job["limit"], job["times"]):
            size += batch.column("text").nbytes - 8 * batch.num_rows
            start = time.process_time()
            if job["part"] == "sign":
                table = STEP.sign(batch)
                writer = writer or pq.ParquetWriter(signed, table.schema, compression="zstd")
                writer.write_table(table)
            else:
                done = STEP.apply(batch, decisions, documents)
                kept = done.filter(pc.is_null(done.column("reject")))
                left += kept.column("text").nbytes - 8 * kept.num_rows
            documents += batch.num_rows
            spent += time.process_time() - start
        if writer:
            writer.close()
    seconds = time.process_time() - begin if job["part"] == "merge" else spent
    if job["part"] == "sign":  # not counted: how many tokens there are
        for batch in batches(job["corpus"], min(job["limit"], 4 * MB), 1):
            data = b"".join(batch.column("text").cast(pa.large_binary()).to_pylist())
            tokens += len(_native.split_tokens(data)[0]) / len(data)
            break
    return {
        "seconds": seconds,
        "peak": peak(),
        "bytes": size,
        "state": signed.stat().st_size,
        "tokens_per_byte": tokens,
        "cuts": pq.read_metadata(decisions).num_rows if decisions.exists() else 0,
        "left": left,
    }


def run(command: list[str]) -> dict | None:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def measure(folder: Path, corpus: Path, limit: int, times: int) -> dict[str, dict]:
    """Run the three parts of a round on a corpus, each in a process of its own."""
    parts = {}
    for part in ("sign", "merge", "apply"):
        job = {"part": part, "folder": str(folder), "corpus": str(corpus)}
        job |= {"limit": limit, "times": times}
        answer = run([sys.executable, __file__, "--child", json.dumps(job)])
        if answer is None:
            raise SystemExit(f"{part} failed: run it with --child '{json.dumps(job)}'")
        parts[part] = answer
    (folder / "decisions.parquet").unlink()
    return parts


def main() -> None:
    """Measure and print tables, then the claims."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="an eighth of it")
    parser.add_argument("--peers", default=os.environ.get("GRISTMILL_PEERS", sys.executable))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(json.loads(options.child))))
        return
    unit = (2 if options.quick else 16) * MB
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table()
    for name in ("corpus", "MB", "sign MB/s", "state/text", "state bytes/token", "merge MB/s",
                 "merge peak MB", "sign+merge MB/s", "apply MB/s", "cut %"):  # fmt: skip
        table.add_column(name, justify="right", overflow="fold")
    claims = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, missing = prepare(folder, {"multilingual": 16 * unit})
        if missing:
            raise SystemExit(f"no real data at {DATA}: nothing to measure")
        corpus = files["multilingual"]
        for label, times, repeats in (
            ("1x", 1, 1),
            ("4x", 4, 1),
            ("16x", 16, 1),
            ("all twice", 2, 2),
        ):
            found = measure(
                folder, corpus, times * unit // (repeats if repeats > 1 else 1), repeats
            )
            sign, merge, apply = (found[part] for part in ("sign", "merge", "apply"))
            size = sign["bytes"]
            both = size / MB / (sign["seconds"] + merge["seconds"])
            share, state = sign["state"] / size, sign["state"] / size / sign["tokens_per_byte"]
            figures = [size / MB, size / MB / sign["seconds"], share, state]
            figures += [size / MB / merge["seconds"], merge["peak"] / MB, both]
            figures += [size / MB / apply["seconds"], 100 * (1 - apply["left"] / size)]
            table.add_row(label, *(f"{figure:.3g}" for figure in figures))
            key = label.replace(" ", "_")
            target = 20 if repeats == 1 else 10
            claims.append((f"substrings_{key}_sign_and_merge_mb_per_second", both, target))
            claims.append((f"substrings_{key}_300_MB_vs_merge_peak", 300 * MB / merge["peak"], 1))
            if label == "16x":
                claims.append(("substrings_text_vs_state", 1 / share, 1.7))
            if label == "1x":
                first = sign["seconds"] + merge["seconds"]
                peer = run([options.peers, "-c", PEER, str(corpus), str(size)])
                if peer:
                    claims.append(("substrings_vs_suffix_array_time", peer["seconds"] / first, 1))
                    claims.append(
                        ("substrings_vs_suffix_array_memory", peer["peak"] / merge["peak"], 1)
                    )
                    console.print(
                        f"pydivsufsort, 1x: {peer['seconds']:.2f} s, {peer['peak'] / MB:.0f} MB; "
                        f"ours: {first:.2f} s, {merge['peak'] / MB:.0f} MB",
                        highlight=False,
                    )
                else:
                    print("pydivsufsort is left out: not installed (see this docstring)")
    console.print(table)
    for name, value, target in claims:
        print(f"{name} {value:.4g} {target:g}")


if __name__ == "__main__":
    main()
