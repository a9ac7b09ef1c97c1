"""`gristmill tok …`: the tokenizer's commands. What they do is in `tok_NAME.py`, imported late."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

tok_app = typer.Typer(
    no_args_is_help=True,
    help="Measure tokenizers and look into them.",
)
console = Console()
errors = Console(stderr=True)

TokenizerArgument = Annotated[
    str, typer.Argument(help="A folder with a tokenizer.json, or any tokenizer.json.")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Write everything that was found as JSON.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Print all rows, not only the first.")]


def _warn(message: str) -> None:
    errors.print(f"warning: {message}", style="yellow", highlight=False, markup=False)


@tok_app.command()
def compare(
    tokenizers: Annotated[
        list[str],
        typer.Argument(help="Folders with a tokenizer.json, or files; name=path gives a name."),
    ],
    text: Annotated[
        list[Path],
        typer.Option(
            "--text",
            help="Parquet or .jsonl(.gz, .zst) with `text` and perhaps `language`, `domain` and "
            "`line`, or plain files; a folder of any of them. May be given several times.",
        ),
    ],
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="A column to tell kinds of text apart by, as well."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="Language that premiums are relative to; else English."),
    ] = None,
    lines: Annotated[
        str | None,
        typer.Option("--lines", help="FIRST-LAST: only documents whose `line` is one of these."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most N documents of each language.")
    ] = None,
    json: JsonOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with pictures; it needs no network.")
    ] = None,
    everything: AllOption = False,
) -> None:
    """Compare tokenizers on text: how short it becomes, and for which languages.

    Bytes per token, tokens per word, each language's premium over English, the Gini coefficient
    over languages, Rényi efficiency and the share of the vocabulary used, by language and domain.
    """
    from pipelines.files import atomic, write_json
    from pipelines.runner import make_progress
    from pipelines.tok_compare import compare as run
    from pipelines.tok_compare import print_comparison

    with make_progress(errors) as progress:
        result = run(
            tokenizers, text, groups=tuple(group or ()), reference=reference,
            lines=_range(lines) if lines else None, limit=limit, progress=progress, warn=_warn,
        )  # fmt: skip
    # The files first: printing ends early where somebody reads only the head of it.
    if json is not None:
        write_json(json, result)
    if html is not None:
        from pipelines.tok_page import comparison_page

        with atomic(html) as temporary:
            temporary.write_text(comparison_page(result), "utf-8")
    print_comparison(result, console, everything)


@tok_app.command()
def inspect(
    tokenizer: TokenizerArgument,
    text: Annotated[
        str | None, typer.Option("--text", help="Show the tokens of this text.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Show the tokens of this file of UTF-8.")
    ] = None,
    counts: Annotated[
        Path | None,
        typer.Option("--counts", help="Table of counted words: how often was each token trained?"),
    ] = None,
    json: JsonOption = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="Write a row for every token as Parquet.")
    ] = None,
    everything: AllOption = False,
) -> None:
    """Show the tokens of a text in colour, or what a vocabulary is made of.

    Without a text: the vocabulary by script and length, tokens that no text becomes, pieces of
    characters, near-duplicates by case and leading space, special tokens, and with --counts how
    often each token occurred in training.
    """
    from pipelines.files import write_json
    from pipelines.tok_inspect import inspect as run
    from pipelines.tok_inspect import print_inspection

    result, tokens = run(tokenizer, text, file, counts, table, everything=everything)
    if json is not None:
        write_json(json, result)
    print_inspection(result, tokens, console, everything)


def _range(lines: str) -> tuple[int, int]:
    first, _, last = lines.partition("-")
    try:
        return int(first), int(last)
    except ValueError:
        raise ValueError(f"--lines {lines}: expected FIRST-LAST, as 999-1996") from None
