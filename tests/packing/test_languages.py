"""Languages of labels, against a walk over the pieces of each row."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from packing.languages import LabelLanguages
from packing.loader import Loader

sys.path.insert(0, str(Path(__file__).parent))
from packed_run import write_packed

LANGUAGES = ("eng_Latn", "deu_Latn", "python", None)


@pytest.fixture
def run(tmp_path):
    """A run whose documents have a language by their number."""
    run = write_packed(tmp_path / "run", {"phase-0": (24, 5), "validation-web": (16, 7)}, seed=3)
    for path in run.shards.glob("*.documents.parquet"):
        table = pq.read_table(path)
        names = pa.array([LANGUAGES[i % len(LANGUAGES)] for i in range(len(table))], pa.string())
        pq.write_table(
            table.set_column(table.column_names.index("language"), "language", names), path
        )
    return run


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_label_has_the_language_of_the_document_its_token_stands_in(run, batch_size):
    loader = Loader.open(run.plan, run.shards, ["validation-web"], 0)
    languages = LabelLanguages(loader, [run.shards / f"shard-{s:05d}" for s in range(3)])
    assert set(languages.names) <= {"eng_Latn", "deu_Latn", "python", "unknown"}
    seen = set()
    for batch in loader.batches(batch_size):
        found = languages(batch)
        for row, position in enumerate(batch["sequence_index"].tolist()):
            # A token at a time: what document does the token behind this place belong to?
            owners = [p["document"] for p in loader.pieces(position) for _ in range(p["length"])]
            owners += [None] * (16 - len(owners))
            for at, number in enumerate(found[row].tolist()):
                following = owners[at + 1] if at + 1 < 16 else None
                expected = None if following is None else LANGUAGES[following % 4] or "unknown"
                assert (languages.names[number] if number >= 0 else None) == expected
                seen.add(expected)
    assert seen == {"eng_Latn", "deu_Latn", "python", "unknown", None}
