"""`gristmill tok compare`: run the measures of `tok.evaluate` and show them.

`compare` gives what goes into the JSON file; `print_comparison` prints it, `tok_page` draws it.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipelines.runner import Bar
from pipelines.texts import check_groups, kind_of, present_columns, read_texts
from tok import Encoder
from tok.evaluate import ALPHA, count_tokens, measure, premium_by, survey

# Key, heading, format, and whether more is better (None: neither).
MEASURES = (
    ("bytes_per_token", "bytes/token", ".3f", True),
    ("characters_per_token", "chars/token", ".3f", True),
    ("tokens_per_document", "tokens/doc", ",.1f", False),
    ("fertility", "tokens/word", ".3f", False),
    ("premium", "premium", ".2f", False),
    ("renyi_efficiency", "Rényi", ".3f", True),
    ("vocabulary_share", "vocab used", ".1%", None),
)
SUMMARY = (
    ("vocab_size", "vocabulary", ",", None),
    ("tokens", "tokens", ",", False),
    ("bytes_per_token", "bytes per token, all text", ".3f", True),
    ("characters_per_token", "characters per token", ".3f", True),
    ("fertility", "tokens per word", ".3f", False),
    ("macro_bytes_per_token", "bytes per token, mean of languages", ".3f", True),
    ("reference_bytes_per_token", "bytes per token, {reference}", ".3f", True),
    ("premium_mean", "premium, mean", ".2f", False),
    ("premium_p90", "premium, 90th percentile", ".2f", False),
    ("premium_worst", "premium, worst", ".2f", False),
    ("premium_worst_language", "  worst language", "", None),
    ("gini", "Gini of token counts", ".3f", False),
    ("renyi_efficiency", f"Rényi efficiency (α = {ALPHA})", ".3f", True),
    ("vocabulary_share", "share of the vocabulary used", ".1%", None),
)
PREMIUM = {
    "lines": "tokens over {reference} tokens for the same lines",
    "documents": "tokens per document over those of {reference} (the text is not parallel)",
}
MOST_IDS = 1 << 24
_ROWS = 15


def compare(
    tokenizers: list[str],
    texts: list[Path],
    *,
    groups: tuple[str, ...] = (),
    reference: str | None = None,
    lines: tuple[int, int] | None = None,
    limit: int | None = None,
    progress: Progress,
    warn: Callable[[str], None] = lambda message: None,
) -> dict:
    """Measure tokenizers on texts; JSON-able.

    tokenizers: paths, or name=path. groups: columns to tell kinds of text apart by, besides
    language and domain. Returns {"text": what was measured on, "tokenizers": {name: {"path",
    "vocab_size", "all": measures, "by": {column: {value: measures}}}}}. Raises ValueError for
    whatever a user can mend.
    """
    encoders = {name: (path, load_encoder(path)) for name, path in named(tokenizers).items()}
    check_groups(texts, groups)
    columns = present_columns(texts, tuple(dict.fromkeys(("language", "domain", *groups))))
    skipped: list[Path] = []

    def batches():
        skipped.clear()
        return read_texts(texts, columns, lines=lines, limit=limit, skipped=skipped.append)

    bar = Bar(progress, progress.add_task("read", total=None, note=""))
    read = 0

    def tell(size: int) -> None:
        nonlocal read
        read += size
        bar.at(read, note=f"{read / 1e6:,.0f} MB")

    try:
        found = survey(batches(), tell)
    except ValueError as error:
        if "the text is empty" not in str(error):
            raise
        what = ", ".join(map(str, texts))
        raise ValueError(f"{what}: {error}; check --text, --lines and --limit") from None
    bar.at(read, read)
    if skipped:
        warn(f"{len(skipped)} files that are no UTF-8 were left out, the first {skipped[0]}")
    for name in [name for name in columns if set(found.kinds[name]) == {"unknown"}]:
        if name in groups:
            raise ValueError(f"--group {name}: no document has a value for it")
        del found.kinds[name], found.sums[name]

    result: dict = {}
    for name, (path, encoder) in encoders.items():
        bar = Bar(progress, progress.add_task(name[:28], total=read, note=""))
        done = 0

        def tell(size: int, bar: Bar = bar) -> None:
            nonlocal done
            done += size
            bar.at(done)

        try:
            counts = count_tokens(encoder, batches(), found, tell)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        measured = measure(found, counts, reference)
        del counts
        result[name] = {
            "path": str(path),
            "vocab_size": encoder.vocab_size,
            "all": measured.pop("all"),
            "by": measured,
        }
    first = next(iter(result.values()))["all"]
    if premium_by(found) and first["reference"] is None:
        warn("no English in the text, so no premiums; --reference LANGUAGE compares with another")
    about = {
        "paths": [str(path) for path in texts],
        "lines": list(lines) if lines else None,
        "limit": limit,
        **{key: first[key] for key in ("documents", "bytes", "characters", "words", "languages")},
        **{key: first[key] for key in ("reference", "premium_by")},
    }
    return {"text": about, "tokenizers": result}


def load_encoder(path: Path | str) -> Encoder:
    """Read a tokenizer whose ids can be counted in tables; raises ValueError naming the file."""
    if kind_of(Path(path)) != "text":
        raise ValueError(f"{path}: is text, no tokenizer; give --text before each file of text")
    encoder = Encoder.load(path)
    if not 0 < encoder.vocab_size <= MOST_IDS:
        raise ValueError(
            f"{path}: has ids up to {encoder.vocab_size - 1:,}; expected some, and none above "
            f"{MOST_IDS:,}"
        )
    return encoder


def named(arguments: list[str]) -> dict[str, Path]:
    """Name → path of tokenizers given as a path or name=path, in order; the names differ."""
    result: dict[str, Path] = {}
    for argument in arguments:
        name, given, rest = argument.partition("=")
        if given and not (name and rest) and not Path(argument).exists():
            raise ValueError(f"{argument}: expected name=path, or a path")
        path = Path(rest if given and not Path(argument).exists() else argument)
        if not (given and not Path(argument).exists()):
            whole = path.resolve()
            name = whole.parent.name if whole.name == "tokenizer.json" else whole.stem
            name, base, number = name or "tokenizer", name or "tokenizer", 2
            while name in result:
                name, number = f"{base}-{number}", number + 1
        if not name or name in result:
            raise ValueError(f"{argument}: two tokenizers need two names; give them as name=path")
        result[name] = path
    return result


def formatted(value, form: str) -> str:
    """A measure as text; "-" where it is undefined."""
    return "-" if value is None else format(value, form)


def ordered(result: dict, column: str) -> list[str]:
    """The values of a column: languages by falling premium (else rising bytes per token), of the
    mean over tokenizers; other kinds by falling bytes."""
    by = [tokenizer["by"][column] for tokenizer in result["tokenizers"].values()]

    def mean(value: str, key: str) -> float:
        known = [kinds[value][key] for kinds in by if kinds[value].get(key) is not None]
        return fmean(known) if known else 0.0

    if column != "language":
        return sorted(by[0], key=lambda value: -by[0][value]["bytes"])
    if result["text"]["premium_by"]:
        return sorted(by[0], key=lambda value: (-mean(value, "premium"), value))
    return sorted(by[0], key=lambda value: (mean(value, "bytes_per_token"), value))


def describe_text(text: dict) -> list[str]:
    """Sentences on what was measured, and how."""
    said = [
        f"{text['documents']:,} documents, {text['bytes'] / 1e6:,.1f} MB, {text['languages']} "
        "languages. Text only: no special tokens are added."
    ]
    if text["premium_by"]:
        said.append("Premium: " + PREMIUM[text["premium_by"]].format(**text) + ".")
    said.append(
        "Words are runs of letters, marks and digits; * marks text in scripts without spaces, "
        "where each letter counts as a word."
    )
    return said


def print_comparison(result: dict, console: Console, everything: bool = False) -> None:
    """Print the summary, and a table by each column; without `everything` the first rows of it."""
    tokenizers = result["tokenizers"]
    for sentence in describe_text(result["text"]):
        console.print(sentence, style="dim", highlight=False, markup=False)
    summary = Table(title="tokenizers", title_justify="left")
    summary.add_column("measure")
    for name in tokenizers:
        summary.add_column(_escape(name), justify="right")
    for key, heading, form, more in SUMMARY:
        values = [(t["all"] | t)[key] for t in tokenizers.values()]
        if any(value is not None for value in values):
            heading = heading.format(reference=result["text"]["reference"])
            summary.add_row(_escape(heading), *_cells(values, form, more))
    console.print(summary)
    for column in next(iter(tokenizers.values()))["by"]:
        _print_column(result, column, console, everything)


def _print_column(result: dict, column: str, console: Console, everything: bool) -> None:
    values = ordered(result, column)
    shown = values if everything else values[:_ROWS]
    reference = result["text"]["reference"]
    if column == "language" and reference and reference not in shown:
        shown = [*shown, reference]
    measures = [
        m for m in MEASURES if m[0] != "premium" or (column == "language" and reference)
    ]  # fmt: skip
    table = Table(title=f"by {column}", title_justify="left")
    table.add_column(column)
    table.add_column("tokenizer")
    for _, heading, _, _ in measures:
        table.add_column(heading, justify="right")
    for value in shown:
        by = [t["by"][column][value] for t in result["tokenizers"].values()]
        cells = [_cells([m.get(key) for m in by], form, more) for key, _, form, more in measures]
        for i, name in enumerate(result["tokenizers"]):
            row = [column_cells[i] for column_cells in cells]
            if by[i]["words_are_letters"]:
                at = [key for key, *_ in measures].index("fertility")
                row[at] += "*"
            table.add_row(_escape(value) if i == 0 else "", _escape(name), *row)
        if len(by) > 1:
            table.add_section()
    console.print(table)
    if left := len(values) - len(shown):
        first = "the costliest first; " if column == "language" else ""
        console.print(f"({first}{left} more: --all)", style="dim", highlight=False)


def _cells(values: list, form: str, more: bool | None) -> list[str]:
    """Formatted values, the best of several in bold."""
    known = [value for value in values if value is not None]
    best = None
    if more is not None and len(known) > 1 and len(set(known)) > 1:
        best = max(known) if more else min(known)
    return [
        f"[bold]{formatted(value, form)}[/]"
        if best is not None and value == best
        else _escape(formatted(value, form))
        for value in values
    ]


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "�" for c in text))
