import pytest
import torch

from model.generate import generate


@pytest.mark.parametrize("depths", [1, 2, 3])
@pytest.mark.parametrize("shape", [{}, {"q_lora_rank": None, "n_group": 4, "topk_group": 2}])
def test_speculation_the_cache_and_plain_greedy_give_the_same_tokens(small, build, depths, shape):
    model = build(small(num_nextn_predict_layers=depths, **shape)).double()
    for prompt in ([5], [1, 2, 3, 4, 5, 6, 7], list(range(60))):
        plain = generate(model, prompt, 40, cache=False)
        cached = generate(model, prompt, 40)
        speculative = generate(model, prompt, 40, speculative=True)
        assert plain.tokens == cached.tokens == speculative.tokens
        assert len(plain.tokens) == plain.passes == 40
        assert 0 <= speculative.accepted <= speculative.proposed
        assert speculative.passes + speculative.accepted >= 40


@pytest.mark.parametrize("depths", [1, 2])
def test_drafts_of_a_predictable_model_are_accepted(small, build, depths):
    # Without attention and experts writing to the stream, token t is followed by t + 1.
    model = build(
        small(num_nextn_predict_layers=depths, hidden_size=128, first_k_dense_replace=9)
    ).double()
    with torch.no_grad():
        for layer in model.model["layers"]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        torch.manual_seed(0)
        table = torch.nn.functional.normalize(torch.randn(97, 128, dtype=torch.float64))
        model.model["embed_tokens"].weight.copy_(table)
        model.lm_head.weight.copy_(table.roll(1, 0))
        for module in model.mtp_modules:
            module.eh_proj.weight.copy_(torch.eye(128, 256))
            for norm in (module.enorm, module.shared_head["norm"]):
                norm.weight.fill_(1.0)
        model.model["norm"].weight.fill_(1.0)
    result = generate(model, [3], 30, speculative=True)
    assert result.tokens == list(range(4, 34))
    assert result.acceptance == 1.0
    assert result.passes <= -(-30 // (depths + 1)) + 1


def test_generation_stops_after_a_stop_token(small, build):
    model = build(small()).double()
    tokens = generate(model, [1, 2], 30).tokens
    stop = tokens[4]
    expected = tokens[: tokens.index(stop) + 1]
    for speculative in (False, True):
        found = generate(model, [1, 2], 30, stop={stop}, speculative=speculative).tokens
        assert found == expected


def test_samples_follow_the_seed_and_the_temperature(small, build):
    model = build(small())
    first = generate(model, [1], 25, temperature=1.0, seed=4).tokens
    torch.manual_seed(1)
    assert generate(model, [1], 25, temperature=1.0, seed=4).tokens == first
    assert generate(model, [1], 25, temperature=1.0, seed=5).tokens != first
    cold = generate(model, [1], 25, temperature=1e-6, seed=4).tokens
    assert cold == generate(model, [1], 25).tokens


def test_sampled_frequencies_are_the_models_probabilities(small, build):
    model = build(small(initializer_range=0.05))
    probabilities = model.logits(torch.tensor([[7]]))[0, -1].softmax(-1)
    draws = torch.tensor(
        [generate(model, [7], 1, temperature=1.0, seed=s).tokens[0] for s in range(600)]
    )
    likely = probabilities.topk(30).indices
    share = torch.isin(draws, likely).double().mean().item()
    assert share == pytest.approx(probabilities[likely].sum().item(), abs=0.07)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"prompt": []}, "empty"),
        ({"new_tokens": 600}, "512"),
        ({"temperature": -1.0}, "temperature"),
        ({"speculative": True, "temperature": 1.0}, "greedy"),
        ({"speculative": True, "cache": False}, "cached"),
    ],
)
def test_what_cannot_be_generated_is_refused(small, build, arguments, reason):
    asked = {"prompt": [1], "new_tokens": 5} | arguments
    with pytest.raises(ValueError, match=reason):
        generate(build(small()), asked.pop("prompt"), asked.pop("new_tokens"), **asked)


def test_no_new_tokens_are_none(small, build):
    model = build(small(num_nextn_predict_layers=1))
    for speculative in (False, True):
        found = generate(model, [1, 2, 3], 0, speculative=speculative)
        assert (found.tokens, found.passes) == ([], 0)


def test_speculation_needs_a_multi_token_module(small, build):
    with pytest.raises(ValueError, match="num_nextn_predict_layers"):
        generate(build(small(num_nextn_predict_layers=0)), [1], 5, speculative=True)
