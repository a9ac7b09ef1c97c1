"""Draws and permutations: functions of seed and name alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packing.draws import Permutation, draw, draw_fraction, draw_many


@settings(deadline=None)
@given(st.integers(1, 700), st.integers(0, 2**70))
def test_a_permutation_visits_every_position_once(n, seed):
    order = Permutation(n, seed, "phase-0")
    assert sorted(order[i] for i in range(n)) == list(range(n))


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
    values = np.array([order[i] for i in range(n)])
    # The correlation of a random shuffle has a standard deviation of 1/sqrt(n) = 0.007.
    assert abs(np.corrcoef(np.arange(n), values)[0, 1]) < 0.035
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.035


def test_fractions_are_uniform_and_many_draws_are_single_draws():
    values = np.array([draw_fraction(3, "fim", str(i)) for i in range(10_000)])
    assert abs(values.mean() - 0.5) < 0.015 and values.min() >= 0 and values.max() < 1
    many = draw_many(3, "order", ["a", "b"])
    assert many.tolist() == [draw(3, "order", "a"), draw(3, "order", "b")]
