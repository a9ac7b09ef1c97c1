"""Publish texts, tokens and training sequences as a Hugging Face dataset directory.

    dataset/README.md         the card
    dataset/croissant.json    the same for machines
    dataset/data/CONFIG/…     Parquet; what is in them is in `pipelines/publish/configs.py`
    dataset/manifest.json     rows and checksums of all of it

`datasets.load_dataset(DIRECTORY, "text")` reads it, and `gristmill verify DIRECTORY` checks it.
"""

import json
from collections import Counter
from pathlib import Path

from curation.languages import bcp47
from pipelines.files import read_json, write_json
from pipelines.publish import configs, packed
from pipelines.publish.card import card
from pipelines.publish.croissant import croissant
from pipelines.publish.manifest import entry, write_manifest
from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage
from pipelines.stages.curate import curated_shards

MOST_FILES = 10_000  # of a folder on the Hub


def _jobs(context: Context, plan: dict) -> list[dict]:
    """The files of the split `train`; see `configs`."""
    size = context.recipe.publish.shard_bytes
    fraction = context.recipe.plan.validation.fraction
    texts = configs.text_pieces(curated_shards(context))
    stems = [path.with_suffix("") for path in context.outputs("encode", ".bin")]
    ids = context.directory / configs.IDS
    ids.parent.mkdir(exist_ok=True)
    packed.write_ids(stems, ids)
    packed_rows = packed.PackedRows(context.input("plan"), context.input("encode"), ids)
    return [
        *configs.file_jobs("text", texts, size, fraction),
        *configs.file_jobs("tokenized", configs.tokenized_pieces(stems), size, fraction),
        *configs.packed_jobs(packed_rows, plan, size),
    ]


def _rows(files: list[dict], plan: dict) -> dict[str, dict[str, int]]:
    """Rows by configuration and split."""
    by_path = {file["path"]: file["rows"] for file in files}
    return {
        config: {
            split: sum(
                rows for path, rows in by_path.items() if any(Path(path).match(g) for g in globs)
            )
            for split, globs in splits.items()
        }
        for config, splits in configs.views(by_path, plan).items()
    }


def licences_of(records: list[dict]) -> dict[str, tuple[int, int]]:
    """Documents and bytes by licence, from the records of the files that were written."""
    documents, size = Counter(), Counter()
    for record in records:
        documents.update(record["licences"]["documents"])
        size.update(record["licences"]["bytes"])
    return {licence: (documents[licence], size[licence]) for licence in sorted(documents)}


def describe(
    root: Path,
    recipe: Recipe,
    plan: dict,
    tally: list[dict],
    files: list[dict],
    licences: dict[str, tuple[int, int]],
    pad: str,
) -> tuple[dict, dict[str, dict[str, int]]]:
    """Write what stands beside the data of a dataset: card, Croissant, manifest.

    files: the data's entries of the manifest. tally: curation's. licences: documents and bytes.
    Returns rows (None where there are none) by path, and by configuration and split.
    """
    name = recipe.publish.name
    splits, views = _rows(files, plan), configs.views([file["path"] for file in files], plan)
    text = card(name, _shown(recipe), tally, plan, licences, splits, views, pad)
    (root / "README.md").write_text(text, "utf-8")
    languages = {row["language"] for row in tally if not row["step"] and "_" in row["language"]}
    schemas = {view: configs.SCHEMAS[view.partition("-")[0]] for view in views}
    tags = sorted(map(bcp47, languages))
    described = croissant(name, files, views, schemas, set(licences), tags)
    write_json(root / "croissant.json", described)
    files = files + [entry(root, root / name, None) for name in ("README.md", "croissant.json")]
    manifest = write_manifest(root, "parquet", name, files, splits)
    return {root / file["path"]: file["rows"] for file in files} | {manifest: None}, splits


def _run(context: Context) -> Result:
    recipe, root = context.recipe, context.directory / "dataset"
    plan = read_json(context.input("plan") / "plan.json")
    jobs = context.splits(lambda: _jobs(context, plan))
    records = context.map(
        "write", "publish.write", jobs, str(context.directory), str(context.input("plan")),
        str(context.input("encode")), recipe.seed, recipe.plan.validation.fraction,
    )  # fmt: skip
    joins = configs.validation_jobs(jobs, records, recipe.publish.shard_bytes)
    joined = context.map("validation", "publish.validation", joins, str(context.directory))
    files = [record["entry"] for record in [*records, *joined]]
    _warn_of_many(context, files)
    tally = context.manifest("curate")["metrics"]["tally"]
    pad = read_json(context.input("tokenizer") / "tokenizer_config.json")["pad_token"]
    outputs, splits = describe(root, recipe, plan, tally, files, licences_of(records), pad)
    total = sum(path.stat().st_size for path in outputs)
    return Result(
        outputs,
        {"splits": splits},
        f"{sum(splits['text'].values()):,} documents as text and tokens, "
        f"{splits['packed']['train']:,} sequences, {total / 1e6:.1f} MB",
    )


def _warn_of_many(context: Context, files: list[dict]) -> None:
    """Say when a folder has more files than the Hub takes."""
    folders = Counter(file["path"].rpartition("/")[0] for file in files)
    for folder, count in folders.items():
        if count > MOST_FILES:
            context.warn(
                f"{folder}: {count:,} files, the Hub takes {MOST_FILES:,} in a folder; raise "
                f"publish.shard_bytes at least {-(-count // MOST_FILES)} times"
            )


def _shown(recipe: Recipe) -> dict:
    """The recipe as the card shows it: without where and how fast."""
    hidden = {"out", "workers", "tasks", "executor", "slurm"}
    return json.loads(recipe.model_dump_json(exclude=hidden))


# The card shows the recipe, so all of that counts.
STAGE = Stage(
    "publish", 2, ("curate", "tokenizer", "encode", "plan"), _shown, _run, reads_metrics=True
)
