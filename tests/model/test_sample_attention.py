"""A row of packed samples has the losses and the gradients that each sample has alone."""

import pytest
import torch

from model.sample_attention import stretches

LENGTHS = ((7, 4, 137, 12), (3, 90, 67))  # a row each; the second has no padding


@pytest.fixture
def packed(tokens):
    """Rows of samples, the labels inside each, and the samples themselves."""
    width = 160
    ids = torch.zeros(2, width, dtype=torch.int64)
    labels = torch.full((2, width), -100)
    samples = torch.full((2, width), -1, dtype=torch.int32)
    alone = []
    for row, sizes in enumerate(LENGTHS):
        at = 0
        for number, size in enumerate(sizes):
            text = tokens(1, size, 10 * row + number)
            own = torch.full((1, size), -100)
            own[:, :-1] = text[:, 1:]
            own[:, : size // 3] = -100  # a prompt
            ids[row, at : at + size], labels[row, at : at + size] = text[0], own[0]
            samples[row, at : at + size] = number
            alone.append((text, own))
            at += size
    return ids, labels, samples, alone


def gradients(model):
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


@pytest.mark.parametrize("depths", [0, 2])
def test_a_packed_row_has_the_losses_of_its_samples(small, build, packed, depths):
    ids, labels, samples, alone = packed
    # In float64: positions of the row turn keys by other angles, which float32 rounds otherwise.
    config = small(num_nextn_predict_layers=depths, initializer_range=0.05)
    model = build(config).double()
    row = model.losses(ids, labels, samples >= 0, samples)
    each = [model.losses(text, own, torch.ones_like(own, dtype=torch.bool)) for text, own in alone]
    singles = torch.cat([loss.token_losses[0] for loss in each])
    assert torch.allclose(row.token_losses[samples >= 0], singles, atol=1e-6, rtol=0)
    assert row.main.item() == pytest.approx(sum(x.main.item() for x in each), rel=1e-6)
    for k in range(depths):
        assert row.mtp_tokens[k] == sum(x.mtp_tokens[k] for x in each) > 0
        assert row.mtp[k].item() == pytest.approx(sum(x.mtp[k].item() for x in each), rel=1e-6)
    for load, *own in zip(row.loads, *(x.loads for x in each), strict=True):
        assert torch.equal(load, sum(own))
    (row.main + sum(row.mtp)).backward()
    together = gradients(model)
    sum(x.main + sum(x.mtp) for x in each).backward()
    for one, other in zip(together, gradients(model), strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-7


def test_without_samples_they_see_each_other(small, build, packed):
    ids, labels, samples, _ = packed
    model = build(small())
    seen, apart = (model.losses(ids, labels, samples >= 0, s).main.item() for s in (None, samples))
    assert abs(seen - apart) > 1e-2


def test_stretches_are_the_runs_of_a_row():
    samples = torch.tensor([[0, 0, 1, 2, -1, -1], [0] * 6], dtype=torch.int32)
    assert stretches(samples) == [[(0, 2), (2, 3), (3, 4), (4, 6)], [(0, 6)]]
