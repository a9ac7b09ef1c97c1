"""Lengths of real documents, and tables of documents that have them.

Lengths are those of files in this Python's library folders and of documents in `../shared/data`
where it is there, at four bytes to a token; as many as are asked for are drawn from them, with
replacement. A third is code. Ids are random.
"""

import os
import sysconfig
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from packing.shards import DOCUMENTS_SCHEMA, write_index

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
SUFFIXES = (".py", ".pyi", ".c", ".h", ".hpp", ".cpp", ".js", ".ts", ".html", ".md", ".rst", ".txt")
SHARD = 1_000_000
SOURCES = ("pages", "wiki", "forum", "books", "repos", "notebooks", "proofs", "lessons")
DOMAINS = ("web", "web", "web", "book", "code", "code", "math", "math")
LANGUAGES = ("eng_Latn", "deu_Latn", "fra_Latn", "jpn_Jpan", "zho_Hans", "swe_Latn")


@cache
def lengths() -> tuple[np.ndarray, np.ndarray, str]:
    """Tokens of text documents and of code files (int64), and where they are from."""
    folders = {sysconfig.get_paths()[name] for name in ("stdlib", "purelib")}
    code = [
        (Path(place) / name).stat().st_size
        for folder in folders
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(SUFFIXES)
    ]
    text, said = [], f"{len(code):,} files of source trees"
    for path in sorted((DATA / "multilingual").glob("*.parquet")):
        column = pq.read_table(path, columns=["text"])["text"].combine_chunks()
        text.append(pc.binary_length(column.cast(pa.large_binary())).to_numpy())
    if text:
        said += f" and {sum(map(len, text)):,} documents of shared/data/multilingual"
    code = np.array(code)
    text = np.concatenate(text) if text else code
    return np.maximum(text // 4, 1) + 1, np.maximum(code // 4, 1) + 1, said


def write_corpus(
    out: Path, count: int, most: int | None = None, tokens: bool = False
) -> dict[str, int]:
    """`count` documents in tables of SHARD rows, none over `most` tokens; tokens by domain.

    tokens: write `.bin` and `.idx` too.
    """
    out.mkdir(parents=True)
    text, code, _ = lengths()
    total = dict.fromkeys(DOMAINS, 0)
    for k, first in enumerate(range(0, count, SHARD)):
        n = min(SHARD, count - first)
        rng = np.random.default_rng(k)
        kind = rng.integers(0, len(SOURCES), n)
        is_code = np.isin(kind, (4, 5))
        sizes = np.where(is_code, rng.choice(code, n), rng.choice(text, n))
        sizes = np.minimum(sizes, most or 2**31 - 1)
        holes = is_code & (rng.random(n) < 0.1) & (sizes > 20)
        starts = np.concatenate([[0], np.cumsum(holes)]).astype(np.int32)
        spans = pa.StructArray.from_arrays(
            [pa.array(sizes[holes] // 3), pa.array(np.minimum(sizes[holes] // 2, 400))],
            fields=list(DOCUMENTS_SCHEMA.field("atomic").type.value_type),
        )
        mask = pa.py_buffer(np.packbits(holes, bitorder="little").tobytes())
        atomic = pa.ListArray.from_buffers(
            DOCUMENTS_SCHEMA.field("atomic").type, n, [mask, pa.py_buffer(starts)], children=[spans]
        )
        ids = pa.py_buffer(rng.bytes(16 * n).hex().encode())
        offsets = pa.py_buffer(np.arange(0, 32 * (n + 1), 32, dtype=np.int32))

        def named(codes: np.ndarray, names: tuple[str, ...]) -> pa.Array:
            return pa.DictionaryArray.from_arrays(codes.astype(np.int32), list(names)).cast(
                "string"
            )

        columns = {
            "id": pa.StringArray.from_buffers(n, offsets, ids),
            "source": named(kind, SOURCES),
            "domain": named(kind, DOMAINS),
            "language": named(rng.integers(0, len(LANGUAGES), n), LANGUAGES),
            "parents": pa.nulls(n, DOCUMENTS_SCHEMA.field("parents").type),
            "bytes": sizes * 4,
            "tokens": sizes,
            "atomic": atomic,
            "loss_spans": pa.nulls(n, DOCUMENTS_SCHEMA.field("loss_spans").type),
        }
        stem = out / f"shard-{k:05d}"
        table = pa.table(columns).cast(DOCUMENTS_SCHEMA)
        pq.write_table(table, f"{stem}.documents.parquet", compression="zstd")
        if tokens:
            rng.integers(0, 32_000, int(sizes.sum()), dtype=np.int32).tofile(f"{stem}.bin")
            write_index(Path(f"{stem}.idx"), sizes)
        for domain, n in zip(DOMAINS, np.bincount(kind, sizes, len(DOMAINS)), strict=True):
            total[domain] += int(n)
    return total
