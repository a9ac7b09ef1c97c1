"""Draws and permutations: functions of seed and name alone."""

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from packing.draws import Permutation, draw, draw_fraction, draw_many, draws, id_keys


@settings(deadline=None)
@given(st.integers(1, 700), st.integers(0, 2**70))
def test_a_permutation_visits_every_position_once(n, seed):
    order = Permutation(n, seed, "phase-0")
    assert sorted(order.many(np.arange(n)).tolist()) == list(range(n))


def slow_permutation(n, keys, half, position):
    """The Feistel network in Python's own numbers, one position at a time."""
    value = position
    while True:
        left, right = value >> half, value & ((1 << half) - 1)
        for key in keys:
            x = (right + key) * 0x9E3779B97F4A7C15 % 2**64
            x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
            left, right = right, left ^ ((x ^ (x >> 31)) & ((1 << half) - 1))
        value = (left << half) | right
        if value < n:
            return value


@settings(deadline=None)
@given(st.integers(1, 2**62).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), max_size=20))
))  # fmt: skip
def test_many_positions_are_single_ones_and_every_value_finds_its_position(case):
    n, positions = case
    order = Permutation(n, 3, "phase-1")
    values = order.many(np.array(positions, np.int64))
    half = max((max(n - 1, 1).bit_length() + 1) // 2, 1)
    keys = [draw(3, "permutation", "phase-1", r) for r in range(6)]
    assert values.tolist() == [slow_permutation(n, keys, half, p) for p in positions]
    assert order.index_many(values).tolist() == positions
    for position in positions[:2]:
        assert order.index(order[position]) == position
    for bad in (-1, n):
        for ask in (order.many, order.index_many):
            with pytest.raises(IndexError, match=f"{bad} is outside"):
                ask(np.array([0, bad]))


def test_seeds_and_names_give_different_shuffles_and_large_ones_are_instant():
    n = 3_600_000_000  # sequences in a run of 14.8 T tokens
    a, b, c = Permutation(n, 1, "x"), Permutation(n, 2, "x"), Permutation(n, 1, "y")
    assert len({tuple(p[i] for i in range(5)) for p in (a, b, c)}) == 3
    assert a[n - 1] < n
    with pytest.raises(IndexError):
        a[n]


def test_a_shuffle_leaves_no_trend():
    n = 20_000
    order = Permutation(n, 7, "x")
    values = order.many(np.arange(n))
    # The correlation of a random shuffle has a standard deviation of 1/sqrt(n) = 0.007.
    assert abs(np.corrcoef(np.arange(n), values)[0, 1]) < 0.035
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.035


def test_fractions_are_uniform_and_many_draws_are_single_draws():
    values = np.array([draw_fraction(3, "fim", str(i)) for i in range(10_000)])
    assert abs(values.mean() - 0.5) < 0.015 and values.min() >= 0 and values.max() < 1
    many = draw_many(3, "order", ["a", "b"])
    assert many.tolist() == [draw(3, "order", "a"), draw(3, "order", "b")]


def slow_key(name):
    """The key of an id in Python's own numbers."""
    text = name.encode()
    if len(text) != 32:
        text = xxhash.xxh3_128_hexdigest(text).encode()
    folds = (0x243F6A8885A308D3, 0x13198A2E03707345, 0xA4093822299F31D1, 0x082EFA98EC4E6C89)
    x = sum(int.from_bytes(text[8 * k : 8 * k + 8], "little") * folds[k] for k in range(4))
    x = x * 0x9E3779B97F4A7C15 % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.uuids().map(lambda u: u.hex), st.text(max_size=40))), st.integers(0, 3)
)
def test_an_ids_key_is_a_function_of_the_id_alone(names, skip):
    ids = pa.array(["", *names], pa.string())[min(skip, len(names)) :]
    assert id_keys(ids).tolist() == [slow_key(name) for name in ids.to_pylist()]
    assert id_keys(ids.cast(pa.large_string())).tolist() == id_keys(ids).tolist()


def test_draws_differ_by_seed_and_purpose_and_are_uniform():
    keys = id_keys(pa.array([f"{i:032x}" for i in range(20_000)]))
    assert len(set(keys.tolist())) == 20_000
    columns = [draws(keys, seed, purpose) for seed in (0, 1) for purpose in ("a", "b")]
    columns.append(keys)
    values = np.array([column.astype(np.float64) for column in columns]) / 2**64
    assert np.abs(values.mean(axis=1) - 0.5).max() < 0.01
    # Of random numbers, the largest of ten correlations is about 3/sqrt(n).
    correlations = np.corrcoef(values) - np.eye(len(values))
    assert np.abs(correlations).max() < 0.03
    bits = (columns[0][:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.02
