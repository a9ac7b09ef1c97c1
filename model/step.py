"""One batch forward and backward: micro-batches on this rank, sums over all ranks.

The objective is the report's (arXiv 2412.19437): cross-entropy, plus λ/D times the sum of the
depths' multi-token losses (equation 25), plus α times the sequence-wise balance loss (equation 17).
Each micro-batch gives sums, and every sum is divided by the count of the whole batch, on all ranks,
so that cutting the batch otherwise changes nothing but rounding.

What flows backwards is the objective times a power of two near the number of labels, so about a sum
over tokens, and the gradients are divided by it at the end. In float32 that changes no bit. In FP8
it keeps large batches from pushing gradients below what a tile's scale can reach: its largest
number counts as 1e-4 at least (`model/fp8.py`).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.parallel import Ranks
from model.schedule import Batch, Step, Supply
from model.transformer import Transformer, count_labels, count_mtp_labels


@dataclass
class BatchResult:
    """What a whole batch gave, the same on all ranks; the gradients are in the model.

    `main`, `mtp`, `balance` are means (`balance` over sequences, summed over layers); `tokens`
    counts what is not padding; `loads` [E] float64 a router; `sources` maps a source id to the sum
    of its losses and their number; `suspects` are positions whose own loss is not finite.
    """

    main: float
    mtp: float
    balance: float
    tokens: int
    loads: list[Tensor]
    sources: dict[int, tuple[float, int]]
    suspects: list[int]


def run_batch(
    model: Transformer,
    supply: Supply,
    step: Step,
    mtp_weight: float,
    balance_alpha: float,
    sources: int,
    ranks: Ranks,
) -> BatchResult:
    """Add the gradients of a step's objective to the model's, which must be none.

    `sources` is how many source ids there are, 0 to leave them out. Raises ValueError for a batch
    that is not what the step says. A batch is on the CPU; micro-batches go where the model is.
    """
    device = model.lm_head.weight.device
    pieces = ranks.share(-(-step.size // step.micro))
    batch = _load(supply, step, pieces)
    labels, real = batch["labels"], batch["document_ids"] >= 0
    depths = len(model.mtp_modules)
    samples = batch.get("sample_ids")
    counted = [count_labels(labels), *count_mtp_labels(labels, samples, depths)]
    # max: with no label at all the sums are 0 too.
    tokens, *mtp_tokens = (max(int(n), 1) for n in ranks.add(counted))
    scale = 2.0 ** math.ceil(math.log2(tokens))
    main = balance = mtp = 0.0
    loads = [torch.zeros(r.weight.shape[0], dtype=torch.float64) for r in model.routers]
    token_losses = [labels.new_empty((0, step.length), dtype=torch.float32)]
    for start in range(0, labels.shape[0], step.micro):
        part = slice(start, start + step.micro)
        own = None if samples is None else samples[part].to(device)
        inputs = batch["input_ids"][part], labels[part], real[part]
        losses = model.losses(*(t.to(device) for t in inputs), own)
        main_mean = losses.main / tokens
        mtp_means = [v / n for v, n in zip(losses.mtp, mtp_tokens, strict=True)]
        mtp_mean = sum(mtp_means) / depths if depths else main_mean.new_zeros(())
        balance_mean = losses.balance / step.size
        objective = main_mean + mtp_weight * mtp_mean + balance_alpha * balance_mean
        (objective * scale).backward()
        main += main_mean.item()
        mtp += float(mtp_mean.detach())
        balance += balance_mean.item()
        for total, load in zip(loads, losses.loads, strict=True):
            total += load.cpu()
        token_losses.append(losses.token_losses.cpu())
    ranks.add_gradients(model.parameters())
    torch._foreach_mul_([p.grad for p in model.parameters() if p.grad is not None], 1 / scale)
    each = torch.cat(token_losses)
    sums, counts = _by_source(each, batch, sources)
    suspect = torch.zeros(step.size)
    suspect[batch["sequence_index"] - step.first] = (~each.isfinite()).any(1).float()
    parts = [
        torch.tensor([main, mtp, balance, int(real.sum())], dtype=torch.float64),
        *loads, sums, counts, suspect,
    ]  # fmt: skip
    added = torch.tensor(ranks.add(torch.cat(parts).tolist()), dtype=torch.float64)
    means, *rest = added.split([len(part) for part in parts])
    *loads, sums, counts, suspect = rest
    return BatchResult(
        *means[:3].tolist(),
        tokens=int(means[3]),
        loads=loads,
        sources={i: (float(sums[i]), int(counts[i])) for i in counts.nonzero().flatten().tolist()},
        suspects=(step.first + suspect.nonzero().flatten()).tolist(),
    )


def _load(supply: Supply, step: Step, pieces: range) -> Batch:
    """The sequences of some micro-batches of a step, of which there may be none."""
    first = pieces.start * step.micro
    size = min(pieces.stop * step.micro, step.size) - first
    if size > 0:
        batch = supply.batch(step.first + first, size)
    else:
        batch = {name: t[:0] for name, t in supply.batch(step.first, 1).items()}
    shape, expected = tuple(batch["input_ids"].shape), (max(size, 0), step.length)
    if shape != expected:
        raise ValueError(
            f"batch at sequence {step.first + first} has shape {shape}, expected {expected}"
        )
    return batch


def _by_source(token_losses: Tensor, batch: Batch, sources: int) -> tuple[Tensor, Tensor]:
    """Sum of losses and number of labels of each source, float64 [sources]."""
    counted = (batch["labels"] != -100) & (batch["source_ids"] >= 0)
    source = batch["source_ids"][counted].long()
    if sources and len(source) and int(source.max()) >= sources:
        raise ValueError(f"batch has source id {int(source.max())}, expected below {sources}")
    if not sources:
        source = source[:0]
    losses = token_losses[counted].double()[: len(source)]
    sums = torch.bincount(source, losses, minlength=sources)
    return sums.double(), torch.bincount(source, minlength=sources).double()
