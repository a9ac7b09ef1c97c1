import pytest
import torch

from model.transformer import Transformer, initialize

YARN = {
    "type": "yarn",
    "factor": 4,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 64,
}
SHAPES = {
    "plain": {},
    "no query compression": {"q_lora_rank": None},
    "groups": {"n_group": 4, "topk_group": 2, "num_experts_per_tok": 4},
    "two dense layers": {"first_k_dense_replace": 2, "n_shared_experts": 2},
    "all dense": {"first_k_dense_replace": 3},
    "gates not normalised": {"norm_topk_prob": False, "routed_scaling_factor": 1.0},
    "YaRN": {"rope_scaling": YARN},
    "YaRN with other temperatures": {"rope_scaling": YARN | {"mscale": 0.7, "mscale_all_dim": 0}},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_logits_and_gradients_equal_transformers(small, build, oracle, tokens, shape):
    model = build(small(num_nextn_predict_layers=0, **shape))
    twin = oracle(model)
    ids = tokens(2, 150)
    labels = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], 1)
    ours, theirs = model.logits(ids), twin(ids).logits
    assert theirs.std() >= 1
    assert ((ours - theirs).abs().max() / theirs.std()).item() < 1e-4

    real = torch.ones(2, 150, dtype=torch.bool)
    losses = model.losses(ids, labels, real)
    (losses.main / losses.main_tokens).backward()
    loss = twin(ids, labels=ids).loss
    loss.backward()
    assert losses.main.item() / losses.main_tokens == pytest.approx(loss.item(), rel=1e-5)
    expected = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        error = (parameter.grad - expected[name].grad).norm() / expected[name].grad.norm()
        assert error.item() < 1e-3, name


def test_the_future_does_not_reach_the_past(small, build, tokens):
    model = build(small())
    ids = tokens(1, 40)
    changed = ids.clone()
    changed[0, 25:] = (changed[0, 25:] + 1) % 97
    before, after = model.logits(ids), model.logits(changed)
    torch.testing.assert_close(before[:, :25], after[:, :25])
    assert not torch.allclose(before[:, 25:], after[:, 25:])


def test_losses_of_pieces_add_up_to_the_loss_of_the_whole(small, build, tokens):
    model = build(small(num_nextn_predict_layers=2)).double()
    ids, labels = tokens(4, 30), tokens(4, 30, seed=1)
    labels[0, 3:9] = -100
    real = torch.ones(4, 30, dtype=torch.bool)
    real[3, 20:] = False
    whole = model.losses(ids, labels, real)
    parts = [model.losses(ids[i : i + 1], labels[i : i + 1], real[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(sum(p.main for p in parts), whole.main)
    torch.testing.assert_close(sum(p.balance for p in parts), whole.balance)
    assert sum(p.main_tokens for p in parts) == whole.main_tokens == 4 * 30 - 6
    for k in range(2):
        torch.testing.assert_close(sum(p.mtp[k] for p in parts), whole.mtp[k])
        assert sum(p.mtp_tokens[k] for p in parts) == whole.mtp_tokens[k]
    for layer, load in enumerate(whole.loads):
        assert torch.equal(sum(p.loads[layer] for p in parts), load)
    torch.testing.assert_close(whole.token_losses.sum(), whole.main.detach())


def test_every_router_counts_each_real_token_once_per_expert(small, build, tokens):
    config = small(num_nextn_predict_layers=1)
    model = build(config)
    real = torch.ones(2, 30, dtype=torch.bool)
    real[1, 10:] = False
    losses = model.losses(tokens(2, 30), tokens(2, 30), real)
    assert [load.sum().item() for load in losses.loads] == [80, 80, 2 * (29 + 9)]


def test_a_parameter_starts_from_the_seed_and_its_name_alone(small):
    short, long = Transformer(small()), Transformer(small(num_hidden_layers=5))
    initialize(short, 3)
    torch.manual_seed(99)
    initialize(long, 3)
    expected = dict(long.named_parameters())
    shared = [n for n, _ in short.named_parameters() if n in expected and "layers.3" not in n]
    assert len(shared) > 30
    for name in shared:
        assert torch.equal(short.get_parameter(name), expected[name]), name
    other = Transformer(small())
    initialize(other, 4)
    assert not torch.equal(other.lm_head.weight, short.lm_head.weight)
    weights = short.model["embed_tokens"].weight
    assert weights.std().item() == pytest.approx(0.15, rel=0.05)


def test_a_sequence_beyond_the_positions_is_refused(small, build, tokens):
    with pytest.raises(ValueError, match="max_position_embeddings, 16"):
        build(small(max_position_embeddings=16)).logits(tokens(1, 17))


def test_an_unknown_precision_is_refused(small):
    with pytest.raises(ValueError, match="bf16"):
        Transformer(small(), "bf16")


def test_fp8_moves_the_loss_a_little_and_only_through_the_linear_layers(small, build, tokens):
    ids, labels = tokens(2, 64), tokens(2, 64, seed=1)
    real = torch.ones(2, 64, dtype=torch.bool)
    high = build(small(initializer_range=0.05)).losses(ids, labels, real)
    rounded = build(small(initializer_range=0.05), "fp8")
    low = rounded.losses(ids, labels, real)
    assert low.main.item() != high.main.item()
    assert low.main.item() == pytest.approx(high.main.item(), rel=0.01)
    low.main.backward()
    assert rounded.lm_head.precision == "fp32"
    assert rounded.mtp_modules[0].eh_proj.precision == "fp32"
    assert all(torch.isfinite(p.grad).all() for p in rounded.parameters() if p.grad is not None)


def test_what_a_forward_pass_makes_is_where_the_weights_are(small):
    """On torch's device without numbers, which mixes with no other, as a GPU doesn't."""
    model = Transformer(small(first_k_dense_replace=3, rope_scaling=YARN)).to("meta")
    assert model.logits(torch.zeros(2, 150, dtype=torch.int64, device="meta")).shape[:2] == (2, 150)
