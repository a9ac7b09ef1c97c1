"""`gristmill tok train … --plan`: what a training will take, told from a sample, writing nothing.

Some 64 MB are drawn from the text (`text_sample`), or a million rows from counts, and go through
what the run does, with its options: an eighth of them, half of them, and for counting all. So
speeds are those of this machine at this moment, and whatever the options cost is in them. What
grows with the text is carried on from there:

* Distinct words follow Heaps' law, V = K N^b, where b itself falls slowly as N grows: by 1 to 3
  percent with every doubling, in what was measured (code, English, 262 languages together; not at
  all for superwords). b is what the sample shows between its eighth and its whole; the forecast
  lets it fall by 1.5 percent, the bounds by nothing and by 3.
* Counting takes a time for each byte of text, and one for each row of the table in the end.
  Learning, and memory, grow with the bytes of the distinct words (see `tok/native/corpus.cpp`).

What this cannot know: text unlike the sample, and what else the machine will be doing.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

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
_FALLS = 0.015  # of the exponent, with every doubling of the text
_NEAR = 0.3  # how far off the times and the memory of one more run on the same text may well be
_MERGING = (
    3  # sorting, writing, reading and adding spilled rows up, in times of sorting and writing
)
_TOKENIZER = 60  # bytes that the tokenizer's files take for a token


@dataclass(frozen=True)
class Range:
    """A forecast, and between what it may well lie."""

    low: float
    about: float
    high: float

    def __mul__(self, factor: float) -> "Range":
        return Range(self.low * factor, self.about * factor, self.high * factor)

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.about + other.about, self.high + other.high)

    def map(self, function: Callable[[float], float]) -> "Range":
        return Range(function(self.low), function(self.about), function(self.high))


def exactly(value: float) -> Range:
    return Range(value, value, value)


def carried_on(small: tuple[float, float], whole: tuple[float, float], to: float) -> Range:
    """Carry a growing quantity on: (bytes of text, quantity) of a part of the sample and of all."""
    (n1, v1), (n, v) = small, whole
    if to <= n or not 0 < v1 < v:
        return exactly(v)
    b = min(math.log(v / v1) / math.log(n / n1), 1.0)
    between, further = math.log2(n / n1) / 2, math.log2(to / n)

    def grown(falls: float) -> float:
        q = 1 - falls
        steps = q * (1 - q**further) / (1 - q) if falls else further
        return v * 2 ** (b * q**between * steps)

    return Range(grown(2 * _FALLS), grown(_FALLS), grown(0))


@dataclass
class Stage:
    """What counting a part of the sample by one scheme took and gave."""

    table: pa.Table
    text: int  # bytes of text
    rows: int
    words: int  # distinct ones, whatever their group
    word_bytes: int  # of those
    held: int  # bytes of the hash tables in the end
    count_seconds: float
    table_seconds: float  # sorting, compressing
    disk: int
    peak: int


@dataclass
class Trial:
    """Learning from a part of the sample."""

    seconds: float
    peak: int
    vocab_size: int


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
    stages (of counting), notes, planning_seconds, and as {low, about, high}: words, memory and disk
    (bytes), counting_seconds, learning_seconds, and seconds, the sum of both. Raises ValueError for
    what `train` says before its work.
    """
    clock = time.monotonic()
    job = prepare(inputs, out, options, force=force)
    bar = Bar(progress, progress.add_task("sample", total=4, note=""))
    if job.counted:
        result = _of_counts(inputs, job, threads, bar, warn)
    else:
        result = _of_text(inputs, job, memory, threads, sample, bar, warn)
    bar.at(4, 4)
    about = {"scheme": job.superword or job.scheme, "vocab_size": options.vocab_size}
    return about | result | {"planning_seconds": round(time.monotonic() - clock, 1)}


def _of_text(
    inputs: list[Path], job: Job, memory: int, threads: int | None, most: int, bar: Bar,
    warn: Callable,
) -> dict:  # fmt: skip
    columns = present_columns(inputs, ("domain", "language"))
    sample = sample_texts(inputs, columns, most)
    size, own = sample.size, sample.table.nbytes
    if not size:
        raise ValueError(NOTHING)
    share = min(size / sample.bytes, 1)
    groups = {g for b in sample.table.to_batches() for g in groups_of(b, columns)}
    job, notes = _with_known_weights(job, groups, sample.whole)
    schemes = [job.scheme, *([job.superword] if job.superword else [])]

    def counted(part: int) -> list[Stage]:
        table = _first(sample.table, size // part)
        return [_count(table, columns, scheme, threads, own) for scheme in schemes]

    def learned(stages: list[Stage], part: int, tell: Callable = lambda message: None) -> Trial:
        return _learn([stage.table for stage in stages], job, threads, share / part, own, tell)

    bar.at(1)
    small, half = counted(8), counted(2)
    bar.at(2)
    learned_small, learned_half = learned(small, 8), learned(half, 2, warn)
    bar.at(3)
    whole = counted(1)

    counting, disk, peaks, stages = exactly(0), exactly(job.options.vocab_size * _TOKENIZER), [], []
    for a, c in zip(small, whole, strict=True):
        rows = carried_on((a.text, a.rows), (c.text, c.rows), sample.bytes)
        held = rows * (c.held / c.rows)
        runs = math.ceil(held.about / memory) if held.about > memory else 0
        work = rows * ((_MERGING if runs else 1) * c.table_seconds / c.rows)
        counting += exactly(sample.read_seconds + sample.bytes * c.count_seconds / c.text) + work
        table = rows * (c.disk / c.rows)
        disk += table * (2 if runs else 1)
        in_memory = rows.map(lambda n, c=c: min(n, memory * c.rows / c.held))
        peaks.append(_line((a.rows, a.peak), (c.rows, c.peak), in_memory))
        words = carried_on((a.text, a.words), (c.text, c.words), sample.bytes)
        doubled = carried_on((a.text, a.words), (c.text, c.words), 2 * c.text)
        stages.append(
            {"rows": asdict(rows), "words": asdict(words), "held": asdict(held), "runs": runs,
             "for_twice_the_text": doubled.about / c.words, "counts_bytes": asdict(table)}
        )  # fmt: skip
    a, b, c = small[-1], half[-1], whole[-1]
    size_of_words = carried_on((a.text, a.word_bytes), (c.text, c.word_bytes), sample.bytes)
    learning = size_of_words * (learned_half.seconds / b.word_bytes)
    points = [(a.word_bytes, learned_small.peak), (b.word_bytes, learned_half.peak)]
    peaks.append(_line(*points, size_of_words))
    peak = max(peaks, key=lambda peak: peak.about)
    if sample.largest_file > _BATCH:
        # A plain file is read whole: its bytes, the string they are, and that again for Arrow.
        peak += exactly(4 * sample.largest_file)
    if sample.cut:
        notes.append(
            "some pieces (row groups, compressed files) are too large to be read to their ends "
            "here; what was not seen of them is taken to be like their beginnings"
        )
    if sample.skipped:
        notes.append(f"{len(sample.skipped)} files in the sample are no UTF-8: they are left out")
    return {
        "text": {"files": sample.files, "documents": sample.documents, "bytes": sample.bytes},
        "sample": {"bytes": size, "share": 1.0 if sample.whole else share},
        "stages": stages,
        **_forecast(counting, learning, Range(**stages[0]["words"]), peak, disk, notes),
    }


def _of_counts(inputs: list[Path], job: Job, threads: int | None, bar: Bar, warn: Callable) -> dict:
    paths = [inputs, *([[job.options.superword_counts]] if job.superword else [])]
    clock = time.monotonic()
    tables, shares = zip(*map(_some_rows, paths), strict=True)
    reading = exactly(time.monotonic() - clock)
    bar.at(1)
    groups = set(pc.unique(tables[0]["group"]).to_pylist())
    job, notes = _with_known_weights(job, groups, shares[0] == 1)
    own, trials, sizes = sum(table.nbytes for table in tables), [], []
    for part, tell in ((4, lambda message: None), (1, warn)):
        parts = [_nth(table, part) for table in tables]
        sizes.append(pc.sum(pc.binary_length(weigh(parts[-1])["word"])).as_py() or 0)
        trials.append(_learn(parts, job, threads, 1.0, own, tell))
        bar.at(len(trials) + 1)
    learning = exactly(trials[1].seconds / shares[-1])
    points = [(size, trial.peak) for size, trial in zip(sizes, trials, strict=True)]
    peak = _line(*points, exactly(sizes[1] / shares[-1]))
    if len(inputs) > 1:
        notes.append("words that several of the files have count once for each: upper bounds")
    words = exactly(len(weigh(tables[0])) / shares[0])
    disk = exactly(job.options.vocab_size * _TOKENIZER)
    return {"stages": [], **_forecast(reading, learning, words, peak, disk, notes)}


def _forecast(
    counting: Range, learning: Range, words: Range, peak: Range, disk: Range, notes: list[str]
) -> dict:
    ranges = {"words": words, "disk": disk}
    for name, value in (
        ("counting_seconds", counting), ("learning_seconds", learning),
        ("seconds", counting + learning), ("memory", peak),
    ):  # fmt: skip
        ranges[name] = Range(value.low * (1 - _NEAR), value.about, value.high * (1 + _NEAR))
    return {name: asdict(value) for name, value in ranges.items()} | {"notes": notes}


def _with_known_weights(job: Job, groups: set[str], whole: bool) -> tuple[Job, list[str]]:
    """The job without weights for groups that a sample lacks, and a note that says so."""
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
) -> Stage:
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
    seconds, peak = time.monotonic() - counted, _peak() - own
    words = weigh(counts)["word"]
    return Stage(
        counts, size, rows=len(counts), words=len(words),
        word_bytes=pc.sum(pc.binary_length(words)).as_py() or 0, held=held,
        count_seconds=counted - clock, table_seconds=seconds, disk=sink.tell(), peak=peak,
    )  # fmt: skip


def _learn(
    tables: list[pa.Table], job: Job, threads: int | None, share: float, own: int, warn: Callable
) -> Trial:
    """Learn from the counts of each stage. share: of all text; the least count is as much lower."""
    least = max(round(job.options.min_count * share), 1)
    job = replace(job, options=replace(job.options, min_count=least))
    _start_peak()
    clock = time.monotonic()
    learned = learn(job, tables[0], lambda: tables[1], threads, lambda n: None, warn)
    learned.tokenizer.to_str()
    seconds = time.monotonic() - clock
    return Trial(seconds, _peak() - own, learned.tokenizer.get_vocab_size())


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
    return table, len(table) / max(total, 1)


def _nth(table: pa.Table, n: int) -> pa.Table:
    """Every n-th block of rows."""
    return pa.concat_tables([table.slice(at, 1024) for at in range(0, len(table), 1024 * n)])


def _line(a: tuple[float, float], b: tuple[float, float], to: Range) -> Range:
    """Carry memory on along the straight line through two points (size, memory), never below."""
    slope = max((b[1] - a[1]) / (b[0] - a[0]), 0) if b[0] > a[0] else 0
    return to.map(lambda n: b[1] + slope * max(n - b[0], 0))


def _start_peak() -> None:
    """Measure the peak of this process's memory from now on, where the system can do that."""
    pa.default_memory_pool().release_unused()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most memory, in bytes, that this process has held since `_start_peak`, or ever."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) << 10
    except (OSError, IndexError):
        import resource
        import sys

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most << 10


def print_plan(result: dict, console: Console) -> None:
    """Print a forecast as a table: what is expected, and between what it may lie."""
    table = Table(
        title=f"forecast: {result['vocab_size']:,} tokens, scheme {result['scheme']}",
        title_justify="left",
    )
    for column in ("", "about", "between"):
        table.add_column(column, justify="left" if column == "" else "right")

    def row(name: str, value: dict, form: Callable[[float], str]) -> None:
        near = form(value["low"]) == form(value["high"])
        table.add_row(name, form(value["about"]), "" if near else
                      f"{form(value['low'])} and {form(value['high'])}")  # fmt: skip

    if text := result.get("text"):
        files = f"{text['files']:,} files" if text["files"] != 1 else "one file"
        table.add_row(f"text, {files}", size(text["bytes"]), "")
        table.add_row("documents", f"{text['documents']:,}", "")
        part = result["sample"]
        table.add_row("sample of it", f"{size(part['bytes'])} ({part['share']:.1%})", "")
    row("distinct words", result["words"], number)
    for stage in result["stages"][:1]:
        table.add_row("  for twice the text", f"{stage['for_twice_the_text']:.2f} times", "")
    if result["stages"]:
        row("counting", result["counting_seconds"], duration)
    row("learning", result["learning_seconds"], duration)
    row("time", result["seconds"], duration)
    row("peak memory", result["memory"], size)
    for stage in result["stages"]:
        row("  of which counting, at most", stage["held"], size)
    spills = [stage["runs"] for stage in result["stages"] if stage["runs"]]
    if result["stages"]:
        told = f"yes, about {max(spills)} times" if spills else "no"
        table.add_row("spills (--memory)", told, "")
    row("disk", result["disk"], size)
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
