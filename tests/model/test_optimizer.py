import math
from itertools import pairwise

import pytest
import torch

from model.optimizer import (
    clip_gradients,
    learning_rate,
    make_optimizer,
    prepare_state,
    set_learning_rate,
)
from model.transformer import Transformer, initialize


def test_the_schedule_rises_stays_and_falls_to_its_fraction():
    rates = [learning_rate(s, 100, 2.0, 0.1, 10, 30) for s in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:70] == [2.0] * 61
    assert all(a > b for a, b in pairwise(rates[69:]))
    assert rates[99] == pytest.approx(0.2)
    assert rates[84] == pytest.approx(1.1)


def test_a_schedule_may_do_without_warmup_or_decay():
    assert [learning_rate(s, 5, 1.0, 0.0, 0, 0) for s in range(5)] == [1.0] * 5


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
        set_learning_rate(optimizer, rate)
        optimizer.step()
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
            set_learning_rate(optimizer, 1e-2)
            optimizer.step()
            optimizer.zero_grad()
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0][-1] < losses[0][0]
