"""What merges are made of: sorting on disk, union-find, groups of equal keys."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import _native
from curation.merging import drain, groups


@settings(deadline=None)
@given(
    st.integers(2, 4),
    st.lists(st.integers(0, 40), max_size=6),
    st.lists(st.integers(0, 40), max_size=4),
    st.integers(1, 50),
    st.sampled_from([0, 1000, 1 << 20]),
    st.integers(0, 2**32),
)
def test_records_come_back_in_order(tmp_path_factory, width, sizes, stored, step, memory, seed):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.getbasetemp()
    sorter = _native.sorter(str(folder), width, memory)
    parts = [rng.integers(0, 4, (size, width), dtype=np.uint64) for size in sizes]
    parts = [part + np.uint64(2**64 - 4) if i % 2 else part for i, part in enumerate(parts)]
    run = rng.integers(0, 4, (sum(stored), width), dtype=np.uint64)
    run = run[np.lexsort(run.T[::-1])]
    for part in np.split(run, np.cumsum(stored)):
        sorter.add(part, sorted=True)
    for part in parts:
        sorter.add(part)
    everything = np.concatenate([run, *parts])
    expected = everything[np.lexsort(everything.T[::-1])]
    found = list(drain(sorter, step))
    assert all(len(part) == step for part in found[:-1])
    assert np.concatenate([run[:0], *found]).tolist() == expected.tolist()


def test_sorting_refuses_what_it_cannot_do(tmp_path):
    sorter = _native.sorter(str(tmp_path), 2, 100)
    with pytest.raises(ValueError, match="records of 2 numbers, found 3"):
        sorter.add(np.zeros((1, 3), np.uint64))
    sorter.add(np.array([[5, 0]], np.uint64), sorted=True)
    with pytest.raises(ValueError, match="not in order"):
        sorter.add(np.array([[4, 0]], np.uint64), sorted=True)
    with pytest.raises(ValueError, match="not in order"):
        sorter.add(np.array([[6, 1], [6, 0]], np.uint64), sorted=True)
    assert sorter.read(9).tolist() == [[5, 0]]
    with pytest.raises(RuntimeError, match="being read"):
        sorter.add(np.zeros((1, 2), np.uint64))
    with pytest.raises(ValueError, match="2, 3 or 4"):
        _native.sorter(str(tmp_path), 5, 100)
    full = _native.sorter(str(tmp_path / "missing"), 2, 0)
    with pytest.raises(FileNotFoundError, match=r"cannot make .*/missing/"):
        full.add(np.zeros((2000, 2), np.uint64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_roots_are_the_first_of_their_component_in_any_order_of_edges(dtype):
    rng = random.Random(3)
    edges = [(rng.randrange(300), rng.randrange(300)) for _ in range(200)]
    first = list(range(300))
    for _ in range(300):
        for a, b in edges:
            first[a] = first[b] = min(first[a], first[b])
    for _ in range(3):
        rng.shuffle(edges)
        parents = np.arange(300, dtype=dtype)
        for part in (edges[:50], edges[50:]):
            _native.unite(parents, *np.array(part, np.uint64).T.copy())
        assert _native.roots(parents, 0, 300).tolist() == first
        assert _native.roots(parents, 100, 7).tolist() == first[100:107]
    with pytest.raises(IndexError, match="past the end"):
        _native.unite(parents, *np.array([[300], [0]], np.uint64))
    with pytest.raises(IndexError, match="past the end"):
        _native.roots(parents, 299, 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=40), st.integers(1, 9))
def test_groups_begin_where_the_key_changes_however_they_are_read(tmp_path_factory, pairs, step):
    sorter = _native.sorter(str(tmp_path_factory.getbasetemp()), 3, 1 << 20)
    records = [(*pair, i) for i, pair in enumerate(pairs)]
    sorter.add(np.array(records, np.uint64).reshape(-1, 3))
    found = [
        (tuple(record), new, head)
        for part, news, heads in groups(sorter, 2, step)
        for record, new, head in zip(part.tolist(), news.tolist(), heads.tolist(), strict=True)
    ]
    first = {}
    expected = [
        (record, record[:2] not in first, first.setdefault(record[:2], record[2]))
        for record in sorted(records)
    ]
    assert found == expected
