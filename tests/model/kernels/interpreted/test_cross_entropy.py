"""Losses and their gradient in the interpreter, against float64 and the plain steps."""

import pytest
import torch
from operands import distance

from model import cross_entropy as plain
from model.cross_entropy import IGNORED, linear_cross_entropy
from model.kernels.cross_entropy import softmax_gradient_

CLOSE = 1e-6


def logits_of(kind: str, rows: int, vocabulary: int) -> torch.Tensor:
    x = torch.randn(rows, vocabulary)
    if kind == "outliers":
        x[torch.rand_like(x) < 0.01] = 1e4
    elif kind == "equal":
        x[:] = -7.5
    elif kind == "very negative":
        x -= 1e30
    elif kind == "impossible":
        x[:, ::2] = float("-inf")
    return x


@pytest.mark.parametrize("vocabulary", [1, 2, 4095, 4096, 9001])
@pytest.mark.parametrize("kind", ["normal", "outliers", "equal", "very negative", "impossible"])
def test_losses_and_gradient_are_those_of_float64(kind, vocabulary):
    logits = logits_of(kind, 3, vocabulary)
    labels = torch.randint(vocabulary, (3,))
    labels[0], labels[1] = vocabulary - 1, 0
    if kind == "impossible":
        labels = 2 * torch.randint(max(1, vocabulary // 2), (3,)) + 1
        labels.clamp_(max=vocabulary - 1)
        logits[:, labels] = 0.0
    exact = logits.double().requires_grad_()
    expected = torch.nn.functional.cross_entropy(exact, labels, reduction="none")
    (gradient,) = torch.autograd.grad(expected.sum(), exact)
    found = softmax_gradient_(logits, labels, True)
    assert (found - expected).abs().max() <= CLOSE * expected.abs().max() + CLOSE
    assert (logits - gradient).abs().max() < CLOSE


def test_without_a_gradient_the_logits_stay():
    logits = torch.randn(5, 300)
    kept = logits.clone()
    labels = torch.randint(300, (5,))
    losses = softmax_gradient_(logits, labels, False)
    assert torch.equal(logits, kept)
    assert (
        distance(losses, torch.nn.functional.cross_entropy(kept, labels, reduction="none")) < CLOSE
    )


def test_an_undefined_logit_shows_in_its_row_alone():
    logits = torch.randn(3, 5000)
    logits[1, 4321] = float("nan")
    losses = softmax_gradient_(logits, torch.tensor([1, 2, 3]), True)
    assert losses.isnan().tolist() == [False, True, False]
    assert logits.isnan().all(1).tolist() == [False, True, False]


def test_the_loss_of_a_model_is_that_of_the_plain_steps(monkeypatch):
    hidden = torch.randn(40, 16, requires_grad=True)
    head = torch.randn(700, 16, requires_grad=True)
    labels = torch.randint(700, (40,))
    labels[::7] = IGNORED
    monkeypatch.setattr(plain, "BLOCK", 11 * 700)

    def step():
        total, losses = linear_cross_entropy(hidden, head, labels)
        return total, losses, *torch.autograd.grad(total, (hidden, head))

    found = step()
    monkeypatch.setattr(plain, "enabled", lambda x: False)
    for mine, theirs in zip(found, step(), strict=True):
        assert distance(mine.detach(), theirs.detach()) < CLOSE
