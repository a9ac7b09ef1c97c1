"""Losses on documents that were held out: in nats a token, and in bits a byte of their text.

Bits per byte can be compared between tokenizers, nats per token cannot. A set tells how many bytes
of text each token stands for; special tokens stand for none, but their loss counts. Sets have
names, which mean nothing here, such as a domain; and the labels of a set may be told apart, by the
language of the document that each of them is in, without reading anything twice.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.parallel import ALONE, Ranks
from model.schedule import Batch
from model.transformer import Transformer


@dataclass(frozen=True)
class EvaluationSet:
    """Held-out sequences. `open_batches` gives batches of any size, the same ones each time;
    `token_bytes` [vocabulary] int64 are the bytes of text of each token id, None if not known.

    `group_of` gives a batch's labels their groups, int64 [b, L], places in the names `groups`; -1
    is none.
    """

    open_batches: Callable[[], Iterable[Batch]]
    token_bytes: Tensor | None = None
    groups: tuple[str, ...] = ()
    group_of: Callable[[Batch], Tensor] | None = None


@torch.no_grad()
def evaluate(
    model: Transformer, evaluation: dict[str, EvaluationSet], ranks: Ranks = ALONE
) -> dict[str, dict]:
    """Mean losses of each set over all its labels: `loss`, `tokens`, and `mtp_loss` by depth; where
    bytes are known also `bytes` and `bits_per_byte` (None where the set has no text). A set with
    groups has `groups` too: by name, those of the same that are of the main loss, for each group
    that has a label.

    Ranks take turns at batches, and all give the result.
    """
    return {name: _evaluate_one(model, entry, ranks) for name, entry in evaluation.items()}


def _evaluate_one(model: Transformer, entry: EvaluationSet, ranks: Ranks) -> dict:
    depths = len(model.mtp_modules)
    sums = [0.0] * (2 * depths)  # of each depth: the loss, its labels
    # Of each group, the last being that of no group: the loss, its labels, their bytes.
    own = torch.zeros(3, len(entry.groups) + 1, dtype=torch.float64)
    for i, batch in enumerate(entry.open_batches()):
        if i % ranks.count != ranks.rank:
            continue
        labels = batch["labels"]
        real, samples = batch["document_ids"] >= 0, batch.get("sample_ids")
        inputs = batch["input_ids"], labels, real, samples
        device = model.lm_head.weight.device
        losses = model.losses(*(None if t is None else t.to(device) for t in inputs))
        counted = labels >= 0
        group = torch.full_like(labels, -1) if entry.group_of is None else entry.group_of(batch)
        group = group[counted] % own.shape[1]
        own[0].index_add_(0, group, losses.token_losses.cpu()[counted].double())
        own[1].index_add_(0, group, torch.ones_like(group, dtype=torch.float64))
        if entry.token_bytes is not None:
            own[2].index_add_(0, group, entry.token_bytes[labels[counted]].double())
        for depth, (value, count) in enumerate(zip(losses.mtp, losses.mtp_tokens, strict=True)):
            sums[2 * depth] += value.item()
            sums[2 * depth + 1] += count
    added = ranks.add([*sums, *own.flatten().tolist()])
    mtp, own = added[: 2 * depths], torch.tensor(added[2 * depths :], dtype=torch.float64)
    own = own.view(3, -1)
    known = entry.token_bytes is not None
    result = _means(own.sum(1).tolist(), known) | {
        "mtp_loss": [v / max(n, 1) for v, n in zip(mtp[::2], mtp[1::2], strict=True)]
    }
    if entry.group_of is not None:
        parts = zip(entry.groups, own[:, :-1].T.tolist(), strict=True)
        result["groups"] = {name: _means(part, known) for name, part in parts if part[1]}
    return result


def _means(sums: list[float], bytes_known: bool) -> dict:
    """A loss, its labels and their bytes, as they are told."""
    total, tokens, read = sums
    result = {"loss": total / max(tokens, 1), "tokens": int(tokens)}
    if bytes_known:
        bits = total / math.log(2)
        result |= {"bytes": int(read), "bits_per_byte": bits / read if read else None}
    return result
