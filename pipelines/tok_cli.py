"""`gristmill tok …`: the tokenizer's commands. What they do is in `tok_NAME.py`, imported late."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

tok_app = typer.Typer(
    no_args_is_help=True,
    help="Count words, train tokenizers, measure them and look into them.",
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


MemoryOption = Annotated[
    str, typer.Option(help="Memory for counting before it spills to disk, as 500MB or 4GiB.")
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Threads; all cores if not given.")
]
_UNITS = {"": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _warn(message: str) -> None:
    errors.print(
        f"warning: {message}", style="yellow", highlight=False, markup=False, soft_wrap=True
    )


@tok_app.command()
def count(
    text: Annotated[
        list[Path],
        typer.Argument(help="Parquet or .jsonl(.gz, .zst) with `text`, plain files, or folders."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The Parquet file of counts to write.")],
    scheme: Annotated[
        str, typer.Option(help="Pretokenizer: gpt2, cl100k, o200k, deepseek-v3, multilingual, …")
    ] = "multilingual",
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="Columns to count apart by; else `domain` and `language`."),
    ] = None,
    memory: MemoryOption = "4GiB",
    threads: ThreadsOption = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of going on with a killed count.")
    ] = False,
) -> None:
    """Count the words of text, by language and domain, once for many trainings.

    The counts (`word`, `group`, `count`) can be added up, weighted and trained on without the text.
    Kill it and run it again: it goes on after what it had spilled.
    """
    from pipelines.runner import make_progress
    from pipelines.tok_count import count as run

    with make_progress(errors) as progress:
        about = run(
            text, out, scheme=scheme, columns=tuple(group or ()), memory=_bytes(memory),
            threads=threads, restart=restart, progress=progress, warn=_warn,
        )  # fmt: skip
    console.print(
        f"{out}: {about['rows']:,} words by group, of {about['documents']:,} documents, "
        f"{about['bytes'] / 1e6:,.1f} MB in {about['seconds']:.1f} s",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


@tok_app.command()
def weights(
    counts: Annotated[
        list[Path], typer.Argument(help="Counts that `gristmill tok count` wrote, by group.")
    ],
    like: Annotated[
        list[Path],
        typer.Option("--like", help="Text with `language`, such as the tokenizer is meant for."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The JSON of group and factor to write.")],
    protect_out: Annotated[
        Path | None,
        typer.Option(help="Write the characters frequent in --like, for `train --protect`."),
    ] = None,
    sequences: Annotated[
        list[str] | None,
        typer.Option(help="LANGUAGE=N: protect N frequent sequences of its text in --like, too."),
    ] = None,
    boost: Annotated[
        list[str] | None, typer.Option(help="LANGUAGE=FACTOR for what a language of --like gets.")
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(help="GROUP=SHARE of all weighted text, where --like has nothing (code)."),
    ] = None,
    lines: Annotated[
        str | None,
        typer.Option("--lines", help="FIRST-LAST: only documents whose `line` is one of these."),
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Of the tokenizer to be trained.")] = 128_000,
    threads: ThreadsOption = None,
) -> None:
    """Find weights for the groups of counts that suit a kind of text, in all its languages.

    Each language of --like is written as a mixture of groups, whatever their names, and gets what a
    token less in it is worth to the mean over languages of bytes per token. Count apart what can
    be weighted apart (`gristmill tok count --group language --group source`). Then train with
    --weights and --protect. Text used here is no test of the tokenizer any more: keep some back.
    """
    from pipelines.runner import make_progress
    from pipelines.tok_weights import weights as run

    with make_progress(errors) as progress:
        about = run(
            counts, like, out, protect_out=protect_out, lines=_range(lines) if lines else None,
            vocab_size=vocab_size, boost=_factors(boost or [], None, "--boost", "LANGUAGE=FACTOR"),
            shares=_factors(share or [], None, "--share", "GROUP=SHARE"),
            sequences=_factors(sequences or [], None, "--sequences", "LANGUAGE=N"),
            threads=threads, progress=progress,
        )  # fmt: skip
    console.print(
        f"{out}: weights for {about['used']:,} of {about['groups']:,} groups, by text in "
        f"{about['languages']:,} languages; {about['protected']:,} tokens to protect",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


@tok_app.command()
def train(
    inputs: Annotated[
        list[Path], typer.Argument(help="Counts that `gristmill tok count` wrote, or text.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write the tokenizer into.")],
    vocab_size: Annotated[
        int, typer.Option(help="Begin, end, padding, 256 bytes and merges; with --extend all ids.")
    ] = 128_000,
    scheme: Annotated[str | None, typer.Option(help="Pretokenizer, where text is given.")] = None,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", help="GROUP=FACTOR for a group's counts.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="The same as JSON: {group: factor}.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Above 1: move the groups' shares towards equal ones.")
    ] = 1.0,
    min_count: Annotated[int, typer.Option(min=1, help="Make no merge that occurs less.")] = 2,
    max_token_bytes: Annotated[int, typer.Option(min=1, help="The longest token.")] = 128,
    protect: Annotated[
        Path | None,
        typer.Option(help=r"A token a line (\n, \t, \xNN) that must be in the vocabulary."),
    ] = None,
    forbid: Annotated[
        Path | None, typer.Option(help="A token a line that must not be in the vocabulary.")
    ] = None,
    reserved: Annotated[int, typer.Option(min=0, help="Special tokens for later use.")] = 0,
    bos: Annotated[bool, typer.Option("--bos", help="Put the begin token before a text.")] = False,
    extend: Annotated[
        Path | None, typer.Option(help="Go on with the merges of this tokenizer; its ids stay.")
    ] = None,
    superword_after: Annotated[
        int | None,
        typer.Option(min=257, help="From so many tokens on, merge across spaces (SuperBPE)."),
    ] = None,
    superword_counts: Annotated[
        Path | None, typer.Option(help="Counts by scheme …-superword, where inputs are counts.")
    ] = None,
    parity: Annotated[
        Path | None,
        typer.Option(help="Parallel text with `language`: help the worst compressed language."),
    ] = None,
    parity_merges: Annotated[
        int | None, typer.Option(min=1, help="How many merges, the last, parity makes; else all.")
    ] = None,
    parity_window: Annotated[int, typer.Option(min=0, help="Merges to look back on.")] = 0,
    parity_alpha: Annotated[float, typer.Option(help="Share of the window a language gets.")] = 2.0,
    memory: MemoryOption = "4GiB",
    threads: ThreadsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the tokenizer in --out.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only forecast time, memory and disk, from a sample.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option("--json", help="With --plan: write the forecast as JSON.")
    ] = None,
) -> None:
    """Train a byte-level BPE tokenizer, from counts or from text.

    Writes what Hugging Face reads, every merge with its count (merges.parquet), and what it was
    made of (tokenizer_training.json). The merges are those of `tokenizers`' trainer, whatever the
    number of threads.
    """
    from pipelines.runner import make_progress
    from pipelines.tok_job import Options
    from pipelines.tok_train import train as run

    options = Options(
        vocab_size=vocab_size, scheme=scheme, weights=_factors(weight or [], weights),
        temperature=temperature, min_count=min_count, max_token_bytes=max_token_bytes,
        protect=protect, forbid=forbid, reserved=reserved, bos=bos, extend=extend,
        superword_after=superword_after, superword_counts=superword_counts, parity=parity,
        parity_merges=parity_merges, parity_window=parity_window, parity_alpha=parity_alpha,
    )  # fmt: skip
    if json is not None and not plan:
        raise ValueError("--json: only --plan has something to write there")
    if plan:
        from pipelines.files import check_output, write_json
        from pipelines.tok_plan import plan as forecast
        from pipelines.tok_plan import print_plan

        if json is not None:
            check_output(json, inputs)
        with make_progress(errors) as progress:
            result = forecast(
                inputs, out, options, force=force, memory=_bytes(memory), threads=threads,
                progress=progress, warn=_warn,
            )  # fmt: skip
        if json is not None:
            write_json(json, result)
        print_plan(result, console)
        return
    with make_progress(errors) as progress:
        about = run(
            inputs, out, options, force=force, memory=_bytes(memory), threads=threads,
            progress=progress, warn=_warn,
        )  # fmt: skip
    console.print(
        f"{out}: {about['vocab_size']:,} tokens, scheme {about['scheme']}, "
        f"{about['distinct_words']:,} distinct words, {about['seconds']:.1f} s",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _bytes(size: str) -> int:
    number = size.rstrip("BKMGibkmg")
    unit = size[len(number) :].upper()
    try:
        found = int(float(number) * _UNITS[unit if unit != "B" else ""])
        if found < 0:
            raise ValueError
        return found
    except (ValueError, KeyError, OverflowError):
        raise ValueError(f"--memory {size}: expected a size, as 500MB or 4GiB") from None


def _factors(
    given: list[str], path: Path | None, option: str = "--weight", form: str = "GROUP=FACTOR"
) -> dict[str, float]:
    from pipelines.files import read_json

    factors: dict[str, float] = {}
    if path is not None:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError(f"{path}: expected a JSON object of group and factor")
        factors |= found
    for item in given:
        group, _, factor = item.rpartition("=")
        factors[group] = factor
    try:
        return {group: float(factor) for group, factor in factors.items()}
    except (TypeError, ValueError):
        raise ValueError(f"{option}: expected {form}, behind the = a number") from None


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
    from pipelines.files import atomic, check_output, write_json
    from pipelines.runner import make_progress
    from pipelines.tok_compare import compare as run
    from pipelines.tok_compare import print_comparison

    for path in (json, html):
        if path is not None:
            check_output(path, text)
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
            temporary.write_text(comparison_page(result), "utf-8", "replace")
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
    from pipelines.files import check_output, write_json
    from pipelines.tok_inspect import inspect as run
    from pipelines.tok_inspect import print_inspection

    for path in (json, table):
        if path is not None:
            check_output(path, [p for p in (file, counts) if p is not None])
    result, tokens = run(tokenizer, text, file, counts, table, everything=everything)
    if json is not None:
        write_json(json, result)
    print_inspection(result, tokens, console, everything)


def _range(lines: str) -> tuple[int, int]:
    first, _, last = lines.partition("-")
    try:
        if not 0 <= int(first) <= int(last) < 1 << 63:
            raise ValueError
        return int(first), int(last)
    except ValueError:
        raise ValueError(f"--lines {lines}: expected FIRST-LAST, as 999-1996") from None
