import json

import pytest
import torch
from safetensors.torch import load_file, save_file

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


@pytest.fixture
def exported(small, build, tmp_path):
    model = build(small())
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf")
    return tmp_path / "hf"


def edit_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_a_missing_tensor_is_named(exported):
    name = "model.layers.1.mlp.experts.5.up_proj.weight"
    edit_tensors(exported, lambda tensors: tensors.pop(name))
    with pytest.raises(ValueError, match=name):
        import_checkpoint(exported)


def test_a_tensor_left_over_is_named(exported):
    edit_tensors(exported, lambda tensors: tensors.update({"model.extra": torch.zeros(3)}))
    with pytest.raises(ValueError, match=r"model\.extra"):
        import_checkpoint(exported)


def test_a_copy_that_differs_is_refused(exported):
    name = "model.layers.3.embed_tokens.weight"
    edit_tensors(exported, lambda tensors: tensors[name].add_(1))
    with pytest.raises(ValueError, match="differs from"):
        import_checkpoint(exported)


def test_a_quantised_checkpoint_is_refused(exported):
    path = exported / "config.json"
    raw = json.loads(path.read_text()) | {"quantization_config": {"quant_method": "fp8"}}
    path.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match="quantization_config"):
        import_checkpoint(exported)


def test_a_truncated_file_is_named(exported):
    path = exported / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole"):
        import_checkpoint(exported)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "gone.safetensors"])
def test_an_index_cannot_lead_out_of_its_folder(exported, name):
    (exported.parent / "secret.safetensors").write_bytes(
        (exported / "model.safetensors").read_bytes()
    )
    (exported / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with pytest.raises(ValueError, match="is missing, expected a file of"):
        import_checkpoint(exported)


def test_a_folder_without_config_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        import_checkpoint(tmp_path)


def test_the_quickstart_model_makes_the_round_trip(tmp_path):
    model = Transformer(preset("quickstart"))
    initialize(model, 0)
    export_checkpoint(model.config, model.state_dict(), tmp_path / "hf")
    config, state = import_checkpoint(tmp_path / "hf")
    assert config == preset("quickstart")
    assert all(torch.equal(state[n], t) for n, t in model.state_dict().items())
