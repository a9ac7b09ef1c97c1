"""RMSNorm: x / sqrt(mean(x^2) + eps) * w, over the last dimension (Zhang and Sennrich 2019).

The backward pass is written out, because autograd would keep and walk an intermediate for each of
the five small operations. With n = x / rms and t = dy * n,

    dw = sum over tokens of t        dx = (dy * w - n * mean(t * w)) / rms
"""

import torch
from torch import Tensor, nn

from model.recompute import made_by


class RMSNorm(nn.Module):
    """Normalise x: [..., d] to unit root mean square and scale it by a weight [d]."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        def again() -> Tensor:
            return _normalise(x, self.weight, self.eps)[0]

        return made_by(again, _RMSNorm.apply(x, self.weight, self.eps))


def _normalise(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The result and 1 / rms [..., 1]."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x * inverse).mul_(weight), inverse


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        result, inverse = _normalise(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return result

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        size = x.shape[-1]
        normal = (x * inverse).view(-1, size)
        grad = grad.reshape(-1, size)
        product = grad * normal
        mean = (product @ weight).unsqueeze_(1)
        grad_x = (grad * weight).addcmul_(normal, mean, value=-1 / size)
        return grad_x.view_as(x).mul_(inverse), product.sum(0), None
