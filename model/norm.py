"""RMSNorm: x / sqrt(mean(x^2) + eps) * w, over the last dimension (Zhang and Sennrich 2019).

The backward pass is written out, because autograd would keep and walk an intermediate for each of
the five small operations. With n = x / rms and t = dy * n,

    dw = sum over tokens of t        dx = (dy * w - n * mean(t * w)) / rms
"""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Normalise x: [..., d] to unit root mean square and scale it by a weight [d]."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return _RMSNorm.apply(x, self.weight, self.eps)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

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
