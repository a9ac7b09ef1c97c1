"""Tokens of pieces, out of shards that several threads open at once; damaged plans are refused."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from packed_run import SOURCES, write_packed

from packing.mapped import TokenShards
from packing.positions import Sequences

LENGTH = 64


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("run"), {"phase-0": (LENGTH, 400)}, shards=20)


def open_shards(run) -> TokenShards:
    return TokenShards((run.shards / f"shard-{s:05d}" for s in range(20)), SOURCES)


def expected(run, first: int, last: int) -> list[int]:
    pieces = [piece for position in range(first, last) for piece in run.row(position)[0]]
    return [int(t) for s, d, at, n in pieces for t in run.documents[s][d][at : at + n]]


def test_the_tokens_of_a_stretch_are_those_of_its_pieces(run):
    shards, sequences = open_shards(run), Sequences.open(run.plan)
    for first, last in ((0, 1), (3, 60), (0, 400)):
        tokens = shards.tokens(sequences.pieces(first, last), first, LENGTH)
        assert tokens.dtype == np.int32 and tokens.tolist() == expected(run, first, last)


def test_threads_that_open_the_same_shards_at_once_get_the_same(run):
    sequences, wanted = Sequences.open(run.plan), expected(run, 0, 100)
    found = sequences.pieces(0, 100)
    for _ in range(20):
        shards, together = open_shards(run), threading.Barrier(8)

        def tokens(_, shards=shards, together=together) -> list[int]:
            together.wait()
            return shards.tokens(found, 0, LENGTH).tolist()

        with ThreadPoolExecutor(8) as pool:
            assert all(made == wanted for made in pool.map(tokens, range(8)))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("shard", 20, "piece of shard 20 of 20"),
        ("shard", -1, "piece of shard -1 of 20"),
        ("document", 40, "there are 40 documents"),
        ("document", -1, "there are 40 documents"),
        ("start", 1 << 40, "tokens in it"),
        ("start", -1, "tokens in it"),
        ("length", 0, "tokens in it"),
        ("length", -5, "tokens in it"),
        ("length", (1 << 31) - 1, "room for 64"),
    ],
)
def test_a_piece_that_cannot_be_is_refused_with_its_sequence(run, column, value, message):
    found = Sequences.open(run.plan).pieces(10, 20)
    changed = getattr(found, column).copy()
    changed[found.ends[4]] = value  # the first piece of the sixth
    with pytest.raises(ValueError, match="sequence 15") as told:
        open_shards(run).tokens(replace(found, **{column: changed}), 10, LENGTH)
    assert message in str(told.value)


def test_many_huge_pieces_are_refused_before_memory_is_asked_for(run):
    found = Sequences.open(run.plan).pieces(0, 400)
    huge = np.full_like(found.length, (1 << 31) - 1)
    with pytest.raises(ValueError, match="room for 64"):
        open_shards(run).tokens(replace(found, length=huge), 0, LENGTH)
