"""Count words over the curated documents, learn the merges, export the tokenizer."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from packing.draws import draw_fraction
from pipelines.files import atomic
from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage
from pipelines.stages.curate import curated_shards
from tok import (
    count_words,
    export_tokenizer,
    read_counts,
    train_tokenizer,
    weigh,
    write_counts,
)


def count_split(number: int, job: dict, out: str, scheme: str, sample: float, seed: int) -> dict:
    """Count the words of one shard of documents, or of a drawn share of them."""
    table = pq.read_table(job["path"], columns=["id", "text", "domain", "language"])
    texts, groups, size = [], [], 0
    for row in table.to_pylist():
        if sample >= 1 or draw_fraction(seed, "tokenizer-sample", row["id"]) < sample:
            texts.append(row["text"])
            groups.append(f"{row['domain']}/{row['language'] or 'unknown'}")
            size += len(row["text"].encode())
    with atomic(Path(out) / "work" / f"counts-{number:05d}.parquet") as path:
        counts = count_words(pa.array(texts, pa.large_string()), groups, scheme, threads=1)
        write_counts([counts], path)
    return {"bytes": size}


def _run(context: Context) -> Result:
    recipe, directory = context.recipe, context.directory
    section = recipe.tokenizer
    jobs = context.splits(lambda: [{"path": str(path)} for path in curated_shards(context)])
    records = context.map(
        "count",
        "tokenizer.count",
        jobs,
        str(directory),
        section.scheme,
        section.sample,
        recipe.seed,
    )
    parts = sorted((directory / "work").glob("counts-*.parquet"))
    counts = read_counts(parts)
    with atomic(directory / "counts.parquet") as path:
        write_counts([counts], path)

    bar = context.bar("merges", section.vocab_size)
    words = weigh(counts, section.weights)
    tokenizer = train_tokenizer(
        words,
        section.vocab_size,
        section.scheme,
        bos=recipe.encode.bos,
        min_count=section.min_count,
        max_token_bytes=section.max_token_bytes,
        progress=lambda done: bar.at(done),
    )
    bar.at(section.vocab_size)
    files = export_tokenizer(
        tokenizer,
        directory,
        bos=recipe.encode.bos,
        model_max_length=max(phase.length for phase in recipe.plan.phases),
    )
    size = tokenizer.get_vocab_size()
    counted = sum(record["bytes"] for record in records)
    return Result(
        dict.fromkeys(files) | {directory / "counts.parquet": len(counts)},
        {"vocab_size": size, "distinct_words": len(words), "bytes_counted": counted},
        f"{size:,} tokens, scheme {section.scheme}, from {counted / 1e6:.1f} MB",
    )


def _config(recipe: Recipe) -> dict:
    return {
        "tokenizer": recipe.tokenizer.model_dump(),
        "bos": recipe.encode.bos,
        "model_max_length": max(phase.length for phase in recipe.plan.phases),
        "seed": recipe.seed,
    }


STAGE = Stage("tokenizer", 1, ("curate",), _config, _run)
