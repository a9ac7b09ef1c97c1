"""Arrow columns as NumPy arrays, without pandas and mostly without a copy.

`pyarrow.Array.to_numpy`, and whatever takes a Python number, imports pandas where it is installed,
which takes longer than to count a million documents.
"""

import numpy as np
import pyarrow as pa


def numbers(column: pa.Array, missing: int | None = None) -> np.ndarray:
    """The numbers of a column: its own dtype, [rows], not to be written to.

    missing: what stands for a null; without it, a null is a ValueError.
    """
    if column.null_count and missing is None:
        raise ValueError(f"{column.null_count} of {len(column)} numbers are missing")
    dtype = np.dtype(column.type.to_pandas_dtype())
    if not len(column):
        return np.empty(0, dtype)
    values = np.frombuffer(column.buffers()[1], dtype, len(column), column.offset * dtype.itemsize)
    return np.where(present(column), values, dtype.type(missing)) if column.null_count else values


def present(column: pa.Array) -> np.ndarray:
    """Which values are not null: bool [rows]."""
    bits = column.buffers()[0]
    if bits is None:
        return np.ones(len(column), bool)
    bits = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return bits[column.offset : column.offset + len(column)].astype(bool)


def list_sizes(column: pa.ListArray) -> np.ndarray:
    """The number of values in each list, 0 for a null: int64 [rows]."""
    sizes = np.diff(numbers(column.offsets)).astype(np.int64)
    return sizes * present(column) if column.null_count else sizes


def column(values: np.ndarray) -> pa.Array:
    """Numbers as a column of their own type, without nulls."""
    values = np.ascontiguousarray(values)
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
