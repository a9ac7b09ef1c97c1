import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.document import make_batch
from curation.sampling import Documents, least_keys, sample_texts


def rows():
    return [
        {"text": f"text {i} é", "source": "odd" if i % 2 else "even", "domain": "web"}
        for i in range(3000)
    ]


def write(path, files=1, row_group=None):
    table = pa.Table.from_batches([make_batch(rows())])
    size = -(-len(table) // files)
    paths = [path.with_name(f"{path.name}-{i}.parquet") for i in range(files)]
    for i, name in enumerate(paths):
        pq.write_table(table.slice(i * size, size), name, row_group_size=row_group)
    return paths


def test_samples_are_the_same_documents_however_they_are_cut(tmp_path):
    whole, parts = write(tmp_path / "a"), write(tmp_path / "b", files=4, row_group=11)
    chosen = list(sample_texts(whole, 100, seed=5))
    assert len(set(chosen)) == 100
    assert list(sample_texts(parts, 100, seed=5)) == chosen
    assert set(chosen) < set(sample_texts(parts, 200, seed=5))
    assert list(sample_texts(parts, 100, seed=6)) != chosen
    assert len(list(sample_texts(whole, 10**6, seed=5))) == 3000
    assert list(sample_texts(whole, 0, seed=5)) == []


def test_samples_may_be_of_some_sources_only(tmp_path):
    paths = write(tmp_path / "a", files=2)
    chosen = list(sample_texts(paths, 50, seed=5, sources=["odd"]))
    assert len(chosen) == 50
    assert all(int(text.split()[1]) % 2 for text in chosen)
    with pytest.raises(ValueError, match=r"no documents of source none; found \['even', 'odd'\]"):
        list(sample_texts(paths, 9, seed=5, sources=["odd", "none"]))


def test_documents_of_many_files_are_one_sequence(tmp_path):
    whole, parts = Documents(write(tmp_path / "a"), 5), Documents(write(tmp_path / "b", 3), 5)
    assert whole.digest == parts.digest != Documents(whole.paths * 2, 5).digest
    assert whole.keys.tolist() == parts.keys.tolist()
    assert parts.bytes.tolist() == [len(row["text"].encode()) for row in rows()]
    assert (whole.keys <= least_keys(whole.keys, 7)).sum() == 7
    assert least_keys(whole.keys, 3000) >= whole.keys.max()
    mask = whole.keys <= least_keys(whole.keys, 7)
    expected = [row["text"] for row, yes in zip(rows(), mask, strict=True) if yes]
    assert list(parts.texts(mask)) == expected
