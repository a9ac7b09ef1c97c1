"""Reading a Hugging Face checkpoint of this architecture, and turning one kind into another.

A folder as DeepSeek publishes it (any number of safetensors files with an index, an expert at a
time, plain or in FP8 with `weight_scale_inv`) is opened and checked against `config.json` without
reading a number: every name, shape and type. Tensors are then read one at a time.

`import_checkpoint` puts them where the model has them, experts stacked, in float32; what is in
memory is that one copy and the tensor being read. `convert_checkpoint` goes from folder to folder
(FP8 to bfloat16, other file sizes, …) and holds one file's tensors at most.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.config import ModelConfig
from model.export import INDEX, SHARD_BYTES, write_checkpoint
from model.fp8 import dequantize
from model.published import (
    QUANTIZATION,
    SCALE,
    Part,
    is_quantized,
    published_parts,
    scale_shape,
    state_shapes,
)

PLAIN = {"F32", "BF16", "F16"}
# What lies beside the weights and belongs to the tokenizer.
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class Checkpoint:
    """An opened folder: its configuration, and for each published tensor its file."""

    folder: Path
    config: ModelConfig
    parts: dict[str, Part]
    files: dict[str, str]

    def read(self, name: str) -> Tensor:
        """A published tensor in float32, dequantised if it is FP8; a missing copy's original."""
        if name not in self.files and self.parts[name].copy:
            name = self.parts[name].source
        with safe_open(self.folder / self.files[name], framework="pt") as file:
            tensor = file.get_tensor(name)
        if name + SCALE not in self.files:
            return tensor.float()
        with safe_open(self.folder / self.files[name + SCALE], framework="pt") as file:
            return dequantize(tensor, file.get_tensor(name + SCALE))


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a folder and check that its tensors are those of its `config.json`.

    A folder without any tensor of the multi-token modules is one without them, whatever its
    configuration says (transformers leaves them out when it saves). Raises ValueError, naming file
    and tensor, for a model of another kind, another quantisation, tensors missing, left over, or of
    a shape or type that they cannot have, and for a file that is not whole.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing, expected a Hugging Face checkpoint folder")
    raw = _object(path)
    quantization = raw.get("quantization_config")
    if quantization is not None:
        for key in ("quant_method", "fmt", "weight_block_size"):
            # transformers writes no fmt; E4M3 is all that it knows.
            found = quantization.get(key, "e4m3" if key == "fmt" else None)
            if found != QUANTIZATION[key]:
                raise ValueError(
                    f"{path}: quantization_config.{key} is {found}, expected {QUANTIZATION[key]}"
                )
    config = ModelConfig.from_hugging_face(raw)
    found = dict(_tensors(folder))
    last = f"model.layers.{config.num_hidden_layers}."
    if not any(name.startswith(last) for name in found):
        config = replace(config, num_nextn_predict_layers=0)
    parts = published_parts(config)
    for name, part in parts.items():
        if name not in found:
            if part.copy:
                continue
            raise ValueError(f"{folder}: tensor {name} is missing")
        file, kind, shape = found[name]
        if shape != part.shape:
            raise ValueError(f"{folder / file}: {name} is {shape}, expected {part.shape}")
        if quantization and is_quantized(name) and kind == "F8_E4M3":
            expected = "F32", scale_shape(shape)
            scale = found.get(name + SCALE)
            if scale is None or scale[1:] != expected:
                raise ValueError(
                    f"{folder / file}: {name + SCALE} is {scale and scale[1:]}, expected {expected}"
                )
        elif kind not in PLAIN:
            raise ValueError(f"{folder / file}: {name} is {kind}, expected one of {sorted(PLAIN)}")
    scales = {n + SCALE for n in parts if n in found and found[n][1] == "F8_E4M3"}
    extra = sorted(found.keys() - parts.keys() - scales)
    if extra:
        raise ValueError(f"{folder}: tensor {extra[0]} is left over ({len(extra)} are)")
    return Checkpoint(folder, config, parts, {name: about[0] for name, about in found.items()})


def import_checkpoint(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read a published checkpoint to a configuration and a training state, all in float32.

    Raises ValueError as `open_checkpoint` does, and for copies of embedding or head that differ
    from the original.
    """
    checkpoint = open_checkpoint(folder)
    state = {n: torch.empty(shape) for n, shape in state_shapes(checkpoint.config).items()}
    for name, part in checkpoint.parts.items():
        if not part.copy:
            part.of(state[part.source]).copy_(checkpoint.read(name))
    for name, part in checkpoint.parts.items():
        if part.copy and not torch.equal(checkpoint.read(name), state[part.source]):
            raise ValueError(f"{folder}: {name} differs from {part.source}, expected a copy")
    return checkpoint.config, state


def convert_checkpoint(
    source: Path,
    target: Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    fp8: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> ModelConfig:
    """Write the checkpoint in `source` again as another kind, its tokenizer beside it.

    The choices are those of `export_checkpoint`; the target is replaced. Raises ValueError as
    `open_checkpoint` does, and for a target that is the source.
    """
    if target.resolve() == source.resolve():
        raise ValueError(f"{target} is the checkpoint to convert, expected another folder")
    checkpoint = open_checkpoint(source)
    settings = {"dtype": dtype, "fp8": fp8, "shard_bytes": shard_bytes}
    write_checkpoint(checkpoint.config, checkpoint.read, target, **settings)
    for name in TOKENIZER:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    return checkpoint.config


def _tensors(folder: Path) -> Iterator[tuple[str, tuple[str, str, tuple[int, ...]]]]:
    """Every tensor's name, file, type and shape, from the files' headers."""
    index = folder / INDEX
    if index.exists():
        weight_map = _object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(
            isinstance(file, str) for file in weight_map.values()
        ):
            raise ValueError(f"{index}: weight_map is {type(weight_map)}, expected tensor to file")
        files = sorted(set(weight_map.values()))
    else:
        files = ["model.safetensors"]
    for file in files:
        path = folder / file
        # An index comes from elsewhere; its file names must not lead out of the folder.
        if Path(file).name != file or not path.is_file():
            raise ValueError(f"{path} is missing, expected a file of {folder}")
        try:
            with safe_open(path, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dictionary)
                    about = opened.get_slice(name)
                    yield name, (file, about.get_dtype(), tuple(about.get_shape()))
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file: {error}") from None


def _object(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is a {type(content).__name__}, expected a JSON object")
    return content
