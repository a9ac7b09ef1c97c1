"""Write the trained model as a Hugging Face checkpoint, its tokenizer beside it."""

import json
import shutil

from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage
from pipelines.training import config_of, last_weights

PROMPTS = ("def __init__(self, ", "The function returns ", "Problem: ")
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def _run(context: Context) -> Result:
    from safetensors.torch import load_file

    from model.convert import import_checkpoint
    from model.export import export_checkpoint
    from model.generate import generate
    from model.transformer import Transformer
    from tok import Encoder

    bar = context.bar("checkpoint", 2)
    recipe = context.recipe
    encoder = Encoder.load(context.input("tokenizer"))
    _, weights = last_weights(recipe)
    config = config_of(weights)
    state = load_file(weights / "model.safetensors")
    target = context.directory / "checkpoint"
    export_checkpoint(config, state, target)
    for name in _TOKENIZER:
        shutil.copyfile(context.input("tokenizer") / name, target / name)
    if recipe.extend:
        path = target / "tokenizer_config.json"
        settings = json.loads(path.read_text("utf-8"))
        settings["model_max_length"] = recipe.longest_context()
        path.write_text(json.dumps(settings, ensure_ascii=False, indent=2), "utf-8")
    bar.at(1)

    # What a reader of the report sees of the model, from the exported files themselves.
    config, state = import_checkpoint(target)
    model = Transformer(config)
    model.load_state_dict(state)
    samples = []
    begin = [encoder.special["bos"]] if recipe.encode.bos else []
    new = min(40, config.max_position_embeddings // 2)
    for prompt in PROMPTS:
        out = generate(
            model.eval(), begin + encoder.encode(prompt), new, stop=(encoder.special["eos"],),
            speculative=config.num_nextn_predict_layers > 0,
        )  # fmt: skip
        text = encoder.decode([t for t in out.tokens if t < encoder.vocab_size])
        samples.append({"prompt": prompt, "text": text, "acceptance": out.acceptance})
    bar.at(2)
    files = sorted(path for path in target.iterdir() if path.is_file())
    size = sum(path.stat().st_size for path in files)
    return Result(
        dict.fromkeys(files),
        {"samples": samples},
        f"DeepseekV3ForCausalLM and tokenizer, {size / 1e6:.1f} MB",
    )


def _config(recipe: Recipe) -> dict:
    return {"preset": recipe.train.preset, "model": recipe.train.model, "bos": recipe.encode.bos}


def stage(recipe: Recipe) -> Stage:
    """The stage: it writes the weights of the last stage that trains."""
    return Stage("export", 1, ("tokenizer", last_weights(recipe)[0]), _config, _run)
