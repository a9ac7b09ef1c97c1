"""Writing a Hugging Face checkpoint: float32, bfloat16, or FP8 with scales.

The tensors are those of `model/published.py`, in files of a given size with the usual index. They
are made and written one file at a time, so beside the weights themselves no more than one file's
tensors are in memory. The folder is written beside its name and renamed, so that a name never
stands for half a checkpoint.

Router biases are moved up by a constant per layer so that the smallest is 0 or more: adding the
same to all changes no choice, and routers elsewhere that mask unchosen groups with 0 need it.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.config import ModelConfig
from model.fp8 import E4M3, quantize_blocks
from model.published import (
    BIAS,
    QUANTIZATION,
    SCALE,
    checkpoint_layout,
    layout_bytes,
    published_parts,
    state_shapes,
    tensor_bytes,
)

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000


def export_checkpoint(
    config: ModelConfig,
    state: Mapping[str, Tensor],
    target: Path,
    *,
    dtype: torch.dtype = torch.float32,
    fp8: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a folder that Hugging Face's `DeepseekV3ForCausalLM` loads; replace one that is there.

    `state` is a training state (`Transformer.state_dict()` or what `final/` holds). `dtype` is
    float32 or bfloat16; with `fp8`, the projections are E4M3 with float32 scales and the rest is
    `dtype`. A file holds at most `shard_bytes` of tensors, or one tensor. Raises ValueError if the
    state is not that of the configuration.
    """
    check_state(config, state, "state to export")
    parts = published_parts(config)
    write_checkpoint(
        config,
        lambda name: parts[name].of(state[parts[name].source]),
        target,
        dtype=dtype,
        fp8=fp8,
        shard_bytes=shard_bytes,
    )


def write_checkpoint(
    config: ModelConfig,
    read: Callable[[str], Tensor],
    target: Path,
    *,
    dtype: torch.dtype,
    fp8: bool,
    shard_bytes: int,
) -> None:
    """Write the folder from a function that gives each published tensor by its name, in floats."""
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"export dtype is {dtype}, expected torch.float32 or torch.bfloat16")
    layout = checkpoint_layout(config, dtype, fp8=fp8)
    beside = target.with_name(f".writing-{target.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    _write_shards(layout, read, beside, shard_bytes)
    description = config.to_hugging_face() | {"dtype": str(dtype).removeprefix("torch.")}
    write_json(
        beside / "config.json",
        description | ({"quantization_config": QUANTIZATION} if fp8 else {}),
    )
    tokens = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
    generation = {k: v for k, v in tokens.items() if v is not None}
    write_json(beside / "generation_config.json", {"_from_model_config": True, **generation})
    if target.exists():
        shutil.rmtree(target)
    beside.replace(target)


def check_state(config: ModelConfig, state: Mapping[str, Tensor], where: str) -> None:
    """Raise ValueError, naming a tensor, unless the state has the names and shapes it should."""
    expected = state_shapes(config)
    found = {name: tuple(t.shape) for name, t in state.items()}
    wrong = sorted(n for n in expected.keys() | found if expected.get(n) != found.get(n))
    if wrong:
        raise ValueError(
            f"{where}: {len(wrong)} tensors do not fit the configuration; {wrong[0]} is "
            f"{found.get(wrong[0])}, expected {expected.get(wrong[0])}"
        )


def _write_shards(
    layout: dict[str, tuple[torch.dtype, tuple[int, ...]]],
    read: Callable[[str], Tensor],
    folder: Path,
    limit: int,
) -> None:
    shards: list[list[str]] = [[]]
    used = 0
    for name, (dtype, shape) in layout.items():
        # A weight and its scales are made in one go and stay together.
        size = tensor_bytes(dtype, shape)
        with_scale = size
        if name + SCALE in layout:
            with_scale += tensor_bytes(*layout[name + SCALE])
        if shards[-1] and used + with_scale > limit and not name.endswith(SCALE):
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    if len(shards) == 1:
        save_file(_made(shards[0], layout, read), folder / "model.safetensors", {"format": "pt"})
        return
    weight_map = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(_made(names, layout, read), folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    metadata = {"total_size": layout_bytes(layout)}
    index = {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / INDEX, index)


def _made(
    names: list[str],
    layout: dict[str, tuple[torch.dtype, tuple[int, ...]]],
    read: Callable[[str], Tensor],
) -> dict[str, Tensor]:
    """The tensors of one file, each in memory of its own as safetensors wants it."""
    made = {}
    for name in names:
        if name in made or name.endswith(SCALE):
            continue
        dtype = layout[name][0]
        tensor = read(name).detach()
        if name.endswith(BIAS):
            made[name] = tensor.float() - tensor.float().min().clamp_max(0)
        elif dtype == E4M3:
            made[name], made[name + SCALE] = quantize_blocks(tensor.float().contiguous())
        else:
            made[name] = tensor.to(dtype, copy=True, memory_format=torch.contiguous_format)
    return made


def write_json(path: Path, content: dict) -> None:
    """Write readable JSON with sorted keys, the same bytes for the same content."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
