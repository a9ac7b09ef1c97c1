"""A DeepSeek-V3 in plain PyTorch: its shape, its training, generation and export."""

from model.config import ModelConfig, ParameterCount, preset
from model.export import export_checkpoint, import_checkpoint, published_tensors
from model.generate import Generation, generate
from model.trainer import Batch, TrainConfig, evaluate, train, write_weights
from model.transformer import Losses, Transformer, initialize

__all__ = [
    "Batch",
    "Generation",
    "Losses",
    "ModelConfig",
    "ParameterCount",
    "TrainConfig",
    "Transformer",
    "evaluate",
    "export_checkpoint",
    "generate",
    "import_checkpoint",
    "initialize",
    "preset",
    "published_tensors",
    "train",
    "write_weights",
]
