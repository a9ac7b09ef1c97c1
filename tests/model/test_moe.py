import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from model.moe import MixtureOfExperts, choose_experts, move_biases, sequence_balance
from model.presets import preset


def slow_choice(affinity, bias, config):
    """The experts of one token, by the sentences of section 2.1.2."""
    score = [a + b for a, b in zip(affinity, bias, strict=True)]
    size = config.n_routed_experts // config.n_group
    each = config.num_experts_per_tok // config.topk_group

    def strength(group):
        return sum(sorted(score[group * size : (group + 1) * size], reverse=True)[:each])

    groups = range(config.n_group)
    if config.n_group > config.topk_group:
        groups = sorted(groups, key=strength, reverse=True)[: config.topk_group]
    reachable = [e for g in groups for e in range(g * size, (g + 1) * size)]
    return set(
        sorted(reachable, key=lambda e: score[e], reverse=True)[: config.num_experts_per_tok]
    )


def slow_experts(layer, x):
    """Every token through its own experts, one at a time."""
    config, experts = layer.gate.config, layer.experts
    result = []
    for token in x:
        affinity = (layer.gate.weight @ token).sigmoid()
        bias = layer.gate.e_score_correction_bias.tolist()
        chosen = sorted(slow_choice(affinity.tolist(), bias, config))
        total = sum(affinity[e] for e in chosen) if config.norm_topk_prob else 1.0
        y = torch.zeros_like(token)
        for e in chosen:
            gate, up = (experts.gate_up_proj[e] @ token).chunk(2)
            gain = affinity[e] / total * config.routed_scaling_factor
            y = y + gain * (experts.down_proj[e] @ (F.silu(gate) * up))
        result.append(y + layer.shared_experts(token[None])[0])
    return torch.stack(result)


@pytest.fixture
def layer(small):
    def make(**changes):
        torch.manual_seed(0)
        made = MixtureOfExperts(small(**changes), "fp32").double()
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.3)
        made.gate.e_score_correction_bias.normal_(0.0, 0.4)
        return made

    return make


GROUPED = dataclasses.replace(
    preset("quickstart"), n_routed_experts=16, n_group=4, topk_group=2, num_experts_per_tok=4
)
SHAPES = [
    {},
    {"n_group": 4, "topk_group": 1, "num_experts_per_tok": 2},
    {"n_group": 4, "topk_group": 2, "num_experts_per_tok": 4},
    {"n_group": 2, "topk_group": 2, "num_experts_per_tok": 4},
    {"num_experts_per_tok": 8, "n_shared_experts": 2, "norm_topk_prob": False},
    {"n_routed_experts": 1, "num_experts_per_tok": 1},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_sorted_experts_equal_one_token_at_a_time_with_gradients(layer, shape):
    moe = layer(**shape)
    x = torch.randn(2, 7, 64, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 7, 64, dtype=torch.float64)
    fast, _ = moe(x, None)
    slow = slow_experts(moe, x.flatten(0, 1)).view_as(x)
    torch.testing.assert_close(fast, slow)
    inputs = (x, *moe.parameters())
    fast_grads = torch.autograd.grad((fast * weight).sum(), inputs)
    slow_grads = torch.autograd.grad((slow * weight).sum(), inputs)
    for a, b in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(a, b)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), shift=st.floats(-3, 3))
def test_the_router_equals_its_slow_twin_and_ignores_a_common_shift(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    affinity = torch.rand(5, 16, generator=generator, dtype=torch.float64)
    bias = torch.randn(16, generator=generator, dtype=torch.float64)
    chosen = choose_experts(affinity, bias, GROUPED)
    moved = choose_experts(affinity, bias + shift, GROUPED)
    for token in range(5):
        expected = slow_choice(affinity[token].tolist(), bias.tolist(), GROUPED)
        assert set(chosen[token].tolist()) == expected
        assert set(moved[token].tolist()) == expected


def test_negative_biases_do_not_let_other_groups_in(small):
    config = small(n_group=4, topk_group=1)
    affinity = torch.rand(50, 8)
    chosen = choose_experts(affinity, torch.full((8,), -5.0), config)
    assert (chosen[:, 0] // 2 == chosen[:, 1] // 2).all()


def test_the_bias_chooses_but_does_not_weigh(layer):
    moe = layer()
    x = torch.randn(6, 64, dtype=torch.float64)
    chosen, gates, affinity = moe.gate(x)
    picked = affinity.gather(1, chosen)
    torch.testing.assert_close(gates, picked / picked.sum(1, keepdim=True) * 2.5)
    moe.gate.e_score_correction_bias.zero_()
    assert not torch.equal(moe.gate(x)[0].sort(1).values, chosen.sort(1).values)


def slow_balance(affinity, active, real):
    total = 0.0
    for sequence, mask in zip(affinity.tolist(), real.tolist(), strict=True):
        rows = [row for row, keep in zip(sequence, mask, strict=True) if keep]
        experts = len(sequence[0])
        for i in range(experts if rows else 0):
            hits = sum(i in sorted(range(experts), key=lambda e: -row[e])[:active] for row in rows)
            share = sum(row[i] / sum(row) for row in rows) / len(rows)
            total += experts / (active * len(rows)) * hits * share
    return total


def test_the_balance_loss_equals_equations_17_to_20():
    torch.manual_seed(0)
    affinity = torch.rand(3, 9, 6, dtype=torch.float64)
    real = torch.rand(3, 9) < 0.7
    real[2] = False
    assert sequence_balance(affinity, 2, real).item() == pytest.approx(
        slow_balance(affinity, 2, real), rel=1e-12
    )


def test_an_even_sequence_has_balance_one_and_a_lopsided_one_more():
    even = torch.full((1, 4, 4), 0.1) + torch.eye(4) * 0.8
    lopsided = torch.full((1, 4, 4), 0.1)
    lopsided[:, :, 0] = 0.9
    real = torch.ones(1, 4, dtype=torch.bool)
    assert sequence_balance(even, 1, real).item() == pytest.approx(1.0)
    assert sequence_balance(lopsided, 1, real).item() == pytest.approx(3.0)


def test_padding_is_computed_but_not_counted(layer):
    moe = layer()
    x = torch.randn(2, 6, 64, dtype=torch.float64)
    real = torch.ones(2, 6, dtype=torch.bool)
    real[1, 3:] = False
    _, seen = moe(x, real)
    assert seen.load.sum() == 9 * 2
    changed = x.clone()
    changed[1, 3:] = 17.0
    y, again = moe(changed, real)
    assert torch.equal(seen.load, again.load)
    torch.testing.assert_close(seen.balance, again.balance)
    assert y[1, 3:].abs().sum() > 0


def test_biases_move_by_the_speed_towards_the_mean(layer):
    moe = layer(n_routed_experts=4, num_experts_per_tok=1)
    before = moe.gate.e_score_correction_bias.clone()
    load = torch.tensor([10.0, 5.0, 0.0, 5.0], dtype=torch.float64)
    move_biases([moe.gate], [load], 0.25)
    moved = moe.gate.e_score_correction_bias - before
    torch.testing.assert_close(moved, torch.tensor([-0.25, 0.0, 0.25, 0.0], dtype=torch.float64))


def test_moving_biases_evens_out_a_lopsided_router(layer):
    moe = layer()
    moe.gate.e_score_correction_bias.copy_(torch.linspace(-1, 1, 8))
    x = torch.randn(4, 64, 64, dtype=torch.float64)
    real = torch.ones(4, 64, dtype=torch.bool)
    busiest = []
    with torch.no_grad():
        for _ in range(150):
            _, seen = moe(x, real)
            busiest.append((seen.load.max() / seen.load.mean()).item())
            move_biases([moe.gate], [seen.load], 0.01)
    assert busiest[0] > 2
    assert busiest[-1] < 1.2
