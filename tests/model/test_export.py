import dataclasses
import itertools
import json
import math

import pytest
import torch
from safetensors.torch import load_file

from model.convert import import_checkpoint
from model.export import INDEX, export_checkpoint
from model.presets import preset
from model.transformer import Transformer, initialize

BIAS = "e_score_correction_bias"


@pytest.mark.parametrize("shard_bytes", [5_000_000_000, 40_000])
@pytest.mark.parametrize("shape", [{}, {"n_group": 4, "topk_group": 2, "num_experts_per_tok": 4}])
def test_transformers_loads_an_export_and_gives_equal_logits(
    small, build, tokens, tmp_path, shape, shard_bytes
):
    from transformers import AutoModelForCausalLM

    model = build(small(**shape))
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf", shard_bytes=shard_bytes)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    ids = tokens(2, 50)
    with torch.no_grad():
        ours, theirs = model.logits(ids), loaded(ids).logits
    assert theirs.std() >= 1
    assert ((ours - theirs).abs().max() / theirs.std()).item() < 1e-4
    assert loaded.dtype == torch.float32


def test_an_export_imports_to_the_same_state(small, build, tmp_path):
    model = build(small(num_nextn_predict_layers=2))
    state = model.state_dict()
    export_checkpoint(model.config, state, tmp_path / "hf", shard_bytes=50_000)
    config, found = import_checkpoint(tmp_path / "hf")
    assert config == model.config
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        if name.endswith(BIAS):
            torch.testing.assert_close(found[name], tensor - tensor.min())
        else:
            assert torch.equal(found[name], tensor), name
    # With the biases already at 0 or more, nothing at all changes the second time.
    export_checkpoint(config, found, tmp_path / "again")
    _, twice = import_checkpoint(tmp_path / "again")
    assert all(torch.equal(twice[name], found[name]) for name in found)


def test_exported_biases_are_float32_and_none_is_negative(small, build, tmp_path):
    model = build(small())
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf", dtype=torch.bfloat16)
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    biases = [t for name, t in tensors.items() if name.endswith(BIAS)]
    assert len(biases) == 3
    assert all(b.dtype == torch.float32 and b.min() == 0 for b in biases)
    rest = {t.dtype for name, t in tensors.items() if not name.endswith(BIAS)}
    assert rest == {torch.bfloat16}
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["dtype"] == "bfloat16"


def test_positive_biases_are_left_alone(small, build, tmp_path):
    model = build(small())
    for router in model.routers:
        router.e_score_correction_bias.abs_()
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf")
    _, found = import_checkpoint(tmp_path / "hf")
    for name, tensor in model.state_dict().items():
        assert torch.equal(found[name], tensor)


def test_names_are_those_of_the_released_checkpoint(small, build, tmp_path):
    model = build(small())
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf")
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    attention = {
        f"self_attn.{name}.weight"
        for name in (
            "q_a_proj",
            "q_a_layernorm",
            "q_b_proj",
            "kv_a_proj_with_mqa",
            "kv_a_layernorm",
            "kv_b_proj",
            "o_proj",
        )
    }
    block = attention | {"input_layernorm.weight", "post_attention_layernorm.weight"}
    dense = {f"mlp.{p}_proj.weight" for p in ("gate", "up", "down")}
    shared = {f"mlp.shared_experts.{p}_proj.weight" for p in ("gate", "up", "down")}
    routed = {f"mlp.experts.{e}.{p}_proj.weight" for e in range(8) for p in ("gate", "up", "down")}
    experts = shared | routed | {"mlp.gate.weight", f"mlp.gate.{BIAS}"}
    module = {
        f"{name}.weight"
        for name in ("enorm", "hnorm", "eh_proj", "shared_head.norm", "shared_head.head")
    } | {"embed_tokens.weight"}
    expected = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    for layer, names in enumerate([dense, experts, experts, experts | module]):
        expected |= {f"model.layers.{layer}.{name}" for name in block | names}
    assert set(tensors) == expected
    copy = tensors["model.layers.3.shared_head.head.weight"]
    assert torch.equal(copy, tensors["lm_head.weight"])
    generation = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"]) == (0, 1)


def test_shards_stay_below_their_limit_and_the_index_names_them(small, build, tmp_path):
    model = build(small())
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf", shard_bytes=60_000)
    index = json.loads((tmp_path / "hf" / INDEX).read_text())
    files = sorted(p.name for p in (tmp_path / "hf").glob("*.safetensors"))
    assert sorted(set(index["weight_map"].values())) == files
    total = 0
    for file in files:
        shard = load_file(tmp_path / "hf" / file)
        size = sum(t.nbytes for t in shard.values())
        assert size <= 60_000
        assert all(index["weight_map"][name] == file for name in shard)
        total += size
    assert index["metadata"]["total_size"] == total


def test_an_export_replaces_the_one_before_whole(small, build, tmp_path):
    model = build(small())
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf", shard_bytes=60_000)
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf")
    names = sorted(p.name for p in (tmp_path / "hf").iterdir())
    assert names == ["config.json", "generation_config.json", "model.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


def test_a_state_of_another_shape_is_not_exported(small, build, tmp_path):
    model = build(small())
    with pytest.raises(ValueError, match="kv_a_layernorm"):
        export_checkpoint(small(kv_lora_rank=34), model.state_dict(), tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_the_quickstart_model_makes_the_round_trip(tmp_path):
    model = Transformer(preset("quickstart"))
    initialize(model, 0)
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf")
    config, state = import_checkpoint(tmp_path / "hf")
    assert config == preset("quickstart")
    assert all(torch.equal(state[n], t) for n, t in model.state_dict().items())


# transformers takes the blocks' size from the number of scales, so it reads a dimension above 128
# only if it is a multiple of 128; ours reads both.
FP8_SHAPE = {"hidden_size": 256, "intermediate_size": 384, "moe_intermediate_size": 128}


# A weight moves by 2 or 3 percent; where there are experts, that changes which are chosen, and a
# random model is not made to bear that.
@pytest.mark.parametrize(("dense", "closeness"), [(1, 0.5), (3, 0.2)])
def test_transformers_dequantises_an_fp8_export_as_we_do(
    small, build, tokens, tmp_path, dense, closeness
):
    from transformers import AutoModelForCausalLM

    pytest.importorskip("accelerate", reason="transformers loads FP8 with accelerate")
    shape = FP8_SHAPE | {"first_k_dense_replace": dense}
    model = build(small(**shape, q_lora_rank=128, initializer_range=0.1))
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf", fp8=True)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    config, state = import_checkpoint(tmp_path / "hf")
    ours = Transformer(config)
    ours.load_state_dict(state)
    ids = tokens(2, 50)
    with torch.no_grad():
        original, found, expected = model.logits(ids), ours.logits(ids), theirs(ids).logits
    assert expected.std() >= 1
    assert ((found - expected).abs().max() / expected.std()).item() < 1e-4
    assert 1e-3 < ((original - expected).std() / expected.std()).item() < closeness


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_fp8_export_has_scales_beside_its_projections_and_nothing_else(
    small, build, tmp_path, dtype
):
    model = build(small(hidden_size=192, kv_lora_rank=128, n_shared_experts=2))
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf", fp8=True, dtype=dtype)
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    scaled = {n.removesuffix("_scale_inv") for n in tensors if n.endswith("_scale_inv")}
    high = ("norm", "embed_tokens", "lm_head", "head.weight", "mlp.gate.", "eh_proj")
    for name, tensor in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        assert (name in scaled) == (not any(part in name for part in high)), name
        if name not in scaled:
            assert tensor.dtype == (torch.float32 if name.endswith(BIAS) else dtype)
            continue
        scale = tensors[name + "_scale_inv"]
        assert tensor.dtype == torch.float8_e4m3fn
        assert scale.dtype == torch.float32
        n, k = tensor.shape
        assert scale.shape == (math.ceil(n / 128), math.ceil(k / 128))
    assert tensors["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"].shape == (136, 192)
    # Weight = number times scale, each 128 x 128 block by its own.
    name = "model.layers.1.self_attn.kv_a_proj_with_mqa.weight"
    weight, q, scale = (
        model.get_parameter(name),
        tensors[name].float(),
        tensors[name + "_scale_inv"],
    )
    for i, j in itertools.product(range(2), range(2)):
        at = slice(i * 128, i * 128 + 128), slice(j * 128, j * 128 + 128)
        assert q[at].abs().max() == 448
        error = (q[at] * scale[i, j] - weight[at]).abs()
        assert (error <= (weight[at].abs() / 16).clamp_min(scale[i, j] * 2**-10) * 1.0001).all()
    settings = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert settings["quantization_config"] == {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }


def test_what_transformers_saves_again_imports_to_the_same_bits(small, build, tmp_path):
    from transformers import AutoModelForCausalLM

    yarn = {
        **{"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
        **{"beta_fast": 32, "beta_slow": 1, "mscale": 0.7, "mscale_all_dim": 0.7},
    }
    model = build(small(rope_scaling=yarn, n_group=4, topk_group=2, num_experts_per_tok=4))
    for router in model.routers:
        router.e_score_correction_bias.abs_()
    export_checkpoint(model.config, model.state_dict(), tmp_path / "ours")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    config, state = import_checkpoint(tmp_path / "theirs")
    # transformers drops the multi-token module.
    expected = dataclasses.replace(model.config, num_nextn_predict_layers=0)
    assert dataclasses.replace(config, rope_scaling=None) == dataclasses.replace(
        expected, rope_scaling=None
    )
    assert yarn.items() <= config.rope_scaling.items() | {("type", "yarn")}
    kept = {n: t for n, t in model.state_dict().items() if not n.startswith("model.layers.3.")}
    assert state.keys() == kept.keys()
    assert all(torch.equal(state[name], kept[name]) for name in kept)
    assert torch.equal(Transformer(config).rotary(0, 300), Transformer(model.config).rotary(0, 300))


def test_moved_biases_choose_the_same_experts(small, build, tokens, tmp_path):
    model = build(small(n_group=4, topk_group=2, num_experts_per_tok=4))
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf")
    config, state = import_checkpoint(tmp_path / "hf")
    moved = Transformer(config)
    moved.load_state_dict(state)
    biases = [router.e_score_correction_bias for router in moved.routers]
    assert all(bias.min() == 0 for bias in biases)
    assert all(r.e_score_correction_bias.min() < 0 for r in model.routers)
    ids = tokens(2, 64)
    real = torch.ones_like(ids, dtype=torch.bool)
    before, after = (m.losses(ids, ids, real) for m in (model, moved))
    assert all(torch.equal(a, b) for a, b in zip(before.loads, after.loads, strict=True))
    torch.testing.assert_close(before.main, after.main, rtol=1e-6, atol=0)


def test_multi_token_modules_are_exported_in_the_published_order_of_halves(
    small, build, tokens, tmp_path
):
    """The module, rebuilt from the exported tensors alone, in the released checkpoint's order."""
    model = build(small())
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf")
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    layer = {
        n.removeprefix("model.layers.3."): t
        for n, t in tensors.items()
        if n.startswith("model.layers.3.")
    }
    ids = tokens(1, 20)

    def normed(x, weight):
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight

    with torch.no_grad():
        hidden, _ = model(ids)
        embedding = layer["embed_tokens.weight"][ids[:, 1:]]
        joined = [
            normed(embedding, layer["enorm.weight"]),
            normed(hidden[:, :-1], layer["hnorm.weight"]),
        ]
        x = torch.cat(joined, -1) @ layer["eh_proj.weight"].t()
        module = model.mtp_modules[0]
        block, _ = module(x, model.rotary(0, 19), None, None)
        expected = normed(block, layer["shared_head.norm.weight"])
        logits = expected @ layer["shared_head.head.weight"].t()
        found, _ = module.predict(
            hidden[:, :-1], model.model["embed_tokens"](ids[:, 1:]), model.rotary(0, 19)
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.lm_head(found), logits, rtol=1e-4, atol=1e-4)
