"""The part of `bench_tok.py` on training: text to merges, and parity between languages."""

import tok_trainers
from corpora import DATA
from measures import MAIN, MB, Bench, ratio

PARALLEL = DATA / "parallel" / "ntrex128.parquet"
DEV_LINES = 999
# In fifteen scripts; the first is what premiums are relative to.
PARALLEL_LANGUAGES = (
    *("eng-US", "deu", "fin", "vie", "rus", "ell", "arb", "heb"),
    *("hin", "tam", "tha", "bod", "amh", "zho-CN", "jpn", "kor"),
)
UNSPACED = ("chinese", "japanese", "thai", "khmer")


def compare_training(bench: Bench, scheme: str, corpus: str, libraries: dict[str, str]) -> None:
    """Train with each library (name in the table → scheme) on a corpus; a table and claims."""
    job = {"task": "train", "corpus": str(bench.files[corpus]), "merges": bench.options.merges}
    job["start_up"] = str(bench.files["start_up"])
    measures = bench.measure(
        {
            name: job | {"library": name.split(",")[0], "scheme": own}
            for name, own in libraries.items()
        }
    )
    rows, failures, ours = [], [], measures["ours"]
    our_merges = set() if ours.error else set(bench.out("ours").read_text().split())
    for name, measure in measures.items():
        if measure.error:
            failures.append(f"{name}: {measure.error}")
            continue
        last, best = measure.last, min(passes[0] for passes in measure.seconds)
        same = len(our_merges.intersection(bench.out(name).read_text().split()))
        rows.append(
            [
                name,
                f"{measure.median():.2f}",
                f"{best:.2f}",
                f"{min(passes[0] for passes in measure.cpu):.2f}",
                f"{measure.rate():.1f}",
                f"{measure.peak / MB:.0f}",
                f"{measure.own / MB:.0f}",
                str(last["n"]),
                str(same),
            ]
        )
    size = bench.files[corpus].stat().st_size / MB
    bench.table(
        f"train, {scheme}, {corpus} ({size:.1f} MB), {bench.options.merges} merges",
        "library|median s|best s|CPU s|MB/s|peak MB|own MB|merges|same merges",
        rows,
        failures,
    )
    for name, measure in measures.items():
        if name.startswith("ours"):
            continue
        target = 3.0 if name == "gigabpe" and corpus in MAIN else 1.0
        target = 25.0 if scheme != "gpt2" else target
        claim = f"train_{scheme}_{corpus}"
        bench.claim(f"{claim}_vs_{name}", ratio(measure.median(), ours.median()), target)
        bench.claim(f"{claim}_memory_vs_{name}", ratio(measure.own, ours.own), 1.0)


def run(bench: Bench) -> None:
    """All of training: three corpora, three schemes, unspaced scripts, memory, parity."""
    named = [name for name in MAIN if name in bench.files]
    for corpus in named:
        libraries = ("ours", *tok_trainers.PEERS, "tokenizers")
        compare_training(bench, "gpt2", corpus, dict.fromkeys(libraries, "gpt2"))
    for scheme in ("deepseek-v3", "multilingual"):
        for corpus in named[-1:] if bench.options.quick else named:
            libraries = dict.fromkeys(("ours", "tokenizers"), scheme)
            compare_training(bench, scheme, corpus, libraries)
    for corpus in UNSPACED[-1:] if bench.options.quick else UNSPACED:
        if corpus in bench.files:
            libraries = dict.fromkeys(("ours", "gigabpe", "tokenizers"), "gpt2")
            libraries |= {"ours, multilingual": "multilingual"}
            compare_training(bench, "gpt2", corpus, libraries)
    if named:
        memory_by_size(bench, named[-1])
    if "multilingual" in bench.files and PARALLEL.is_file():
        compare_parity(bench)


def compare_parity(bench: Bench) -> None:
    """Parity training on the parallel development lines, and who is worst off on the others."""
    few = bench.options.quick
    job = {"task": "parity", "scheme": "multilingual", "corpus": str(PARALLEL)}
    job |= {"languages": PARALLEL_LANGUAGES[:4] if few else PARALLEL_LANGUAGES}
    job |= {"merges": 200 if few else 8000, "dev_lines": DEV_LINES}
    measures = bench.measure({name: job | {"library": name} for name in ("ours", "tokenizers")})
    rows, failures, worst = [], [], {}
    for name, measure in measures.items():
        if measure.error:
            failures.append(f"{name}: {measure.error}")
            continue
        tokens = measure.last["tokens"]
        language = max(tokens, key=tokens.get)
        worst[name] = tokens[language] / tokens[PARALLEL_LANGUAGES[0]]
        rows.append(
            [
                name, f"{measure.median():.2f}", f"{min(p[0] for p in measure.cpu):.2f}",
                f"{measure.peak / MB:.0f}", str(measure.last["n"]), str(sum(tokens.values())),
                f"{worst[name]:.3f} ({language})",
            ]
        )  # fmt: skip
    bench.table(
        f"train, parity, multilingual, {len(job['languages'])} languages, {job['merges']} merges",
        "library|median s|CPU s|peak MB|merges|tokens of all|worst premium",
        rows,
        failures,
    )
    ours, theirs = measures["ours"], measures["tokenizers"]
    bench.claim("train_parity_vs_tokenizers", ratio(theirs.median(), ours.median()), 25.0)
    bench.claim("train_parity_memory_vs_tokenizers", ratio(theirs.peak, ours.peak), 1.0)
    # Ties are broken differently, which shows in the third digit.
    bench.claim(
        "train_parity_worst_vs_tokenizers", ratio(worst.get("tokenizers"), worst.get("ours")), 0.98
    )


def memory_by_size(bench: Bench, corpus: str) -> None:
    """What ours takes where the corpus is read 1, 4 and 16 times over: its words stop being new."""
    job = {"task": "train", "library": "ours", "scheme": "multilingual"}
    job |= {"corpus": str(bench.files[corpus]), "merges": bench.options.merges}
    job["start_up"] = str(bench.files["start_up"])
    peaks, rows, failures = {}, [], []
    for repeats in (1, 4, 16):
        answer = bench.child(job | {"repeats": repeats, "out": str(bench.out("repeats"))})
        peaks[repeats] = answer.get("own", 0)
        if "error" in answer:
            failures.append(f"{repeats}x: {answer['error']}")
        else:
            rows.append([f"{repeats}x", f"{answer['seconds'][0]:.1f}", f"{answer['own'] / MB:.0f}"])
    title = f"train, ours, multilingual, {corpus}, read again and again"
    bench.table(title, "corpus|seconds|own MB", rows, failures)
    bench.claim("train_memory_1x_vs_16x", ratio(peaks[1] or 1, peaks[16]), 0.9)
