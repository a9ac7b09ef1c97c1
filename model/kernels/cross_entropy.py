"""Losses and their gradient from a block of logits, in place: the middle of the cross-entropy.

`model/cross_entropy.py` never holds more than a block of logits, [rows, vocabulary]: a product with
the head makes it, this turns it into softmax minus one-hot, and two more products make the
gradients of hidden states and head of it. The head of the main model and of the multi-token modules
are the same matrix and take the same way. The three products are plain ones, which cuBLAS does
best; between them PyTorch would read and write the block seven times (pick, maximum, subtract,
exponential, sum, divide, scatter), this reads it twice and writes it once.

A program has a row. It first walks over it with a running maximum and sum for every lane, joined
only at the end, then again to write. With a vocabulary of 129,280 in float32 a row is 505 KiB, and
up to 528 rows are under way, so that the second reading misses L2 too: 12 bytes a logit, against 52
in PyTorch's steps. `model.cross_entropy.softmax_gradient_` is the same in these steps, and the
oracle in the tests.

Machine code (Triton 3.9.0, sm_90a; `resources.tsv`): all loads and stores of the block are 16 bytes
wide, 64 registers for the gradient in float32 and no stack, so that 4 rows share a multiprocessor.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.kernels.accepted import NUMBERS, expect
from model.kernels.compile import Build
from model.kernels.rounding import cast

# Columns at a time, and warps. Not tuned at run time: trying would spoil the block, which is
# changed in place.
BLOCK, WARPS_A_ROW = 4096, 8


@triton.jit
def _softmax_gradient(
    logits, labels, losses, vocabulary, WANTED: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels + row)
    logits += row * vocabulary
    # A label outside gives a loss that shows, and reads nothing that isn't a logit.
    known = (label >= 0) & (label < vocabulary)
    picked = tl.load(logits + label, mask=known, other=float("nan")).to(tl.float32)
    lane = tl.arange(0, BLOCK)
    highest = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, vocabulary, BLOCK):
        x = tl.load(logits + start + lane, mask=start + lane < vocabulary, other=float("-inf"))
        x = x.to(tl.float32)
        higher = tl.maximum(highest, x, propagate_nan=tl.PropagateNan.ALL)
        level = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(highest - level) + tl.exp(x - level)
        highest = higher
    level = tl.max(highest, 0)
    total = tl.sum(total * tl.exp(highest - level), 0)
    tl.store(losses + row, tl.log(total) + (level - picked))
    if WANTED:
        tl.debug_barrier()  # all have read the label's logit before one overwrites it
        for start in range(0, vocabulary, BLOCK):
            at = start + lane
            x = tl.load(logits + at, mask=at < vocabulary, other=float("-inf")).to(tl.float32)
            gradient = tl.exp(x - level) / total - (at == label).to(tl.float32)
            tl.store(logits + at, cast(gradient, logits.dtype.element_ty), mask=at < vocabulary)


def softmax_gradient_(logits: Tensor, labels: Tensor, wanted: bool) -> Tensor:
    """Cross-entropy of labels under softmax(logits), and its gradient in the place of the logits.

    logits: [rows, vocabulary], contiguous, overwritten by softmax - one-hot if `wanted`; labels:
    int64 [rows], all of them in the vocabulary (the loss of another is NaN). Gives float32 losses
    [rows]. Raises ValueError for logits that are not contiguous, and for other types.
    """
    expect("cross-entropy", "logits", logits, NUMBERS)
    expect("cross-entropy", "labels", labels, (torch.int64,), logits.shape[:1])
    if not logits.is_contiguous():
        raise ValueError(
            f"cross-entropy: logits have strides {logits.stride()}, expected rows one after another"
        )
    losses = torch.empty(logits.shape[0], device=logits.device)
    if len(losses):
        _softmax_gradient[(len(losses),)](
            logits,
            labels.contiguous(),
            losses,
            logits.shape[1],
            WANTED=wanted,
            BLOCK=BLOCK,
            num_warps=WARPS_A_ROW,
        )
    return losses


BUILDS = [
    Build(
        f"cross-entropy/{'gradient' if wanted else 'losses'}-{kind[1:]}/w{WARPS_A_ROW}",
        _softmax_gradient,
        {"logits": f"{kind}:16", "labels": "*i64:16", "losses": "*fp32:16", "vocabulary": "i32:16"},
        {"WANTED": wanted, "BLOCK": BLOCK},
        WARPS_A_ROW,
    )
    for kind in ("*fp32", "*bf16")
    for wanted in (False, True)
]
