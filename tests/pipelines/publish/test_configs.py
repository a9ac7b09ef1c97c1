"""What the published rows are: each document once, each sequence as training sees it."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from packing.loader import Loader
from packing.plan import held_out
from pipelines.publish.manifest import read_manifest
from pipelines.publish.parquet import GROUP_BYTES, Writer


@pytest.mark.parametrize("which", ["made", "phases"])
def test_sequences_are_what_the_loader_gives_in_its_order(which, request):
    data = request.getfixturevalue(which)
    ids = [
        pq.read_table(stem.with_name(stem.name + ".documents.parquet"))["id"].to_pylist()
        for stem in data.stems
    ]
    rows, first = [], 0
    for phase in data.plan["phases"]:
        folder = f"packed/{phase['name']}" if which == "phases" else "packed"
        rows = data.rows(folder)
        loader = Loader.open(data.folder / "plan", data.folder / "encode", [phase["name"]], -7)
        assert len(rows) == len(loader) > 20
        batch = loader.batch(0, len(rows))
        for k, row in enumerate(rows):
            tokens = batch["input_ids"][k].tolist()
            while tokens[-1] == -7:
                tokens.pop()
            assert row["input_ids"] == tokens and row["set"] == phase["name"]
            assert row["sequence_index"] == first + k
            pieces = loader.pieces(k)
            assert row["document_ids"] == [ids[p["shard"]][p["document"]] for p in pieces]
            assert row["starts"] == [p["start"] for p in pieces]
            assert row["lengths"] == [p["length"] for p in pieces]
            assert sum(row["lengths"]) == len(row["input_ids"]) <= phase["length"]
        first += len(rows)
    validation = data.rows("packed", "validation")
    assert {row["set"] for row in validation} == {"validation-code", "validation-web"}
    trained = {i for row in rows for i in row["document_ids"]}
    assert not trained & {i for row in validation for i in row["document_ids"]}


@pytest.mark.parametrize("which", ["made", "phases"])
def test_every_document_is_there_once_and_validation_is_what_is_held_out(which, request):
    data = request.getfixturevalue(which)
    kept_out = held_out(
        [row["id"] for row in data.documents], [None] * len(data.documents), 0, data.fraction
    )
    assert 0 < kept_out.sum() < len(kept_out) / 2
    for split, mask in (("train", ~kept_out), ("validation", kept_out)):
        texts, tokens = data.rows("text", split), data.rows("tokenized", split)
        chosen = np.flatnonzero(mask)
        for row, encoded, i in zip(texts, tokens, chosen, strict=True):
            assert row == {name: data.documents[i][name] for name in row}
            assert encoded["input_ids"] == data.tokens[i].tolist()
            assert encoded["id"] == row["id"]
    assert (len(data.files("text")) > 2) == (which == "phases")


def test_files_are_of_the_size_asked_for(make):
    data = make(shards=6, documents=300, words=200, shard_bytes=100_000)
    for config in ("text", "tokenized", "packed"):
        sizes = [path.stat().st_size for path in data.files(config)]
        assert len(sizes) > 1
        assert all(70_000 < size < 130_000 for size in sizes), (config, sizes)
        names = [path.name for path in data.files(config)]
        count = len(names)
        assert names == [f"train-{k:05d}-of-{count:05d}.parquet" for k in range(count)]


def test_the_bytes_do_not_depend_on_who_writes_what_when(make, phases, settings_of_phases):
    def shuffled(numbers):
        return random.Random(1).sample(numbers, len(numbers))

    again = make(**settings_of_phases, order=shuffled)
    assert read_manifest(again.root) == read_manifest(phases.root)


def test_how_rows_are_cut_into_files_changes_no_row(make, phases, settings_of_phases):
    whole = make(**settings_of_phases | {"shard_bytes": 500_000_000})
    for config in ("text", "tokenized", "packed/phase-0", "packed/phase-1"):
        assert len(whole.files(config)) < len(phases.files(config))
        assert whole.rows(config) == phases.rows(config)
    assert whole.splits == phases.splits


def test_row_groups_are_bounded_and_pages_are_indexed(tmp_path):
    schema = pa.schema([("id", pa.string()), ("text", pa.large_string())])
    writer = Writer(tmp_path / "x.parquet", schema)
    text = random.Random(0).randbytes(1 << 20).hex()
    for k in range(4):
        writer.add(pa.table([[f"{k}-{i}" for i in range(20)], [text] * 20], schema=schema))
    writer.close()
    metadata = pq.read_metadata(tmp_path / "x.parquet")
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    assert sum(group.num_rows for group in groups) == writer.rows == 80
    # Two megabytes a row: as many rows to a group as fit into the bound.
    assert [group.num_rows for group in groups] == [20, 20, 20, 20] and GROUP_BYTES == 64 << 20
    for group in groups:
        for c in range(2):
            column = group.column(c)
            assert column.compression == "ZSTD"
            # Of values that are longer than its entries may be there is no index of least and most.
            assert column.has_offset_index and column.has_column_index == (c == 0)


def test_what_two_versions_share_is_the_same_bytes(tmp_path):
    """Pages end where the content says: after an inserted row they are the old ones again."""
    rng = random.Random(0)
    rows = [rng.randbytes(2000).hex() for _ in range(2000)]
    for name, texts in (("a", rows), ("b", ["inserted", *rows])):
        writer = Writer(tmp_path / name, pa.schema([("text", pa.large_string())]))
        writer.add(pa.table({"text": pa.array(texts, pa.large_string())}))
        writer.close()
    a, b = (tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()
    half = a[len(a) // 2 : len(a) // 2 + 100_000]
    assert half in b


def test_an_id_that_is_no_id_is_refused(make, tmp_path):
    from pipelines.publish.packed import write_ids

    data = make(shards=1)
    path = data.stems[0].with_name(data.stems[0].name + ".documents.parquet")
    table = pq.read_table(path).to_pylist()
    table[3]["id"] = "short"
    pq.write_table(pa.Table.from_pylist(table, pq.read_schema(path)), path)
    with pytest.raises(ValueError, match=r"shard-00000.*32 characters"):
        write_ids(data.stems, tmp_path / "ids")


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_every_configuration_and_split(phases, streaming, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    root = str(phases.root)
    assert datasets.get_dataset_config_names(root) == list(phases.splits)
    assert {"text", "tokenized", "packed", "packed-phase-0", "packed-phase-1"} == set(phases.splits)
    for config, splits in phases.splits.items():
        loaded = datasets.load_dataset(root, config, streaming=streaming, cache_dir=str(tmp_path))
        assert {split: sum(1 for _ in rows) for split, rows in loaded.items()} == splits
        if config == "packed":  # the phases one after another
            order = [row["sequence_index"] for row in loaded["train"]]
            assert order == list(range(splits["train"]))
    default = datasets.load_dataset(root, streaming=streaming, cache_dir=str(tmp_path))
    assert next(iter(default["train"])).keys() == phases.rows("text")[0].keys()
