"""The layout of token shards, byte by byte, and damaged ones."""

import struct

import numpy as np
import pyarrow as pa
import pytest

from packing.shards import DOCUMENTS_SCHEMA, Shard, read_index, write_index, write_shard


def documents(lengths):
    return pa.table(
        {
            "id": [f"{i:032x}" for i in range(len(lengths))],
            "source": ["s"] * len(lengths),
            "domain": ["web"] * len(lengths),
            "language": pa.nulls(len(lengths), pa.string()),
            "parents": pa.nulls(len(lengths), DOCUMENTS_SCHEMA.field("parents").type),
            "bytes": pa.array(lengths, pa.int64()),
            "tokens": pa.array(lengths, pa.int64()),
            "atomic": pa.nulls(len(lengths), DOCUMENTS_SCHEMA.field("atomic").type),
            "loss_spans": pa.nulls(len(lengths), DOCUMENTS_SCHEMA.field("loss_spans").type),
        }
    )


def test_the_index_is_megatrons_layout(tmp_path):
    write_index(tmp_path / "x.idx", np.array([3, 1, 5]))
    want = (
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, 4, 3, 4)
        + struct.pack("<3i", 3, 1, 5)
        + struct.pack("<3q", 0, 12, 16)
        + struct.pack("<4q", 0, 1, 2, 3)
    )
    assert (tmp_path / "x.idx").read_bytes() == want
    assert read_index(tmp_path / "x.idx").tolist() == [3, 1, 5]


@pytest.mark.parametrize("lengths", [[], [0], [2, 0, 3]])
def test_documents_of_any_length_are_read_back(tmp_path, lengths):
    tokens = np.arange(sum(lengths), dtype=np.int32)
    write_shard(tmp_path / "x", tokens, documents(lengths))
    shard = Shard.open(tmp_path / "x")
    read = [shard.document(i) for i in range(len(lengths))]
    assert [len(row) for row in read] == lengths
    assert not read or np.concatenate(read).tolist() == tokens.tolist()


def test_damage_is_named(tmp_path):
    write_shard(tmp_path / "x", np.arange(5, dtype=np.int32), documents([2, 3]))
    (tmp_path / "x.bin").write_bytes(b"\0" * 16)
    with pytest.raises(ValueError, match=r"x\.bin: 16 bytes, expected 20"):
        Shard.open(tmp_path / "x")
    index = (tmp_path / "x.idx").read_bytes()
    for damaged in (index[:-1], index[:10], b"X" + index[1:]):
        (tmp_path / "x.idx").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"x\.idx"):
            Shard.open(tmp_path / "x")


def test_tokens_and_table_must_agree(tmp_path):
    with pytest.raises(ValueError, match="4 tokens for documents of 5"):
        write_shard(tmp_path / "x", np.arange(4, dtype=np.int32), documents([2, 3]))
