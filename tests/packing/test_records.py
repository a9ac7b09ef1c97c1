"""The native passes over a census' records, against the same said plainly in Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packing import _native
from packing.census import RECORD
from packing.draws import draw, draws
from packing.sequences import in_rows
from packing.stretches import Border, Selection, Stretch

KEYS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 7 << 61, 2**64 - 1]))
PILES = 3


@st.composite
def record_arrays(draw_from, most=40):
    """Records with different places, and often the same keys."""
    rows = draw_from(
        st.lists(st.tuples(KEYS, st.integers(1, 60), st.integers(0, PILES - 1)), max_size=most)
    )
    places = draw_from(st.permutations(range(len(rows))))
    shards = draw_from(st.integers(1, 3))
    return np.array(
        [
            (key, (place % shards) << 32 | place, tokens, pile)
            for (key, tokens, pile), place in zip(rows, places, strict=True)
        ],
        RECORD,
    )


@given(record_arrays())
def test_records_are_put_in_the_order_of_key_and_place(records):
    ordered = _native.in_order(records.view(np.uint8)).view(RECORD)
    assert ordered.tolist() == sorted(records.tolist())


def test_many_records_are_put_in_order_whatever_their_keys_have_in_common():
    rng = np.random.default_rng(0)
    for common in (0, 1, 13, 62, 64):
        records = np.zeros(50_000, RECORD)
        keys = rng.integers(0, 2**64, len(records), np.uint64)
        records["key"] = keys >> np.uint64(common) if common < 64 else 5
        records["place"] = rng.permutation(len(records))
        ordered = _native.in_order(records.view(np.uint8)).view(RECORD)
        by = np.lexsort((records["place"], records["key"]))
        assert (ordered == records[by]).all()


@given(record_arrays(), st.integers(0, 6), st.integers(0, 9), st.data())
def test_documents_for_training_are_laid_out_by_window(records, bits, first, data):
    held_out = np.array(data.draw(st.lists(st.booleans(), min_size=40, max_size=40)))
    held_out = held_out[: len(records)]
    tokens = np.where(records["tokens"] % 5 == 0, 0, records["tokens"]).astype(np.uint32)
    piles = records["pile"].astype(np.int32)
    numbers = np.array([7, 1, 4], np.uint32)
    laid, starts = _native.lay_out(
        np.ascontiguousarray(records["key"]), held_out, tokens, piles, numbers, first, 1 << bits
    )
    laid = laid.view(RECORD)
    expected = [
        (int(records["key"][k]), first + k, int(tokens[k]), int(numbers[piles[k]]))
        for k in range(len(records))
        if tokens[k] and not held_out[k]
    ]
    for window in range(1 << bits):
        mine = [row for row in expected if row[0] >> (64 - bits) == window]
        assert laid[starts[window] : starts[window + 1]].tolist() == mine
    told = _native.tally(held_out, tokens, piles, PILES).reshape(3, PILES)
    for pile in range(PILES):
        mine = [row[2] for row in expected if row[3] == numbers[pile]]
        held = int((held_out & (piles == pile)).sum())
        assert told[:, pile].tolist() == [len(mine), sum(mine), held]


def turn_key(record, seed, turn):
    keys = np.array([record["key"]], np.uint64)
    return int(draws(keys, seed, f"turn-{turn}")[0]) if turn else int(record["key"])


@given(record_arrays(), st.integers(0, 3))
def test_tokens_are_counted_by_leading_bits_in_each_turn(records, seed):
    numbers = [0, 2]
    turns = _native.Turns(
        np.array(numbers, np.int64),
        np.array([draw(seed, f"turn-{n}") for n in numbers], np.uint64),
    )
    bits = [0, 3, 5]
    shift = 63 - np.array(bits, np.uint64)
    first = np.array([[0, -1, 1], [-1, 33, 41]], np.int64)
    size = 73
    expected = np.zeros(size, np.int64)
    where = {}
    for t, turn in enumerate(numbers):
        for record in records:
            if (begin := int(first[t, record["pile"]])) < 0:
                continue
            key = turn_key(record, seed, turn)
            at = begin + (key >> 64 - bits[record["pile"]])
            expected[at] += record["tokens"]
            where.setdefault(at, []).append(
                (key, int(record["place"]), int(record["tokens"]), int(record["pile"]))
            )
    raw = records.view(np.uint8)
    assert turns.weigh(raw, first, shift, size).tolist() == expected.tolist()
    wanted = np.arange(size) % 2 == 0
    found, at = turns.gather(raw, first, shift, wanted)
    got = sorted(zip(at.tolist(), found.view(RECORD).tolist(), strict=True))
    assert got == sorted((a, row) for a, rows in where.items() if wanted[a] for row in rows)


@st.composite
def borders(draw_from, records):
    """Two borders in order, mostly at documents that there are."""
    made = []
    for _ in range(2):
        turn = draw_from(st.integers(0, 3))
        if len(records) and draw_from(st.booleans()):
            record = records[draw_from(st.integers(0, len(records) - 1))]
            offset = draw_from(st.integers(0, int(record["tokens"])))
            made.append(Border(turn, turn_key(record, 5, turn), int(record["place"]), offset))
        else:
            made.append(draw_from(st.sampled_from([Border(turn), Border(turn, 1 << 63, 2, 0)])))
    return sorted(made)


@settings(deadline=None)
@given(st.data())
def test_a_phase_takes_its_stretches_and_nothing_else(data):
    records = data.draw(record_arrays())
    stretches = {}
    for pile in data.draw(st.sets(st.integers(0, PILES - 1))):
        low, high = data.draw(borders(records))
        stretches[pile] = Stretch(low, high, 0)
    parts, documents = Selection(stretches, PILES, 5).pick(records.view(np.uint8))
    got = list(zip(*(column.tolist() for column in vars(parts).values()), strict=True))
    expected, taken = [], [set() for _ in range(PILES)]
    for k, record in enumerate(records):
        if (stretch := stretches.get(int(record["pile"]))) is None:
            continue
        whole = 0
        for turn in range(4):
            key, place, size = turn_key(record, 5, turn), int(record["place"]), record["tokens"]
            inside = [
                offset
                for offset in range(size)
                if stretch.start <= Border(turn, key, place, offset) < stretch.stop
            ]
            # Turns taken from end to end come first, as they do for other piles.
            entire = stretch.start <= Border(turn) and Border(turn + 1) <= stretch.stop
            step = (0, whole) if entire else (1, turn)
            whole += entire
            if inside:
                expected.append((step, k, (place, inside[0], len(inside))))
                taken[record["pile"]].add(place)
    assert got == [part for _, _, part in sorted(expected)]
    assert documents.tolist() == [len(places) for places in taken]


def test_arrays_that_do_not_belong_together_are_refused():
    records = np.zeros(2, RECORD)
    records["pile"] = 9
    none = np.empty(0, np.int64)
    turns = _native.Turns(none, none.astype(np.uint64))
    with pytest.raises(ValueError, match="belong together"):
        turns.pick(records.view(np.uint8), np.ones(PILES, np.int64), np.empty((0, 6), np.uint64))
    with pytest.raises(ValueError, match="belong together"):
        _native.in_order(np.zeros(25, np.uint8))
    with pytest.raises(ValueError, match="belong together"):
        _native.tally(np.zeros(1, bool), np.ones(1, np.uint32), np.array([-1], np.int32), 3)
    with pytest.raises(ValueError, match="belong together"):
        in_rows(np.zeros(2, np.uint64), np.zeros(2), np.zeros(2), np.array([0, -1]))


@given(st.lists(st.integers(0, 20), max_size=60))
def test_pieces_stand_in_the_order_of_their_rows(bins):
    bins = np.array(bins, np.int64)
    place = np.arange(len(bins), dtype=np.uint64) * np.uint64(0x1_0000_0003)
    start, length = np.arange(len(bins)) % 7, np.arange(len(bins)) % 5 + 1
    rows = in_rows(place, start, length, bins)
    by = np.argsort(bins, kind="stable")
    assert rows.counts.tolist() == np.bincount(bins).tolist()
    assert rows.shard.tolist() == (place[by] >> np.uint64(32)).tolist()
    assert rows.document.tolist() == (place[by] & np.uint64(2**32 - 1)).tolist()
    assert rows.start.tolist() == start[by].tolist() and rows.length.tolist() == length[by].tolist()
