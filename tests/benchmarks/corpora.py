"""The texts that the benchmarks run on, and the files that they are handed over in.

A corpus is two files: NAME.txt, the documents end to end, each ending in a line break, and
NAME.offsets, where each begins (int64, one more than there are documents). They are written into a
temporary folder by the benchmark and read by each measured process. What is written depends on the
machine's files and the size asked for, nothing else:

* `code`: source files of the machine (Python's library and installed packages, /usr/include,
  /usr/lib/python3), each content once, in the order of a hash of their paths, so that every tree
  has its share and the beginning of the corpus is like the whole;
* `english`: the English of the real data (`../shared/data`), no document twice;
* `multilingual`: a sample of `../shared/data/multilingual`, all languages in their proportions;
* `chinese`, `japanese`, `korean`, `thai`, `khmer`: all of that data in these languages;
* one-word texts for linear time: repeated letters, and random ones.

Documents that spell something like a special token are left out, because libraries treat those
differently on purpose. The top of this file needs the standard library only, as measured processes
may run where nothing else is installed.
"""

import hashlib
import json
import os
import random
import sys
import sysconfig
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
SUFFIXES = (
    *(
        ".c",
        ".cc",
        ".cpp",
        ".h",
        ".hh",
        ".hpp",
        ".py",
        ".pyi",
        ".pyx",
        ".rs",
        ".go",
        ".java",
        ".kt",
    ),
    *(".js", ".ts", ".tsx", ".cs", ".php", ".pl", ".rb", ".lua", ".jl", ".scala", ".swift", ".sh"),
)
# Longer files are data written as code.
LONGEST_SOURCE = 1 << 20
LANGUAGES = {
    "chinese": ("zho", "cmn"),
    "japanese": ("jpn",),
    "korean": ("kor_Hang",),
    "thai": ("tha",),
    "khmer": ("khm_Khmr",),
}
WORDS = {"a": b"a", "ab": b"ab", "letters": None}


@dataclass
class Corpus:
    """Documents end to end in `path`; document i is bytes offsets[i]:offsets[i + 1]."""

    path: Path
    offsets: array

    @classmethod
    def read(cls, path: str, limit: int | None) -> "Corpus":
        """Take a corpus written by `corpora.py`; limit: only the documents within so many bytes."""
        file = Path(path)
        offsets = array("q", file.with_suffix(".offsets").read_bytes())
        if limit is not None and limit < offsets[-1]:
            offsets = offsets[: max(2, bisect_left(offsets, limit))]
        return cls(file, offsets)

    @property
    def size(self) -> int:
        """Bytes of text."""
        return self.offsets[-1] - self.offsets[0]

    def bytes(self) -> bytes:
        """The text of all documents."""
        with self.path.open("rb") as file:
            file.seek(self.offsets[0])
            return file.read(self.size)

    def strings(self) -> list[str]:
        """The documents as Python strings."""
        data, first = self.bytes(), self.offsets[0]
        return [data[a - first : b - first].decode() for a, b in pairwise(self.offsets)]

    def separated(self, separator: bytes) -> bytes:
        """The documents in one buffer, a separator between any two."""
        data, first = memoryview(self.bytes()), self.offsets[0]
        joined = bytearray()
        for a, b in pairwise(self.offsets):
            joined += separator if joined else b""
            joined += data[a - first : b - first]
        return bytes(joined)

    def distinct_bytes(self) -> set[int]:
        """The byte values that occur."""
        found: set[int] = set()
        for piece in self.pieces(1 << 20):
            found.update(piece.bytes())
        return found

    def arrow(self) -> Any:
        """The documents as an Arrow array (large_string) over one buffer, nothing copied."""
        import pyarrow as pa

        offsets = array("q", (offset - self.offsets[0] for offset in self.offsets))
        return pa.Array.from_buffers(
            pa.large_string(),
            len(offsets) - 1,
            [None, pa.py_buffer(offsets), pa.py_buffer(self.bytes())],
        )

    def stream(self, size: int) -> Iterator[Any]:
        """The documents as Arrow arrays, about `size` bytes at a time, read into one buffer."""
        import pyarrow as pa

        buffer = bytearray()
        with self.path.open("rb") as file:
            file.seek(self.offsets[0])
            for piece in self.pieces(size):
                if len(buffer) < piece.size:
                    buffer = bytearray(piece.size)
                file.readinto(memoryview(buffer)[: piece.size])
                offsets = array("q", (offset - piece.offsets[0] for offset in piece.offsets))
                buffers = [None, pa.py_buffer(offsets), pa.py_buffer(buffer)]
                yield pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)

    def pieces(self, size: int) -> Iterator["Corpus"]:
        """The same documents, cut between documents into parts of about `size` bytes."""
        start = 0
        while start < len(self.offsets) - 1:
            stop = max(start + 1, bisect_left(self.offsets, self.offsets[start] + size))
            stop = min(stop, len(self.offsets) - 1)
            yield Corpus(self.path, self.offsets[start : stop + 1])
            start = stop


class Writer:
    """Writes one corpus, document by document, up to `target` bytes (None: everything)."""

    def __init__(self, folder: Path, name: str, target: int | None):
        self.path, self.target, self.size = folder / f"{name}.txt", target, 0
        self.offsets = array("q", [0])
        self.file = self.path.open("wb")

    @property
    def full(self) -> bool:
        return self.target is not None and self.size >= self.target

    def add(self, text: bytes) -> None:
        """Add a document, unless it is empty or spells something like a special token."""
        if self.full or not text or b"<|" in text or "<｜".encode() in text:
            return
        self.size += self.file.write(text if text.endswith(b"\n") else text + b"\n")
        self.offsets.append(self.size)

    def close(self) -> None:
        self.file.close()
        self.path.with_suffix(".offsets").write_bytes(self.offsets.tobytes())


def source_files(suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The machine's source files, in the order of a hash of their paths."""
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    roots = [sysconfig.get_path("stdlib"), "/usr/include", "/usr/lib/python3", *packages]
    found = set()
    for root in {Path(root).resolve() for root in roots}:
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name != "__pycache__"]
            found.update(Path(folder, name) for name in names if name.endswith(suffixes))
    return sorted(found, key=lambda path: hashlib.blake2b(bytes(path), digest_size=8).digest())


def read_sources(paths: Iterable[Path]) -> Iterator[bytes]:
    """The contents of files that are UTF-8 and not too long, each content once."""
    seen = set()
    for path in paths:
        try:
            if path.stat().st_size > LONGEST_SOURCE:
                continue
            text = path.read_bytes()
            text.decode()
        except (OSError, UnicodeDecodeError):
            continue
        digest = hashlib.blake2b(text, digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield text


def write_code(writer: Writer) -> None:
    """Fill a corpus with the machine's source files."""
    for text in read_sources(source_files()):
        writer.add(text)
        if writer.full:
            return


def write_multilingual(writers: dict[str, Writer]) -> None:
    """Fill `multilingual`, `english` and the languages' corpora from the real data."""
    import pyarrow.parquet as pq

    files = sorted((DATA / "multilingual").glob("train-*.parquet"))
    sample = writers.get("multilingual")
    by_prefix = {
        prefix: writers[name]
        for name, prefixes in (LANGUAGES | {"english": ("eng_Latn",)}).items()
        if name in writers
        for prefix in prefixes
    }
    lines = (DATA / "multilingual" / "languages.tsv").read_text().splitlines()
    total = sum(int(line.split("\t")[1]) for line in lines if line.split("\t")[1].isdigit())
    share = sample.target / total if sample and sample.target else 1.0
    seen, kept = Counter(), Counter()
    for file in files:
        if all(w.full for w in by_prefix.values()) and (sample is None or sample.full):
            break
        table = pq.read_table(file, columns=["text", "language"])
        texts = table["text"].cast("large_binary").to_pylist()
        for text, language in zip(texts, table["language"].to_pylist(), strict=True):
            if writer := by_prefix.get(language) or by_prefix.get(language[:3]):
                writer.add(text)
            if sample is None:
                continue
            seen[language] += len(text)
            if kept[language] + len(text) // 2 <= seen[language] * share:
                kept[language] += len(text)
                sample.add(text)


def write_more_english(writer: Writer) -> None:
    """Add the rest of the real data's English, and the documentation of installed packages."""
    import pyarrow.parquet as pq

    if writer.full:
        return
    with (DATA / "math" / "gsm8k-train.jsonl").open() as lines:
        for line in lines:
            problem = json.loads(line)
            writer.add(f"{problem['question']}\n{problem['answer']}".encode())
    for text in pq.read_table(DATA / "web" / "aeb.parquet", columns=["gold"])["gold"].to_pylist():
        writer.add((text or "").encode())
    for text in read_sources(source_files((".md", ".rst"))):
        writer.add(text)


def one_word(kind: str, size: int) -> bytes:
    """A text of one word: `a` or `ab` over and over, or random letters (seeded)."""
    if unit := WORDS[kind]:
        return unit * (size // len(unit))
    letters = bytes(ord("a") + value % 26 for value in range(256))
    return random.Random(0).randbytes(size).translate(letters)


def prepare(folder: Path, sizes: dict[str, int | None]) -> tuple[dict[str, Path], dict[str, str]]:
    """Write the corpora named in `sizes` (bytes each, None: all there is).

    Returns the files of those that could be written, and for the others the reason why not.
    """
    missing = {}
    if not (DATA / "multilingual" / "languages.tsv").is_file():
        missing = {name: f"no real data at {DATA}" for name in sizes if name != "code"}
    writers = {
        name: Writer(folder, name, size) for name, size in sizes.items() if name not in missing
    }
    if "code" in writers:
        write_code(writers["code"])
    real = {name: writer for name, writer in writers.items() if name != "code"}
    if real:
        write_multilingual(real)
    if "english" in real:
        write_more_english(real["english"])
    for name, writer in writers.items():
        writer.close()
        if not writer.size:
            missing[name] = "no such text on this machine"
    return {name: w.path for name, w in writers.items() if name not in missing}, missing


def write_text(folder: Path, name: str, text: bytes) -> Path:
    """Write a corpus of one document."""
    path = folder / f"{name}.txt"
    path.write_bytes(text)
    path.with_suffix(".offsets").write_bytes(array("q", [0, len(text)]).tobytes())
    return path
