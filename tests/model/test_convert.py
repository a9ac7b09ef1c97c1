import itertools
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.convert import convert_checkpoint, import_checkpoint, open_checkpoint
from model.export import INDEX, export_checkpoint


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


@pytest.mark.parametrize(
    ("key", "value"),
    [("quant_method", "gptq"), ("fmt", "e5m2"), ("weight_block_size", [64, 64])],
)
def test_another_quantisation_is_refused_by_its_key(exported, key, value):
    path = exported / "config.json"
    plain = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    raw = json.loads(path.read_text()) | {"quantization_config": plain | {key: value}}
    path.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=f"quantization_config.{key}"):
        import_checkpoint(exported)


def test_fp8_without_a_quantization_config_is_refused(exported):
    name = "model.layers.1.self_attn.o_proj.weight"
    edit_tensors(
        exported, lambda tensors: tensors.update({name: tensors[name].to(torch.float8_e4m3fn)})
    )
    with pytest.raises(ValueError, match=f"{name} is F8_E4M3"):
        import_checkpoint(exported)


def test_a_tensor_of_another_shape_is_named(exported):
    name = "model.layers.1.mlp.experts.5.up_proj.weight"
    edit_tensors(exported, lambda tensors: tensors.update({name: tensors[name][:-1].clone()}))
    with pytest.raises(ValueError, match=name):
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


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
def test_an_index_that_is_none_is_named(exported, content):
    (exported / INDEX).write_text(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        import_checkpoint(exported)


@pytest.fixture
def published(small, build, tmp_path):
    """An FP8 checkpoint in many files, the rest in bfloat16, as DeepSeek releases them."""
    model = build(small(hidden_size=160, kv_lora_rank=128, num_nextn_predict_layers=2))
    export_checkpoint(
        model.config,
        model.state_dict(),
        tmp_path / "published",
        fp8=True,
        dtype=torch.bfloat16,
        shard_bytes=100_000,
    )
    return model, tmp_path / "published"


def test_a_checkpoint_in_fp8_and_many_files_imports_to_its_rounded_weights(published):
    model, folder = published
    assert len(list(folder.glob("*.safetensors"))) > 10
    config, state = import_checkpoint(folder)
    assert config == model.config
    tensors = {}
    for path in folder.glob("*.safetensors"):
        tensors |= load_file(path)

    def slow(name):
        scale = tensors.get(name + "_scale_inv")
        weight = tensors[name].float()
        if scale is not None:
            for i, j in itertools.product(*map(range, scale.shape)):
                weight[i * 128 : i * 128 + 128, j * 128 : j * 128 + 128] *= scale[i, j]
        return weight

    for layer, e in ((1, 0), (2, 7), (4, 3)):
        prefix = f"model.layers.{layer}.mlp.experts."
        both = torch.cat([slow(f"{prefix}{e}.{p}_proj.weight") for p in ("gate", "up")])
        assert torch.equal(state[prefix + "gate_up_proj"][e], both)
        assert torch.equal(state[prefix + "down_proj"][e], slow(f"{prefix}{e}.down_proj.weight"))
    for name in ("model.layers.0.self_attn.kv_b_proj.weight", "model.norm.weight"):
        assert torch.equal(state[name], slow(name))
    for name, tensor in model.state_dict().items():
        if not name.endswith("bias"):
            assert ((state[name] - tensor).norm() / tensor.norm()).item() < 0.04, name


def test_a_weight_and_its_scales_lie_in_one_file(published):
    _, folder = published
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    scales = [name for name in weight_map if name.endswith("_scale_inv")]
    assert len(scales) > 50
    for name in scales:
        assert weight_map[name] == weight_map[name.removesuffix("_scale_inv")]


def test_a_missing_scale_is_named(published):
    _, folder = published
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    name = "model.layers.1.mlp.experts.5.up_proj.weight_scale_inv"
    path = folder / weight_map[name]
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path)
    with pytest.raises(ValueError, match=name):
        import_checkpoint(folder)


def test_converting_to_plain_weights_is_the_import(published, tmp_path):
    _, folder = published
    (folder / "tokenizer.json").write_text("{}")
    convert_checkpoint(folder, tmp_path / "plain", dtype=torch.float32, shard_bytes=200_000)
    config, state = import_checkpoint(folder)
    again, plain = import_checkpoint(tmp_path / "plain")
    assert again == config
    assert all(torch.equal(state[name], plain[name]) for name in state)
    assert "quantization_config" not in json.loads((tmp_path / "plain/config.json").read_text())
    assert (tmp_path / "plain" / "tokenizer.json").read_text() == "{}"
    assert (tmp_path / "plain" / INDEX).exists()


def test_converting_back_to_fp8_keeps_every_number(published, tmp_path):
    _, folder = published
    convert_checkpoint(folder, tmp_path / "plain", dtype=torch.float32)
    convert_checkpoint(tmp_path / "plain", tmp_path / "again", fp8=True, dtype=torch.bfloat16)
    first, again = import_checkpoint(folder)[1], import_checkpoint(tmp_path / "again")[1]
    for name, tensor in first.items():
        # The scale is found again from the largest number, up to its last bit.
        torch.testing.assert_close(again[name], tensor, rtol=1e-6, atol=0)


def test_a_checkpoint_is_not_converted_onto_itself(published):
    _, folder = published
    with pytest.raises(ValueError, match="is the checkpoint to convert"):
        convert_checkpoint(folder, folder)
    assert open_checkpoint(folder).config


def test_a_folder_without_any_tensor_of_the_modules_is_a_model_without_them(exported):
    def drop(tensors):
        for name in [n for n in tensors if n.startswith("model.layers.3.")]:
            del tensors[name]

    edit_tensors(exported, drop)
    config, state = import_checkpoint(exported)
    assert config.num_nextn_predict_layers == 0
    assert not any(name.startswith("model.layers.3.") for name in state)


def test_copies_may_be_left_out(exported):
    def drop(tensors):
        del tensors["model.layers.3.embed_tokens.weight"]
        del tensors["model.layers.3.shared_head.head.weight"]

    _, whole = import_checkpoint(exported)
    edit_tensors(exported, drop)
    config, state = import_checkpoint(exported)
    assert config.num_nextn_predict_layers == 1
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.items())


MEMORY = """
import resource, sys
from pathlib import Path
import torch
from model.config import ModelConfig
from model.convert import convert_checkpoint, import_checkpoint
from model.export import export_checkpoint
from model.published import state_shapes

folder, task = Path(sys.argv[1]), sys.argv[2]
config = ModelConfig(
    vocab_size=4096, hidden_size=512, intermediate_size=1024, moe_intermediate_size=256,
    num_hidden_layers=5, num_attention_heads=4, kv_lora_rank=64, qk_nope_head_dim=32,
    qk_rope_head_dim=16, v_head_dim=32, n_routed_experts=16, num_experts_per_tok=2,
)
shapes = state_shapes(config)  # the meta device's own code is loaded here
if task == "export":
    state = {name: torch.ones(shape) for name, shape in shapes.items()}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if task == "export":
    export_checkpoint(config, state, folder / "plain", shard_bytes=9_000_000)
elif task == "convert":
    convert_checkpoint(folder / "plain", folder / "fp8", fp8=True, shard_bytes=9_000_000)
else:
    _, state = import_checkpoint(folder / "fp8")
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(used * 1024, sum(torch.Size(s).numel() * 4 for s in shapes.values()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in kilobytes on Linux")
def test_the_weights_are_never_in_memory_twice(tmp_path):
    for task, copies in (("export", 0), ("convert", 0), ("import", 1)):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(tmp_path), task],
            capture_output=True,
            text=True,
            check=True,
        )
        used, weights = map(int, done.stdout.split())
        assert weights > 150e6
        # Some files' worth beside; the largest tensor is 8 MB.
        assert used < copies * weights + 75e6, (task, used)
