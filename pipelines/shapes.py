"""From the recipe's `train:` section to the model's configuration."""

from dataclasses import asdict, fields

from pydantic import TypeAdapter, ValidationError

from model.config import ModelConfig
from model.presets import PRESETS
from pipelines.recipe_training import TrainSection

VOCAB_MULTIPLE = 128  # of rows in embedding and head: whole tiles for the products


def model_config(section: TrainSection, vocab_size: int) -> ModelConfig:
    """The preset with the recipe's changes, for a tokenizer of `vocab_size` ids.

    The vocabulary is rounded up to a multiple of 128. Raises ValueError naming the field.
    """
    if section.preset not in PRESETS:
        raise ValueError(f"preset {section.preset!r} is unknown, expected one of {[*PRESETS]}")
    known = {field.name for field in fields(ModelConfig)}
    for name in section.model:
        if name not in known or name == "vocab_size":
            raise ValueError(
                f"model.{name} is not a field of the model to set; expected one of "
                f"{', '.join(sorted(known - {'vocab_size'}))}"
            )
    rounded = -(-vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
    values = {**asdict(PRESETS[section.preset]), **section.model, "vocab_size": rounded}
    try:
        return TypeAdapter(ModelConfig).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = "".join(f".{part}" for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"model{field}: {message}") from None
