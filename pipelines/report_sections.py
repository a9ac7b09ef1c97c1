"""The sections of the report: for each station of the line, what its manifest says.

A section is a function of the `Context` and the manifests, and gives HTML fragments, or none where
there is nothing to show. `SECTIONS` names the stages that each one needs.
"""

import html
import json
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import charts
from pipelines.classifiers import at_half
from pipelines.page import table
from pipelines.runner import Context
from pipelines.spikes import spikes_section

Manifests = dict[str, dict]


def projects(context: Context, manifests: Manifests) -> list[str]:
    """What the code projects came to: numbers, files by language and by reason set aside."""
    told = manifests["projects"]["metrics"]["projects"]
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


def classifiers(context: Context, manifests: Manifests) -> list[str]:
    """What each classifier was trained on, and how it did on texts that were held out."""
    rows = []
    for name, report in manifests["classifiers"]["metrics"]["classifiers"].items():
        judged = at_half(report["judged"])
        trained, held = (
            " + ".join(f"{n:,}" for n in report[key].values()) for key in ("trained", "held_out")
        )
        rows.append(
            [name, trained, held, f"{judged['precision']:.3f}", f"{judged['recall']:.3f}",
             f"{judged['passed_negative']:.1%}"]
        )  # fmt: skip
    header = ["model", "trained on", "held out", "precision", "recall", "negatives that pass"]
    return [
        "<h2>Classifiers, at a score of 0.5</h2>",
        "<p>Positive + negative texts. Held-out texts are of the training's own sources, and "
        "flatter a model.</p>",
        table(header, rows),
    ]


def curation(context: Context, manifests: Manifests) -> list[str]:
    """What was read, dropped by whom and why, edited, kept; and what could not be read."""
    metrics = manifests["curate"]["metrics"]
    problems, tally = metrics["problems"], metrics["tally"]
    shown = [
        "<h2>Curation: what was kept, and why the rest was dropped</h2>",
        _steps(metrics),
        charts.dropped(tally),
    ]
    if problems:
        shown += [
            f"<p>{metrics['problem_count']:,} files, lines or rows could not be read:</p>",
            table(
                ["file", "where", "what"],
                [[p["file"], p["where"], p["what"]] for p in problems[:50]],
            ),
        ]
    return [
        *shown,
        "<h2>Domains and languages, before and after</h2>",
        charts.domains(tally),
        charts.languages(tally),
    ]


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


def tokens(context: Context, manifests: Manifests) -> list[str]:
    """Bytes per token by language, over all encoded documents."""
    columns = ["domain", "language", "bytes", "tokens"]
    paths = context.outputs("encode", ".documents.parquet")
    documents = pa.concat_tables(pq.read_table(path, columns=columns) for path in paths)
    # An eos belongs to each document and to none of its bytes.
    documents = documents.set_column(3, "tokens", pc.subtract(documents["tokens"], 1))
    groups = documents.group_by(["domain", "language"], use_threads=False)
    sums = groups.aggregate([("bytes", "sum"), ("tokens", "sum"), ("bytes", "count")]).to_pylist()
    return ["<h2>Tokenizer: bytes per token by language</h2>", charts.bytes_per_token(sums)]


def holes(context: Context, manifests: Manifests) -> list[str]:
    """Where the holes of fill-in-the-middle are and how they are written, as wanted and as made."""
    metrics, wanted_fim = manifests["encode"]["metrics"], context.recipe.encode.fim
    fim = metrics["fim"]
    if not fim["documents"]:
        return []
    rows = []
    for what, made, wanted in (
        ("hole", fim["holes"], wanted_fim.holes),
        ("format", fim["formats"], wanted_fim.formats),
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


def packed(context: Context, manifests: Manifests) -> list[str]:
    """The phases: their mixture as wanted and as planned, and how full the sequences are."""
    plan = manifests["plan"]["metrics"]["plan"]
    return [
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
    ]  # fmt: skip


def training(context: Context, manifests: Manifests) -> list[str]:
    """Losses over the run and on held-out documents, rates, and the experts' load."""
    steps, evaluations = _metrics(context.input("train") / "metrics.jsonl")
    metrics = manifests["train"]["metrics"]
    return [
        "<h2>Training</h2>",
        charts.loss(steps, evaluations),
        "<p>Held-out documents. The unigram entropy is the loss of a model that knows only how "
        "frequent each token is in the same documents; generated problems are left out where the "
        "recipe says so.</p>",
        *_held_out(metrics),
        *spikes_section(context.recipe.directory, steps),
        charts.rates(steps),
        charts.expert_load(steps),
    ]


def extended(context: Context, manifests: Manifests) -> list[str]:
    """The longer contexts, and what the model is on the same held-out documents after each."""
    runs = manifests["extend"]["metrics"]["runs"]
    rows = [
        [f"{run['length']:,}", f"{run['factor']:g}", f"{run['steps']:,}", f"{run['tokens']:,}",
         f"{run['loss']:.3f}"]
        for run in runs
    ]  # fmt: skip
    stages = [manifests["train"]["metrics"], *runs]
    losses = [
        [domain, *(f"{told['validation'][domain]['loss']:.3f}" for told in stages)]
        for domain in stages[0]["validation"]
        if all(domain in told["validation"] for told in stages)
    ]
    return [
        "<h2>Longer contexts</h2>",
        table(["length", "YaRN's factor", "steps", "tokens", "last loss"], rows),
        "<p>Losses on held-out documents, at the length of training: before and after.</p>",
        table(["domain", "train", *(f"{run['length']:,}" for run in runs)], losses),
    ]


def supervised(context: Context, manifests: Manifests) -> list[str]:
    """The conversations, what was left out of them, and the loss on answers held out."""
    metrics = manifests["supervised"]["metrics"]
    told = metrics["conversations"]
    steps, evaluations = _metrics(context.input("supervised") / "metrics.jsonl")
    rows = [
        ["conversations", f"{told['kept']:,}"],
        ["tokens", f"{told['tokens']:,}"],
        ["… of answers, which count for the loss", f"{told['answers']:,}"],
        *([f"left out: {reason}", f"{count:,}"] for reason, count in told["left_out"].items()),
    ]
    return [
        "<h2>Conversations</h2>",
        table(["", ""], rows),
        charts.loss(steps, evaluations),
        *_held_out(metrics),
    ]


def _held_out(metrics: dict) -> list[str]:
    """Losses on held-out documents, by domain and by the language of the documents."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    domains = [
        [domain, f"{v['tokens']:,}", f"{v['loss']:.3f}", number(v["bits_per_byte"], ".3f"),
         f"{v['unigram_entropy']:.3f}", number(v["ratio"], ".1%")]
        for domain, v in metrics["validation"].items()
    ]  # fmt: skip
    languages = [
        [language, f"{v['tokens']:,}", f"{v['loss']:.3f}", number(v["bits_per_byte"], ".3f")]
        for language, v in metrics["languages"].items()
    ]
    columns = ["tokens", "loss (nats)", "bits per byte"]
    return [
        table(["domain", *columns, "unigram entropy", "ratio"], domains),
        table(["language", *columns], languages),
    ]


def _metrics(path: Path) -> tuple[list[dict], list[dict]]:
    """The lines of metrics.jsonl: training steps, and evaluations."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [x for x in lines if "loss" in x], [x for x in lines if "eval" in x]


def samples(context: Context, manifests: Manifests) -> list[str]:
    """What the model makes of some prompts."""
    return ["<h2>What the model writes</h2>"] + [
        f"<pre><b>{html.escape(sample['prompt'])}</b>{html.escape(sample['text'])}</pre>"
        f'<p class="dim">greedy, with speculation: {sample["acceptance"]:.0%} of the drafted '
        "tokens accepted</p>"
        for sample in manifests["export"]["metrics"]["samples"]
    ]


def kernels(context: Context, manifests: Manifests) -> list[str]:
    """The roofline and the compiled resources of the FP8 kernels, folded; none without Triton."""
    if find_spec("triton") is None:
        return []
    from pipelines.kernels_cli import roofline_section

    used = context.recipe.train.precision == "fp8"
    return [
        "<h2>GPU kernels</h2>",
        f"<p>This run's products were in {'FP8' if used else 'float32'}. What the FP8 kernels "
        "could reach on Hopper GPUs, from published rates and from their machine code; nothing of "
        "it was measured, and nothing depends on this run.</p>",
        f"<details><summary>Floors and resources</summary>{roofline_section()}</details>",
    ]


SECTIONS: tuple[tuple[tuple[str, ...], Callable[[Context, Manifests], list[str]]], ...] = (
    (("projects",), projects),
    (("classifiers",), classifiers),
    (("curate",), curation),
    (("encode",), tokens),
    (("encode",), holes),
    (("plan",), packed),
    (("train",), training),
    (("train", "extend"), extended),
    (("supervised",), supervised),
    (("train",), kernels),
    (("export",), samples),
)
