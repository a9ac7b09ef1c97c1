import gc

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from model.recompute import made_by, recipe_of, remaking
from model.transformer import Transformer


def gradients(model, ids, labels):
    model.zero_grad(set_to_none=True)
    losses = model.losses(ids, labels, torch.ones_like(ids, dtype=torch.bool))
    (losses.main + losses.mtp[0] + losses.balance).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("precision", ["fp32", "fp8"])
@pytest.mark.parametrize("rank", [None, 40])
def test_recomputing_gives_the_same_gradients_to_the_bit(small, build, tokens, precision, rank):
    config = small(q_lora_rank=rank)
    model = build(config, precision)
    again = Transformer(config, precision, recompute=True)
    again.load_state_dict(model.state_dict())
    ids, labels = tokens(2, 150), tokens(2, 150, seed=1)
    expected, found = gradients(model, ids, labels), gradients(again, ids, labels)
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name


@pytest.mark.parametrize("recompute", [False, True])
def test_results_of_norms_and_up_projections_are_not_kept(small, build, tokens, recompute):
    config = small()
    model = Transformer(config, recompute=recompute)
    model.load_state_dict(build(config).state_dict())
    results = []

    def note(module, inputs, output):
        results.append((type(module).__name__, StorageWeakRef(output.untyped_storage())))

    for layer in model.model["layers"]:
        names = "input_layernorm", "post_attention_layernorm"
        attention = "q_a_layernorm", "q_b_proj", "kv_a_layernorm", "kv_b_proj"
        for module in (*(getattr(layer, n) for n in names), *(
            getattr(layer.self_attn, n) for n in attention
        )):  # fmt: skip
            module.register_forward_hook(note)
    losses = model.losses(tokens(1, 40), tokens(1, 40), torch.ones(1, 40, dtype=torch.bool))
    gc.collect()
    assert len(results) == 4 * 6
    kept = [name for name, storage in results if not storage.expired()]
    if recompute:
        assert kept == []
    else:
        assert kept.count("RMSNorm") == 4 * 4
    assert torch.isfinite(losses.main)


def test_a_tensor_without_a_recipe_is_kept_as_it_is():
    x = torch.randn(5, requires_grad=True)
    with remaking():
        y = x.exp()
        assert recipe_of(y)() is y
        made_by(lambda: torch.full((5,), 2.0), y)
        z = y * y
    z.sum().backward()
    # exp keeps its result, which was not told of when it was saved; the product kept the recipe.
    torch.testing.assert_close(x.grad, (2 * 2.0) * x.detach().exp())
