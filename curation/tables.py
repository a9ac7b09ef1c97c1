"""Tables to rows: Parquet and Arrow streams, a batch at a time.

Strings are taken as bytes and decoded row by row, so that one row of invalid UTF-8 costs that row.
Every array is validated in full before its offsets are followed: an Arrow file is mapped as it is,
and may have been damaged or made up.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.document import SCHEMA
from curation.formats import DAMAGE, Report, Rows, one_line
from curation.remote import File


def open_parquet(path: File) -> pq.ParquetFile:
    """Open a Parquet file so that pages are read as they are needed. Raises one of DAMAGE."""
    source = path if isinstance(path, Path) else pa.PythonFile(path.open("rb"), mode="r")
    return pq.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False)


def parquet_rows(
    path: File,
    report: Report,
    text_field: str,
    row_groups: list[int] | None,
    first_row: int,
    batch_bytes: int,
    after: int = -1,
    raw: bool = False,
) -> Rows:
    """Yield (row number in the file from 0, row) for some row groups of a Parquet file, or all.

    A row group that cannot be decoded is reported and left out, from the damage on; one whose rows
    are all up to number `after` is not read. Pages are decoded as they are needed, so a row group
    of any size costs a batch and a page of each column.
    """
    try:
        file = open_parquet(path)
        columns = readable_columns(file.schema_arrow, text_field)
        problem = text_problem(file.schema_arrow, text_field) if row_groups is None else None
    except DAMAGE as error:
        report("", f"cannot be opened as Parquet: {one_line(error)}")
        return
    with file:
        if problem:
            report("", problem)
            return
        groups = range(file.num_row_groups) if row_groups is None else row_groups
        for group in groups:
            group_rows = file.metadata.row_group(group).num_rows
            if first_row + group_rows - 1 <= after:
                first_row += group_rows
                continue
            row_bytes = file.metadata.row_group(group).total_byte_size // max(group_rows, 1) + 1
            number = first_row
            try:
                for batch in file.iter_batches(
                    batch_size=min(max(batch_bytes // row_bytes, 1), 8192),
                    row_groups=[group],
                    columns=columns,
                    use_threads=False,
                ):
                    yield from table_rows(batch, number, report, text_field, after, raw)
                    number += batch.num_rows
            except DAMAGE as error:
                report(f"row group {group}, from row {number}", f"corrupt: {one_line(error)}")
            first_row += group_rows


def arrow_rows(
    path: File, report: Report, text_field: str, after: int = -1, raw: bool = False
) -> Rows:
    """Yield (row number in the file from 0, row) for an Arrow stream file, as `datasets` saves."""
    number = 0
    try:
        source = pa.memory_map(str(path)) if isinstance(path, Path) else pa.PythonFile(path.open())
        with source, pa.ipc.open_stream(source) as stream:
            names = readable_columns(stream.schema, text_field)
            if problem := text_problem(stream.schema, text_field):
                report("", problem)
                return
            for batch in stream:
                # A thousand rows a batch is what `datasets` writes; others may write everything.
                for start in range(0, batch.num_rows, 1024):
                    part = batch.slice(start, 1024).select(names)
                    yield from table_rows(part, number, report, text_field, after, raw)
                    number += part.num_rows
    except DAMAGE as error:
        report(f"from row {number}", f"corrupt Arrow stream: {one_line(error)}")


def text_problem(schema: pa.Schema, text_field: str) -> str | None:
    """Say why no document can be read from a table of this schema; None if it can.

    A text is a string, plain or dictionary-encoded, or bytes, as older Parquet writers leave it.
    """
    if schema.names.count(text_field) != 1:
        return f"no column {text_field!r}; the columns are {', '.join(schema.names)}"
    dtype = schema.field(text_field).type
    if _is_string(dtype) or _is_bytes(dtype):
        return None
    return f"column {text_field!r} is {dtype}, expected a string"


def _is_string(dtype: pa.DataType) -> bool:
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    return dtype in (pa.string(), pa.large_string(), pa.string_view())


def _is_bytes(dtype: pa.DataType) -> bool:
    return dtype in (pa.binary(), pa.large_binary(), pa.binary_view())


def readable_columns(schema: pa.Schema, text_field: str) -> list[str]:
    """Name the columns worth decoding: the text, scalars, and the nested ones of a document."""
    names = [
        field.name
        for field in schema
        if field.name == text_field
        or _is_string(field.type)
        or (pa.types.is_primitive(field.type) and not pa.types.is_duration(field.type))
        or pa.types.is_decimal(field.type)
        or (pa.types.is_nested(field.type) and field.name in SCHEMA.names)
    ]
    return [name for name in names if schema.names.count(name) == 1]


def table_rows(
    batch: pa.RecordBatch,
    first: int,
    report: Report,
    text_field: str,
    after: int = -1,
    raw: bool = False,
) -> Rows:
    """Yield (row number, row) of a record batch past row `after`, strings decoded one by one.

    With `raw`, `text_field` stays bytes.
    """
    if first <= after:
        batch = batch.slice(min(after + 1 - first, batch.num_rows))
        first = after + 1
    if not batch.num_rows:
        return
    names, columns = batch.schema.names, []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_temporal(field.type) or pa.types.is_decimal(field.type):
            column.validate(full=True)
            column = column.cast(pa.string())
        if _is_string(column.type) or _is_bytes(column.type):
            if pa.types.is_dictionary(column.type):
                column.indices.validate(full=True)
                words = _as_bytes(column.dictionary)
                column = pa.DictionaryArray.from_arrays(column.indices, words).dictionary_decode()
            else:
                column = _as_bytes(column)
        column.validate(full=True)
        values = column.to_pylist()
        if column.type == pa.large_binary() and field.name != text_field:
            values = [v if v is None else v.decode("utf-8", "replace") for v in values]
        columns.append(values)
    for number, values in enumerate(zip(*columns, strict=True), first):
        row = dict(zip(names, values, strict=True))
        text = row.get(text_field)
        if isinstance(text, bytes) and not raw:
            try:
                row[text_field] = text.decode()
            except UnicodeDecodeError as error:
                report(f"row {number}", f"invalid UTF-8 at byte {error.start}; skipped")
                continue
        yield number, row


_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}


def _as_bytes(column: pa.Array) -> pa.Array:
    """Take strings as bytes, their offsets checked in full before anything follows them."""
    if column.type in _BYTES:
        column = column.view(_BYTES[column.type])
    elif column.type == pa.string_view():
        column = pa.Array.from_buffers(
            pa.binary_view(), len(column), column.buffers(), column.null_count, column.offset
        )
    column.validate(full=True)
    return column.cast(pa.large_binary())
