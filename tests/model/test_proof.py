"""Logits and gradients equal transformers' DeepseekV3ForCausalLM, over a grid of configurations.

Weights are loud (logits have a standard deviation of 1 or more) and router biases have both signs,
so that every part is seen in the result. All pairs of choices are in the grid, not all products.
"""

from itertools import combinations, product

import pytest
import torch

YARN = {
    "type": "yarn",
    "factor": 4,
    "beta_fast": 32,
    "beta_slow": 1,
    "original_max_position_embeddings": 16,
}
CHOICES = {
    "query": {"compressed": {"q_lora_rank": 24}, "whole": {"q_lora_rank": None}},
    # transformers scores a group by its two best experts whatever the shape, which is the report's
    # rule (K over the groups used) where that is two.
    "groups": {
        "1": {"n_group": 1, "topk_group": 1, "num_experts_per_tok": 2},
        "1 of 2": {"n_group": 2, "topk_group": 1, "num_experts_per_tok": 2},
        "1 of 4": {"n_group": 4, "topk_group": 1, "num_experts_per_tok": 2},
        "2 of 4": {"n_group": 4, "topk_group": 2, "num_experts_per_tok": 4},
    },
    "rope": {
        "plain": {"rope_scaling": None},
        "yarn": {"rope_scaling": YARN},
        "yarn 1/1": {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
        "yarn .7/.7": {"rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}},
        "yarn .7/0": {"rope_scaling": YARN | {"mscale": 0.7, "mscale_all_dim": 0}},
    },
    "dense": {str(n): {"first_k_dense_replace": n} for n in (1, 2, 3)},
    "shared": {str(n): {"n_shared_experts": n} for n in (1, 2)},
    "gates": {
        "normed": {"norm_topk_prob": True},
        "raw": {"norm_topk_prob": False, "routed_scaling_factor": 1.0},
    },
}


def grid() -> list[tuple[str, ...]]:
    """Rows that hold every pair of choices, each the one that adds most pairs."""

    def pairs(row):
        return {(i, row[i], j, row[j]) for i, j in combinations(range(len(row)), 2)}

    rows = list(product(*CHOICES.values()))
    missing = set().union(*map(pairs, rows))
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


GRID = grid()


def changes(row: tuple[str, ...]) -> dict:
    result = {}
    for options, choice in zip(CHOICES.values(), row, strict=True):
        result |= options[choice]
    return result


@pytest.fixture
def loud(small, build):
    def make(**fields):
        shape = {"num_hidden_layers": 4, "initializer_range": 0.2, "vocab_size": 97}
        return build(small(**shape | fields))

    return make


@pytest.mark.parametrize("row", GRID, ids=[", ".join(row) for row in GRID])
def test_logits_and_gradients_equal_transformers(loud, oracle, tokens, row):
    model = loud(num_nextn_predict_layers=0, **changes(row))
    twin = oracle(model)
    ids = tokens(2, 48)
    labels = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], 1)
    ours, theirs = model.logits(ids), twin(ids).logits
    assert theirs.std() >= 1
    assert ((ours - theirs).abs().max() / theirs.std()).item() < 1e-4

    losses = model.losses(ids, labels, torch.ones_like(ids, dtype=torch.bool))
    (losses.main / losses.main_tokens).backward()
    loss = twin(ids, labels=ids).loss
    loss.backward()
    assert losses.main.item() / losses.main_tokens == pytest.approx(loss.item(), rel=1e-5)
    expected = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        error = (parameter.grad - expected[name].grad).norm() / expected[name].grad.norm()
        assert error.item() < 1e-3, name


def test_the_grid_is_small_and_has_every_choice():
    assert len(GRID) < 30
    for column, options in enumerate(CHOICES.values()):
        assert {row[column] for row in GRID} == set(options)


@pytest.mark.parametrize("field", ["bias", "groups", "yarn", "temperature", "scaling"])
def test_what_the_grid_varies_moves_the_logits_far_more_than_the_bound(loud, tokens, field):
    """The proof would notice each of these being ignored."""
    grouped = {"n_group": 4, "topk_group": 2, "num_experts_per_tok": 4}
    scaling = YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}
    base, other = {
        "bias": ({}, {}),
        "groups": (grouped, grouped | {"n_group": 1, "topk_group": 1}),
        "yarn": ({"rope_scaling": scaling}, {"rope_scaling": None}),
        "temperature": (
            {"rope_scaling": scaling},
            {"rope_scaling": scaling | {"mscale_all_dim": 0.5}},
        ),
        "scaling": ({}, {"routed_scaling_factor": 2.4}),
    }[field]
    ids = tokens(2, 48)
    model, changed = loud(**base), loud(**other)
    if field == "bias":
        for router in changed.routers:
            router.e_score_correction_bias.zero_()
    with torch.no_grad():
        before, after = model.logits(ids), changed.logits(ids)
    assert ((before - after).abs().max() / before.std()).item() > 1e-2
