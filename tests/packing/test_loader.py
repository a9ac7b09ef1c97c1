"""The loader: its batches are what the plan says, from any place, and it says what is damaged."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from packing.loader import Loader

sys.path.insert(0, str(Path(__file__).parent))
from packed_run import PAD, SOURCES, write_packed, write_rows

SETS = {"phase-0": (24, 61), "phase-1": (7, 40), "validation-web": (24, 9)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("run") / "r", SETS, seed=3, with_spans=True)


@pytest.fixture
def copy(tmp_path):
    """A run of one's own to damage."""
    return write_packed(tmp_path / "r", SETS, seed=3)


def open_run(run, names=None, **options):
    return Loader.open(run.plan, run.shards, names, PAD, **options)


def as_lists(batch):
    return {name: tensor.tolist() for name, tensor in batch.items()}


@pytest.mark.parametrize("apart", [False, True])
def test_batches_are_what_the_plan_says_token_by_token(run, apart):
    loader = open_run(run, apart=apart)
    assert len(loader) == 101
    for first in range(0, 101, 13):
        batch = loader.batch(first, 13)
        last = first + len(batch["sequence_index"])
        assert as_lists(batch) == run.batch_of(first, last, apart)
    kinds = {name: tensor.dtype for name, tensor in loader.batch(0, 1).items()}
    assert kinds == dict.fromkeys(("input_ids", "labels", "sequence_index"), torch.int64) | dict(
        dict.fromkeys(
            ("document_ids", "source_ids", *(("sample_ids",) if apart else ())), torch.int32
        )
    )


@settings(max_examples=60, deadline=None)
@given(first=st.integers(0, 100), size=st.integers(1, 120), apart=st.booleans())
def test_any_batch_from_any_position_is_the_same_sequences(run, first, size, apart):
    batch = open_run(run, apart=apart).batch(first, size)
    end = 61 if first < 61 else 101
    assert as_lists(batch) == run.batch_of(first, min(first + size, end), apart)


def test_spans_leave_labels_out_and_all_count_where_a_document_has_none(run, tmp_path):
    with_spans = torch.cat([b["labels"].flatten() for b in open_run(run).batches(9)])
    plain = write_packed(tmp_path / "plain", SETS, seed=3)
    without = torch.cat([b["labels"].flatten() for b in open_run(plain).batches(9)])
    assert (without == -100).float().mean() < 0.2 < (with_spans == -100).float().mean() < 0.9


def test_a_phase_ends_a_batch_and_the_next_one_has_its_own_length(run):
    loader = open_run(run)
    shapes = [tuple(batch["input_ids"].shape) for batch in loader.batches(25)]
    assert shapes == [(25, 24), (25, 24), (11, 24), (25, 7), (15, 7)]
    assert [loader.phase_end(p) for p in (0, 60, 61, 100)] == [61, 61, 101, 101]
    assert [loader.length(p) for p in (0, 60, 61, 100)] == [24, 24, 7, 7]


def test_a_place_is_a_phase_and_what_was_consumed_of_it(run):
    loader = open_run(run)
    for position in range(len(loader)):
        assert loader.position(*loader.place(position)) == position
    assert loader.place(61) == ("phase-1", 0) and loader.position("phase-0", 61) == 61
    assert loader.position("phase-1", 40) == len(loader)
    with pytest.raises(IndexError, match="41 consumed of 40"):
        loader.position("phase-1", 41)
    with pytest.raises(ValueError, match=r"no set 'phase-9'.*phase-0, phase-1"):
        loader.position("phase-9", 0)


def test_validation_lies_as_it_was_written(run):
    loader = open_run(run, ["validation-web"])
    keys = ("shard", "document", "start", "length")
    found = [[tuple(p[k] for k in keys) for p in loader.pieces(i)] for i in range(9)]
    assert found == run.rows["validation-web"]


def test_rows_beyond_the_first_record_batch_and_shards_of_many_sources(tmp_path):
    run = write_packed(tmp_path / "r", {"phase-0": (3, 4096 * 2 + 5)}, shards=2, documents=300)
    table = pq.read_table(run.shards / "shard-00000.documents.parquet")
    names = [f"s{i}" for i in range(300)]  # more than a byte holds
    table = table.set_column(1, table.schema.field(1), pa.array(names))
    pq.write_table(table, run.shards / "shard-00000.documents.parquet")
    content = json.loads((run.plan / "plan.json").read_text())
    (run.plan / "plan.json").write_text(json.dumps(content | {"sources": SOURCES + names}))
    run.sources[0] = [len(SOURCES) + i for i in range(300)]
    loader = open_run(run)
    for first in (0, 4000, 8150, 8190):
        batch = loader.batch(first, 90)
        last = first + len(batch["sequence_index"])
        assert as_lists(batch) == run.batch_of(first, last)


def test_a_plan_without_sequences_is_empty(tmp_path):
    run = write_packed(tmp_path / "r", {"phase-0": (8, 0)})
    loader = open_run(run)
    assert len(loader) == 0 and list(loader.batches(4)) == []
    with pytest.raises(IndexError):
        loader.batch(0, 1)


def test_thousands_of_shards_need_no_descriptors(run):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    loaders = [open_run(run) for _ in range(20)]
    for loader in loaders:
        loader.batch(0, 61)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("first", [-1, 101, 10**12])
def test_a_position_outside_the_run_is_refused(run, first):
    loader = open_run(run)
    for ask in (lambda: loader.batch(first, 4), lambda: loader.pieces(first)):
        with pytest.raises(IndexError, match=r"outside 0 … 100"):
            ask()
    with pytest.raises(ValueError, match="at least 1"):
        loader.batch(0, 0)


def test_a_set_that_is_not_there_is_refused_with_those_that_are(run):
    with pytest.raises(ValueError, match="no set 'phase-7'; there are phase-0, phase-1, valid"):
        open_run(run, ["phase-7"])


@pytest.mark.parametrize("key", ["seed", "shards", "sources", "phases", "validation"])
def test_a_missing_key_of_the_plan_is_named(copy, key):
    path = copy.plan / "plan.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"plan.json: {key}: missing.*gristmill plan"):
        open_run(copy)


@pytest.mark.parametrize("key", ["name", "length", "sequences", "files"])
def test_a_missing_key_of_a_phase_is_named(copy, key):
    path = copy.plan / "plan.json"
    content = json.loads(path.read_text())
    del content["phases"][1][key]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"plan.json: phases\.1\.{key}: missing"):
        open_run(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"phases": 3}'])
def test_a_plan_that_is_no_plan_is_refused(copy, text):
    (copy.plan / "plan.json").write_text(text)
    with pytest.raises(ValueError, match=r"plan.json: .*gristmill plan"):
        open_run(copy)


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.99])
def test_a_cut_arrow_file_is_named(copy, kept):
    path = copy.plan / "phase-1-00000.arrow"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(int(kept * size) if isinstance(kept, float) else kept)
    with pytest.raises(ValueError, match=r"phase-1-00000.arrow: cut short.*gristmill plan"):
        open_run(copy)


def test_a_missing_arrow_file_is_named(copy):
    (copy.plan / "phase-1-00000.arrow").unlink()
    with pytest.raises(OSError, match=r"phase-1-00000.arrow"):
        open_run(copy)


def test_an_arrow_file_with_fewer_rows_or_other_columns_than_the_plan_says_is_refused(copy):
    write_rows(copy.plan, "phase-0", copy.rows["phase-0"][:60])
    with pytest.raises(ValueError, match=r"phase-0-00000.arrow: batch 0 has 60 rows, expected 61"):
        open_run(copy).batch(0, 1)
    table = pa.table({"other": [1, 2]})
    path = str(copy.plan / "phase-0-00000.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match=r"phase-0-00000.arrow: .*expected .*pieces"):
        open_run(copy).batch(0, 1)


def test_a_list_that_ends_outside_of_its_file_is_refused(copy):
    path = copy.plan / "phase-0-00000.arrow"
    column = pa.ipc.open_file(path.read_bytes()).get_batch(0).column(0)
    offsets = column.offsets.to_numpy()
    content = path.read_bytes()
    for wrong in (offsets + 2**30, offsets - 5, offsets[::-1]):
        path.write_bytes(content.replace(offsets.tobytes(), wrong.astype(np.int32).tobytes()))
        with pytest.raises(ValueError, match=r"phase-0-00000.arrow: .*gristmill plan"):
            open_run(copy).batch(0, 61)


def test_a_compressed_arrow_file_is_refused(copy):
    path = copy.plan / "phase-0-00000.arrow"
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(str(path), table.schema, options=options) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match=r"phase-0-00000.arrow: .*compression"):
        open_run(copy).batch(0, 1)


@pytest.mark.parametrize("change", [-4, -1, 4])
def test_tokens_of_another_size_than_their_index_says_are_refused(copy, change):
    path = copy.shards / "shard-00001.bin"
    os.truncate(path, path.stat().st_size + change)
    with pytest.raises(ValueError, match=r"shard-00001.bin: \d+ bytes, expected \d+ by its index"):
        open_run(copy)


@pytest.mark.parametrize("kept", [0, 10, 40, 300])
def test_a_cut_index_is_named(copy, kept):
    os.truncate(copy.shards / "shard-00001.idx", kept)
    with pytest.raises(ValueError, match=r"shard-00001.idx: .*bytes"):
        open_run(copy)


@pytest.mark.parametrize("ending", [".bin", ".idx", ".documents.parquet"])
def test_a_missing_file_of_a_shard_is_named(copy, ending):
    (copy.shards / f"shard-00002{ending}").unlink()
    with pytest.raises(OSError, match=rf"shard-00002{ending}"):
        open_run(copy)


def test_a_plan_of_other_shards_is_refused_with_the_piece(copy, tmp_path):
    """As many shards of the same names, with other documents in them."""
    other = write_packed(tmp_path / "other", SETS, seed=4, mean=3)
    for path in other.shards.iterdir():
        shutil.copy(path, copy.shards / path.name)
    loader = open_run(copy)
    words = r"sequence \d+: .*shard-0000\d: the plan wants tokens .* of document .*gristmill plan"
    with pytest.raises(ValueError, match=words):
        list(loader.batches(8))


def test_a_table_of_other_documents_is_refused(copy):
    path = copy.shards / "shard-00001.documents.parquet"
    pq.write_table(pq.read_table(path)[:-1], path)
    with pytest.raises(ValueError, match=r"shard-00001.documents.parquet: 39 documents, but 40"):
        list(open_run(copy).batches(8))


def test_a_source_that_the_plan_does_not_know_is_named(copy):
    path = copy.plan / "plan.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"sources": ["blog"]}))
    with pytest.raises(ValueError, match="is none of the plan's"):
        list(open_run(copy).batches(8))


BAD_PIECES = [
    (0, 10**9, 0, 1), (0, -1, 0, 1), (3, 0, 0, 1), (-1, 0, 0, 1), (0, 0, -1, 1),
    (0, 0, 2**62, 2**30), (0, 0, 0, 0), (0, 0, 0, -5), (0, 0, 0, 2**31 - 1), (0, 2**63 - 1, 0, 1),
]  # fmt: skip


@pytest.mark.parametrize("piece", BAD_PIECES)
def test_a_piece_that_is_nowhere_is_refused_and_reads_nothing(copy, piece):
    rows = copy.rows["phase-0"]
    write_rows(copy.plan, "phase-0", [[*row[:1], piece] for row in rows])
    with pytest.raises(ValueError, match="sequence 0"):
        open_run(copy).batch(0, 8)


def test_a_row_longer_than_its_length_is_refused(copy):
    pieces = [(0, d, 0, len(copy.documents[0][d])) for d in range(20)]
    write_rows(copy.plan, "phase-0", [pieces for _ in copy.rows["phase-0"]])
    with pytest.raises(ValueError, match="sequence 0"):
        open_run(copy).batch(0, 8)


def test_the_native_filling_refuses_arrays_that_do_not_belong_together(run):
    from packing._native import Shards

    shards = Shards(1)
    tables = [np.zeros((2, 4), np.int64)] * 2 + [np.zeros((2, 4), np.int32)] * 2
    one = (np.zeros(1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.int64))
    for ends in ([1, 2], [1], [1, 0], [-1, 1]):
        with pytest.raises(ValueError, match="belong together"):
            shards.fill(np.array(ends), *one, np.ones(1, np.int32), 0, False, *tables)
    assert shards.fill(np.array([0, 1]), *one, np.ones(1, np.int32), 0, False, *tables) == 0
