"""Cases of the model's two ends: cross-entropy over the vocabulary, and decoding over the cache.

Cross-entropy is timed whole, products with the head and all (bfloat16 on a GPU), against the same
by autograd, eager and compiled, which write the logits. Decoding is timed against the plain path of
`model/attention.py`, and against torch's attention with the latents as keys and values of one head.
"""

import torch
from kernel_case import Case
from torch.nn import functional as F

from model.cross_entropy import linear_cross_entropy
from model.kernels import decode

LATENT, ROTARY = 512, 64
SCALE = 192**-0.5


def _normal(*shape, device):
    generator = torch.Generator(device).manual_seed(sum(shape))
    x = torch.randn(*shape, generator=generator, device=device)
    return x.bfloat16() if device == "cuda" else x


def _head(shape, device):
    tokens, vocabulary, d = shape
    hidden, head = _normal(tokens, d, device=device), _normal(vocabulary, d, device=device)
    labels = torch.arange(tokens, device=device) * 7919 % vocabulary
    return hidden.requires_grad_(), head.mul_(d**-0.5).requires_grad_(), labels


def _gradients(total, hidden, head):
    return total.detach().float(), *torch.autograd.grad(total, (hidden, head))


def _in_chunks(hidden, head, labels):
    return _gradients(linear_cross_entropy(hidden, head, labels)[0].float(), hidden, head)


def _by_autograd(hidden, head, labels):
    return F.cross_entropy((hidden @ head.t()).float(), labels, reduction="sum")


def _written_out(hidden, head, labels):
    return _gradients(_by_autograd(hidden, head, labels), hidden, head)


def _in_float32(hidden, head, labels):
    wide = [t.detach().float().requires_grad_() for t in (hidden, head)]
    total, *gradients = _written_out(*wide, labels)
    return total, *(g.to(hidden.dtype) for g in gradients)


def _compiled_gradients():
    total = torch.compile(_by_autograd, dynamic=False)
    return lambda hidden, head, labels: _gradients(total(hidden, head, labels), hidden, head)


def _cache(shape, device):
    sequences, new, heads, tokens = shape
    wide = LATENT + ROTARY
    q = _normal(sequences, new, heads, wide, device=device)
    cache = _normal(sequences, tokens, wide, device=device)
    lengths = tokens - torch.arange(sequences, dtype=torch.int32, device=device) % (tokens // 2)
    return q, cache, lengths.clamp_min(new)


def _sdpa(q, cache, lengths):
    """A single new token a sequence; keys behind its length are masked."""
    seen = torch.arange(cache.shape[1], device=q.device) < lengths[:, None]
    key = cache[:, None]
    return F.scaled_dot_product_attention(
        q.transpose(1, 2), key, key[..., :LATENT], seen[:, None, None], scale=SCALE, enable_gqa=True
    )


CASES = [
    Case(
        "cross_entropy", [(4096, 129280, 7168), (4096, 32768, 2048)], (5, 300, 64), _head,
        _in_chunks, _in_float32,
        lambda s: 10.0 * s[1] * s[2] + 6 * s[0] * s[2] + 6 * s[0] * s[1],
        lambda s: 6.0 * torch.Size(s).numel(), tolerance=1e-2, rate="bf16",
        peers={"autograd": _written_out, "compiled": _compiled_gradients()},
    ),
    Case(
        "decode", [(128, 1, 128, 4096), (8, 1, 128, 32768)], (2, 1, 4, 70), _cache,
        lambda q, cache, lengths: (
            decode.attend_to_latents(q, cache, lengths, LATENT, SCALE),
        ),
        lambda q, cache, lengths: (
            decode.attend_to_latents_reference(
                q.float(), cache.float(), lengths, LATENT, SCALE
            ).to(q.dtype),
        ),
        lambda s: 2.0 * s[0] * (s[3] * (LATENT + ROTARY) + s[1] * s[2] * (2 * LATENT + ROTARY)),
        lambda s: 2.0 * s[0] * s[1] * s[2] * s[3] * (2 * LATENT + ROTARY),
        tolerance=1e-2, rate="bf16", peers={"sdpa": _sdpa},
    ),
]  # fmt: skip
