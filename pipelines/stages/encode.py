"""Encode the curated documents into token shards; fill-in-the-middle happens here."""

from collections import Counter
from pathlib import Path

import pyarrow.compute as pc

from packing import Fim, encode_shard
from packing.fim import Rewritten
from pipelines.curation_maps import read_batches
from pipelines.files import TEMPORARY
from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage
from pipelines.stages.curate import curated_shards
from tok import Encoder

_PARTS = (".bin", ".idx", ".documents.parquet")


def encode_split(number: int, job: dict, out: str, tokenizer: str, encode: dict, seed: int) -> dict:
    """Encode one shard of documents into one shard of tokens."""
    encoder = Encoder.load(Path(tokenizer))
    stem = Path(out) / f".shard-{number:05d}{TEMPORARY}"
    holes: list[Rewritten] = []
    table = encode_shard(
        read_batches(Path(job["path"])),
        stem,
        encoder,
        fim=Fim(**encode["fim"]),
        bos=encode["bos"],
        split_joined=encode["split_joined"],
        seed=seed,
        told=holes.append,
    )
    for part in _PARTS:
        stem.with_name(stem.name + part).replace(Path(out) / f"shard-{number:05d}{part}")
    return {
        "documents": len(table),
        "tokens": pc.sum(table["tokens"]).as_py() or 0,
        "fim": {
            "documents": len(holes),
            "formats": Counter(hole.format for hole in holes),
            "holes": Counter(hole.strategy for hole in holes),
            "tokens": sum(hole.inside for hole in holes),
            "changed": sum(hole.changed for hole in holes),
        },
    }


def _run(context: Context) -> Result:
    recipe, directory = context.recipe, context.directory
    jobs = context.splits(lambda: [{"path": str(path)} for path in curated_shards(context)])
    records = context.map(
        "encode", "encode.encode", jobs, str(directory), str(context.input("tokenizer")),
        recipe.encode.model_dump(), recipe.seed,
    )  # fmt: skip
    outputs: dict[Path, int | None] = {}
    for number, record in enumerate(records):
        for part in _PARTS:
            outputs[directory / f"shard-{number:05d}{part}"] = record["documents"]
    tokens = sum(record["tokens"] for record in records)
    documents = sum(record["documents"] for record in records)
    fim = _add_up([record["fim"] for record in records])
    rewritten = fim["documents"]
    changed = f" ({fim['changed'] / fim['tokens']:.1%} of its tokens new)" if fim["tokens"] else ""
    return Result(
        outputs,
        {"tokens": tokens, "documents": documents, "fim": fim},
        f"{tokens:,} tokens of {documents:,} documents, {rewritten:,} with a hole (FIM)" + changed,
    )


def _add_up(parts: list[dict]) -> dict:
    """Sums of the counts in all splits, by name."""
    total: dict = {"documents": 0, "tokens": 0, "changed": 0, "formats": {}, "holes": {}}
    for part in parts:
        for name, value in part.items():
            if isinstance(value, dict):
                total[name] = dict(sorted((Counter(total[name]) + Counter(value)).items()))
            else:
                total[name] += value
    return total


def _config(recipe: Recipe) -> dict:
    return {"encode": recipe.encode.model_dump(), "seed": recipe.seed}


STAGE = Stage("encode", 3, ("curate", "tokenizer"), _config, _run)
