"""The report: one HTML file that shows what happened, station by station."""

import html
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import charts
from pipelines.files import atomic
from pipelines.page import page, table
from pipelines.runner import Context, Result, Stage


def _bytes_per_token(context: Context) -> list[dict]:
    """Documents, bytes and tokens by domain and language, over all encoded documents."""
    columns = ["domain", "language", "bytes", "tokens"]
    paths = context.outputs("encode", ".documents.parquet")
    documents = pa.concat_tables(pq.read_table(path, columns=columns) for path in paths)
    # An eos belongs to each document and to none of its bytes.
    documents = documents.set_column(3, "tokens", pc.subtract(documents["tokens"], 1))
    groups = documents.group_by(["domain", "language"], use_threads=False)
    return groups.aggregate([("bytes", "sum"), ("tokens", "sum"), ("bytes", "count")]).to_pylist()


def _metrics(path: Path) -> tuple[list[dict], list[dict]]:
    """The lines of metrics.jsonl: training steps, and evaluations."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [x for x in lines if "loss" in x], [x for x in lines if "eval" in x]


def _run(context: Context) -> Result:
    recipe = context.recipe
    bar = context.bar("draw", 1)
    manifests = {name: context.manifest(name) for name in context.stage.after}
    tally = manifests["curate"]["metrics"]["tally"]
    plan = manifests["plan"]["metrics"]["plan"]
    validation = manifests["train"]["metrics"]["validation"]
    steps, evaluations = _metrics(context.input("train") / "metrics.jsonl")
    encoded = _bytes_per_token(context)
    problems = manifests["curate"]["metrics"]["problems"]

    sections = [
        "<h2>What was made</h2>",
        table(
            ["stage", "result"],
            [[name, m["summary"]] for name, m in manifests.items()],
        ),
        "<h2>Curation: what was kept, and why the rest was dropped</h2>",
        charts.dropped(tally),
    ]
    if problems:
        sections.append(f"<p>{len(problems):,} files, lines or rows could not be read:</p>")
        sections.append(
            table(
                ["file", "where", "what"],
                [[p["file"], p["where"], p["what"]] for p in problems[:50]],
            )
        )
    sections += [
        "<h2>Domains and languages, before and after</h2>",
        charts.domains(tally),
        charts.languages(tally),
        "<h2>Tokenizer: bytes per token by language</h2>",
        charts.bytes_per_token(encoded),
        "<h2>Mixture and packing</h2>",
        charts.mixture(plan),
        table(
            ["phase", "sequences", "length", "tokens", "fill"],
            [
                [p["name"], f"{p['sequences']:,}", p["length"], f"{p['tokens']:,}",
                 f"{p['fill']:.3%}"]
                for p in plan["phases"]
            ],
        ),
        "<h2>Training</h2>",
        charts.loss(steps, evaluations),
        "<p>Held-out documents. The unigram entropy is the loss of a model that knows only how "
        "frequent each token is in the same documents; generated problems are left out where the "
        "recipe says so.</p>",
        table(
            ["domain", "tokens", "loss (nats)", "unigram entropy", "ratio"],
            [
                [domain, f"{v['tokens']:,}", f"{v['loss']:.3f}", f"{v['unigram_entropy']:.3f}",
                 f"{v['ratio']:.1%}" if v["ratio"] is not None else "-"]
                for domain, v in validation.items()
            ],
        ),
        charts.rates(steps),
        charts.expert_load(steps),
        "<h2>What the model writes</h2>",
    ]  # fmt: skip
    for sample in manifests["export"]["metrics"]["samples"]:
        sections.append(
            f"<pre><b>{html.escape(sample['prompt'])}</b>{html.escape(sample['text'])}</pre>"
            f'<p class="dim">greedy, with speculation: {sample["acceptance"]:.0%} of the drafted '
            "tokens accepted</p>"
        )
    target = context.directory / "report.html"
    with atomic(target) as temporary:
        temporary.write_text(page(recipe.name, sections), "utf-8")
    bar.at(1)
    return Result({target: None}, {}, f"{target}")


STAGE = Stage(
    "report", 1, ("curate", "tokenizer", "encode", "plan", "train", "export", "publish"),
    lambda recipe: {"name": recipe.name}, _run, reads_metrics=True,
)  # fmt: skip
