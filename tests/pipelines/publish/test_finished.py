"""What a run of the whole line leaves: shards that Megatron reads, sequences as trained on."""

import json
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest

from packing.loader import Loader
from packing.shards import Shard
from pipelines.files import checksum

pytestmark = pytest.mark.slow


def test_megatron_reads_the_token_shards_and_each_document_ends_once(finished):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of kernels for GPUs that are not there
        megatron = pytest.importorskip(
            "megatron.core.datasets.indexed_dataset",
            reason="megatron-core is not installed: pip install megatron-core",
            exc_type=ImportError,
        )
    entries = {entry["path"]: entry for entry in finished.manifest("encode")["outputs"]}
    stems = [finished.out / "encode" / path[:-4] for path in entries if path.endswith(".idx")]
    tokens = 0
    for stem in stems:
        dataset, shard = megatron.IndexedDataset(str(stem)), Shard.open(stem)
        atomic = pq.read_table(f"{stem}.documents.parquet")["atomic"].to_pylist()
        for i, theirs in enumerate(dataset):
            assert np.array_equal(theirs, shard.document(i))
            # Once at the end; a hole's middle has one of its own, that tells the model to stop.
            holes = {span["start"] + span["length"] - 1 for span in atomic[i] or ()}
            assert set(np.flatnonzero(theirs == 1)) == holes | {len(theirs) - 1}
            tokens += len(theirs)
        for suffix in (".bin", ".idx", ".documents.parquet"):
            path = stem.with_name(stem.name + suffix)
            entry = entries[path.name]
            assert (entry["bytes"], entry["xxh3"]) == (path.stat().st_size, checksum(path))
            assert entry["rows"] == len(dataset)
    assert tokens == finished.manifest("encode")["metrics"]["tokens"] > 10_000


def test_the_packed_rows_are_the_batches_of_training(finished):
    plan = json.loads((finished.out / "plan" / "plan.json").read_text("utf-8"))
    names = [phase["name"] for phase in plan["phases"]]
    loader = Loader.open(finished.out / "plan", finished.out / "encode", names, 2)
    folder = finished.out / "publish" / "dataset" / "data" / "packed"
    rows = pq.read_table(folder / "train-00000-of-00001.parquet").to_pylist()
    assert len(rows) == len(loader)
    batch = loader.batch(0, len(loader))["input_ids"].tolist()
    for row, tokens in zip(rows, batch, strict=True):
        padding = len(tokens) - len(row["input_ids"])
        assert tokens == row["input_ids"] + [2] * padding
