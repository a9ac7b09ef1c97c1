"""The native passes of training against the same in torch, in float64: they are its oracle."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import _native, passes
from model.attention import decoupled_attention
from model.cross_entropy import linear_cross_entropy
from model.feedforward import gated_networks
from model.linear import linear
from model.recompute import remaking

if not passes.AVAILABLE:
    pytest.skip("this machine has no AVX-512, so torch does all of it", allow_module_level=True)


@pytest.fixture(autouse=True)
def any_number_of_rows(monkeypatch):
    monkeypatch.setattr(passes, "LEAST", 1)


def compare(function, *tensors, tolerance=2e-5):
    """Results and gradients of a function, native in float32 and by torch in float64."""
    found = []
    for dtype in (torch.float32, torch.float64):
        own = [t.detach().to(dtype).requires_grad_() if t.is_floating_point() else t
               for t in tensors]  # fmt: skip
        result = function(*own)
        weight = torch.linspace(-1, 1, result.numel(), dtype=torch.float64)
        total = (result.flatten() * weight.to(dtype)).sum()
        inputs = [t for t in own if t.is_floating_point()]
        found.append([result, *torch.autograd.grad(total, inputs)])
    for one, other in zip(*found, strict=True):
        assert one.dtype == torch.float32
        scale = other.abs().max().clamp_min(1.0)
        assert ((one - other).abs().max() / scale).item() < tolerance


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 600), st.integers(1, 600), st.integers(1, 600), st.integers(1, 3))
def test_products_of_any_shape(rows, inputs, outputs, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x, w = normal(0, rows, inputs), normal(1, outputs, inputs)
        compare(lambda x, w: linear(x, w, "fp32") / inputs**0.5, x, w, tolerance=1e-4)
    finally:
        torch.set_num_threads(before)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 70), min_size=1, max_size=6).filter(any),
    st.integers(1, 70),
    st.integers(1, 70),
    st.booleans(),
)
def test_networks_for_their_own_rows(counts, size, inner, weighed):
    rows, active = sum(counts), 1
    while rows % (active * 2) == 0:
        active *= 2
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    token, position = order // active, order.argsort().view(-1, active)
    gate_up, down = normal(1, len(counts), 2 * inner, size), normal(2, len(counts), size, inner)
    gain = normal(3, rows, 1)

    def chosen(x, gate_up, down, gain):
        gain = gain if weighed else gain * 0 + 1
        return gated_networks(x, gate_up, down, counts, gain, token, position)

    def plain(x, gate_up, down):
        return gated_networks(x, gate_up, down, counts)

    scale = (size * inner) ** -0.25
    compare(chosen, normal(0, rows // active, size), gate_up * scale, down * scale, gain)
    compare(plain, normal(0, rows, size), gate_up * scale, down * scale)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("b", "length", "heads", "sizes"),
    [(1, 1, 1, (4, 2, 3)), (2, 63, 3, (8, 4, 6)), (1, 65, 2, (16, 8, 16)),
     (2, 200, 2, (64, 32, 64)), (1, 300, 4, (48, 2, 7)), (1, 512, 1, (128, 64, 128)),
     (1, 2100, 1, (8, 4, 8))],
)  # fmt: skip
def test_attention_of_any_length(b, length, heads, sizes, recompute):
    n, r, v = sizes
    angles = torch.outer(torch.arange(length), torch.logspace(0, -3, r // 2))
    table = torch.polar(torch.ones_like(angles), angles)

    def attend(q, kv, k_rotary):
        turns = table.to(torch.complex64 if q.dtype == torch.float32 else torch.complex128)
        if not recompute:
            return decoupled_attention(q, kv, k_rotary, turns, 0.3)
        with remaking():
            return decoupled_attention(q, kv, k_rotary, turns, 0.3)

    shapes = (b, length, heads, n + r), (b, length, heads, n + v), (b, length, r)
    compare(attend, *(normal(i, *shape) for i, shape in enumerate(shapes)), tolerance=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.integers(1, 90), st.integers(1, 900), st.integers(0, 3))
def test_cross_entropy_of_some_tokens(tokens, size, vocabulary, left_out):
    generator = torch.Generator().manual_seed(left_out)
    labels = torch.randint(0, vocabulary, (tokens,), generator=generator)
    labels[torch.rand(tokens, generator=generator) < left_out / 3] = -100
    compare(
        lambda h, w: linear_cross_entropy(h, w, labels)[0][None] / tokens,
        normal(0, tokens, size),
        normal(1, vocabulary, size),
    )


def test_a_vocabulary_in_several_blocks_of_tokens():
    labels = torch.arange(300) * 83 % 25_000
    h, w = normal(0, 300, 24), normal(1, 25_000, 24)
    compare(lambda h, w: linear_cross_entropy(h, w, labels)[0][None] / 300, h, w)


def run_all(threads):
    """Bytes of results and gradients of all passes, made by so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x, w = normal(0, 700, 300).requires_grad_(), normal(1, 500, 300).requires_grad_()
        gate_up = normal(2, 3, 80, 300).requires_grad_()
        down = normal(3, 3, 300, 40).requires_grad_()
        head = normal(4, 1100, 300).requires_grad_()
        counts = [600, 0, 100]
        q, kv, k = (normal(5, 2, 150, 3, 24).requires_grad_(),
                    normal(6, 2, 150, 3, 32).requires_grad_(),
                    normal(7, 2, 150, 8).requires_grad_())  # fmt: skip
        table = torch.polar(torch.ones(150, 4), normal(8, 150, 4))
        results = [
            linear(x, w, "fp32"),
            gated_networks(x, gate_up, down, counts),
            decoupled_attention(q, kv, k, table, 0.2),
            linear_cross_entropy(x, head, torch.arange(700))[0],
        ]
        grads = torch.autograd.grad(
            sum(r.square().sum() for r in results), [x, w, gate_up, down, head, q, kv, k]
        )
        return [t.detach().numpy().tobytes() for t in [*results, *grads]]
    finally:
        torch.set_num_threads(before)


def test_the_bytes_are_the_same_with_any_number_of_threads():
    assert run_all(1) == run_all(2) == run_all(5)


def test_numbers_that_are_none_are_passed_on():
    """Who trains looks at the loss and the gradients; nothing may hide a NaN or an infinity."""
    for bad in (float("nan"), float("inf")):
        x = normal(0, 40, 20)
        x[3, 5] = bad
        out = linear(x, normal(1, 8, 20), "fp32")
        assert not out[3].isfinite().any() and out[[2, 4]].isfinite().all()
        y = gated_networks(x, normal(2, 1, 16, 20), normal(3, 1, 20, 8), [40])
        assert not y[3].isfinite().all() and y[[2, 4]].isfinite().all()
        loss, losses = linear_cross_entropy(x, normal(1, 50, 20), torch.arange(40))
        assert not loss.isfinite() and not losses[3].isfinite() and losses[4].isfinite()
        q = normal(0, 1, 40, 2, 12)
        q[0, 3, 0, 5] = bad
        table = torch.polar(torch.ones(40, 2), torch.zeros(40, 2))
        out = decoupled_attention(q, normal(1, 1, 40, 2, 16), normal(2, 1, 40, 4), table, 1.0)
        assert out[0, 3, 0].isnan().all() and out[0, 3, 1].isfinite().all()
    big = linear_cross_entropy(normal(0, 40, 20) * 1e4, normal(1, 50, 20), torch.arange(40))
    assert big[0].isfinite()


def test_a_small_loss_under_large_logits():
    h, w = torch.full((40, 1), 1000.0), torch.tensor([[1.04], [1.03], [0.0]])
    _, losses = linear_cross_entropy(h, w, torch.zeros(40, dtype=torch.int64))
    expected = torch.nn.functional.cross_entropy(
        h.double() @ w.double().t(), torch.zeros(40, dtype=torch.int64), reduction="none"
    )
    assert 0 < expected[0] < 1e-4
    torch.testing.assert_close(losses.double(), expected, rtol=1e-3, atol=0)


def test_arrays_lie_as_they_like():
    x, w = normal(0, 20, 40).t(), normal(1, 20, 30).t()
    labels = torch.arange(40) % 30
    compare(lambda x, w: linear_cross_entropy(x, w, labels)[0][None] / 40, x, w)
    compare(lambda x, w: linear(x, w, "fp32"), x, w)
    compare(lambda x, w: linear(x, w, "fp32").sum(1, keepdim=True).expand(-1, 3), x, w)


def test_tensors_without_numbers_are_left_to_torch():
    with torch._subclasses.FakeTensorMode():
        assert linear(torch.zeros(40, 8), torch.zeros(5, 8), "fp32").shape == (40, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.zeros(40, 8), torch.zeros(5, 8), "fp32").dtype == torch.bfloat16
    assert linear(torch.zeros(40, 0), torch.zeros(5, 0), "fp32").shape == (40, 5)
    assert linear(torch.zeros(40, 8), torch.zeros(0, 8), "fp32").shape == (40, 0)


def test_no_second_derivative_is_given_that_is_none():
    x, w = normal(0, 40, 8).requires_grad_(), normal(1, 5, 8).requires_grad_()
    (first,) = torch.autograd.grad(linear(x, w, "fp32").square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


def test_another_thread_has_as_many():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        expected = run_all(3)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(run_all, 3).result() == expected
    finally:
        torch.set_num_threads(before)


def test_what_was_overwritten_is_not_differentiated_again():
    x, down = normal(0, 40, 20).requires_grad_(), normal(3, 1, 20, 8).requires_grad_()
    y = gated_networks(x, normal(2, 1, 16, 20).requires_grad_(), down, [40]).sum()
    y.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        y.backward()


def test_arrays_that_do_not_belong_together_are_refused():
    x, w, out = torch.zeros(4, 3), torch.zeros(5, 3), torch.zeros(4, 5)
    _native.linear(x, w, out)
    for bad in [(x, w.t().contiguous(), out), (x, w, out.t().contiguous()), (x, w, out[:3])]:
        with pytest.raises(ValueError, match="don't belong together"):
            _native.linear(*bad)
    with pytest.raises(TypeError):
        _native.linear(x, w, torch.zeros(5, 4).t())  # would be written to a copy
    with pytest.raises(TypeError):
        _native.linear(x.double(), w, out.double())
    networks = torch.zeros(1, 4, 3), torch.zeros(1, 3, 2)
    h, y = torch.zeros(4, 4), torch.zeros(4, 3)
    for token in ([0, 1, 2, 4], [0, 1, 2, -1]):
        with pytest.raises(ValueError, match="don't belong together"):
            _native.networks(x, *networks, [4], None, torch.tensor(token), h, y)
    with pytest.raises(ValueError, match="don't belong together"):
        _native.networks(x, *networks, [5], None, None, h, y)
    with pytest.raises(IndexError, match="label outside"):
        linear_cross_entropy(x, w, torch.tensor([0, 5, 1, 2]))
    with pytest.raises(IndexError, match="label outside"):
        linear_cross_entropy(x, w, torch.tensor([0, -1, 1, 2]))


def test_both_use_the_same_threads():
    """Two OpenMP libraries in one process would wait in each other's way."""
    script = (
        "import re, torch, model.passes\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(len(set(re.findall(r'/\\S*/lib(?:g|i)?omp\\d?[^/\\n]*', maps))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
