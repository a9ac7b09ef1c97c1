"""A mixed corpus of any size: code, prose of 262 languages, mathematics, archived pages.

The texts are the machine's source files and, where it is there, the real data (`../shared/data`).
What is asked for beyond them is repeats: a tenth exact, a tenth with one word in fifty changed, and
the others with one in ten, so that the rounds of deduplication have their work and much is left.
The forms are those of real corpora: .jsonl in files of 16 MB, Parquet, .warc.gz, and one long
.jsonl.zst, which is one split whatever its size. The same size gives the same bytes on a machine.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from corpora import DATA, read_sources, source_files

FILE_BYTES = 16 << 20
GROUP_BYTES = 4 << 20
SHARES = {"code": 0.35, "prose": 0.45, "long": 0.12, "math": 0.08}  # of the text, in bytes


def write_mixed(folder: Path, size: int) -> list[dict]:
    """Write about `size` bytes of text into `folder`; returns the sources of a recipe.

    Without the real data all of it is code.
    """
    there = DATA.is_dir()
    sources = []
    makers: dict[str, tuple[Callable, Callable, dict]] = {
        "code": (_code, _write_lines, {"domain": "code", "language": "python"}),
        "prose": (_prose, _write_tables, {"domain": "web"}),
        "long": (_prose, _write_long, {"domain": "web"}),
        "math": (_math, _write_lines, {"domain": "math", "language": "en"}),
    }
    for seed, (name, share) in enumerate(SHARES.items()):
        if name != "code" and not there:
            continue
        make, write, about = makers[name]
        part = int(size * share) if there else size
        (folder / name).mkdir(parents=True)
        write(folder / name, _until(_repeated(make, seed), part))
        sources.append({"path": str(folder / name), "name": name} | about)
    if (pages := DATA / "web" / "pages.warc.gz").exists():
        sources.append({"path": str(pages), "name": "pages", "domain": "web"})
    return sources


def _code() -> Iterator[dict]:
    for text in read_sources(source_files((".py", ".pyi"))):
        yield {"text": text.decode()}


def _prose() -> Iterator[dict]:
    """Documents of all languages, in the order of the files' row groups, dealt out in turn."""
    files = [pq.ParquetFile(path) for path in sorted((DATA / "multilingual").glob("*.parquet"))]
    with ExitStack() as stack:
        for file in files:
            stack.enter_context(file)
        columns = ["text", "language", "license"]
        turns = [file.iter_batches(batch_size=200, columns=columns) for file in files]
        while turns:
            for turn in list(turns):
                batch = next(turn, None)
                if batch is None:
                    turns.remove(turn)
                else:
                    yield from batch.to_pylist()


def _math() -> Iterator[dict]:
    with pa.input_stream(DATA / "math" / "math_text.jsonl.zst", compression="zstd") as stream:
        data = stream.read()
    for line in data.splitlines():
        yield {"text": json.loads(line)["text"]}


def _repeated(make: Callable[[], Iterable[dict]], seed: int) -> Iterator[dict]:
    """The documents, and then again and again, most of them changed."""
    for again in count():
        for n, row in enumerate(make()):
            if again:
                rng = random.Random(f"{seed} {again} {n}")
                every = rng.choices((None, 50, 10), (1, 1, 8))[0]
                if every:
                    row = row | {"text": changed(row["text"], every, rng)}
            yield row


def changed(text: str, every: int, rng: random.Random) -> str:
    """Change one word in `every`; of texts written without spaces, one letter.

    The new ones are taken from elsewhere in the text, so that its words stay those of its language.
    """
    spaced = text.count(" ") * 20 > len(text)
    parts = text.split(" ") if spaced else list(text)
    for start in range(0, len(parts), every):
        at = min(start + rng.randrange(every), len(parts) - 1)
        parts[at] = parts[rng.randrange(len(parts))]
    return (" " if spaced else "").join(parts)


def _until(rows: Iterable[dict], size: int) -> Iterator[tuple[dict, int]]:
    """Rows, with their bytes of text, until there are `size`."""
    for row in rows:
        taken = len(row["text"].encode())
        yield row, taken
        size -= taken
        if size <= 0:
            return


def _write_lines(folder: Path, rows: Iterable[tuple[dict, int]]) -> None:
    held: list[str] = []
    size = number = 0

    def write() -> None:
        (folder / f"{number:05d}.jsonl").write_text("".join(held), "utf-8")

    for row, taken in rows:
        held.append(json.dumps(row, ensure_ascii=False) + "\n")
        size += taken
        if size >= FILE_BYTES:
            write()
            held, size, number = [], 0, number + 1
    if held:
        write()


def _write_long(folder: Path, rows: Iterable[tuple[dict, int]]) -> None:
    with pa.output_stream(folder / "one.jsonl.zst", compression="zstd") as out:
        for row, _ in rows:
            out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _write_tables(folder: Path, rows: Iterable[tuple[dict, int]]) -> None:
    schema = pa.schema([(name, pa.large_string()) for name in ("text", "language", "license")])
    held: list[dict] = []
    size = 0
    with pq.ParquetWriter(folder / "all.parquet", schema, compression="zstd") as writer:
        for row, taken in rows:
            held.append(row)
            size += taken
            if size >= GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(held, schema))
                held, size = [], 0
        if held:
            writer.write_table(pa.Table.from_pylist(held, schema))
