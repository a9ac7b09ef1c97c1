"""The tensors of a published DeepSeek-V3 checkpoint: names, shapes, types and places in the model.

This is the one place that knows how published checkpoints differ from the model in memory:

- each expert has its own gate, up and down projection, where the model stacks all experts of a
  layer in two tensors;
- a multi-token module is a layer after the last, and carries copies of the embedding and the head
  (`embed_tokens`, `shared_head.head`), though they are the main model's;
- router biases are float32 whatever the rest is, since rounding them changes which experts are
  chosen;
- in FP8 the attention, MLP and expert projections are E4M3 and have beside them a float32
  `weight_scale_inv` for each block of 128 x 128 (weight = E4M3 times that scale, in spite of its
  name). All others stay as they are: embeddings, heads, norms, the router, `eh_proj`.

Nothing here holds numbers, so the checkpoint of a model of any size can be listed: of `v3-671b` in
FP8 and bfloat16 it is 91,991 tensors of 688,574,839,360 bytes, those of the released one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import ModelConfig
from model.fp8 import E4M3, TILE
from model.transformer import EMBEDDING, HEAD, Transformer

BIAS = ".mlp.gate.e_score_correction_bias"
SCALE = "_scale_inv"
QUANTIZATION = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [TILE, TILE],
}
QUANTIZED = {
    f"{name}.weight"
    for name in (
        *("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    )
}


@dataclass(frozen=True)
class Part:
    """Where a published tensor is in the training state: rows `start` to `stop` of tensor `source`,
    of its expert `expert` if it is stacked. `copy` marks one that only repeats another.
    """

    source: str
    shape: tuple[int, ...]
    expert: int | None = None
    start: int = 0
    copy: bool = False

    def of(self, tensor: Tensor) -> Tensor:
        """The view of the source tensor that this is."""
        whole = tensor if self.expert is None else tensor[self.expert]
        return whole[self.start : self.start + self.shape[0]]


def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the training state, `Transformer.state_dict()`."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in Transformer(config).state_dict().items()}


def published_parts(config: ModelConfig) -> dict[str, Part]:
    """Every tensor of the published checkpoint (scales left out) and its place in the state."""
    parts = {}
    shapes = state_shapes(config)
    for name, shape in shapes.items():
        if name.endswith(".mlp.experts.gate_up_proj"):
            prefix, half = name.removesuffix("gate_up_proj"), (shape[1] // 2, shape[2])
            for e in range(shape[0]):
                parts[f"{prefix}{e}.gate_proj.weight"] = Part(name, half, e)
                parts[f"{prefix}{e}.up_proj.weight"] = Part(name, half, e, half[0])
        elif name.endswith(".mlp.experts.down_proj"):
            for e in range(shape[0]):
                published = f"{name.removesuffix('down_proj')}{e}.down_proj.weight"
                parts[published] = Part(name, shape[1:], e)
        else:
            parts[name] = Part(name, shape)
    for layer in range(
        config.num_hidden_layers, config.num_hidden_layers + config.num_nextn_predict_layers
    ):
        prefix = f"model.layers.{layer}."
        for name, source in (("embed_tokens", EMBEDDING), ("shared_head.head", HEAD)):
            parts[f"{prefix}{name}.weight"] = Part(source, shapes[source], copy=True)
    return parts


def is_quantized(name: str) -> bool:
    """Whether an FP8 checkpoint has this tensor in E4M3."""
    return ".".join(name.split(".")[-2:]) in QUANTIZED


def scale_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The blocks of a matrix [n, k]: [n/128, k/128], rounded up."""
    return -(-shape[0] // TILE), -(-shape[1] // TILE)


def checkpoint_layout(
    config: ModelConfig, dtype: torch.dtype, *, fp8: bool = False
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Type and shape of every tensor of a checkpoint, in the order in which they are written."""
    layout = {}
    for name, part in published_parts(config).items():
        if fp8 and is_quantized(name):
            layout[name] = E4M3, part.shape
            layout[name + SCALE] = torch.float32, scale_shape(part.shape)
        else:
            layout[name] = torch.float32 if name.endswith(BIAS) else dtype, part.shape
    return layout


def layout_bytes(layout: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> int:
    """The bytes of all tensors of a layout."""
    return sum(tensor_bytes(dtype, shape) for dtype, shape in layout.values())


def tensor_bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    """The bytes of one tensor."""
    return torch.Size(shape).numel() * dtype.itemsize
