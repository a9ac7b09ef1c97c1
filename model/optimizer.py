"""AdamW and gradient clipping.

Decoupled weight decay (Loshchilov and Hutter 2019) applies to matrices; norms are left alone.
Weights are float32, the master copy of any precision that products are computed in. torch's fused
kernel updates all tensors in one pass over memory, on the CPU as well.

Moments can be stored in bfloat16, as the report does (section 3.3.3): half the memory of the
optimizer. A tensor's moments are widened, updated in float32 and rounded to nearest again. Nearest
is enough with these decays: a step moves a moment by 1 - β, 5% and more of the way to its
target, far above bfloat16's 0.4%, so no update is lost, and nothing random needs a seed.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

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


def prepare_state(optimizer: torch.optim.AdamW, moments: torch.dtype | None = None) -> None:
    """Give every parameter the zero moments that its first update would, so they can be loaded.

    `moments` is their dtype, by default the parameter's.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not optimizer.state[parameter]:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, dtype=moments),
                    "exp_avg_sq": torch.zeros_like(parameter, dtype=moments),
                }


@torch.no_grad()
def update(optimizer: torch.optim.AdamW, rate: float) -> None:
    """One step at a learning rate (times each group's own scale), in the moments' own dtype."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    if all(s["exp_avg"].dtype == p.dtype for p, s in optimizer.state.items()):
        optimizer.step()
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                _update_rounded(parameter, optimizer.state[parameter], group)


def _update_rounded(parameter: nn.Parameter, state: dict[str, Tensor], group: dict) -> None:
    """AdamW for one tensor whose moments are stored in fewer bits than its own."""
    first, second = (state[name].to(parameter.dtype) for name in ("exp_avg", "exp_avg_sq"))
    adamw(
        [parameter],
        [parameter.grad],
        [first],
        [second],
        [],
        [state["step"]],
        fused=True,
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
    state["exp_avg"].copy_(first)
    state["exp_avg_sq"].copy_(second)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most `limit`; give the norm before.

    A norm that is not finite leaves them as they are.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if torch.isfinite(norm) and norm > limit:
        torch._foreach_mul_(gradients, limit / norm)
    return norm
