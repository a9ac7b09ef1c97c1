"""`gristmill tok train … --plan`: what a training will take, told from a sample, writing nothing.

Some 64 MB are drawn from the text (`text_sample`), or a million rows from counts, and go through
what the run does, with its options, so speeds are those of this machine at this moment. What the
sample took is then carried on, each in proportion to one thing:

* Distinct words grow with the text by Heaps' law, N^b, where b itself falls slowly: by 1 to 3
  percent with every doubling, in what was measured. b is what the sample shows from its quarter to
  its whole; the forecast lets it fall by 1.5 percent, the bounds by nothing and by 3.
* Reading and counting take a time for each byte of text. Sorting and writing the counts, learning,
  and all memory and disk, go with the distinct words.

What this cannot know: text unlike the sample, and what else the machine will be doing.

Forecast (from a quarter of the text) and run, 32,000 tokens, two busy cores: English, 24 MB: 6.0 s
and 4.9, 338 MB of memory and 268, 138,000 words and 132,000; all languages, 75 MB: 18 s and 34, 798
and 667 MB, 1.61 and 1.57 M; Chinese and Japanese, 44 MB: 31 s and 24, 891 and 766 MB, 0.87 and 0.90
M; Python, 50 MB: 1.7 s and 1.5, 365 and 335 MB, 163,000 and 147,000. Of all of it, words are exact.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipelines.runner import Bar
from pipelines.text_sample import sample_texts
from pipelines.texts import present_columns
from pipelines.tok_count import groups_of
from pipelines.tok_job import Job, Options, prepare
from pipelines.tok_train import NOTHING, learn
from tok import COUNTS_SCHEMA, WordCounter, weigh, write_counts
from tok.counts import read_batches

SAMPLE = 64 << 20
_BATCH = 8 << 20
_ROWS = 1 << 20
_FALLS = np.array([2, 1, 0]) * 0.015  # of the exponent, with every doubling of the text
_NEAR = np.array([0.7, 1, 1.3])  # how far off the times and the memory of a run may well be
_MERGING = 3  # spilled rows are sorted, written, read and added up: in times of sorting and writing
_TOKENIZER = 60  # bytes that the tokenizer's files take for a token


def growth(part: float, times: float) -> np.ndarray:
    """How many times as many distinct words there are in `times` as much text: [low, about, high].

    part: the share of the sample's words that a quarter of the sample has.
    """
    doublings = np.log2(max(times, 1))
    exponent = -np.log2(min(max(part, 0.25), 1)) / 2
    # The exponent was seen a doubling before the sample's end, and is wanted half the way on.
    return 2 ** (doublings * exponent * (1 - _FALLS * (1 + doublings / 2)).clip(0.3))


@dataclass
class Trial:
    """What counting some text by one scheme took and gave. rows: of counts; words: distinct ones;
    seconds, sorting: until the counts are there, and until they are a table and written; held:
    bytes of the hash tables in the end; disk: bytes of the file; peak: bytes of memory."""

    table: pa.Table
    rows: int
    words: int
    seconds: float
    sorting: float
    held: int
    disk: int
    peak: int


def plan(
    inputs: list[Path],
    out: Path,
    options: Options,
    *,
    force: bool = False,
    memory: int = 4 << 30,
    threads: int | None = None,
    sample: int = SAMPLE,
    progress: Progress,
    warn: Callable[[str], None] = lambda message: None,
) -> dict:
    """Forecast what `train` with the same arguments takes; JSON-able.

    sample: bytes of text to draw. Returns scheme, vocab_size, text and sample (absent for counts),
    spills (how often counting will), notes, planning_seconds, and as {low, about, high}: words,
    memory and disk (bytes), counting_seconds, learning_seconds, and seconds, the sum of both.
    Raises ValueError for what `train` says before its work.
    """
    clock, base = time.monotonic(), _memory("VmRSS")
    job = prepare(inputs, out, options, force=force)
    bar = Bar(progress, progress.add_task("sample", total=3, note=""))
    result: dict = {"scheme": job.superword or job.scheme, "vocab_size": options.vocab_size}
    disk, peaks, spills = np.full(3, options.vocab_size * _TOKENIZER), [], 0
    counting = np.zeros(3)
    if job.counted:
        paths = [inputs, *([[options.superword_counts]] if job.superword else [])]
        drawn = [_some_rows(some) for some in paths]
        tables, shares = [table for table, _ in drawn], [share for _, share in drawn]
        share, own = 1.0, sum(table.nbytes for table in tables)
        # Sorted by words, a share of the rows has that share of the words.
        more = np.full(3, 1 / shares[0])
        words, more_words = len(weigh(tables[0])) * more, np.full(3, 1 / shares[-1])
        counting += time.monotonic() - clock
        whole = min(shares) == 1
    else:
        columns = present_columns(inputs, ("domain", "language"))
        drawn = sample_texts(inputs, columns, sample)
        if not drawn.size:
            raise ValueError(NOTHING)
        times, own, tables = drawn.bytes / drawn.size, drawn.table.nbytes, []
        share, whole = 1 / times, times <= 1
        bar.at(1)
        for scheme in [job.scheme, *([job.superword] if job.superword else [])]:
            quarter = _count(_first(drawn.table, drawn.size // 4), columns, scheme, threads, own)
            all_ = _count(drawn.table, columns, scheme, threads, own)
            more = growth(quarter.rows / max(all_.rows, 1), times)
            more_words = growth(quarter.words / max(all_.words, 1), times)
            runs = int(all_.held * more[1] // memory)
            spills = max(spills, runs)
            counting += drawn.seconds + all_.seconds * times
            counting += all_.sorting * more * (_MERGING if runs else 1)
            disk = disk + all_.disk * more * (2 if runs else 1)
            most = max(memory / max(all_.held, 1), 1)
            peaks.append(base + (all_.peak - base) * np.minimum(more, most))
            # A plain file is read whole: its bytes, the string they are, and that again for Arrow.
            peaks[-1] += 4 * drawn.largest if drawn.largest > _BATCH else 0
            words = all_.words * more_words if not tables else words
            tables.append(all_.table)
        result["text"] = {"files": drawn.files, "documents": drawn.documents, "bytes": drawn.bytes}
        result["sample"] = {"bytes": drawn.size, "share": share}
    bar.at(2)
    job, notes = _with_known_weights(job, tables[0], whole)
    seconds, peak = _learn(tables, job, threads, share, own, warn)
    peaks.append(base + (peak - base) * more_words)
    learning = seconds * more_words
    bar.at(3)
    if job.counted and len(inputs) > 1:
        notes.append("words that several of the files have count once for each: upper bounds")
    ranges = {
        "words": words,
        "memory": np.max(peaks, axis=0) * _NEAR,
        "disk": disk,
        "counting_seconds": counting * _NEAR,
        "learning_seconds": learning * _NEAR,
        "seconds": (counting + learning) * _NEAR,
    }
    for name, value in ranges.items():
        low, about, high = value.astype(float).tolist()
        result[name] = {"low": low, "about": about, "high": high}
    result |= {"spills": spills, "notes": notes}
    return result | {"planning_seconds": round(time.monotonic() - clock, 1)}


def _with_known_weights(job: Job, counts: pa.Table, whole: bool) -> tuple[Job, list[str]]:
    """The job without weights for groups that a sample lacks, and a note that says so."""
    groups = set(pc.unique(counts["group"]).to_pylist())
    missing = [group for group in job.options.weights if group not in groups]
    if whole or not missing:
        return job, []
    known = {group: f for group, f in job.options.weights.items() if group in groups}
    note = f"--weight: no {missing[0]!r} is in the sample; is there any in the input?"
    return replace(job, options=replace(job.options, weights=known)), [note]


def _first(table: pa.Table, size: int) -> pa.Table:
    """The first documents, of about `size` bytes of text."""
    ends = pc.cumulative_sum(pc.binary_length(table["text"]).cast(pa.int64()))
    return table.slice(0, max(pc.sum(pc.less_equal(ends, size)).as_py() or 0, 1))


def _count(
    table: pa.Table, columns: tuple[str, ...], scheme: str, threads: int | None, own: int
) -> Trial:
    """Count a part of the sample as `tok count` does. own: bytes in memory of the sample itself."""
    _start_peak()
    clock = time.monotonic()
    counter = WordCounter(scheme, threads=threads)
    size = pc.sum(pc.binary_length(table["text"])).as_py()
    for batch in table.to_batches(max(len(table) * _BATCH // max(size, 1), 1)):
        counter.add(batch["text"], groups_of(batch, columns))
    counted, held = time.monotonic(), counter.held
    counts = counter.table()
    sink = pa.BufferOutputStream()
    write_counts([counts], sink)
    sorting, peak = time.monotonic() - counted, _memory("VmHWM") - own
    words = len(weigh(counts))
    return Trial(counts, len(counts), words, counted - clock, sorting, held, sink.tell(), peak)


def _learn(
    tables: list[pa.Table], job: Job, threads: int | None, share: float, own: int, warn: Callable
) -> tuple[float, int]:
    """Learn from the counts of each stage: seconds, bytes of memory at the peak.

    share: of all text; the least count is as much lower, so that as many merges are made.
    """
    least = max(round(job.options.min_count * share), 1)
    job = replace(job, options=replace(job.options, min_count=least))
    _start_peak()
    clock = time.monotonic()
    learn(job, tables[0], lambda: tables[-1], threads, lambda n: None, warn).tokenizer.to_str()
    return time.monotonic() - clock, _memory("VmHWM") - own


def _some_rows(paths: list[Path]) -> tuple[pa.Table, float]:
    """Rows of counts from all parts of the alphabet alike, and which share of all they are."""
    total = sum(pq.read_metadata(path).num_rows for path in paths)
    step = max(-(-total // _ROWS), 1)
    parts = [
        batch.slice(at, 1024)
        for path in paths
        for batch in read_batches(path)
        for at in range(0, len(batch), 1024 * step)
    ]
    table = pa.Table.from_batches(parts, COUNTS_SCHEMA).combine_chunks()
    if not len(table):
        raise ValueError(NOTHING)
    return table, len(table) / total


def _start_peak() -> None:
    """Measure the peak of this process's memory from now on, where the system can do that."""
    pa.default_memory_pool().release_unused()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(what: str) -> int:
    """Bytes that this process holds ("VmRSS"), or held at most ("VmHWM"); 0 if unknown."""
    with suppress(OSError, IndexError):
        return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) << 10
    return 0


def print_plan(result: dict, console: Console) -> None:
    """Print a forecast as a table: what is expected, and between what it may lie."""
    title = f"forecast: {result['vocab_size']:,} tokens, scheme {result['scheme']}"
    table = Table(title=title, title_justify="left")
    for column in ("", "about", "between"):
        table.add_column(column, justify="left" if column == "" else "right")
    if text := result.get("text"):
        part = result["sample"]
        table.add_row(f"text, files: {text['files']:,}", size(text["bytes"]))
        table.add_row("documents", f"{text['documents']:,}")
        table.add_row("sample of it", f"{size(part['bytes'])} ({part['share']:.1%})")
    for name, key, form in (
        ("distinct words", "words", number), ("counting", "counting_seconds", duration),
        ("learning", "learning_seconds", duration), ("time", "seconds", duration),
        ("peak memory", "memory", size), ("disk", "disk", size),
    ):  # fmt: skip
        low, about, high = (form(value) for value in result[key].values())
        table.add_row(name, about, "" if low == high else f"{low} and {high}")
    if text:
        spills = result["spills"]
        table.add_row("spills (--memory)", f"about {spills} times" if spills else "no")
    console.print(table)
    for note in result["notes"]:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"planned in {result['planning_seconds']:.0f} s; nothing was written", style="dim",
        highlight=False,
    )  # fmt: skip


def size(n: float) -> str:
    """Bytes, in decimal units."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= factor:
            return f"{n / factor:.3g} {unit}" if n < 1000 * factor else f"{n / factor:,.0f} {unit}"
    return f"{n:.0f} B"


def number(n: float) -> str:
    return f"{n / 1e6:.3g} M" if n >= 1e6 else f"{n:,.0f}"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
