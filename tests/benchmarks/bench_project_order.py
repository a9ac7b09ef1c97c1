"""Does it help to train on projects? The same files as shuffled files, and as project documents.

    python tests/benchmarks/bench_project_order.py                # some 20 minutes on two cores
    python tests/benchmarks/bench_project_order.py --quick        # does it all work?

The quickstart's model is trained three times with each of three orders, on the same number of
tokens of the same Python packages: `files` (each file is a document), `random` (a project's files
in random order, as DeepSeek-Coder-V2 has them) and `dependencies` (each behind those it needs). All
else is alike: one tokenizer, a half of the documents with a hole (fill-in-the-middle), sequences of
1,024 tokens packed by best fit. Then each is asked about packages that none has seen:

- the loss on the tokens of names that another file of the project defines, where the text has that
  file before them (project documents in dependency order, cut to windows), and on all tokens;
- exact matches in fill-in-the-middle of single lines that use such a name, greedily, the prefix
  reaching back into the files before.

Differences are to `files` with the same seed: their mean, and their standard deviation over seeds.
There is no target: the numbers are whatever they are, at a size where a model has learned little.
"""

import argparse
import importlib.util
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from curation.project.documents import (
    Project,
    ProjectSettings,
    batches,
    documents,
    heading,
    read_project,
)
from curation.project.files import RawProject, find_projects
from model.generate import generate
from model.presets import preset
from model.trainer import TrainConfig, train
from model.transformer import Transformer
from packing.encode import encode_documents
from packing.fim import Fim
from packing.loader import Loader
from packing.plan import Phase, PlanConfig, Validation, make_plan
from packing.shards import write_shard
from tok import Encoder, count_words, export_tokenizer, train_tokenizer, weigh

TRAINED = ("django", "sympy", "pyarrow", "mpmath", "numpy", "fsspec", "torch")
UNSEEN = ("flask", "rich", "pydantic", "werkzeug", "click", "jinja2", "plotly/io", "datatrove")
ORDERS = ("files", "random", "dependencies")
LENGTH = 1024
VOCABULARY = 4096
FIM = Fim(rate={"code": 0.5}, holes={"lines": 0.5, "project": 0.5}, span_tokens=LENGTH)


@dataclass(frozen=True)
class Question:
    """A hole of one line: the tokens that ask for it, and the tokens of the line."""

    prompt: list[int]
    line: str


def installed(names: tuple[str, ...]) -> list[RawProject]:
    """The installed ones of these packages, Python files only."""
    found = []
    for name in names:
        top, _, inner = name.partition("/")
        spec = importlib.util.find_spec(top)
        if spec is None or not spec.submodule_search_locations:
            continue
        (raw,) = find_projects(Path(next(iter(spec.submodule_search_locations))) / inner)
        files = ((f"{top}/{path}", data, why) for path, data, why in raw.files
                 if path.endswith(".py"))  # fmt: skip
        found.append(RawProject(name, files))
    return found


def rows_of(project: Project, order: str, settings: ProjectSettings) -> Iterator[dict]:
    """The documents of a project in an order of ours."""
    if order != "files":
        yield from documents(project, settings)
        return
    for path, file in project.files.items():
        alone = replace(project, files={path: file}, edges={path: []}, parts=[[path]])
        yield from documents(alone, settings)


def loss_of(model: Transformer, windows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, ...]:
    """Mean loss over the marked tokens, and over all, of windows (tokens, marks)."""
    marked = whole = count = total = 0.0
    for tokens, marks in windows:
        ids = torch.from_numpy(tokens.astype(np.int64))[None]
        labels = torch.full_like(ids, -100)
        labels[0, :-1] = ids[0, 1:]
        with torch.no_grad():
            losses = model.losses(ids, labels, torch.ones_like(ids, dtype=torch.bool))
        each = losses.token_losses.flatten().double().numpy()
        # token_losses come with the labelled places in order, the last place having none.
        each, marks = each[: len(tokens) - 1], marks[1:]
        marked += each[marks].sum()
        count += marks.sum()
        whole += each.sum()
        total += len(each)
    return marked / max(count, 1), whole / max(total, 1), int(count)


def examine(
    projects: list[Project], encoder: Encoder, lines: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[Question]]:
    """Windows with the tokens of foreign names marked, and lines to be filled in."""
    sizes = np.array([len(encoder.token_bytes(i)) if i < encoder.vocab_size - 16 else 0
                      for i in range(encoder.vocab_size)])  # fmt: skip
    windows, questions = [], []
    for project in projects:
        for part in project.parts:
            text, marks, places = "", [], []
            seen: set[str] = set()
            for path in part:
                file = project.files[path]
                start = len(text) + len(heading(path, file.language))
                source = file.data.decode()
                text += heading(path, file.language) + source + "\n"
                near = any(other in seen for other in project.edges[path])
                foreign = {
                    name.rpartition(".")[2]
                    for one in project.facts[path].imports
                    for name in (*one.names, one.name)
                    if near and name not in ("*", "")
                }
                seen.add(path)
                for match in re.finditer(r"[A-Za-z_]\w*", source):
                    if match[0] in foreign:
                        marks.append((start + match.start(), start + match.end()))
                        places.append((start, start + len(source)))
            if not marks or not text.isascii():
                continue
            flat, _ = encoder.encode_batch([text])
            ends = np.cumsum(sizes[flat])
            starts = ends - sizes[flat]
            marked = np.zeros(len(flat), bool)
            for first, last in marks:
                marked |= (starts < last) & (ends > first)
            for at in range(0, len(flat) - 1, LENGTH):
                window = slice(at, at + LENGTH)
                if marked[window].any():
                    windows.append((flat[window], marked[window]))
            for (first, _), (begin, end) in list(zip(marks, places, strict=True))[::7]:
                a, b = text.rfind("\n", 0, first) + 1, text.find("\n", first)
                line = text[a:b]
                if a < begin or b > end or not 8 <= len(line.strip()) <= 100:
                    continue
                a += len(line) - len(line.lstrip())
                if text[a:b].startswith(("from ", "import ")):
                    continue  # (That would be to guess the import, not to use it.)
                before = encoder.encode_batch([text[max(0, a - 8000) : a]])[0].tolist()[-640:]
                after = encoder.encode_batch([text[b : b + 1500]])[0].tolist()[:256]
                s = encoder.special
                prompt = [s["fim_begin"], *before, s["fim_hole"], *after, s["fim_end"]]
                questions.append(Question(prompt, text[a:b]))
    step = max(1, len(questions) // lines)
    return windows, questions[::step][:lines]


def answer(model: Transformer, encoder: Encoder, questions: list[Question]) -> float:
    """The share of lines that greedy generation fills in exactly."""
    end = encoder.special["eos"]
    right = 0
    for question in questions:
        done = generate(model, question.prompt, 40, stop=[end]).tokens
        text = encoder.decode(
            [token for token in done if token < encoder.vocab_size and token != end]
        )
        right += text == question.line
    return right / max(len(questions), 1)


def main() -> None:
    """Train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps on little text")
    parser.add_argument("--tokens", type=int, default=600_000, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lines", type=int, default=200, help="holes to fill")
    options = parser.parse_args()
    budget, seeds, lines = options.tokens, options.seeds, options.lines
    trained, unseen = TRAINED, UNSEEN
    if options.quick:
        budget, seeds, lines, trained, unseen = 16_384, 1, 2, ("mpmath",), ("flask",)
    print(f"{platform.platform()}, Python {platform.python_version()}, torch {torch.__version__}")
    settings = ProjectSettings(max_bytes=16_384, repeat=0.25, holes=True)
    clock = time.perf_counter()
    held_out = [read_project(raw, replace(settings, holes=False)) for raw in installed(unseen)]
    results: dict[str, list[tuple[float, float, float]]] = {order: [] for order in ORDERS}
    with tempfile.TemporaryDirectory() as folder:
        encoder = windows = questions = None
        for order in ORDERS:
            ordered = replace(settings, order="random" if order == "random" else "dependencies")
            projects = [read_project(raw, ordered) for raw in installed(trained)]
            rows = [row for project in projects for row in rows_of(project, order, ordered)]
            if encoder is None:
                texts = pa.array([row["text"] for row in rows], pa.large_string())
                words = weigh(count_words(texts, ["code"] * len(texts), "multilingual"))
                export_tokenizer(
                    train_tokenizer(words, VOCABULARY, "multilingual"), Path(folder), bos=False,
                    model_max_length=2048,
                )  # fmt: skip
                encoder = Encoder.load(Path(folder))
                windows, questions = examine(held_out, encoder, lines)
                if options.quick:
                    windows = windows[:4]
                marks = sum(int(m[1:].sum()) for _, m in windows)
                print(
                    f"{len(rows):,} files to train on, {len(held_out)} projects to ask about: "
                    f"{len(windows):,} windows, {marks:,} tokens of foreign names, "
                    f"{len(questions)} lines"
                )
            stem = Path(folder) / f"{order}-00000"
            tokens, table = encode_documents(batches(rows), encoder, fim=FIM, bos=False, seed=0)
            write_shard(stem, tokens, table)
            for seed in range(seeds):
                place = Path(folder) / f"{order}-{seed}"
                plan = PlanConfig(
                    (Phase(LENGTH, budget, {"code": 1.0}),), seed=seed,
                    validation=Validation(fraction=0.0),
                )  # fmt: skip
                make_plan([stem], place / "plan", plan)
                loader = Loader.open(
                    place / "plan", Path(folder), ["phase-0"], encoder.special["pad"]
                )
                model_config = replace(
                    preset("quickstart"), vocab_size=-(-encoder.vocab_size // 128) * 128
                )
                config = TrainConfig(
                    batch_size=2, micro_batch_size=2, learning_rate=1.5e-3,
                    warmup_steps=min(20, len(loader) // 2), decay=0.8, min_lr_ratio=0.05,
                    embedding_scale=50, head_scale=4, seed=seed,
                )  # fmt: skip
                train(model_config, config, loader, {}, place / "train")
                model = Transformer(model_config, "fp32")
                from safetensors.torch import load_file

                model.load_state_dict(load_file(place / "train" / "final" / "model.safetensors"))
                name_loss, loss, _ = loss_of(model, windows)
                results[order].append((name_loss, loss, answer(model, encoder, questions)))
                print(
                    f"{order} seed {seed}: names {name_loss:.4f}, all {loss:.4f}, lines "
                    f"{results[order][-1][2]:.1%} ({time.perf_counter() - clock:,.0f} s)",
                    flush=True,
                )

    table = Table(title="packages not seen in training", title_justify="left")
    for column in ("order", "loss on foreign names", "loss on all tokens", "lines filled exactly"):
        table.add_column(column, justify="left" if column == "order" else "right")
    for order, found in results.items():
        cells = []
        for k, form in enumerate((".4f", ".4f", ".2%")):
            values = [one[k] for one in found]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):{form}} ± {spread:{form}}")
        table.add_row(order, *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for order in ORDERS[1:]:
        for k, what in enumerate(("loss_on_foreign_names", "loss", "lines_filled")):
            gains = [
                (own[k] - base[k]) * (1 if what == "lines_filled" else -1)
                for own, base in zip(results[order], results["files"], strict=True)
            ]
            spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
            print(f"gain_of_{order}_in_{what} {statistics.mean(gains):.4g} none (± {spread:.2g})")


if __name__ == "__main__":
    main()
