"""Token shards are Megatron-Core's: its own classes read ours, and write the same bytes."""

import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packing import Shard
from packing.shards import DOCUMENTS_SCHEMA, write_shard

pytestmark = pytest.mark.slow  # importing megatron takes seconds


@pytest.fixture(scope="module")
def megatron():
    """The module of megatron-core that defines the format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of kernels for GPUs that are not there
        return pytest.importorskip(
            "megatron.core.datasets.indexed_dataset",
            reason="megatron-core is not installed: pip install megatron-core",
            exc_type=ImportError,
        )


def write(stem, documents: list[np.ndarray]) -> None:
    rows = [
        {"id": f"{i:032x}", "source": "s", "domain": "web", "bytes": 1, "tokens": len(tokens)}
        for i, tokens in enumerate(documents)
    ]
    table = pa.Table.from_pylist(rows, DOCUMENTS_SCHEMA)
    write_shard(stem, np.concatenate([np.empty(0, np.int32), *documents]), table)


@given(
    st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=50), min_size=1, max_size=20)
)
@settings(max_examples=50, deadline=None)
def test_megatron_reads_our_shards_and_writes_the_same_bytes(megatron, tmp_path_factory, documents):
    folder = tmp_path_factory.mktemp("shard")
    documents = [np.array(tokens, np.int32) for tokens in documents]
    write(folder / "ours", documents)
    for mmap in (True, False):
        dataset = megatron.IndexedDataset(str(folder / "ours"), mmap=mmap)
        assert len(dataset) == len(documents) and dataset.index.dtype == np.int32
        for theirs, tokens in zip(dataset, documents, strict=True):
            assert theirs.dtype == np.int32 and theirs.tolist() == tokens.tolist()
        assert dataset.document_indices.tolist() == list(range(len(documents) + 1))
        # A window of a document, as Megatron's GPTDataset takes it.
        last = len(documents) - 1
        part = dataset.get(last, offset=len(documents[last]) - 1, length=1)
        assert part.tolist() == documents[last][-1:].tolist()

    builder = megatron.IndexedDatasetBuilder(str(folder / "theirs.bin"), dtype=np.int32)
    for tokens in documents:
        builder.add_document(tokens, [len(tokens)])
    builder.finalize(str(folder / "theirs.idx"))
    for suffix in (".bin", ".idx"):
        ours = (folder / f"ours{suffix}").read_bytes()
        assert ours == (folder / f"theirs{suffix}").read_bytes()
    shard = Shard.open(folder / "theirs")
    assert [shard.document(i).tolist() for i in range(len(documents))] == [
        tokens.tolist() for tokens in documents
    ]
