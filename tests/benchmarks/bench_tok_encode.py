"""The part of `bench_tok.py` on encoding: documents to ids."""

from array import array
from pathlib import Path

import corpora
import tok_encoders
from measures import MAIN, MB, Bench, Measure, ratio

from tok.schemes import SCHEMES

COLD = ("chinese", "japanese", "korean", "thai")
FAST = ("gigatoken", "snaptokens")  # those that ours is held against
OTHER_SCHEMES = ("gpt2", "cl100k", "o200k", "multilingual")


def compare_encoding(
    bench: Bench, scheme: str, folder: Path, corpus: str, limit: int | None
) -> dict[str, Measure]:
    """Encode a corpus with each library; a table and claims."""
    job = {"task": "encode", "scheme": scheme, "tokenizer": str(folder), "limit": limit}
    job |= {"corpus": str(bench.files[corpus]), "start_up": str(bench.files["start_up"])}
    job["regexes"] = list(SCHEMES.get(scheme, ()))
    # The slow ones take minutes a corpus: with one scheme only. `tokenizers` says what is right.
    peers = tok_encoders.PEERS if scheme == "deepseek-v3" else FAST
    libraries = ("ours", *peers, "tokenizers")
    once = set(libraries) - {"ours", *FAST}
    measures = bench.measure({name: job | {"library": name} for name in libraries}, once=once)
    truth = documents_of(bench, "tokenizers", measures)
    rows, failures = [], []
    for name, measure in measures.items():
        if measure.error:
            failures.append(f"{name}: {measure.error}")
            continue
        other = count_other(documents_of(bench, name, measures), truth)
        if other is not None and name in FAST and other > len(truth) / 100:
            measure.error = "other ids"  # it tokenizes otherwise: no measure for ours
        best = min(passes[0] for passes in measure.seconds)
        rows.append(
            [
                name,
                f"{measure.last['bytes'] / MB / measure.median(0):.1f}",
                f"{measure.last['bytes'] / MB / measure.median(1):.1f}",
                f"{measure.last['bytes'] / MB / best:.1f}",
                f"{min(passes[0] for passes in measure.cpu):.2f}",
                f"{measure.peak / MB:.0f}",
                str(measure.last["n"]),
                "?" if other is None else f"{other} of {len(truth)}",
            ]
        )
    size = max((m.last.get("bytes", 0) for m in measures.values()), default=0) / MB
    bench.table(
        f"encode, {scheme}, {corpus} ({size:.1f} MB)",
        "library|cold MB/s|warm MB/s|best cold|cold CPU s|peak MB|tokens|other ids",
        rows,
        failures,
    )
    claim, ours = f"encode_{scheme}_{corpus}", documents_of(bench, "ours", measures)
    if truth is not None:
        same = 0.0 if ours is None else 1 - count_other(ours, truth) / len(truth)
        bench.claim(f"{claim}_same_ids", same, 1.0)
    return measures


def documents_of(bench: Bench, name: str, measures: dict[str, Measure]) -> array | None:
    """Checksums of the ids that a library gave each document; None where it gave none."""
    if name not in measures or measures[name].error:
        return None
    return array("I", bench.out(name).read_bytes())


def count_other(found: array, truth: array | None) -> int | None:
    """How many documents have other ids than the truth; None where there is no truth."""
    if truth is None:
        return None
    return sum(a != b for a, b in zip(found, truth, strict=True))


def claim_encoding(
    bench: Bench, name: str, measures: dict[str, Measure], instead: dict[str, Measure] | None
) -> None:
    """Ours over the faster of gigatoken and snaptokens, cold and warm.

    instead: where neither does the scheme, their figures on the same corpus in another one.
    """
    for number, state in enumerate(("cold", "warm")):
        for suffix, where in (("", measures), ("_on_deepseek-v3", instead or {})):
            rates = [where[p].rate(number) for p in FAST if p in where]
            if fastest := max(rates, default=0.0):
                value = measures["ours"].rate(number) / fastest
                bench.claim(f"{name}_{state}_vs_fastest{suffix}", value, 1.0)
                break


def run(bench: Bench) -> None:
    """All of encoding: DeepSeek's tokenizer, the other schemes, linear time."""
    quick = bench.options.quick
    corpora_named = [name for name in (*MAIN, *COLD) if name in bench.files]
    if quick and not bench.options.corpus:
        corpora_named = [n for n in corpora_named if n in ("code", "chinese")]
    if not corpora_named:
        return
    folder = bench.folder / "deepseek"
    folder.mkdir()
    if bench.deepseek:
        (folder / "tokenizer.json").write_bytes(Path(bench.deepseek).read_bytes())
    elif not trained(bench, "deepseek-v3", folder):
        return
    deepseek = {}
    for corpus in corpora_named:
        measures = compare_encoding(
            bench, "deepseek-v3", folder, corpus, MB // 2 if quick else None
        )
        claim_encoding(bench, f"encode_deepseek-v3_{corpus}", measures, None)
        deepseek[corpus] = measures
    for scheme in OTHER_SCHEMES:
        own = bench.folder / f"tokenizer-{scheme}"
        if not trained(bench, scheme, own):
            continue
        for corpus in corpora_named[:1] if quick else corpora_named:
            measures = compare_encoding(bench, scheme, own, corpus, MB // 2 if quick else None)
            claim_encoding(bench, f"encode_{scheme}_{corpus}", measures, deepseek[corpus])
    linear_time(bench, folder)


def trained(bench: Bench, scheme: str, folder: Path) -> bool:
    """Train a tokenizer on a few MB, for encoding; False, and a line that says why, if it fails."""
    paths = [str(path) for name, path in bench.files.items() if name in (*MAIN, *COLD)]
    paths = paths[: len(MAIN)]
    size = 8_192 if bench.options.quick else 32_768
    limit = (MB if bench.options.quick else 12 * MB) // max(len(paths), 1)
    job = {"task": "tokenizer", "scheme": scheme, "corpora": paths, "limit": limit}
    answer = bench.child(job | {"vocab_size": size, "out": str(folder)})
    if "error" in answer:
        bench.console.print(f"encode, {scheme}: no tokenizer: {answer['error']}", markup=False)
        bench.claim(f"encode_{scheme}", 0.0, 1.0)
    return "error" not in answer


def linear_time(bench: Bench, folder: Path) -> None:
    """Rates on documents of a single word, which must not fall as the word grows."""
    unit = MB // 100 if bench.options.quick else MB
    job = {"task": "encode", "scheme": "deepseek-v3", "tokenizer": str(folder)}
    job |= {"start_up": str(bench.files["start_up"])}
    names = ("ours", "gigatoken", "snaptokens", "tokenizers")
    rows, failures, rates = [], [], {}
    for kind in list(corpora.WORDS)[2 * bench.options.quick :]:
        for size in (1, 10, 100) if kind == "letters" and not bench.options.quick else (1, 10):
            text = corpora.one_word(kind, size * unit)
            job["corpus"] = str(corpora.write_text(bench.folder, "one-word", text))
            libraries = names if size == 1 else names[:3]
            limit = min(bench.options.limit, 40)
            measures = bench.measure({n: job | {"library": n} for n in libraries}, limit)
            title = f"{kind}, {len(text) / MB:g} MB"
            rows.append(
                [title, *(f"{measures[n].rate():.1f}" if n in measures else "" for n in names)]
            )
            failures += [f"{title}, {n}: {m.error}" for n, m in measures.items() if m.error]
            rates[kind, size] = measures["ours"].rate()
            if size > 1:
                value = ratio(rates[kind, size], rates[kind, 1] or None) or 0.0
                bench.claim(f"encode_linear_{kind}_{size}x_vs_1x", value, 0.5)
    columns = "one word|ours|gigatoken|snaptokens|tokenizers"
    bench.table("encode, cold MB/s", columns, rows, failures)
