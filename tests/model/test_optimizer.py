import math

import pytest
import torch

from model.optimizer import clip_gradients, make_optimizer, prepare_state, update
from model.transformer import Transformer, initialize


def test_an_update_is_adamw_by_hand_and_decays_matrices_alone():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2).double()
    optimizer = make_optimizer(layer, (0.9, 0.95), 1e-8, 0.1)
    prepare_state(optimizer)
    expected = {name: p.detach().clone() for name, p in layer.named_parameters()}
    m = {name: torch.zeros_like(p) for name, p in expected.items()}
    v = {name: torch.zeros_like(p) for name, p in expected.items()}
    for t in range(1, 4):
        rate = 0.01 * t
        for name, p in layer.named_parameters():
            p.grad = torch.randn_like(p)
            m[name] = 0.9 * m[name] + 0.1 * p.grad
            v[name] = 0.95 * v[name] + 0.05 * p.grad**2
            decay = 0.1 if p.ndim > 1 else 0.0
            step = m[name] / (1 - 0.9**t) / ((v[name] / (1 - 0.95**t)).sqrt() + 1e-8)
            expected[name] = expected[name] * (1 - rate * decay) - rate * step
        update(optimizer, rate)
    for name, p in layer.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name])


def test_gradients_are_clipped_by_their_joint_norm():
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert clip_gradients(parameters, 10.0).item() == 5.0
    assert parameters[0].grad[0] == 3.0
    assert clip_gradients(parameters, 1.0).item() == 5.0
    assert parameters[1].grad[1].item() == pytest.approx(0.8)


def test_a_gradient_that_is_not_finite_is_reported_and_left():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([math.inf, 1.0])
    assert not math.isfinite(clip_gradients([parameter], 1.0).item())
    assert parameter.grad[1] == 1.0


def test_a_larger_embedding_table_is_embeddings_multiplied_in_the_forward_pass(small, tokens):
    config = small()
    scaled, twin = (Transformer(config).double() for _ in range(2))
    initialize(scaled, 0, embedding_scale=8.0)
    initialize(twin, 0)
    twin.model["embed_tokens"].register_forward_hook(lambda module, inputs, output: 8 * output)
    ids = tokens(2, 24)
    losses = []
    for model, scale in ((scaled, 8.0), (twin, 1.0)):
        optimizer = make_optimizer(model, (0.9, 0.95), 1e-12, 0.1, scale)
        prepare_state(optimizer)
        losses.append([])
        for _ in range(4):
            loss = model.losses(ids, ids.roll(-1, 1), torch.ones_like(ids, dtype=torch.bool))
            (loss.main + loss.mtp[0]).backward()
            losses[-1].append(loss.main.item())
            update(optimizer, 1e-2)
            optimizer.zero_grad()
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0][-1] < losses[0][0]


def rounded(tensor):
    return tensor.bfloat16().float()


def test_moments_in_bfloat16_are_adamw_by_hand_with_rounding_after_each_update():
    torch.manual_seed(3)
    layer = torch.nn.Linear(40, 30)
    optimizer = make_optimizer(layer, (0.9, 0.95), 1e-8, 0.1)
    prepare_state(optimizer, torch.bfloat16)
    expected = {name: p.detach().clone() for name, p in layer.named_parameters()}
    m = {name: torch.zeros_like(p) for name, p in expected.items()}
    v = {name: torch.zeros_like(p) for name, p in expected.items()}
    for t in range(1, 6):
        for name, p in layer.named_parameters():
            # Gradients over many binades, so that rounding has something to do.
            p.grad = torch.randn_like(p) * torch.exp(4 * torch.randn_like(p))
            exact_m = 0.9 * m[name] + 0.1 * p.grad
            exact_v = 0.95 * v[name] + 0.05 * p.grad**2
            decay = 0.1 if p.ndim > 1 else 0.0
            step = exact_m / (1 - 0.9**t) / ((exact_v / (1 - 0.95**t)).sqrt() + 1e-8)
            expected[name] = expected[name] * (1 - 0.01 * decay) - 0.01 * step
            m[name], v[name] = rounded(exact_m), rounded(exact_v)
        update(optimizer, 0.01)
    for name, p in layer.named_parameters():
        state = optimizer.state[p]
        assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.bfloat16
        assert state["step"].item() == 5
        # A float32 sum in another order may round to the neighbour: one in 128 of it.
        for found, wanted in ((state["exp_avg"], m[name]), (state["exp_avg_sq"], v[name])):
            torch.testing.assert_close(found.float(), wanted, rtol=2**-7, atol=0)
            assert (found.float() == wanted).float().mean() > 0.95
        torch.testing.assert_close(p.detach(), expected[name], rtol=1e-3, atol=1e-4)


def test_moments_in_the_weights_precision_are_torch_s_own_fused_adamw():
    torch.manual_seed(4)
    layers = [torch.nn.Linear(9, 7) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    ours = make_optimizer(layers[0], (0.9, 0.95), 1e-8, 0.0)
    prepare_state(ours)
    theirs = torch.optim.AdamW(
        layers[1].parameters(), 0.01, (0.9, 0.95), weight_decay=0.0, fused=True
    )
    for _ in range(4):
        for a, b in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        update(ours, 0.01)
        theirs.step()
    for a, b in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_parameter_without_a_gradient_is_left_alone():
    for moments in (None, torch.bfloat16):
        layer = torch.nn.Linear(3, 2)
        before = layer.weight.detach().clone()
        optimizer = make_optimizer(layer, (0.9, 0.95), 1e-8, 0.1)
        prepare_state(optimizer, moments)
        layer.bias.grad = torch.ones(2)
        update(optimizer, 0.1)
        assert torch.equal(layer.weight, before)
