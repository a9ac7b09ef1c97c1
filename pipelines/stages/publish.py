"""Publish the curated texts and their tokens as a Hugging Face dataset directory.

    dataset/README.md                                     the card: YAML header, tables, recipe
    dataset/data/text/train-00000-of-00004.parquet        documents as curated
    dataset/data/tokenized/train-00000-of-00004.parquet   the same documents as token ids

`datasets.load_dataset(DIRECTORY, "text")` reads it. The validation split holds the documents that
the plan keeps out of training.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from curation.languages import bcp47
from packing import Shard
from packing.plan import held_out
from pipelines.files import atomic
from pipelines.recipe import Recipe
from pipelines.runner import Bar, Context, Result, Stage
from pipelines.stages.curate import curated_shards

TEXT_COLUMNS = ["id", "text", "source", "domain", "language", "uri", "license"]
TOKENIZED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("source", pa.string()),
        ("domain", pa.string()),
        ("language", pa.string()),
    ]
)
# Upper bounds of the hub's size categories, in rows.
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
          (10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))  # fmt: skip


def _text(path: Path) -> Iterator[tuple[list, list, pa.Table]]:
    """Ids, parents and published rows of a shard of curated documents, by row group."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            yield table["id"].to_pylist(), table["parents"].to_pylist(), table.select(TEXT_COLUMNS)


def _tokenized(path: Path) -> Iterator[tuple[list, list, pa.Table]]:
    """Ids, parents and published rows of a token shard."""
    documents = pq.read_table(path.with_name(path.name + ".documents.parquet"))
    shard = Shard.open(path)
    for start in range(0, len(documents), 4096):
        part = documents.slice(start, 4096)
        offsets = shard.offsets[start : start + len(part) + 1]
        values = pa.array(shard.tokens[offsets[0] : offsets[-1]], pa.int32())
        ids = pa.ListArray.from_arrays(pa.array(offsets - offsets[0], pa.int32()), values)
        table = pa.table(
            [part["id"], ids, part["source"], part["domain"], part["language"]],
            schema=TOKENIZED_SCHEMA,
        )
        yield part["id"].to_pylist(), part["parents"].to_pylist(), table


def _write_config(
    read: Callable[[Path], Iterator[tuple[list, list, pa.Table]]],
    inputs: list[Path],
    sizes: list[int],
    out: Path,
    recipe: Recipe,
    bar: Bar,
) -> dict[Path, int]:
    """Write the splits of one configuration; returns rows by file.

    Training rows go to files of about publish.shard_bytes, as many as `sizes` (of the inputs) ask
    for; a file takes whole inputs, so how many there will be is known before the first is written.
    """
    seed, fraction = recipe.seed, recipe.plan.validation.fraction
    inputs = [path for path, size in zip(inputs, sizes, strict=True) if size]
    sizes = [size for size in sizes if size]
    count = max(1, round(sum(sizes) / recipe.publish.shard_bytes))
    count = min(count, max(len(inputs), 1))
    groups: list[list[Path]] = [[] for _ in range(count)]
    done = 0
    for path, size in zip(inputs, sizes, strict=True):
        groups[min(done * count // max(sum(sizes), 1), count - 1)].append(path)
        done += size
    groups = [group for group in groups if group]
    names = {
        "train": [f"train-{k:05d}-of-{len(groups):05d}.parquet" for k in range(len(groups))],
        "validation": ["validation-00000-of-00001.parquet"],
    }
    rows: dict[Path, int] = {}
    kept_out: list[pa.Table] = []
    schema = None
    for name, group in zip(names["train"], groups, strict=True):
        writer, n = None, 0
        with atomic(out / name) as temporary:
            for path in group:
                for ids, parents, table in read(path):
                    schema = table.schema
                    if writer is None:
                        writer = pq.ParquetWriter(
                            temporary, schema, compression="zstd", write_page_index=True
                        )
                    mask = pa.array(held_out(ids, parents, seed, fraction))
                    kept_out.append(table.filter(mask))
                    table = table.filter(pc.invert(mask))
                    if len(table):
                        writer.write_table(table)
                    n += len(table)
                bar.at(bar.progress.tasks[bar.task].completed + 1)
            if writer:
                writer.close()
        rows[out / name] = n
    if any(len(table) for table in kept_out):
        path = out / names["validation"][0]
        with atomic(path) as temporary:
            pq.write_table(pa.concat_tables(kept_out), temporary, compression="zstd")
        rows[path] = sum(len(table) for table in kept_out)
    return rows


def _card(context: Context, files: dict[str, dict[Path, int]], licences: list[str]) -> str:
    """The dataset card: README.md with its YAML header."""
    recipe = context.recipe
    tally = [row for row in context.manifest("curate")["metrics"]["tally"] if not row["step"]]
    languages = sorted({bcp47(row["language"]) for row in tally if "_" in row["language"]})
    documents = sum(files["text"].values())
    size = next((name for bound, name in _SIZES if documents < bound), "1B<n<10B")
    configs = [
        {
            "config_name": config,
            "data_files": [
                {"split": split, "path": f"data/{config}/{split}-*.parquet"}
                for split in ("train", "validation")
                if any(path.name.startswith(split) for path in files[config])
            ],
        }
        | ({"default": True} if config == "text" else {})
        for config in files
    ]
    header = {
        "pretty_name": recipe.publish.name,
        "license": "other",
        "license_name": "per-document",
        "license_link": "README.md",
        "language": languages,
        "size_categories": [size],
        "task_categories": ["text-generation"],
        "tags": ["gristmill", "pretraining"],
        "configs": configs,
    }
    domains: dict[str, list[int]] = {}
    for row in tally:
        entry = domains.setdefault(row["domain"], [0, 0])
        entry[0] += row["documents"]
        entry[1] += row["bytes"]
    dropped = Counter()
    for row in context.manifest("curate")["metrics"]["tally"]:
        if row["step"]:
            dropped[(row["step"], row["reason"])] += row["documents"]
    mixture = [
        f"| {phase['name']} | {domain} | {entry['share']:.1%} | {entry['planned']:,} |"
        for phase in context.manifest("plan")["metrics"]["plan"]["phases"]
        for domain, entry in phase["domains"].items()
    ]
    settings = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# {recipe.publish.name}",
        "",
        f"{documents:,} documents in {len(languages)} natural languages, made by `gristmill run` "
        f"from the recipe at the end. Config `text` holds the documents, `tokenized` the same "
        "documents as token ids, an end-of-document token after each, holes for "
        "fill-in-the-middle included. The split `validation` is what training never saw.",
        "",
        "Every document carries its own licence in the column `license`: "
        + ", ".join(licences) + ".",
        "",
        "| domain | documents | MB |",
        "|---|--:|--:|",
        *(f"| {name} | {n:,} | {b / 1e6:.1f} |" for name, (n, b) in sorted(domains.items())),
        "",
        "## Training mixture",
        "",
        "| phase | domain | share | tokens |",
        "|---|---|--:|--:|",
        *mixture,
        "",
        "## What was left out",
        "",
        "| step | reason | documents |",
        "|---|---|--:|",
        *(f"| {step} | {reason} | {n:,} |" for (step, reason), n in dropped.most_common()),
        "",
        "## Recipe",
        "",
        "```yaml",
        settings.strip(),
        "```",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _run(context: Context) -> Result:
    directory = context.directory / "dataset"
    texts = curated_shards(context)
    stems = [path.with_suffix("") for path in context.outputs("encode", ".bin")]
    licences = set()
    for path in texts:
        licences |= set(pq.read_table(path, columns=["license"])["license"].unique().to_pylist())
    known = sorted(licence or "unknown" for licence in licences)
    bar = context.bar("parquet", len(texts) + len(stems))
    text_sizes = [_uncompressed(path) for path in texts]
    token_sizes = [path.with_name(path.name + ".bin").stat().st_size for path in stems]
    files = {
        "text": _write_config(
            _text, texts, text_sizes, directory / "data" / "text", context.recipe, bar
        ),
        "tokenized": _write_config(
            _tokenized, stems, token_sizes, directory / "data" / "tokenized", context.recipe, bar
        ),
    }
    card = directory / "README.md"
    card.write_text(_card(context, files, known), "utf-8")
    checksums = {
        str(path.relative_to(directory)): n for rows in files.values() for path, n in rows.items()
    }
    outputs: dict[Path, int | None] = {card: None}
    for rows in files.values():
        outputs |= rows
    total = sum(path.stat().st_size for path in outputs)
    return Result(
        outputs,
        {"rows": checksums},
        f"{sum(files['text'].values()):,} documents as text and tokens, {total / 1e6:.1f} MB",
    )


def _uncompressed(path: Path) -> int:
    metadata = pq.read_metadata(path)
    return sum(metadata.row_group(g).total_byte_size for g in range(metadata.num_row_groups))


def _config(recipe: Recipe) -> dict:
    # The card shows the whole recipe, so the whole recipe counts, but for where and how fast.
    return json.loads(recipe.model_dump_json(exclude={"out", "workers", "executor"}))


STAGE = Stage("publish", 1, ("curate", "encode", "plan"), _config, _run, reads_metrics=True)
