"""A DeepSeek-V3 in plain PyTorch: its shape, its training, generation and export.

Import from the file that has the idea: `model.config` (ModelConfig), `model.presets` (preset),
`model.transformer` (Transformer, initialize), `model.trainer` (TrainConfig, train, evaluate),
`model.generate` (generate), `model.export` (export_checkpoint), `model.convert` (import_checkpoint,
convert_checkpoint). This file imports none of them, so that a shape can be checked without loading
PyTorch.
"""
