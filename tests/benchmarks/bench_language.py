"""What the language filter gets right, and how fast: thresholds, accuracy, kinds, speed.

    python tests/benchmarks/bench_language.py choose     # writes curation/data/language_scores.json
    python tests/benchmarks/bench_language.py accuracy   # on the test half of NTREX-128
    python tests/benchmarks/bench_language.py kinds      # prose, code and mathematics told apart
    python tests/benchmarks/bench_language.py speed

`choose` reads lines 0 to 998 of NTREX-128 only, `accuracy` lines 999 to 1,996 only; both as
sentences and as paragraphs (10 lines joined). All 129 versions are asked about, also those in
languages that the model does not know: what it calls them is what a threshold has to keep out.
A text labelled with a close relative of its language (`language.RELATIVES`) counts as neither right
nor wrong while choosing, and as wrong in the table.
"""

import argparse
import json
import sysconfig
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.document import make_batch
from curation.kinds import KINDS, kinds
from curation.language import RELATIVES, LanguageFilter, _known, _language, least_scores, predict
from curation.languages import all_script_counts, in_script

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
SCORES = ROOT / "curation" / "data" / "language_scores.json"
FLAT = 0.35  # what was asked of every language before
MOST_LOST = 0.05  # of a language's own texts, whatever else they keep out
GRID = np.round(np.arange(0.25, 0.66, 0.05), 2)
LENGTHS = {"sentences": 1, "paragraphs": 10}


def answers(first: int, last: int, lines: int) -> list[tuple[str, str, float]]:
    """(the language of a text, the model's, its score) for texts of so many lines of NTREX."""
    versions = defaultdict(list)
    for row in pq.read_table(DATA / "parallel" / "ntrex128.parquet").to_pylist():
        if first <= row["line"] <= last:
            versions[row["language"]].append(row["text"])
    found = []
    for code, texts in versions.items():
        joined = [" ".join(texts[at : at + lines]) for at in range(0, len(texts), lines)]
        scripts = all_script_counts(pa.array(joined, pa.large_string()))
        for (label, score), counts in zip(predict(joined), scripts, strict=True):
            if in_script(label, counts):  # others are rejected for their script
                found.append((_language(code), _language(label), score))
            else:
                found.append((_language(code), "none", 0.0))
    return found


def choose() -> None:
    """Choose for each language the threshold that loses least of it and lets in least of others,
    in lines, of those that lose little of it."""
    groups = [(lines, answers(0, 998, lines)) for lines in LENGTHS.values()]
    cost, lost = (defaultdict(lambda: np.zeros(len(GRID))) for _ in range(2))
    texts = Counter()
    for lines, group in groups:
        for true, label, score in group:
            if label == true:
                lost[label] += lines * (score < GRID)
                texts[label] += lines
            elif label != "none" and not any({true, label} <= pair for pair in RELATIVES):
                cost[label] += lines * (score >= GRID)
    scores = {}
    for label in sorted(texts):
        if texts[label] >= 200:
            allowed = lost[label] <= np.maximum(MOST_LOST * texts[label], lost[label][0])
            total = np.where(allowed, cost[label] + lost[label], np.inf)
            scores[label] = float(GRID[np.argmin(total)])
    what = (
        "Least lid.176 scores by language (ISO 639-3), written by bench_language.py from lines 0 "
        f"to 998 of NTREX-128; from {GRID[0]} to {GRID[-1]} only, as news has no noise."
    )
    text = json.dumps({"about": what, "scores": {"default": FLAT, **scores}}, indent=1)
    SCORES.parent.mkdir(exist_ok=True)
    SCORES.write_text(text + "\n")
    print(f"{len(scores)} languages:", dict(sorted(Counter(scores.values()).items())))


def accuracy() -> None:
    """Print by language what is kept and right (recall), and right of what is kept (precision)."""
    known, table = _known(), {}
    least = least_scores()
    rules = {"0.35": lambda _: FLAT, "own": lambda label: least.get(label, least["default"])}
    for name, lines in LENGTHS.items():
        group = answers(999, 1996, lines)
        total = Counter(true for true, _, _ in group)
        for rule, needed in rules.items():
            kept = [(true, label) for true, label, score in group if score >= needed(label)]
            right = Counter(true for true, label in kept if true == label)
            called = Counter(label for _, label in kept)
            for code in total:
                shares = right[code] / total[code], right[code] / max(called[code], 1)
                table[code, name, rule] = shares
    columns = [(name, rule) for name in LENGTHS for rule in rules]
    print("recall/precision".ljust(18), *(f"{name} {rule}".rjust(18) for name, rule in columns))
    codes = sorted({code for code, _, _ in table} & known)
    for code in codes:
        cells = ["{:.3f} / {:.3f}".format(*table[code, *column]).rjust(18) for column in columns]
        print(f"{code} (>= {least.get(code, least['default'])})".ljust(18), *cells)
    means = [np.mean([table[code, *column] for code in codes], 0) for column in columns]
    print("mean".ljust(18), *("{:.4f} / {:.4f}".format(*mean).rjust(18) for mean in means))
    print("not known to the model:", *sorted({code for code, _, _ in table} - known))


def _real_files() -> dict[str, list[str]]:
    """Real texts by what they should be called and where they are from."""
    found: dict[str, list[str]] = defaultdict(list)
    packages = Path(sysconfig.get_paths()["purelib"])
    for suffix in ("py", "pyi", "h", "hpp", "js", "css", "json", "html"):
        for path in sorted(packages.rglob(f"*.{suffix}"))[::7]:
            if 200 < path.stat().st_size < 300_000 and len(found[f"code .{suffix}"]) < 500:
                found[f"code .{suffix}"].append(path.read_text("utf-8", "replace"))
    with pa.CompressedInputStream(str(DATA / "math" / "math_text.jsonl.zst"), "zstd") as file:
        for line in file.read().splitlines():
            row = json.loads(line)
            found[f"math {row['source'].split('/')[1]}"].append(row["text"])
    for path in sorted((DATA / "multilingual").glob("*.parquet"))[:2]:
        table = pq.read_table(path, columns=["text", "source"])
        for row in table.take(list(range(0, table.num_rows, 5))).to_pylist():
            found[f"prose {row['source']}"].append(row["text"])
    return found


def print_kinds() -> None:
    """Print what each collection is called, and precision and recall of prose against the rest."""
    outcome = Counter()
    print("".ljust(32), "texts", *(kind.rjust(7) for kind in KINDS))
    for name, texts in _real_files().items():
        called = Counter(kinds(pa.array(texts, pa.large_string())))
        for kind, count in called.items():
            outcome[name.split()[0], kind] += count
        shares = (f"{called[kind] / len(texts):7.3f}" for kind in KINDS)
        print(name.ljust(32), f"{len(texts):5}", *shares)
    for kind in ("code", "math"):
        formal = sum(outcome[kind, called] for called in ("code", "math"))
        total = sum(outcome[kind, called] for called in KINDS)
        print(f"{kind}: {formal / total:.3f} are called code or mathematics")
    formal = sum(outcome[true, called] for true in KINDS for called in ("code", "math"))
    wrong = sum(outcome["prose", called] for called in ("code", "math"))
    prose = sum(outcome["prose", called] for called in KINDS)
    print(
        f"called code or mathematics: {1 - wrong / formal:.3f} are; of prose: {wrong / prose:.4f}"
    )


def speed() -> None:
    """Print MB/s of processor time of the filter and its parts on the multilingual data."""
    table = pq.read_table(sorted((DATA / "multilingual").glob("*.parquet"))[0], columns=["text"])
    chosen = np.random.default_rng(1).choice(table.num_rows, 6000, replace=False)
    texts = table["text"].take(np.sort(chosen)).combine_chunks().cast(pa.large_string())
    strings = texts.to_pylist()
    batch = make_batch(
        {"text": text, "source": "s", "domain": "web", "uri": str(i)}
        for i, text in enumerate(strings)
    )
    size = sum(len(text.encode()) for text in strings) / 1e6
    LanguageFilter()(batch.slice(0, 1))
    print(f"{len(strings)} documents, {size:.1f} MB")
    for name, work in {
        "filter": lambda: LanguageFilter()(batch),
        "model": lambda: predict(strings),
        "kinds": lambda: kinds(texts),
        "scripts": lambda: all_script_counts(texts),
    }.items():
        times = []
        for _ in range(3):
            begin = time.process_time()
            work()
            times.append(time.process_time() - begin)
        print(f"{name:9} {size / min(times):7.1f} MB/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["choose", "accuracy", "kinds", "speed"])
    work = {"choose": choose, "accuracy": accuracy, "kinds": print_kinds, "speed": speed}
    work[parser.parse_args().what]()
