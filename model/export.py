"""A Hugging Face checkpoint from the trained weights, and back.

This is the one place that knows how published checkpoints differ from the model in memory:

- each expert has its own gate, up and down projection, where the model stacks all experts of a
  layer;
- a multi-token module is a layer after the last, and carries copies of the embedding and the head
  (`embed_tokens`, `shared_head.head`), though they are the main model's;
- router biases are float32 whatever the rest is, since rounding them changes which experts are
  chosen, and are moved up by a constant per layer so that the smallest is 0 or more: adding the
  same to all changes no choice, and routers elsewhere that mask unchosen groups with 0 need it.

Large checkpoints are cut into files of a given size, with the usual index. The folder is written
beside its name and renamed.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import ModelConfig
from model.transformer import Transformer

BIAS = ".mlp.gate.e_score_correction_bias"
INDEX = "model.safetensors.index.json"


def published_tensors(config: ModelConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename and split the training state to a published checkpoint's tensors.

    Works on the meta device as well, giving names and shapes of a model of any size.
    """
    result = {}
    for name, tensor in state.items():
        if name.endswith(".mlp.experts.gate_up_proj"):
            for e, both in enumerate(tensor.unbind(0)):
                gate, up = both.chunk(2, 0)
                prefix = name.removesuffix("gate_up_proj")
                result[f"{prefix}{e}.gate_proj.weight"] = gate
                result[f"{prefix}{e}.up_proj.weight"] = up
        elif name.endswith(".mlp.experts.down_proj"):
            for e, down in enumerate(tensor.unbind(0)):
                result[f"{name.removesuffix('down_proj')}{e}.down_proj.weight"] = down
        elif name.endswith(BIAS):
            result[name] = tensor - tensor.min().clamp_max(0)
        else:
            result[name] = tensor
    for layer in range(config.num_hidden_layers, _layers(config)):
        prefix = f"model.layers.{layer}."
        result[prefix + "embed_tokens.weight"] = state["model.embed_tokens.weight"]
        result[prefix + "shared_head.head.weight"] = state["lm_head.weight"]
    return result


def export_checkpoint(
    config: ModelConfig,
    state: dict[str, Tensor],
    target: Path,
    *,
    dtype: torch.dtype = torch.float32,
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Write a folder that Hugging Face's `DeepseekV3ForCausalLM` loads; replace one that is there.

    `state` is a training state (`Transformer.state_dict()` or what `final/` holds), `dtype` float32
    or bfloat16. Raises ValueError if the state is not that of the configuration.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"export dtype is {dtype}, expected torch.float32 or torch.bfloat16")
    _check_state(config, state, "state to export")
    tensors = {
        name: (t.float() if name.endswith(BIAS) else t.to(dtype)).contiguous()
        for name, t in published_tensors(config, state).items()
    }
    beside = target.with_name(f".writing-{target.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    _write_shards(tensors, beside, shard_bytes)
    _write_json(beside / "config.json", config.to_hugging_face() | {"dtype": str(dtype)[6:]})
    tokens = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
    generation = {k: v for k, v in tokens.items() if v is not None}
    _write_json(beside / "generation_config.json", {"_from_model_config": True, **generation})
    if target.exists():
        shutil.rmtree(target)
    beside.replace(target)


def import_checkpoint(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read a published checkpoint (float32 or bfloat16) to a configuration and a training state.

    All tensors come as float32. Raises ValueError, naming the file, for a model of another kind, a
    quantised one, copies of embedding or head that differ from the original, or tensors missing or
    left over.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing, expected a Hugging Face checkpoint folder") from None
    if "quantization_config" in raw:
        raise ValueError(f"{path}: quantization_config is present, expected plain weights")
    config = ModelConfig.from_hugging_face(raw)
    tensors = _read_shards(folder)
    for layer in range(config.num_hidden_layers, _layers(config)):
        for copy, original in (
            (f"model.layers.{layer}.embed_tokens.weight", "model.embed_tokens.weight"),
            (f"model.layers.{layer}.shared_head.head.weight", "lm_head.weight"),
        ):
            found = tensors.pop(copy, None)
            if found is not None and not torch.equal(found, tensors[original]):
                raise ValueError(f"{folder}: {copy} differs from {original}, expected a copy")
    for layer in range(config.first_k_dense_replace, _layers(config)):
        prefix = f"model.layers.{layer}.mlp.experts."
        experts = range(config.n_routed_experts)
        try:
            pairs = [
                torch.cat([tensors.pop(f"{prefix}{e}.{p}_proj.weight") for p in ("gate", "up")])
                for e in experts
            ]
            downs = [tensors.pop(f"{prefix}{e}.down_proj.weight") for e in experts]
        except KeyError as error:
            raise ValueError(f"{folder}: tensor {error.args[0]} is missing") from None
        tensors[prefix + "gate_up_proj"] = torch.stack(pairs)
        tensors[prefix + "down_proj"] = torch.stack(downs)
    _check_state(config, tensors, str(folder))
    return config, tensors


def _layers(config: ModelConfig) -> int:
    return config.num_hidden_layers + config.num_nextn_predict_layers


def _check_state(config: ModelConfig, state: dict[str, Tensor], where: str) -> None:
    with torch.device("meta"):
        expected = {n: tuple(t.shape) for n, t in Transformer(config).state_dict().items()}
    found = {name: tuple(t.shape) for name, t in state.items()}
    wrong = sorted(n for n in expected.keys() | found if expected.get(n) != found.get(n))
    if wrong:
        raise ValueError(
            f"{where}: {len(wrong)} tensors do not fit the configuration; {wrong[0]} is "
            f"{found.get(wrong[0])}, expected {expected.get(wrong[0])}"
        )


def _write_shards(tensors: dict[str, Tensor], folder: Path, limit: int) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, tensor in tensors.items():
        if shards[-1] and used + tensor.nbytes > limit:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += tensor.nbytes
    if len(shards) == 1:
        save_file(_unshared(tensors), folder / "model.safetensors", {"format": "pt"})
        return
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file(_unshared(shard), folder / name, {"format": "pt"})
    weight_map = {t: name for name, shard in zip(names, shards, strict=True) for t in shard}
    total = sum(t.nbytes for t in tensors.values())
    _write_json(
        folder / INDEX,
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
    )


def _unshared(shard: dict[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses two names for one memory; the copies in multi-token layers are meant.
    seen: set[int] = set()
    result = {}
    for name, tensor in shard.items():
        pointer = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return result


def _read_shards(folder: Path) -> dict[str, Tensor]:
    index = folder / INDEX
    if index.exists():
        files = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    tensors = {}
    for name in files:
        path = folder / name
        # An index comes from elsewhere; its file names must not lead out of the folder.
        if Path(name).name != name or not path.is_file():
            raise ValueError(f"{path} is missing, expected a file of {folder}")
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (not a dictionary)
                    tensor = file.get_tensor(key)
                    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
                        raise ValueError(f"{path}: {key} is {tensor.dtype}, expected plain floats")
                    tensors[key] = tensor.float()
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file: {error}") from None
    return tensors


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
