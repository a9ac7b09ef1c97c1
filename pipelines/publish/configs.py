"""The configurations of the dataset: which rows they have, and which file takes which of them.

    data/text/train-00000-of-00004.parquet        documents as curated
    data/tokenized/train-00000-of-00009.parquet   the same documents as token ids
    data/packed/train-00000-of-00009.parquet      training sequences, in training order
    data/packed/phase-1/train-00000-of-00002.parquet   … and so if a plan has several phases

Files are decided first, from the inputs alone: a file takes whole pieces of the inputs (row groups
of text, some thousand documents of tokens, a stretch of positions of a phase), as many as should
make `shard_bytes` when compressed. How small a piece becomes is told by compressing a sample of
them, so a file's size is met within some percent, and which rows it has does not depend on who
writes it or what was written before. So each file is a split of a map, like any other work here.

Rows of `text` and `tokenized` that the plan keeps out of training are set aside by the writer of
the file they would be in, and a second map joins them to the files of the split `validation`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.document import SCHEMA as DOCUMENT
from packing import Shard
from packing.plan import held_out
from packing.shards import read_index
from pipelines.files import atomic
from pipelines.publish import packed
from pipelines.publish.manifest import entry
from pipelines.publish.parquet import Writer, written_bytes

TEXT = pa.schema(
    [
        DOCUMENT.field(name)
        for name in ("id", "text", "source", "domain", "language", "uri", "license")
    ]
)
TOKENIZED = pa.schema(
    [
        ("id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("source", pa.string()),
        ("domain", pa.string()),
        ("language", pa.string()),
    ]
)
SCHEMAS = {"text": TEXT, "tokenized": TOKENIZED, "packed": packed.SCHEMA}
DOCUMENTS = 4096  # of a token shard that are one piece
SAMPLED = 8  # pieces compressed to learn how small they become
IDS = Path("work") / "ids"

Part = list  # JSON: [path, first, end] of row groups or documents; [set, start, stop, first index]
Rows = tuple[list[str], list[list[str] | None], pa.Table]  # ids, parents, what is published


def read_text(part: Part) -> Iterator[Rows]:
    """Rows of a stretch of row groups of curated documents."""
    path, first, end = part
    with pq.ParquetFile(path) as file:
        for group in range(first, end):
            table = file.read_row_group(group, columns=[*TEXT.names, "parents"])
            ids, parents = table["id"].to_pylist(), table["parents"].to_pylist()
            yield ids, parents, table.select(TEXT.names).cast(TEXT)


def read_tokenized(part: Part) -> Iterator[Rows]:
    """Rows of a stretch of documents of a token shard."""
    stem, first, end = part
    documents = pq.read_table(
        f"{stem}.documents.parquet", columns=["id", "parents", "source", "domain", "language"]
    )
    shard = Shard.open(Path(stem))
    for start in range(first, end, DOCUMENTS):
        table = documents.slice(start, min(DOCUMENTS, end - start))
        offsets = shard.offsets[start : start + len(table) + 1]
        values = pa.array(shard.tokens[offsets[0] : offsets[-1]], pa.int32())
        tokens = pa.ListArray.from_arrays(pa.array(offsets - offsets[0], pa.int32()), values)
        columns = [table["id"], tokens, table["source"], table["domain"], table["language"]]
        ids, parents = table["id"].to_pylist(), table["parents"].to_pylist()
        yield ids, parents, pa.table(columns, schema=TOKENIZED)


READ = {"text": read_text, "tokenized": read_tokenized}


def text_pieces(paths: Iterable[Path]) -> list[tuple[Part, int]]:
    """Row groups of documents, and the bytes they take there, which is nearly what they will."""
    pieces = []
    for path in paths:
        metadata = pq.read_metadata(path)
        for k in range(metadata.num_row_groups):
            group = metadata.row_group(k)
            columns = (group.column(c) for c in range(group.num_columns))
            size = sum(c.total_compressed_size for c in columns if c.path_in_schema in TEXT.names)
            pieces.append(([str(path), k, k + 1], size))
    return pieces


def tokenized_pieces(stems: Iterable[Path]) -> list[tuple[Part, int]]:
    """Stretches of documents of token shards, and the bytes of their tokens."""
    pieces = []
    for stem in stems:
        lengths = read_index(stem.with_name(stem.name + ".idx"))
        for first in range(0, len(lengths), DOCUMENTS):
            part = lengths[first : first + DOCUMENTS]
            pieces.append(([str(stem), first, first + len(part)], 4 * int(part.sum())))
    return pieces


def _evenly(items: list, count: int) -> list:
    """`count` of the items, spread evenly."""
    return [items[k * len(items) // count] for k in range(min(count, len(items)))]


def file_jobs(
    config: str, pieces: list[tuple[Part, int]], shard_bytes: int, fraction: float
) -> list[dict]:
    """The files of the split `train` of `text` or `tokenized`; `fraction` of the rows is not in it.

    pieces: parts of the inputs, each with a size that tells how it compares with the others.
    """
    sample = _evenly(pieces, SAMPLED)
    tables = (table for part, _ in sample for _, _, table in READ[config](part))
    written = written_bytes(tables, SCHEMAS[config])
    ratio = (1 - fraction) * written / max(sum(size for _, size in sample), 1)
    total = sum(size for _, size in pieces)
    count = max(1, min(round(total * ratio / shard_bytes), len(pieces)))
    groups: list[list[Part]] = [[] for _ in range(count)]
    done = 0
    for part, size in pieces:
        # A piece belongs where its middle lies.
        groups[min((2 * done + size) * count // max(2 * total, 1), count - 1)].append(part)
        done += size
    groups = [_join(group) for group in groups if group] or [[]]
    return [
        {
            "config": config,
            "file": f"data/{config}/{_file('train', k, len(groups))}",
            "parts": group,
        }
        for k, group in enumerate(groups)
    ]


def _join(parts: list[Part]) -> list[Part]:
    """Make one of neighbours."""
    joined: list[Part] = []
    for path, first, end in parts:
        if joined and joined[-1][0] == path and joined[-1][2] == first:
            joined[-1][2] = end
        else:
            joined.append([path, first, end])
    return joined


def _file(split: str, number: int, count: int) -> str:
    return f"{split}-{number:05d}-of-{count:05d}.parquet"


def packed_jobs(
    packed_rows: packed.PackedRows, plan: dict, shard_bytes: int, read: int = 256
) -> list[dict]:
    """The files of the configurations of sequences: those of each phase, and of validation.

    plan: the content of plan.json. read: sequences of a phase that tell how small they become.
    """
    jobs, first = [], 0
    several = len(plan["phases"]) > 1
    for phase in plan["phases"]:
        folder = f"data/packed/{phase['name']}" if several else "data/packed"
        n = phase["sequences"]
        taken = min(read, n)
        tables = packed_rows.rows(phase["name"], 0, taken, first) if n else ()
        size = written_bytes(tables, packed.SCHEMA) / max(taken, 1) * n
        count = max(1, min(round(size / shard_bytes), n))
        for k in range(count):
            part = [phase["name"], n * k // count, n * (k + 1) // count, first]
            name = f"{folder}/{_file('train', k, count)}"
            jobs.append({"config": "packed", "file": name, "parts": [part]})
        first += n
    sets = [entry for entry in plan["validation"].values() if entry["sequences"]]
    if sets:
        parts = [[entry["name"], 0, entry["sequences"], 0] for entry in sets]
        name = f"data/packed/{_file('validation', 0, 1)}"
        jobs.append({"config": "packed", "file": name, "parts": parts})
    return jobs


def validation_jobs(jobs: list[dict], records: list[dict], shard_bytes: int) -> list[dict]:
    """The files of the split `validation` of `text` and `tokenized`, from what was set aside."""
    found = []
    for config in READ:
        aside = [
            (record["held_out"]["file"], record["held_out"]["bytes"])
            for job, record in zip(jobs, records, strict=True)
            if job["config"] == config and record["held_out"]["rows"]
        ]
        total = sum(size for _, size in aside)
        count = max(1, min(round(total / shard_bytes), len(aside)))
        groups: list[list[str]] = [[] for _ in range(count)]
        done = 0
        for file, size in aside:
            groups[min(done * count // max(total, 1), count - 1)].append(file)
            done += size
        groups = [group for group in groups if group]
        found += [
            {
                "config": config,
                "file": f"data/{config}/{_file('validation', k, len(groups))}",
                "pieces": group,
            }
            for k, group in enumerate(groups)
        ]
    return found


def write_file(
    number: int, job: dict, stage: str, plan: str, shards: str, seed: int, fraction: float
) -> dict:
    """Write one file of the split `train` (a map of `tasks.MAPS`), or the packed validation set.

    The record has the file's entry of the manifest, what was held out of it, and, for text, the
    documents and bytes of each licence.
    """
    directory, config = Path(stage), job["config"]
    path = directory / "dataset" / job["file"]
    licences: dict[str, Counter] = {"documents": Counter(), "bytes": Counter()}
    aside = directory / "work" / "held-out" / f"{number:05d}.parquet"
    held = 0
    with atomic(path) as temporary, atomic(aside) as temporary_aside:
        writer = Writer(temporary, SCHEMAS[config])
        other = Writer(temporary_aside, SCHEMAS[config])
        if config == "packed":
            packed_rows = packed.PackedRows(Path(plan), Path(shards), directory / IDS)
            for part in job["parts"]:
                for table in packed_rows.rows(*part):
                    writer.add(table)
        else:
            for ids, parents, table in (rows for p in job["parts"] for rows in READ[config](p)):
                mask = pa.array(held_out(ids, parents, seed, fraction))
                other.add(table.filter(mask))
                writer.add(table.filter(pc.invert(mask)))
                if config == "text":
                    _count_licences(table, licences)
        writer.close()
        other.close()
        held = other.rows
    if not held:
        aside.unlink()
    size = aside.stat().st_size if held else 0
    return {
        "entry": entry(directory / "dataset", path, writer.rows),
        "held_out": {"file": aside.name, "rows": held, "bytes": size},
        "licences": licences,
    }


def _count_licences(table: pa.Table, into: dict[str, Counter]) -> None:
    sizes = pc.binary_length(table["text"].cast(pa.large_binary()))
    columns = pa.table([pc.fill_null(table["license"], ""), sizes], ["license", "bytes"])
    groups = columns.group_by("license", use_threads=False).aggregate(
        [("bytes", "sum"), ("bytes", "count")]
    )
    for row in groups.to_pylist():
        into["documents"][row["license"]] += row["bytes_count"]
        into["bytes"][row["license"]] += row["bytes_sum"]


def write_validation(number: int, job: dict, stage: str) -> dict:
    """Join rows that were held out to a file of the split `validation` (a map of `tasks.MAPS`)."""
    directory = Path(stage)
    path = directory / "dataset" / job["file"]
    with atomic(path) as temporary:
        writer = Writer(temporary, SCHEMAS[job["config"]])
        for piece in job["pieces"]:
            with pq.ParquetFile(directory / "work" / "held-out" / piece) as file:
                for batch in file.iter_batches(1024):
                    writer.add(pa.Table.from_batches([batch]))
        writer.close()
    return {"entry": entry(directory / "dataset", path, writer.rows)}


def views(files: Iterable[str], plan: dict) -> dict[str, dict[str, list[str]]]:
    """Globs of the files by configuration and split, as the card and Croissant name them.

    Several phases are one configuration, `packed`, with all of them in training order, and one of
    its own for each, `packed-phase-0`, …: their rows are of one length, and no file is there twice.
    """
    present = set(files)

    def has(folder: str, split: str) -> bool:
        return any(name.startswith(f"{folder}/{split}-") for name in present)

    found: dict[str, dict[str, list[str]]] = {}
    for config in READ:
        found[config] = {
            split: [f"data/{config}/{split}-*.parquet"]
            for split in ("train", "validation")
            if has(f"data/{config}", split)
        }
    names = [phase["name"] for phase in plan["phases"]]
    globs = [f"data/packed/{name}/train-*.parquet" for name in names]
    found["packed"] = {"train": globs if len(names) > 1 else ["data/packed/train-*.parquet"]}
    if has("data/packed", "validation"):
        found["packed"]["validation"] = ["data/packed/validation-*.parquet"]
    if len(names) > 1:
        found |= {
            f"packed-{name}": {"train": [glob]} for name, glob in zip(names, globs, strict=True)
        }
    return found
