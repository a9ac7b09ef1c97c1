"""Parquet as the Hub wants it: zstd, row groups that can be paged, chunks that deduplicate.

A row group holds at most `GROUP_BYTES` of Arrow data (a single larger row is a group of its own):
the dataset viewer reads whole groups and refuses large ones. Pages have an index, so that one row
costs one page. Page borders come from the content (content-defined chunking): where two versions
of a dataset agree, so do their bytes, and storage that deduplicates keeps them once.

The same rows give the same bytes with the same version of pyarrow. Memory: about three row groups.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_BYTES = 64 << 20
# Columns of few different values; of the others a dictionary would be thrown away at each page.
_REPEATED = (
    "source", "domain", "language", "license", "set", "phase",
    "input_ids.list.element", "document_ids.list.element",
)  # fmt: skip


def _leaves(schema: pa.Schema) -> list[str]:
    """Names of the columns as Parquet has them."""
    return [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in schema
    ]


def _writer(sink: Path | pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        use_dictionary=[name for name in _leaves(schema) if name in _REPEATED],
        write_page_index=True,
        use_content_defined_chunking=True,
    )


def _halves(table: pa.Table, limit: int) -> Iterator[pa.Table]:
    """Cut in halves what is larger than the limit, down to single rows."""
    if not len(table):
        return
    if table.nbytes <= limit or len(table) == 1:
        yield table
        return
    middle = len(table) // 2
    yield from _halves(table.slice(0, middle), limit)
    yield from _halves(table.slice(middle), limit)


class Writer:
    """Writes one file, a row group when it is full; `rows` counts what was added."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Begin the file; its folder must be there."""
        self.rows = 0
        self._schema = schema
        self._file = _writer(path, schema)
        self._held: list[pa.Table] = []
        self._size = 0

    def add(self, table: pa.Table) -> None:
        """Add rows; what does not fill a row group waits for more."""
        self.rows += len(table)
        for part in _halves(table.cast(self._schema), GROUP_BYTES):
            if self._size + part.nbytes > GROUP_BYTES:
                self._flush()
            self._held.append(part)
            self._size += part.nbytes

    def _flush(self) -> None:
        if self._held:
            table = pa.concat_tables(self._held).combine_chunks()
            self._file.write_table(table, row_group_size=max(len(table), 1))
        self._held, self._size = [], 0

    def close(self) -> None:
        """Write what is left and the footer."""
        self._flush()
        self._file.close()


def written_bytes(tables: Iterable[pa.Table], schema: pa.Schema) -> int:
    """How many bytes a file of these rows would have, all in one row group."""
    sink = pa.BufferOutputStream()
    with _writer(sink, schema) as file:
        whole = pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in tables)])
        file.write_table(whole.combine_chunks(), row_group_size=max(len(whole), 1))
    return sink.getvalue().size
