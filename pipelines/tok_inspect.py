"""`gristmill tok inspect`: the tokens of a text in the terminal, or what a vocabulary is made of.

The measures are in `tok.vocabulary`; here they are printed. Whatever comes from a text or a
vocabulary is made visible first (controls escaped), so that no file can steer the terminal.
"""

import unicodedata
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.files import atomic
from pipelines.tok_compare import load_encoder
from tok.counts import read_batches
from tok.vocabulary import (
    count_in_words,
    describe,
    read_vocabulary,
    spelled,
    summarise,
)

_BACKGROUNDS = ("on #cfe3f5", "on #f9dcc0", "on #d2ecd6", "on #f3d1dc")
_MARKS = "bold #8a97a5"
_ROWS = 15
_TOKENS = 1000
REASONS = {
    "merges": "the merges turn its bytes into other tokens",
    "pretokenizer": "the pretokenizer cuts it in every context tried",
    "utf8": "no UTF-8 has its bytes",
}
DIFFERENCES = {"case": "case", "space": "a leading space", "both": "case and a leading space"}


def inspect(
    tokenizer: str,
    text: str | None,
    file: Path | None,
    counts: Path | None,
    table: Path | None,
    *,
    everything: bool = False,
) -> tuple[dict, list[tuple[int, bytes]]]:
    """Find the tokens of a text, or a vocabulary's summary; both, if there are a text and counts.

    counts: Parquet with `word` and `count`. table: where a row for every token goes, see
    `tok.vocabulary.TOKENS_SCHEMA`. Returns what goes into the JSON file, and the text's tokens (id,
    bytes). Raises ValueError for whatever a user can mend.
    """
    tokens: list[tuple[int, bytes]] = []
    text = _text(text, file)
    encoder = load_encoder(tokenizer)
    result: dict = {"tokenizer": str(tokenizer), "vocab_size": encoder.vocab_size}
    if text is not None:
        try:
            ids, _ = encoder.encode_batch([text])
        except ValueError as error:
            raise ValueError(f"{tokenizer}: {error}") from None
        tokens = [(int(i), encoder.token_bytes(int(i))) for i in ids]
        result["text"] = {
            "bytes": len(text.encode()),
            "tokens": [{"id": i, "token": spelled(b), "hex": b.hex()} for i, b in tokens],
        }
    if text is None or counts is not None or table is not None:
        vocabulary = read_vocabulary(Path(tokenizer))
        counted = None
        if counts is not None:
            counted = count_in_words(encoder, read_batches(counts, ("word", "count")))
        described = describe(encoder, vocabulary, counted)
        if table is not None:
            with atomic(table) as temporary:
                pq.write_table(described, temporary)
        result["vocabulary"] = summarise(described, len(described) if everything else 1000)
    return result, tokens


def print_inspection(
    result: dict, tokens: list[tuple[int, bytes]], console: Console, everything: bool
) -> None:
    """Print what `inspect` found; without `everything` the first rows and tokens of it."""
    if "text" in result:
        print_tokens(tokens, console, everything)
    if "vocabulary" in result:
        print_vocabulary(result["vocabulary"], console, everything)


def print_tokens(tokens: list[tuple[int, bytes]], console: Console, everything: bool) -> None:
    """Print tokens (id, bytes) on alternating backgrounds, each one's id beneath it."""
    shown = tokens if everything else tokens[:_TOKENS]
    above, below, used = Text(), Text(), 0

    def flush() -> None:
        nonlocal above, below, used
        if used:
            console.print(above, soft_wrap=True)
            console.print(below, soft_wrap=True)
        above, below, used = Text(), Text(), 0

    for number, (i, data) in enumerate(shown):
        cell = marked(data)
        wide = max(cell.cell_len, len(str(i))) + 1
        if used + wide > console.width:
            flush()
        cell.stylize(f"black {_BACKGROUNDS[number % len(_BACKGROUNDS)]}")
        above.append_text(cell).append(" " * (wide - cell.cell_len))
        below.append(str(i).ljust(wide), "dim")
        used += wide
        if b"\n" in data:
            flush()
    flush()
    if left := len(tokens) - len(shown):
        console.print(f"({left:,} more tokens: --all)", style="dim", highlight=False)
    size = sum(len(data) for _, data in tokens)
    rate = f", {size / len(tokens):.3f} bytes per token" if tokens else ""
    console.print(f"{len(tokens):,} tokens, {size:,} bytes{rate}", highlight=False)


def marked(data: bytes) -> Text:
    r"""A token as visible text: \xNN for bytes that are no UTF-8, white space as light marks."""
    result = Text()
    for char in data.decode(errors="backslashreplace"):
        mark = {" ": "·", "\n": "⏎", "\t": "→"}.get(char)
        if mark:
            result.append(mark, _MARKS)
        elif unicodedata.category(char)[0] in "CZ":
            result.append(spelled(char.encode(errors="replace")), _MARKS)
        else:
            if not result and unicodedata.combining(char):
                result.append("◌")
            result.append(char)
    return result


def print_vocabulary(summary: dict, console: Console, everything: bool) -> None:
    """Print a summary from `tok.vocabulary.summarise`."""
    rows = summary["tokens"] if everything else _ROWS
    counted = "count" in summary

    def say(number: int, text: str) -> None:
        line = Text.assemble((f"{number:,}", "bold"), " ", text)
        console.print(line, highlight=False, soft_wrap=True)

    def examples(tokens: list[dict], most: int = rows) -> None:
        line = Text("  ")
        for token in tokens[:most]:
            line.append(token["token"]).append(f" {token['id']}  ", "dim")
        if tokens:
            line.append("…" if len(tokens) > most else "")
            console.print(line, highlight=False, soft_wrap=True)

    scripts = Table(title="tokens by script", title_justify="left")
    for column in ("script", "tokens", "share", *(["training count"] if counted else [])):
        scripts.add_column(column, justify="left" if column == "script" else "right")
    for row in summary["scripts"][:rows]:
        cells = [row["script"], f"{row['tokens']:,}", f"{row['share']:.2%}"]
        scripts.add_row(*cells, *([f"{row['count']:,}"] if counted else []))
    if left := len(summary["scripts"]) - rows:
        scripts.caption = f"{left} more scripts: --all" if left > 0 else None
    console.print(scripts)

    lengths = Table(title="tokens by length", title_justify="left")
    for column in ("length", "by characters", "by bytes"):
        lengths.add_column(column, justify="right")
    for heading, *cells in _binned(summary["lengths_in_characters"], summary["lengths_in_bytes"]):
        lengths.add_row(heading, *(f"{cell:,}" for cell in cells))
    console.print(lengths)

    for reason, meaning in REASONS.items():
        found = summary["unreachable"][reason]
        say(found["tokens"], f"tokens that no text becomes: {meaning}")
        examples(found["list"])
    found = summary["invalid_utf8"]
    say(found["tokens"], "tokens are pieces of characters (no valid UTF-8)")
    examples(found["list"])
    for kind, meaning in DIFFERENCES.items():
        found = summary["near_duplicates"][kind]
        say(found["tokens"], f"tokens in {found['groups']:,} groups that differ only by {meaning}")
        for group in found["list"][:3]:
            examples(group, 8)
    say(len(summary["special"]), "special and other added tokens, which no merge makes")
    examples(summary["special"])
    if not counted:
        note = "--counts TABLE adds how often each token occurred in training"
        console.print(note, style="dim", highlight=False)
        return
    never = f"tokens never occurred in training, of {summary['count']:,} tokens counted"
    say(summary["never_counted"], never)
    under = Table(title="the least trained", title_justify="left")
    for column in ("token", "id", "training count", ""):
        under.add_column(column, justify="right" if column in ("id", "training count") else "left")
    for row in summary["under_trained"][: rows if everything else 2 * rows]:
        why = f"unreachable: {row['unreachable']}" if row["unreachable"] else ""
        under.add_row(Text(row["token"]), str(row["id"]), f"{row['count']:,}", why)
    console.print(under)


def _binned(*histograms: dict[int, int]) -> list[tuple]:
    """Rows (heading, number in each histogram) for lengths 1 to 8, then doubling ranges."""
    edges = [*range(1, 10), 17, 33, 65, 129]
    top = max((length for h in histograms for length in h), default=0)
    if top >= edges[-1]:
        edges.append(top + 1)
    rows = []
    for low, high in pairwise(edges):
        numbers = [sum(n for length, n in h.items() if low <= length < high) for h in histograms]
        if any(numbers):
            rows.append((str(low) if high == low + 1 else f"{low} to {high - 1}", *numbers))
    return rows


def _text(text: str | None, file: Path | None) -> str | None:
    if text is None and file is None:
        return None
    if text is not None and file is not None:
        raise ValueError("--text and --file: give one of them")
    if file is not None:
        where = str(file)
        if not file.is_file():
            raise ValueError(f"{file}: no such file; --file wants a text to show the tokens of")
        data = file.read_bytes()
    else:
        where, data = "--text", text.encode(errors="surrogateescape")
    if not data:
        raise ValueError(f"{where}: empty, so there are no tokens to show")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: no UTF-8 at byte {error.start:,}; convert it") from None
