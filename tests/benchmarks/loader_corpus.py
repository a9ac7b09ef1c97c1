"""A run of many small documents, written by vectors: shards, curated documents, a plan, a record.

The plan joins the documents in a drawn order and cuts them every L tokens, so that every row has
documents of many shards: the planner's own packing makes no difference to a loader.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packing.plan import PLAN_SCHEMA, ROWS_IN_BATCH, ROWS_IN_FILE
from packing.shards import DOCUMENTS_SCHEMA, write_shard

SOURCES = ["blog", "proofs", "repo", "wiki"]
BATCH = 64  # sequences of a step in the record


def write_documents(run: Path, documents: int, mean: float, shards: int = 16) -> list[np.ndarray]:
    """Token shards, and the curated documents that they are of; gives the lengths by shard."""
    rng = np.random.default_rng(0)
    (run / "encode").mkdir(parents=True)
    (run / "curate" / "documents").mkdir(parents=True)
    lengths, splits = [], []
    for s in range(shards):
        n = documents // shards
        sizes = rng.lognormal(np.log(mean) - 0.5, 1, n).astype(np.int64).clip(1, 50 * int(mean))
        lengths.append(sizes)
        half = rng.integers(0, 1 << 63, (n, 2), dtype=np.uint64)
        ids = half.tobytes().hex()
        table = pa.table(
            {
                "id": [ids[i : i + 32] for i in range(0, len(ids), 32)],
                "source": pa.array(SOURCES).take(pa.array(rng.integers(0, len(SOURCES), n))),
                "domain": pa.array(["web"] * n),
                "language": pa.array(["eng_Latn"] * n),
                "parents": pa.nulls(n),
                "bytes": sizes * 4,
                "tokens": sizes,
                "atomic": pa.nulls(n),
                "loss_spans": pa.nulls(n),
            }
        ).cast(DOCUMENTS_SCHEMA)
        tokens = rng.integers(0, 1 << 17, int(sizes.sum()), dtype=np.int32)
        write_shard(run / "encode" / f"shard-{s:05d}", tokens, table)
        path = run / "curate" / "documents" / f"{s:05d}.parquet"
        uris = [f"https://example.org/{s}/{i}/a-page-of-some-name.html" for i in range(n)]
        curated = pa.table({"id": table["id"], "text": ["text"] * n, "uri": uris})
        pq.write_table(curated, path, compression="zstd", row_group_size=1 << 14)
        splits.append({"path": str(path)})
    (run / "encode" / "splits.json").write_text(json.dumps({"splits": splits}))
    return lengths


def write_plan(run: Path, lengths: list[np.ndarray], length: int, name: str = "plan") -> int:
    """A plan of sequences of `length` tokens; gives how many."""
    rng = np.random.default_rng(1)
    out = run / name
    out.mkdir()
    shard = np.repeat(np.arange(len(lengths), dtype=np.int32), [len(x) for x in lengths])
    document = np.concatenate([np.arange(len(x)) for x in lengths])
    order = rng.permutation(len(shard))
    ends = np.cumsum(np.concatenate(lengths)[order])
    sequences = int(ends[-1]) // length
    # A piece ends where a document or a sequence does.
    cuts = np.union1d(ends, np.arange(1, sequences + 1) * length)
    cuts = cuts[cuts <= sequences * length]
    starts = np.append(0, cuts[:-1])
    of = np.searchsorted(ends, starts, side="right")
    begin = np.append(0, ends[:-1])[of]
    pieces = pa.StructArray.from_arrays(
        [
            pa.array(shard[order][of], pa.int32()),
            pa.array(document[order][of], pa.int64()),
            pa.array(starts - begin, pa.int64()),
            pa.array(cuts - starts, pa.int32()),
        ],
        fields=list(PLAN_SCHEMA.field("pieces").type.value_type),
    )
    offsets = np.searchsorted(starts, np.arange(sequences + 1) * length).astype(np.int32)
    table = pa.table([pa.ListArray.from_arrays(pa.array(offsets), pieces)], schema=PLAN_SCHEMA)
    files = []
    for k, first in enumerate(range(0, sequences, ROWS_IN_FILE)):
        files.append(f"phase-0-{k:05d}.arrow")
        with pa.OSFile(str(out / files[-1]), "wb") as sink, pa.ipc.new_file(sink, PLAN_SCHEMA) as w:
            w.write_table(table.slice(first, ROWS_IN_FILE), ROWS_IN_BATCH)
    phase = {"name": "phase-0", "length": length, "sequences": sequences, "files": files}
    content = {
        "seed": 0,
        "shards": [f"shard-{s:05d}" for s in range(len(lengths))],
        "sources": SOURCES,
        "phases": [phase],
        "validation": {},
    }
    (out / "plan.json").write_text(json.dumps(content))
    return sequences


def write_record(run: Path, sequences: int) -> int:
    """A line for each step, as long as training writes them; gives the number of steps."""
    (run / "train").mkdir()
    load = [[0.015625] * 64] * 4
    steps = -(-sequences // BATCH)
    with (run / "train" / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            line = {"step": step, "sequences": min(step * BATCH, sequences), "loss": 2.0}
            file.write(json.dumps(line | {"expert_load": load}) + "\n")
    return steps
