"""Traces: a step's pieces and a document's places are what the plan says, both ways."""

import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from packing.positions import Rows, Sequences, read_plan
from packing.trace import find_documents, is_in, name_documents, sightings, sightings_of, take_rows

sys.path.insert(0, str(Path(__file__).parent))
from packed_run import SOURCES, write_packed

SETS = {"phase-0": (24, 70), "phase-1": (9, 50), "validation-web": (24, 4)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("run") / "r", SETS, seed=5)


@pytest.fixture(scope="module")
def sequences(run):
    return Sequences.open(run.plan)


@pytest.fixture(scope="module")
def stems(run):
    return [run.shards / name for name in read_plan(run.plan)["shards"]]


def expected(run):
    """Every piece of the run: (position, offset, length, shard, document, start)."""
    for position in range(120):
        offset = 0
        for shard, document, start, length in run.row(position)[0]:
            yield position, offset, length, shard, document, start
            offset += length


def as_tuples(found):
    return [(x.position, x.offset, x.length, x.shard, x.document, x.start) for x in found]


def test_all_pieces_of_some_positions_across_phases(run, sequences):
    everything = list(expected(run))
    assert as_tuples(sightings(sequences, 0, 120)) == everything
    for first, last in ((0, 1), (3, 3), (60, 80), (119, 120)):
        wanted = [x for x in everything if first <= x[0] < last]
        assert as_tuples(sightings(sequences, first, last)) == wanted


def test_all_places_of_every_document(run, sequences):
    everything = Counter(expected(run))
    found = Counter()
    for shard in range(3):
        for document in range(40):
            found.update(as_tuples(sightings_of(sequences, shard, document)))
    assert found == everything


def test_a_document_that_stands_twice_in_a_row_is_named_twice(tmp_path):
    run = write_packed(tmp_path / "r", {"phase-0": (200, 3)}, shards=1, documents=2, mean=5)
    found = as_tuples(sightings_of(Sequences.open(run.plan), 0, 1))
    assert found == [
        (k, *rest) for k in range(3) for rest in _of(run.row(k)[0], 1)
    ] and len(found) > 6  # fmt: skip


def _of(row, wanted):
    offset = 0
    for shard, document, start, length in row:
        if document == wanted:
            yield offset, length, shard, document, start
        offset += length


def test_names_come_from_the_right_rows_of_the_tables(run, stems):
    keys = [(2, 39), (0, 0), (0, 7), (1, 3), (0, 7)]
    named = name_documents(stems, keys)
    assert set(named) == set(keys)
    for (shard, document), about in named.items():
        assert about == {
            "id": run.ids[shard][document],
            "source": SOURCES[run.sources[shard][document]],
            "domain": "math" if run.sources[shard][document] == 1 else "web",
            "language": "eng_Latn",
            "tokens": len(run.documents[shard][document]),
        }


def test_every_id_is_found_and_an_id_of_none_is_not(run, stems):
    for shard in range(3):
        for document in range(40):
            assert find_documents(stems, run.ids[shard][document]) == [(shard, document)]
    least = min(min(ids) for ids in run.ids)
    for name in ("", "0" * 32, "f" * 32, least[:-1], "漢字", run.ids[0][0] + "0"):
        assert find_documents(stems, name) == []


def test_documents_made_from_one_are_found_by_its_id(run, stems):
    made = [(s, d) for s in range(3) for d in range(40) if run.ids[s][d][-1] in "01"]
    assert made
    for shard, document in made:
        name = f"parent-of-{run.ids[shard][document]}"
        assert find_documents(stems, name) == [(shard, document)]


def test_validation_is_looked_into_by_name(run):
    rows = Rows(run.plan, read_plan(run.plan)["validation"]["web"])
    held = {(s, d) for row in run.rows["validation-web"] for s, d, _, _ in row}
    for shard in range(3):
        for document in range(40):
            assert is_in(rows, shard, document) == ((shard, document) in held)


def test_rows_are_taken_from_any_row_groups_in_the_order_asked_for(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"a": range(100), "b": [f"{i}" for i in range(100)]}), path, row_group_size=7
    )
    for rows in ([0], [99], [6, 7], [98, 3, 3, 50, 0], range(100), []):
        assert take_rows(path, rows, ["b"]) == [{"b": f"{i}"} for i in rows]
    for row in (100, -1):
        with pytest.raises(ValueError, match=r"t.parquet: 100 rows"):
            take_rows(path, [row], ["b"])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"t.parquet: damaged"):
        take_rows(path, [0], ["b"])
