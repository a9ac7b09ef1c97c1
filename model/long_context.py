"""A model's shape for longer sequences: YaRN, section 4.3 of the DeepSeek-V3 report.

YaRN (Peng et al. 2023) slows the rotary pairs that turn less than about once over the trained
length by a factor, so that positions beyond it give angles that the weights have met, and sharpens
attention by (0.1 ln factor + 1)². The weights stay as they are and are trained on for a little
while, at the longer length. As V3 has it, the temperature is in the softmax (`mscale` and
`mscale_all_dim` both 1, which leaves the turned pairs their length), and beta is 1 and 32.
"""

from dataclasses import replace

from model.config import ModelConfig


def extend_context(config: ModelConfig, trained: int, factor: float) -> ModelConfig:
    """The shape with YaRN for `factor` times the `trained` length, in tokens.

    A shape that has YaRN already keeps its betas and its original length, and gets the new factor.
    Raises ValueError for a factor that is not above 1.
    """
    before = config.rope_scaling or {
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": trained,
    }
    scaling = {"type": "yarn", **before, "factor": factor}
    reach = round(scaling["original_max_position_embeddings"] * factor)
    positions = max(config.max_position_embeddings, reach)
    return replace(config, rope_scaling=scaling, max_position_embeddings=positions)
