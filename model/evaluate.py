"""Losses on documents that were held out: in nats a token, and in bits a byte of their text.

Bits per byte can be compared between tokenizers, nats per token cannot. A set tells how many bytes
of text each token stands for; special tokens stand for none, but their loss counts. Sets have
names, which mean nothing here: a domain, a language, both.
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
    """

    open_batches: Callable[[], Iterable[Batch]]
    token_bytes: Tensor | None = None


@torch.no_grad()
def evaluate(
    model: Transformer, evaluation: dict[str, EvaluationSet], ranks: Ranks = ALONE
) -> dict[str, dict]:
    """Mean losses of each set over all its labels: `loss`, `tokens`, and `mtp_loss` by depth; where
    bytes are known also `bytes` and `bits_per_byte` (None where the set has no text).

    Ranks take turns at batches, and all give the result.
    """
    return {name: _evaluate_one(model, entry, ranks) for name, entry in evaluation.items()}


def _evaluate_one(model: Transformer, entry: EvaluationSet, ranks: Ranks) -> dict:
    depths = len(model.mtp_modules)
    # main loss, its tokens, their bytes, then each depth's loss and its tokens
    sums = [0.0] * (3 + 2 * depths)
    for i, batch in enumerate(entry.open_batches()):
        if i % ranks.count != ranks.rank:
            continue
        labels = batch["labels"]
        inputs = batch["input_ids"], labels, batch["document_ids"] >= 0
        losses = model.losses(*(t.to(model.lm_head.weight.device) for t in inputs))
        read = 0
        if entry.token_bytes is not None:
            read = int(entry.token_bytes[labels[labels >= 0]].sum())
        found = [losses.main.item(), losses.main_tokens, read]
        for value, count in zip(losses.mtp, losses.mtp_tokens, strict=True):
            found += [value.item(), count]
        sums = [a + b for a, b in zip(sums, found, strict=True)]
    main, tokens, read, *mtp = ranks.add(sums)
    result = {
        "loss": main / max(tokens, 1),
        "tokens": int(tokens),
        "mtp_loss": [v / max(n, 1) for v, n in zip(mtp[::2], mtp[1::2], strict=True)],
    }
    if entry.token_bytes is not None:
        bits = main / math.log(2)
        result |= {"bytes": int(read), "bits_per_byte": bits / read if read else None}
    return result
