"""How fast a plan is made, how full its sequences are, and what memory it takes.

    python tests/benchmarks/bench_packing_plan.py [--quick] [--large] [--peers PYTHON]

Lengths are those of real documents (`packing_lengths.py`). Speed and memory: a process of its own
for each plan, from the tables of documents to `plan.json`, imports not counted; documents a second
by the clock and by CPU time of both cores. `--large` adds a hundred million documents (8 GB of
disk, minutes). Beside TRL's `pack_dataset(strategy="bfd")`, in turn, on the same documents: TRL
from token lists in memory to an Arrow table of rows in memory, ours from documents.parquet and
`.bin` to arrays of rows, shuffled, 256 rows at a time; the best run of each side, medians printed
beside. peers: a Python that has `trl` and `datasets` (or GRISTMILL_PEERS); without, it is left out.
Last, the time of a whole `gristmill mix --what-if`.
"""

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from packing_lengths import lengths, write_corpus

from packing import Phase, PlanConfig, Validation, make_plan
from packing.census import ahead
from packing.mapped import TokenShards
from packing.positions import Sequences, read_plan

Claim = tuple[str, float, float]
ROWS = 256  # sequences made at a time: 4 MB of tokens
LENT = 4 << 30  # bytes; see `process_memory.lend_memory`

PLAN = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bench_packing_plan import plan_of
from process_memory import lend_memory
lend_memory(int(sys.argv[5]))
started, used = time.perf_counter(), time.process_time()
plan = plan_of(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
status = Path("/proc/self/status").read_text().split()
phase = plan["phases"][0]
print(json.dumps({
    "seconds": time.perf_counter() - started, "cpu": time.process_time() - used,
    "peak": int(status[status.index("VmHWM:") + 1]) * 1024, "fill": phase["fill"],
    "named": sum(domain["documents"] for domain in phase["domains"].values())}))
"""
TRL = """
import json, sys, time
sys.path.insert(0, sys.argv[3])
from process_memory import lend_memory
import datasets, numpy as np
from pathlib import Path
from trl import pack_dataset
datasets.disable_progress_bars()
stem, length = sys.argv[1], int(sys.argv[2])
tokens = np.fromfile(stem + ".bin", "<i4")
import pyarrow.parquet as pq, pyarrow as pa
sizes = pq.read_table(stem + ".documents.parquet", columns=["tokens"])["tokens"].to_numpy()
lists = pa.ListArray.from_arrays(
    pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)), pa.array(tokens))
data = datasets.Dataset(pa.table({"input_ids": lists}))
pack_dataset(data.select(range(100)), length, strategy="bfd")
lend_memory(int(sys.argv[4]))
started, used = time.perf_counter(), time.process_time()
packed = pack_dataset(data, length, strategy="bfd")
seconds, cpu = time.perf_counter() - started, time.process_time() - used
import pyarrow.compute as pc
tokens = pc.sum(pc.list_value_length(packed.with_format("arrow")[:]["input_ids"])).as_py()
print(json.dumps({"seconds": seconds, "cpu": cpu, "rows": len(packed), "tokens": tokens}))
"""
ROWS_OF = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bench_packing_plan import materialise, plan_of_all
from process_memory import lend_memory
corpus, few, out, length = *map(Path, sys.argv[2:5]), int(sys.argv[5])
materialise(out / "few", few, plan_of_all(few, out / "few", length)["phases"][0])
lend_memory(int(sys.argv[6]))
started, used = time.perf_counter(), time.process_time()
phase = plan_of_all(corpus, out / "all", length)["phases"][0]
planned = time.perf_counter() - started
made = materialise(out / "all", corpus, phase)
print(json.dumps({
    "seconds": time.perf_counter() - started, "cpu": time.process_time() - used,
    "planned": planned, "fill": phase["fill"], "tokens": made}))
"""


def stems_of(corpus: Path) -> list[Path]:
    """The token shards of a corpus."""
    tables = sorted(corpus.glob("*.documents.parquet"))
    return [path.with_name(path.name.removesuffix(".documents.parquet")) for path in tables]


def everything(corpus: Path, length: int, share: float = 1.0) -> Phase:
    """A phase that takes a share of what every domain has."""
    have = json.loads((corpus / "tokens.json").read_text())
    total = sum(have.values())
    return Phase(length, int(share * total), {name: n / total for name, n in have.items()})


def plan_of(corpus: Path, out: Path, length: int, strategy: str = "best_fit") -> dict:
    """Plan all documents that are not held out, on both cores."""
    phase, held_out = everything(corpus, length, 0.998), Validation(0.001, 64)
    config = PlanConfig((phase,), validation=held_out, strategy=strategy)
    return make_plan(stems_of(corpus), out, config, workers=2)


def plan_of_all(corpus: Path, out: Path, length: int) -> dict:
    """Plan all documents, none held out."""
    config = PlanConfig((everything(corpus, length),), validation=Validation(0, 1))
    return make_plan(stems_of(corpus), out, config, workers=2)


def child(python: str, code: str, *arguments: object) -> dict:
    """What a process of its own says."""
    done = subprocess.run(
        [python, "-c", code, *map(str, arguments)], capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def materialise(plan: Path, corpus: Path, entry: dict) -> int:
    """Make all rows of a set, some at a time on both cores; returns how many tokens."""
    sequences = Sequences.open(plan, [entry["name"]])
    shards = TokenShards(stems_of(corpus), read_plan(plan)["sources"])

    def rows_of(first: int) -> int:
        found = sequences.pieces(first, min(first + ROWS, len(sequences)))
        return len(shards.tokens(found, first, entry["length"]))

    with ThreadPoolExecutor(2) as pool:
        return sum(ahead(pool, rows_of, range(0, len(sequences), ROWS)))


def corpus_of(folder: Path, count: int) -> Path:
    """The corpus of a size, written when it is first asked for."""
    corpus = folder / f"corpus-{count}"
    if not corpus.is_dir():
        have = write_corpus(corpus, count)
        (corpus / "tokens.json").write_text(json.dumps(have))
    return corpus


def plan_speed(folder: Path, count: int, runs: int, lend: int, length: int = 4096) -> dict:
    """Medians over the runs of a plan of all documents."""
    corpus, here = corpus_of(folder, count), Path(__file__).parent
    answers = []
    for _ in range(runs):
        shutil.rmtree(folder / "plan", ignore_errors=True)
        answers.append(child(sys.executable, PLAN, here, corpus, folder / "plan", length, lend))
    middle = {key: statistics.median(a[key] for a in answers) for key in answers[0]}
    middle["best"] = min(a["seconds"] for a in answers)
    print(
        f"plan, {count:,} documents, length {length}: {middle['seconds']:.2f} s, CPU "
        f"{middle['cpu']:.2f} s, {count / middle['seconds'] / 1e6:.2f} M documents/s "
        f"(best {count / middle['best'] / 1e6:.2f}; by CPU of two cores "
        f"{2 * count / middle['cpu'] / 1e6:.2f}), peak {middle['peak'] / 2**20:.0f} MB, "
        f"fill {middle['fill']:.5f}, {middle['named']:,.0f} documents named"
    )
    return middle


def fills(folder: Path, count: int, quick: bool) -> list[Claim]:
    """How full the sequences are, by length and strategy."""
    claims: list[Claim] = []
    corpus = corpus_of(folder, count)
    for length in (512, 4096) if quick else (512, 2048, 4096, 32_768):
        others = () if quick or length != 4096 else ("concat", "none")
        for strategy in ("best_fit", *others):
            out = folder / "fill"
            started = time.perf_counter()
            phase = plan_of(corpus, out, length, strategy)["phases"][0]
            seconds = time.perf_counter() - started
            shutil.rmtree(out)
            print(
                f"fill, {count:,} documents, {strategy}, length {length}: {phase['fill']:.5f} in "
                f"{phase['sequences']:,} sequences, {seconds:.1f} s"
            )
            if strategy == "best_fit":
                claims.append((f"pack_fill_{length}", phase["fill"], 0.999))
    return claims


def against_trl(folder: Path, peers: str, count: int, runs: int, lend: int) -> list[Claim]:
    """Documents a second from documents to rows, ours over TRL's."""
    length, here = 4096, Path(__file__).parent
    corpus, few = folder / "trl", folder / "few"
    for path, size in ((corpus, count), (few, 1000)):  # the few are for late imports
        have = write_corpus(path, size, most=length, tokens=True)
        (path / "tokens.json").write_text(json.dumps(have))
    ours, theirs = [], []
    for _ in range(runs):
        try:
            theirs.append(child(peers, TRL, corpus / "shard-00000", length, here, lend))
        except RuntimeError as error:
            print(f"TRL is left out: {str(error).splitlines()[-1]}")
            return []
        shutil.rmtree(folder / "rows", ignore_errors=True)
        arguments = (here, corpus, few, folder / "rows", length, lend)
        ours.append(child(sys.executable, ROWS_OF, *arguments))
    # The best of each: where a machine gives memory lazily, one run in two waits for it, by chance.
    a, b = (min(answers, key=lambda answer: answer["seconds"]) for answers in (theirs, ours))
    if a["tokens"] != b["tokens"]:
        raise RuntimeError(f"TRL packed {a['tokens']:,} tokens, ours {b['tokens']:,}")
    ratio = a["seconds"] / b["seconds"]
    middle = [statistics.median(x["seconds"] for x in answers) for answers in (theirs, ours)]
    print(
        f"rows, {count:,} documents of {a['tokens']:,.0f} tokens, length {length}, best of {runs}: "
        f"TRL {a['seconds']:.2f} s, fill {a['tokens'] / a['rows'] / length:.4f}; ours "
        f"{b['seconds']:.2f} s ({b['planned']:.2f} s for the plan), fill {b['fill']:.4f}; ratio "
        f"{ratio:.1f}; medians {middle[0]:.2f} s and {middle[1]:.2f} s, ratio "
        f"{middle[0] / middle[1]:.1f}; CPU seconds {a['cpu']:.2f} and {b['cpu']:.2f}, ratio "
        f"{a['cpu'] / b['cpu']:.1f}"
    )
    return [("pack_rows_vs_trl", ratio, 20)]


def what_if(folder: Path, count: int) -> list[Claim]:
    """A whole `gristmill mix` process, on documents that no plan was made of."""
    run = folder / "run"
    (run / "encode").mkdir(parents=True)
    outputs = []
    for stem in stems_of(corpus_of(folder, count)):
        name = f"{stem.name}.documents.parquet"
        (run / "encode" / name).symlink_to(stem.with_name(name))
        outputs.append({"path": f"{stem.name}.bin"})
    (run / "encode" / "manifest.json").write_text(json.dumps({"outputs": outputs}))
    phase = everything(corpus_of(folder, count), 4096, 0.5)
    recipe = {
        "name": "bench", "out": str(run), "sources": [{"path": ".", "name": "a", "domain": "web"}],
        "plan": {"phases": [{"tokens": phase.tokens, "mixture": phase.mixture}]},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    code = "import sys; from pipelines.cli import main; sys.argv[0] = 'gristmill'; main()"
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code, "mix", str(folder / "recipe.yaml"),
             "--what-if", "math=0.3", "--json"],
            check=True, capture_output=True,
        )  # fmt: skip
        seconds.append(time.perf_counter() - started)
    print(f"mix --what-if, {count:,} documents: {statistics.median(seconds):.2f} s")
    return [("mix_what_if_two_seconds_over", 2 / statistics.median(seconds), 1)]


def claims(quick: bool, large: bool = False, peers: str | None = None) -> list[Claim]:
    """Measure, print what was seen, and return (name, value, target), larger being better."""
    peers = peers or os.environ.get("GRISTMILL_PEERS", sys.executable)
    print(lengths()[2])
    made: list[Claim] = []
    with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as name:
        folder = Path(name)
        sizes = [250_000, 1_000_000] if quick else [1_000_000, 10_000_000]
        sizes += [100_000_000] if large else []
        lend = 0 if quick else LENT
        seen = [plan_speed(folder, n, 1 if n > 10_000_000 or quick else 3, lend) for n in sizes]
        rates = [n / answer["seconds"] / 1e6 for n, answer in zip(sizes, seen, strict=True)]
        made.append(("plan_mdocuments_per_second", rates[-1], 5))
        by_cpu = 2 * sizes[-1] / seen[-1]["cpu"] / 1e6
        made.append(("plan_mdocuments_per_second_by_cpu_of_two_cores", by_cpu, 5))
        for key in ("seconds", "peak"):
            times = math.log(seen[-1][key] / seen[-2][key])
            exponent = times / math.log(sizes[-1] / sizes[-2])
            billion = seen[-1][key] * (1e9 / sizes[-1]) ** exponent
            unit = f"{billion / 2**30:.1f} GB" if key == "peak" else f"{billion:,.0f} s"
            print(f"growth of {key}: n^{exponent:.2f}; a billion documents: {unit}")
        made += fills(folder, 1_000_000, quick)
        made += against_trl(folder, peers, 20_000 if quick else 200_000, 1 if quick else 7, lend)
        made += what_if(folder, 1_000_000)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--large", action="store_true", help="also a hundred million documents")
    parser.add_argument("--peers", help="a Python that has trl")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
          f"{platform.python_version()}, NumPy {np.__version__}, pyarrow {pa.__version__}, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    started = time.perf_counter()
    made = claims(options.quick, options.large, options.peers)
    print(f"\ntook {time.perf_counter() - started:.0f} s")
    for name, value, target in made:
        print(name, f"{value:.4g}", target)


if __name__ == "__main__":
    main()
