"""AdamW, gradient clipping and the learning-rate schedule of section 4.2.

Decoupled weight decay (Loshchilov and Hutter 2019) applies to matrices; norms are left alone. The
schedule rises linearly, stays constant, and falls along a cosine to a fraction of its height: three
phases, as in the report, in steps. torch's fused kernel updates all tensors in one pass over
memory, on the CPU as well.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from model.transformer import EMBEDDING, HEAD


def make_optimizer(
    model: nn.Module,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    embedding_scale: float = 1.0,
    head_scale: float = 1.0,
) -> torch.optim.AdamW:
    """AdamW over a model's parameters, decaying those of two dimensions and more.

    The embedding table and the head learn so many times faster (see `TrainConfig`); their decay per
    step stays what it is for the others.
    """
    scales = {EMBEDDING: embedding_scale, HEAD: head_scale}
    parameters = dict(model.named_parameters())
    others = [p for name, p in parameters.items() if name not in scales]
    groups = [
        {"params": [parameters[name]], "weight_decay": weight_decay / scale, "scale": scale}
        for name, scale in scales.items()
        if name in parameters
    ]
    for own, decay in (
        ([p for p in others if p.ndim > 1], weight_decay),
        ([p for p in others if p.ndim <= 1], 0.0),
    ):
        groups.append({"params": own, "weight_decay": decay, "scale": 1.0})
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)


def prepare_state(optimizer: torch.optim.AdamW) -> None:
    """Give every parameter the zero moments that its first update would, so they can be loaded."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not optimizer.state[parameter]:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }


def set_learning_rate(optimizer: torch.optim.AdamW, rate: float) -> None:
    """Use this rate for the next step, times each group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def learning_rate(
    step: int, steps: int, peak: float, final_ratio: float, warmup: int, decay: int
) -> float:
    """The rate of a step (0-based) of `steps`: up over `warmup` steps, then `peak`, then over the
    last `decay` steps along a cosine, ending at `peak * final_ratio` exactly on the last step.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    into = step - (steps - decay) + 1
    if into <= 0:
        return peak
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, into / decay)))
    return peak * (final_ratio + (1 - final_ratio) * cosine)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most `limit`; give the norm before.

    A norm that is not finite leaves them as they are.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if torch.isfinite(norm) and norm > limit:
        torch._foreach_mul_(gradients, limit / norm)
    return norm
