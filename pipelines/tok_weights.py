"""`gristmill tok weights`: weights for counted groups, from text that the tokenizer is meant for.

What it writes is what `gristmill tok train` takes: JSON of group and factor (`--weights`), and a
file of tokens (`--protect`). `tok/balance.py` says how the weights are found.
"""

from pathlib import Path

import pyarrow as pa
from rich.progress import Progress

from pipelines.files import atomic, check_output, write_json
from pipelines.runner import Bar
from pipelines.texts import read_texts
from tok import (
    SCHEMES,
    about_counts,
    balance,
    frequent_characters,
    frequent_sequences,
    protect,
    read_counts,
)

_ROUNDS = 2
_ESCAPES = {b"\\": rb"\\", b"\n": rb"\n", b"\r": rb"\r", b"\t": rb"\t"}


def weights(
    counts: list[Path],
    like: list[Path],
    out: Path,
    *,
    protect_out: Path | None = None,
    lines: tuple[int, int] | None = None,
    vocab_size: int = 128_000,
    boost: dict[str, float],
    shares: dict[str, float],
    sequences: dict[str, float],
    threads: int | None = None,
    progress: Progress,
) -> dict:
    """Write the weights, and the tokens to protect where asked; returns what was found, to print.

    counts: files of counts. like: text with `language`. boost, shares: as in `tok.balance`.
    sequences: language → how many frequent sequences of its text to protect, besides all frequent
    characters. Raises ValueError for whatever a user can mend.
    """
    check_output(out, [*counts, *like])
    if protect_out is not None:
        check_output(protect_out, [*counts, *like])
        if protect_out.absolute() == out.absolute():
            raise ValueError(f"{protect_out}: --out and --protect-out need two files")
    for option, factors in (("--boost", boost), ("--sequences", sequences)):
        for name, factor in factors.items():
            if not 0 <= factor <= 1e6 or (option == "--sequences" and factor != int(factor)):
                whole = "a whole number" if option == "--sequences" else "a number"
                raise ValueError(f"{option} {name}={factor}: expected {whole} from 0 to 1,000,000")
    schemes = {about_counts(path).get("scheme"): path for path in counts}
    if len(schemes) > 1 or not set(schemes) <= set(SCHEMES):
        found = ", ".join(f"{path}: {scheme}" for scheme, path in schemes.items())
        raise ValueError(
            f"expected counts by one scheme, as `gristmill tok count` writes ({found})"
        )
    scheme = next(iter(schemes))
    texts: dict[str, list[str]] = {}
    for batch in read_texts(like, ("language",), lines=lines):
        for language, text in zip(batch["language"], batch["text"], strict=True):
            texts.setdefault(language.as_py() or "", []).append(text.as_py())
    dev = {language: pa.array(some, pa.large_string()) for language, some in sorted(texts.items())}
    for language in sequences:
        if language not in dev:
            raise ValueError(f"--sequences {language}: no such language in {like[0]}")
    if sequences and protect_out is None:
        raise ValueError("--sequences: is for the tokens to protect; give --protect-out, too")
    bar = Bar(progress, progress.add_task("trainings", total=_ROUNDS, note=""))
    found = balance(
        read_counts(counts), dev, vocab_size, scheme, boost=boost, shares=shares,
        rounds=_ROUNDS, threads=threads, progress=bar.at,
    )  # fmt: skip
    bar.at(_ROUNDS)
    tokens = frequent_characters(dev) if protect_out is not None else []
    for language, most in sequences.items():
        tokens += frequent_sequences(dev[language], int(most), scheme, protect(tokens))
    write_json(out, found)
    if protect_out is not None:
        with atomic(protect_out) as path:
            path.write_bytes(b"".join(_escaped(token) + b"\n" for token in tokens))
    used = sum(weight > 0 for weight in found.values())
    return {"languages": len(dev), "groups": len(found), "used": used, "protected": len(tokens)}


def _escaped(token: bytes) -> bytes:
    return b"".join(_ESCAPES.get(bytes([byte]), bytes([byte])) for byte in token)
