"""A plan and token shards written by hand, not by the planner: any pieces in any rows.

`PackedRun` keeps what it wrote, so that a test can say what must come out: `batch_of` builds a
batch one token at a time, as the loader's description has it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from packing import Permutation
from packing.plan import PLAN_SCHEMA, ROWS_IN_BATCH, ROWS_IN_FILE
from packing.shards import DOCUMENTS_SCHEMA, write_shard

SOURCES = ["blog", "proofs", "repo", "wiki"]
PAD = 7


@dataclass
class PackedRun:
    """What was written.

    documents[shard][number]: tokens; spans: the same, lists or None; rows[set]: lists of (shard,
    document, start, length).
    """

    directory: Path
    seed: int
    lengths: dict[str, int]
    documents: list[list[np.ndarray]] = field(default_factory=list)
    ids: list[list[str]] = field(default_factory=list)
    sources: list[list[int]] = field(default_factory=list)
    spans: list[list[list[tuple[int, int]] | None]] = field(default_factory=list)
    rows: dict[str, list[list[tuple[int, int, int, int]]]] = field(default_factory=dict)

    @property
    def plan(self) -> Path:
        return self.directory / "plan"

    @property
    def shards(self) -> Path:
        return self.directory / "encode"

    def row(self, position: int) -> tuple[list[tuple[int, int, int, int]], int]:
        """The pieces at a position of all phases, and the row's length."""
        for name in self.rows:
            if not name.startswith("phase-"):
                continue
            count = len(self.rows[name])
            if position < count:
                return self.rows[name][Permutation(count, self.seed, name)[position]], self.lengths[
                    name
                ]
            position -= count
        raise IndexError(position)

    def batch_of(self, first: int, last: int, apart: bool = False) -> dict[str, list]:
        """The batch of positions first … last - 1, a token at a time."""
        batch: dict[str, list] = {
            name: [] for name in ("input_ids", "labels", "document_ids", "source_ids")
        }
        for position in range(first, last):
            pieces, length = self.row(position)
            tokens = []  # (token, number of the piece, source, whether it counts)
            for number, (shard, document, start, n) in enumerate(pieces):
                spans = self.spans[shard][document]
                for at in range(start, start + n):
                    counts = spans is None or any(s <= at < s + size for s, size in spans)
                    token = int(self.documents[shard][document][at])
                    tokens.append((token, number, self.sources[shard][document], counts))
            tokens += [(PAD, -1, -1, False)] * (length - len(tokens))
            labels = []
            for here, following in zip(tokens, [*tokens[1:], (0, -1, -1, False)], strict=True):
                good = following[3] and not (apart and here[1] != following[1])
                labels.append(following[0] if good else -100)
            batch["labels"].append(labels)
            for k, name in enumerate(("input_ids", "document_ids", "source_ids")):
                batch[name].append([token[k] for token in tokens])
        batch["sequence_index"] = list(range(first, last))
        return batch | ({"sample_ids": batch["document_ids"]} if apart else {})


def write_packed(
    directory: Path,
    sets: dict[str, tuple[int, int]],
    *,
    seed: int = 0,
    shards: int = 3,
    documents: int = 40,
    with_spans: bool = False,
    mean: float = 9,
) -> PackedRun:
    """Write a run. sets: name → (length of a sequence, number of sequences)."""
    rng = np.random.default_rng(seed)
    run = PackedRun(directory, seed, {name: length for name, (length, _) in sets.items()})
    run.shards.mkdir(parents=True)
    run.plan.mkdir()
    for s in range(shards):
        sizes = 1 + rng.geometric(1 / mean, documents)
        run.documents.append([rng.integers(0, 1 << 30, n).astype(np.int32) for n in sizes])
        run.ids.append([f"{rng.integers(1 << 62):032x}" for _ in sizes])
        one = rng.integers(len(SOURCES))  # some shards have one source, some have all
        several = rng.integers(0, len(SOURCES), documents).tolist()
        run.sources.append([int(one)] * documents if s % 2 == 0 else several)
        spans: list[list[tuple[int, int]] | None] = [None] * documents
        if with_spans and s != 1:
            for d in range(0, documents, 1 + s % 3):
                count = int(rng.integers(0, 4))
                starts = rng.integers(0, sizes[d], count)
                spans[d] = [(int(a), int(rng.integers(0, sizes[d] - a + 1))) for a in starts]
        run.spans.append(spans)
        lists = [None if x is None else [{"start": a, "length": n} for a, n in x] for x in spans]
        nothing = pa.nulls(documents)
        columns = {
            "id": run.ids[s],
            "source": [SOURCES[x] for x in run.sources[s]],
            "domain": ["math" if x == 1 else "web" for x in run.sources[s]],
            "language": ["eng_Latn"] * documents,
            "parents": [[f"parent-of-{x}"] if x[-1] in "01" else None for x in run.ids[s]],
            "bytes": sizes * 3,
            "tokens": sizes,
            "atomic": nothing,
            "loss_spans": pa.array(lists, DOCUMENTS_SCHEMA.field("loss_spans").type),
        }
        table = pa.table(columns).cast(DOCUMENTS_SCHEMA)
        write_shard(run.shards / f"shard-{s:05d}", np.concatenate(run.documents[s]), table)
    entries = {}
    for name, (length, count) in sets.items():
        run.rows[name] = [_row(rng, run, length) for _ in range(count)]
        files = write_rows(run.plan, name, run.rows[name])
        entries[name] = {"name": name, "length": length, "sequences": count, "files": files}
    content = {
        "seed": seed,
        "shards": [f"shard-{s:05d}" for s in range(shards)],
        "sources": SOURCES,
        "phases": [entry for name, entry in entries.items() if name.startswith("phase-")],
        "validation": {
            name.partition("-")[2]: entry
            for name, entry in entries.items()
            if name.startswith("validation-")
        },
    }
    (run.plan / "plan.json").write_text(json.dumps(content))
    return run


def _row(rng, run: PackedRun, length: int) -> list[tuple[int, int, int, int]]:
    """Pieces that fill a row, mostly; sometimes none at all."""
    row, left = [], length if rng.random() > 0.1 else int(rng.integers(0, length))
    while left > 0:
        s = int(rng.integers(len(run.documents)))
        d = int(rng.integers(len(run.documents[s])))
        size = len(run.documents[s][d])
        start = int(rng.integers(size)) if rng.random() < 0.3 else 0
        n = min(size - start, left)
        row.append((s, d, start, n))
        left -= n
    return row


def write_rows(plan: Path, name: str, rows: list[list[tuple[int, int, int, int]]]) -> list[str]:
    """Write the rows of a set as the planner does."""
    keys = ("shard", "document", "start", "length")
    files = []
    for k, first in enumerate(range(0, max(len(rows), 1), ROWS_IN_FILE)):
        part = rows[first : first + ROWS_IN_FILE]
        table = pa.table(
            {"pieces": [[dict(zip(keys, piece, strict=True)) for piece in row] for row in part]},
            schema=PLAN_SCHEMA,
        )
        files.append(f"{name}-{k:05d}.arrow")
        with (
            pa.OSFile(str(plan / files[-1]), "wb") as sink,
            pa.ipc.new_file(sink, PLAN_SCHEMA) as w,
        ):
            w.write_table(table, ROWS_IN_BATCH)
    return files
