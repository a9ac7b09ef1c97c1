"""The report: one HTML file that shows what happened, station by station."""

import html
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import charts
from pipelines.files import atomic
from pipelines.page import page, table
from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage
from pipelines.spikes import spikes_section


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


def _projects(told: dict) -> list[str]:
    """What the code projects came to: numbers, files by language and by reason set aside."""
    share = f" ({told['edges_in_order'] / told['edges']:.1%})" if told["edges"] else ""
    allowed = f"{told['not_allowed']:,} left out for their licence"

    def most(counts: dict, n: int = 12) -> str:
        shown = [f"{name} {count:,}" for name, count in list(counts.items())[:n]]
        return ", ".join(shown) + (f" and {len(counts) - n:,} more" if len(counts) > n else "")

    rows = [
        ["projects", f"{told['projects']:,}, {allowed}"],
        ["files that count", f"{told['files']:,}, {told['bytes'] / 1e6:,.1f} MB"],
        ["files set aside", f"{sum(told['aside'].values()):,}"],
        ["imports", f"{told['imports']:,}"],
        ["edges: a file needs another", f"{told['edges']:,}"],
        ["… that stands before it", f"{told['edges_in_order']:,}{share}"],
        ["documents", f"{told['documents']:,}"],
        ["licences, by projects", most(told["licences"])],
    ]
    heading = "<h2>Projects: files behind those that they need</h2>"
    return [heading, table(["", ""], rows), charts.project_files(told)]


def _steps(metrics: dict) -> str:
    """Documents and bytes that each step of curation was given and left, in order."""
    rows = []
    for flow in metrics["steps"]:
        dropped: Counter = Counter()
        for row in metrics["tally"]:
            if row["step"] == flow["step"]:
                dropped.update(documents=row["documents"], bytes=row["bytes"])
        share = f"{dropped['documents'] / max(flow['documents_in'], 1):.1%}"
        left = flow["documents_out"] - dropped["documents"]
        size = flow["bytes_out"] - dropped["bytes"]
        rows.append(
            [flow["step"], f"{flow['documents_in']:,}", f"{left:,}",
             f"{dropped['documents']:,} ({share})", f"{flow['documents_edited']:,}",
             f"{flow['bytes_in'] / 1e6:,.2f}", f"{size / 1e6:,.2f}"]
        )  # fmt: skip
    return table(["step", "documents in", "out", "dropped", "edited", "MB of text in", "out"], rows)


def _fim(metrics: dict, recipe: Recipe) -> list[str]:
    """Where the holes of fill-in-the-middle are and how they are written, as wanted and as made."""
    fim = metrics["fim"]
    if not fim["documents"]:
        return []
    rows = []
    for what, made, wanted in (
        ("hole", fim["holes"], recipe.encode.fim.holes),
        ("format", fim["formats"], recipe.encode.fim.formats),
    ):
        for name in dict.fromkeys([*wanted, *made]):
            count = made.get(name, 0)
            share = wanted.get(name, 0) / sum(wanted.values())
            rows.append(
                [f"{what}: {name}", f"{count:,}", f"{count / fim['documents']:.1%}", f"{share:.1%}"]
            )
    changed = fim["changed"] / max(fim["tokens"], 1)
    return [
        "<h2>Fill-in-the-middle</h2>",
        f"<p>{fim['documents']:,} of {metrics['documents']:,} documents have a hole; the parts "
        f"that were cut there are {fim['tokens']:,} of {metrics['tokens']:,} tokens, {changed:.1%} "
        "of which the unbroken text does not have. What a document cannot have, such as a syntax "
        "tree, is replaced by the kind of hole above it.</p>",
        table(["", "documents", "share", "wanted"], rows),
    ]


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
    ]
    if "projects" in manifests:
        sections += _projects(manifests["projects"]["metrics"]["projects"])
    sections += [
        "<h2>Curation: what was kept, and why the rest was dropped</h2>",
        _steps(manifests["curate"]["metrics"]),
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
        *_fim(manifests["encode"]["metrics"], recipe),
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
        *spikes_section(recipe.directory, steps),
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


def stage(recipe: Recipe) -> Stage:
    """The stage; it shows `sample` and `projects` too where the recipe has them."""
    first = [name for name in ("sample", "projects") if getattr(recipe, name) is not None]
    line = ("curate", "tokenizer", "encode", "plan", "train", "export", "publish")
    return Stage(
        "report", 3, (*first, *line), lambda recipe: {"name": recipe.name}, _run, reads_metrics=True
    )
