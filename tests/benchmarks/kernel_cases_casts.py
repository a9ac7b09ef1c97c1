"""Cases of the kernels that round: against `model.fp8` and the twins, eager and torch.compile'd."""

import torch
from kernel_case import Case

from model import fp8
from model.kernels import permute, quantize, quantize_weights, rms_norm, swiglu

WIDE = [(4096, 7168), (4096, 16384), (16384, 7168)]
EXPERTS, ACTIVE = 64, 8


def _normal(*shape, device, dtype=torch.bfloat16):
    generator = torch.Generator(device).manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, device=device).to(dtype)


def _matrix(shape, device):
    return (_normal(*shape, device=device),)


def _kept(shape, device):
    return fp8.quantize_tiles(_normal(*shape, device=device).float(), power_of_two=True)


def _rows(x):
    return fp8.quantize_tiles(x.float())


def _both(x):
    return *_rows(x), *_rows(x.t().contiguous())


def _compiled(function):
    """torch.compile'd at the first call."""
    return torch.compile(function, dynamic=False)


def _weight(shape, device):
    return (_normal(*shape, device=device, dtype=torch.float32),)


def _weight_both(w):
    q, scale = fp8.quantize_blocks(w)
    return q, scale, q.view(torch.uint8).mT.contiguous().view(q.dtype), scale.mT


def _gate_up(shape, device):
    m, f = shape
    return _kept((m, 2 * f), device)


def _swiglu(q, scale):
    h = swiglu.swiglu_reference(fp8.dequantize(q, scale))
    return fp8.quantize_tiles(h, power_of_two=True)


def _gate_up_and_gradient(shape, device):
    return _normal(*shape, device=device), *_gate_up(shape, device)


def _swiglu_backward(grad, q, scale):
    x = fp8.dequantize(q, scale)
    dx, h = swiglu.swiglu_backward_reference(grad.float(), x)
    made = (dx, dx.t().contiguous(), h.t().contiguous())
    return tuple(t for x in made for t in fp8.quantize_tiles(x, power_of_two=True))


def _norm_inputs(shape, device):
    return _normal(*shape, device=device), _normal(shape[1], device=device, dtype=torch.float32)


def _norm(x, weight):
    y, inverse = rms_norm.rms_norm_reference(x.float(), weight, 1e-6)
    return *fp8.quantize_tiles(y, power_of_two=True), inverse


def _layout(tokens, device):
    generator = torch.Generator(device).manual_seed(tokens)
    scores = torch.rand(tokens, EXPERTS, generator=generator, device=device)
    chosen = scores.topk(min(ACTIVE, EXPERTS), 1)
    return permute.plan(chosen.indices, EXPERTS), chosen.values


def _tokens(shape, device):
    return _normal(*shape, device=device), _layout(shape[0], device)[0]


def _results(shape, device):
    layout, gates = _layout(shape[0], device)
    return _normal(layout.rows, shape[1], device=device), layout, gates


def _gradient_and_results(shape, device):
    rows, layout, _ = _results(shape, device)
    return _normal(*shape, device=device), rows, layout


CASES = [
    Case(
        "quantize_tiles", WIDE, (70, 200), _matrix,
        lambda x: quantize.quantize_tiles(x), _rows,
        lambda s: 3.03 * s[0] * s[1], peers={"compiled": _compiled(_rows)},
    ),
    Case(
        "quantize_both", WIDE, (130, 200), _matrix,
        lambda x: quantize.quantize_both(x), _both,
        lambda s: 4.06 * s[0] * s[1], peers={"compiled": _compiled(_both)},
    ),
    Case(
        "requantize_columns", WIDE, (130, 200), _kept,
        lambda q, scale: quantize.requantize_columns(q, scale),
        lambda q, scale: fp8.requantize_columns(q, scale),
        lambda s: 2.06 * s[0] * s[1],
    ),
    Case(
        "quantize_blocks", [(7168, 16384), (4, 4096, 7168)], (2, 130, 200), _weight,
        lambda w: quantize_weights.quantize_blocks(w, transpose=True), _weight_both,
        lambda s: 6 * torch.Size(s).numel(), peers={"compiled": _compiled(_weight_both)},
    ),
    Case(
        "swiglu_quantize", [(4096, 2048), (32768, 2048)], (70, 256), _gate_up,
        lambda q, scale: swiglu.swiglu_quantize(q, scale, power_of_two=True), _swiglu,
        lambda s: 3.09 * s[0] * s[1], tolerance=5e-3, peers={"compiled": _compiled(_swiglu)},
    ),
    Case(
        "swiglu_quantize_backward", [(4096, 2048), (32768, 2048)], (130, 128),
        _gate_up_and_gradient,
        lambda *inputs: swiglu.swiglu_quantize_backward(*inputs, power_of_two=True),
        _swiglu_backward, lambda s: 9.22 * s[0] * s[1], tolerance=5e-3,
        peers={"compiled": _compiled(_swiglu_backward)},
    ),
    Case(
        "rms_norm_quantize", [(4096, 7168), (4096, 1536), (4096, 512)], (5, 1000), _norm_inputs,
        lambda x, w: rms_norm.rms_norm_quantize(x, w, 1e-6, power_of_two=True)[:3], _norm,
        lambda s: 3.03 * s[0] * s[1], tolerance=5e-3, peers={"compiled": _compiled(_norm)},
    ),
    Case(
        "dispatch", [(4096, 7168)], (3, 200), _tokens,
        lambda x, layout: permute.dispatch(x, layout), permute.dispatch_reference,
        lambda s: s[0] * s[1] * (2 + 1.03 * ACTIVE),
    ),
    Case(
        "combine", [(4096, 7168)], (9, 200), _results,
        lambda *inputs: (permute.combine(*inputs),),
        lambda rows, layout, gates: (
            permute.combine_reference(rows.float(), layout, gates).to(rows.dtype),
        ),
        lambda s: s[0] * s[1] * 2 * (1 + ACTIVE), tolerance=1e-2,
    ),
    Case(
        "gate_gradient", [(4096, 7168)], (9, 200), _gradient_and_results,
        lambda *inputs: (permute.gate_gradient(*inputs),),
        lambda grad, rows, layout: (
            (grad.float()[:, None] * rows.float()[layout.position.long()]).sum(2),
        ),
        lambda s: s[0] * s[1] * 2 * (1 + ACTIVE), tolerance=1e-5,
    ),
]  # fmt: skip
