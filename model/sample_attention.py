"""Attention inside samples: what is packed into a row for the supervised stage sees only itself.

Section 5.1 of the DeepSeek-V3 report packs samples of conversations and masks them from each other.
A mask over the row would cost what the whole row costs, so each sample's stretch of the row goes
through the same causal attention by itself, which is exact and cheaper: n samples of equal length
take an nth of the products. Padding is a stretch too, and its results are used by nobody.

Positions stay those of the row. Rotary scores depend on differences of positions alone, so a sample
gets the scores that it would get alone, up to rounding; and a row is never longer than the model's
context.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def stretches(samples: Tensor) -> list[list[tuple[int, int]]]:
    """Of each row of samples (int [b, l], equal for the tokens of one sample, which lie together),
    the (start, stop) of each sample.
    """
    found = []
    for row in samples:
        cuts = ((row[1:] != row[:-1]).nonzero().flatten() + 1).tolist()
        found.append(list(zip([0, *cuts], [*cuts, len(row)], strict=True)))
    return found


def by_sample(attend: Callable[..., Tensor], samples: Tensor, *tensors: Tensor) -> Tensor:
    """`attend(*tensors)`, whose tensors are [b, l, …] as is its result, for each sample alone."""
    rows = []
    for i, row in enumerate(stretches(samples)):
        parts = [attend(*(x[i : i + 1, a:b] for x in tensors)) for a, b in row]
        rows.append(torch.cat(parts, 1))
    return torch.cat(rows)
