import pytest
import torch
from torch.nn import functional as F

import model.cross_entropy as subject
from model.cross_entropy import linear_cross_entropy


@pytest.mark.parametrize("block", [1, 50, 1 << 20])
@pytest.mark.parametrize("scale", [0.1, 5.0])
def test_sum_tokens_and_gradients_are_those_of_torch(monkeypatch, block, scale):
    monkeypatch.setattr(subject, "BLOCK", block)
    torch.manual_seed(0)
    hidden = (torch.randn(23, 8, dtype=torch.float64) * scale).requires_grad_()
    head = torch.randn(17, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 17, (23,))
    labels[[0, 5, 22]] = -100
    total, tokens = linear_cross_entropy(hidden, head, labels)
    each = F.cross_entropy(hidden @ head.t(), labels, ignore_index=-100, reduction="none")
    torch.testing.assert_close(tokens, each.detach())
    torch.testing.assert_close(total, each.sum())
    ours = torch.autograd.grad(total * 0.37, (hidden, head))
    theirs = torch.autograd.grad(each.sum() * 0.37, (hidden, head))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_a_batch_without_labels_costs_nothing():
    hidden, head = torch.randn(4, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    total, tokens = linear_cross_entropy(hidden, head, torch.full((4,), -100))
    total.backward()
    assert total.item() == 0
    assert not tokens.any()
    assert not hidden.grad.any()
    assert not head.grad.any()


def test_logits_far_beyond_exp_stay_finite():
    hidden, head = torch.full((1, 1), 1e4), torch.tensor([[1.0], [0.0], [-1.0]])
    total, _ = linear_cross_entropy(hidden, head, torch.tensor([2]))
    assert total.item() == 2e4


def test_evaluation_makes_no_gradients():
    hidden, head = torch.randn(4, 8), torch.randn(5, 8, requires_grad=True)
    with torch.no_grad():
        total, _ = linear_cross_entropy(hidden, head, torch.tensor([0, 1, 2, 3]))
    assert not total.requires_grad
