"""Head and cross-entropy in one: the loss of a large vocabulary without its logits.

The logits are by far the largest tensor of a small model: 2,048 tokens of an 8,192-word vocabulary
take 64 MB, and autograd would keep several copies (logits, log-probabilities, their gradients).
Here a block of tokens at a time is multiplied with the head, turned into probabilities, then in
place into the gradient, softmax minus one-hot, and multiplied back, so that one block of logits is
all there ever is. Both gradients are ready when the loss is, and the backward pass only scales
them, which is all that is needed since the loss is one sum. The native core does it so, and its
twin in torch.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model import _native
from model.kernels.switch import enabled
from model.passes import call, native

IGNORED = -100
# Entries of a block of logits, 8 MB in float32: 256 tokens of an 8,192-word vocabulary. Larger ones
# fall out of the cache between passes, smaller ones start more and smaller products: on two cores,
# 1,024 tokens of 128 took 78, 65, 58, 70 and 79 ms with blocks of 32, 16, 8, 4 and 2 MB.
BLOCK = 2 << 20
# On a GPU small products cost more than memory: 512 tokens of a 131,072-word vocabulary.
GPU_BLOCK = 64 << 20


def linear_cross_entropy(hidden: Tensor, head: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of labels under softmax(hidden head^T), summed over the labelled tokens.

    hidden: [tokens, d], head: [vocabulary, d], labels: [tokens] int64, -100 where none. Gives the
    sum (a scalar that can be differentiated once) and each token's loss [tokens] (detached, 0 where
    there is no label).
    """
    wanted = torch.is_grad_enabled() and (hidden.requires_grad or head.requires_grad)
    return _LinearCrossEntropy.apply(hidden, head, labels, wanted)


def softmax_gradient_(logits: Tensor, labels: Tensor, wanted: bool) -> Tensor:
    """Cross-entropy of labels under softmax(logits), and its gradient in the place of the logits.

    logits: [rows, vocabulary], overwritten: by softmax - one-hot if `wanted`. labels: int64 [rows].
    Gives the losses [rows].
    """
    if enabled(logits):
        from model.kernels import cross_entropy as kernels  # needs Triton

        return kernels.softmax_gradient_(logits, labels, wanted)
    target = labels[:, None]
    picked = logits.gather(1, target).squeeze(1)
    highest = logits.amax(1, keepdim=True)
    probabilities = logits.sub_(highest).exp_()
    total = probabilities.sum(1, keepdim=True)
    if wanted:
        gradient = probabilities.div_(total)
        gradient.scatter_add_(1, target, gradient.new_full((len(labels), 1), -1.0))
    return total.log_().squeeze_(1).add_(highest.squeeze(1) - picked)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, hidden: Tensor, head: Tensor, labels: Tensor, wanted: bool
    ) -> tuple[Tensor, Tensor]:
        hidden, head = hidden.contiguous(), head.contiguous()
        grad_hidden = torch.zeros_like(hidden) if wanted else None
        grad_head = torch.empty_like(head) if wanted else None
        losses = hidden.new_zeros(hidden.shape[0])
        first = True
        labelled = (labels != IGNORED).nonzero().squeeze(1)
        if native(len(labelled), hidden, head):
            found = hidden.new_empty(len(labelled))
            call(
                _native.cross_entropy, hidden, head, labels.contiguous(), labelled, found,
                grad_hidden, grad_head,
            )  # fmt: skip
            losses.index_copy_(0, labelled, found)
            if wanted:
                ctx.save_for_backward(grad_hidden, grad_head)
            ctx.mark_non_differentiable(losses)
            return losses.sum(), losses
        entries = BLOCK if hidden.device.type == "cpu" else GPU_BLOCK
        height = min(max(1, entries // head.shape[0]), len(labelled))
        block = hidden.new_empty(height, head.shape[0])
        for rows in labelled.split(max(1, height)):
            h = hidden.index_select(0, rows)
            logits = torch.mm(h, head.t(), out=block[: len(rows)])
            found = softmax_gradient_(logits, labels.index_select(0, rows), wanted)
            losses.index_copy_(0, rows, found.to(losses.dtype))
            if wanted:
                grad_hidden.index_copy_(0, rows, logits @ head)
                grad_head.addmm_(logits.t(), h, beta=0 if first else 1)
                first = False
        if wanted:
            if first:
                grad_head.zero_()
            ctx.save_for_backward(grad_hidden, grad_head)
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_head = ctx.saved_tensors
        # In place: the head's gradient is as large as the head, and nobody else has it.
        return grad_hidden.mul_(grad), grad_head.mul_(grad), None, None
