"""Parts of a long split: what of it is done stays done when its task is killed.

A split that cannot be cut (a compressed .jsonl of 20 GB) may take hours. Whenever `part_bytes` more
of its text have been read, what was made of them is written as whole files, with the reader's place
and the counts so far; a task that is started again goes on behind the last of them. At the end the
parts are joined, row group by row group, to the split's outputs.

    work/parts/00042/00003/          the files of part 3, as they would lie in the stage's folder
    work/parts/00042/state.json      how many parts are whole, and all that is known behind them

A part ends where the text says, never where a task was killed, and so do its row groups: a split
comes out in the same bytes however often its task died. A split that ends before its first part is
full is written to its outputs at once, and costs nothing.

A long split costs the joining, which decodes and writes its outputs once more, a row group at a
time: 160 MB of text a second, where reading, language, length, private data and signing for the
first round together do 30 (one shared core, .jsonl.zst of 60 MB: a fifth of the time, less with
more steps). It also costs the disk of its parts until the whole map is done. To go on costs what
the reader needs to come to its place (`readers.py`; here 470 MB a second), and less than
`part_bytes` and a batch of text are filtered again.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.files import TEMPORARY, read_json, write_json


class Files:
    """Parquet files under way; `keep` gives them their names, else nothing is left of them."""

    def __init__(self) -> None:
        self._open: dict[Path, tuple[Path, pq.ParquetWriter]] = {}

    def __enter__(self) -> "Files":
        return self

    def __exit__(self, *_: object) -> None:
        for temporary, writer in self._open.values():
            writer.close()
            temporary.unlink(missing_ok=True)

    def open(self, path: Path, schema: pa.Schema) -> pq.ParquetWriter:
        """Begin the file that is to be called `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
        writer = pq.ParquetWriter(temporary, schema, compression="zstd")
        self._open[path] = temporary, writer
        return writer

    def keep(self, name: Callable[[Path], Path] = lambda path: path) -> int:
        """Finish the files, under the names that `name` gives for theirs; returns their bytes."""
        size = 0
        while self._open:
            path, (temporary, writer) = self._open.popitem()
            writer.close()
            size += temporary.stat().st_size
            target = name(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)
        return size


class Parts:
    """The parts of one split that are whole; `state` is what was told of the last of them."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory = directory
        self._folder = directory / "work" / "parts" / f"{number:05d}"
        found = read_json(self._folder / "state.json") or {"parts": 0, "bytes": 0, "state": None}
        self.count: int = found["parts"]
        self.bytes: int = found["bytes"]
        self.state: dict | None = found["state"]

    def add(self, files: Files, state: dict) -> None:
        """Make a part of files that are to be outputs; state: JSON, to go on from."""
        part = self._folder / f"{self.count:05d}"
        self.bytes += files.keep(lambda path: part / path.relative_to(self._directory))
        self.count += 1
        self.state = state
        content = {"parts": self.count, "bytes": self.bytes, "state": state}
        write_json(self._folder / "state.json", content)

    def join(self) -> None:
        """Write the outputs from all parts. The parts stay: another process may be at it too."""
        folders = [self._folder / f"{part:05d}" for part in range(self.count)]
        names = {p.relative_to(f) for f in folders for p in f.rglob("*.parquet")}
        for name in sorted(names):
            # A part without documents has no signatures.
            paths = [folder / name for folder in folders if (folder / name).exists()]
            with Files() as files:
                writer = files.open(self._directory / name, pq.read_schema(paths[0]))
                for path in paths:
                    with pq.ParquetFile(path) as part:
                        for group in range(part.num_row_groups):
                            table = part.read_row_group(group).combine_chunks()
                            writer.write_table(table, row_group_size=max(1, len(table)))
                files.keep()
