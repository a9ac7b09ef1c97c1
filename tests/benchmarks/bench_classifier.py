"""How well a classifier tells real texts apart: held-out passages, and sources it never saw.

    python tests/benchmarks/bench_classifier.py [--quick]

Two pairs, in passages of 2,000 characters, so many of each source at most and as many of the one
kind as of the other. `mathematics`: LaTeX textbooks and Lean against English, German and French of
all kinds. `novels`: English novels against documentation. Each model is judged twice: on the fifth
of the passages whose document it did not see, from the sources that it was trained on, and on
sources of which it saw nothing: word problems and a LaTeX textbook, German law and manuals;
children's stories and news articles, other projects' documentation and what a web page has besides
its article. The second is what a user will meet. Also printed: recall, and what passes wrongly, by
source, and the five passages nearest to the threshold. The last lines are `name value target`, and
a value is to be at least its target.
"""

import argparse
import json
import re
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curation.classifier import (
    Classifier,
    ClassifierSettings,
    judge,
    judged_table,
    train_classifier,
)
from pipelines.classifiers import draw

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LANGUAGES = ("eng_Latn", "deu_Latn", "fra_Latn")
PASSAGE = 2000
LEAST = 0.5

Passages = dict[str, list[tuple[str, str]]]  # of each source: (document, passage)


def cut(documents: list[str], most: int) -> list[tuple[str, str]]:
    """Passages of documents in the order of a hash; (name of the document, passage)."""
    found = []
    for text in documents:
        name = xxhash.xxh3_64_hexdigest(text)
        parts = [text[at : at + PASSAGE] for at in range(0, len(text), PASSAGE)]
        found += [(name, part) for part in parts if len(part) > 200]
    return sorted(found, key=lambda pair: xxhash.xxh3_64_intdigest(pair[1]))[:most]


def mathematics() -> dict[str, list[str]]:
    books = defaultdict(list)
    with pa.CompressedInputStream(str(DATA / "math" / "math_text.jsonl.zst"), "zstd") as file:
        for line in file.read().splitlines():
            row = json.loads(line)
            books[row["source"].split("/")[1]].append(row["text"])
    with (DATA / "math" / "gsm8k-train.jsonl").open() as file:
        rows = [json.loads(line) for line in file]
    books["word problems"] = [f"{row['question']}\n{row['answer']}" for row in rows]
    return books


def prose(languages: tuple[str, ...]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for path in sorted((DATA / "multilingual").glob("*.parquet")):
        table = pq.read_table(path, columns=["text", "source", "language"])
        for row in table.filter(
            pa.compute.is_in(table["language"], pa.array(languages))
        ).to_pylist():
            language = "" if len(languages) == 1 else f" {row['language'][:3]}"
            found[row["source"] + language].append(row["text"])
    return found


def web() -> tuple[list[str], list[str]]:
    """The articles of real pages, and what else is written on these pages."""
    articles, rest = [], []
    for row in pq.read_table(DATA / "web" / "aeb.parquet").to_pylist():
        articles.append(row["gold"])
        page = row["html"].decode("utf-8", "replace")
        page = re.sub(r"(?is)<(script|style|svg|head)\b.*?</\1>", " ", page)
        lines = [" ".join(part.split()) for part in re.split(r"<[^>]*>", page)]
        rest.append("\n".join(line for line in lines if line and line not in row["gold"]))
    return articles, rest


def pairs(most: int) -> dict[str, tuple[Passages, Passages, Passages, Passages]]:
    """By name: positive and negative sources to train on, and those that are not seen."""

    def choose(sources: dict[str, list[str]], names: set[str], inside: bool) -> Passages:
        chosen = {name: cut(texts, most) for name, texts in sources.items()
                  if (name in names) == inside}  # fmt: skip
        return {name: passages for name, passages in chosen.items() if len(passages) >= 20}

    books, europe, english = mathematics(), prose(LANGUAGES), prose(("eng_Latn",))
    new_books = {"napkin", "word problems"}
    new_prose = {"bundestag_gesetze deu", "tensorflow_docs eng", "manpages fra", "gnome_docs eng"}
    novels, stories = {"eltec"}, {"african_storybook"}
    guides = {"ms_cpp_docs_en", "libreoffice_help", "manpages", "gnome_docs"}
    new_guides = {"tensorflow_docs", "tldr", "debian_docs", "electron_docs"}
    articles, rest = web()
    return {
        "mathematics": (
            choose(books, new_books, False),
            choose(europe, new_prose, False),
            choose(books, new_books, True),
            choose(europe, new_prose, True),
        ),
        "novels": (
            choose(english, novels, True),
            choose(english, guides, True),
            choose(english, stories, True) | {"news articles": cut(articles, most)},
            choose(english, new_guides, True) | {"rest of web pages": cut(rest, most)},
        ),
    }


def split(sources: Passages) -> tuple[Passages, Passages]:
    """A fifth of the documents, by the hash that is their name, and the others."""
    held, kept = {}, {}
    for source, passages in sources.items():
        # A book that is one file is held out by passages.
        whole = len({name for name, _ in passages}) < 10
        mask = [
            (xxhash.xxh3_64_intdigest(text) if whole else int(name, 16)) % 5 == 0
            for name, text in passages
        ]
        held[source] = [pair for pair, out in zip(passages, mask, strict=True) if out]
        kept[source] = [pair for pair, out in zip(passages, mask, strict=True) if not out]
    return held, kept


def texts(sources: Passages) -> list[str]:
    return [text for passages in sources.values() for _, text in passages]


def measure(name: str, classifier: Classifier, positive: Passages, negative: Passages) -> dict:
    """Print precision and recall by threshold and source; give those at 0.5."""
    sides = (positive, negative)
    scores = [classifier.score(texts(side)) for side in sides]
    judged = judge(*scores)
    print(f"\n{name}: {len(scores[0]):,} positive and {len(scores[1]):,} negative passages")
    print(judged_table(judged))
    near = []
    for side, found, what in zip(sides, scores, ("recall", "passed"), strict=True):
        place, shares = 0, []
        for source, passages in side.items():
            mine = found[place : place + len(passages)]
            place += len(passages)
            if len(mine):
                shares.append(f"{source} {np.mean(mine >= LEAST):.3f} of {len(mine):,}")
            near += [
                (abs(score - LEAST), score, what == "recall", source, text)
                for score, (_, text) in zip(mine.tolist(), passages, strict=True)
            ]
        print(f"{what} by source: {'; '.join(shares)}")
    print(f"nearest to {LEAST}:")
    for _, score, right, source, text in sorted(near)[:5]:
        print(f"  {score:.3f} {'+' if right else '-'} {source}: {' '.join(text.split())[:110]}")
    return next(row for row in judged if row["min_score"] == LEAST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer passages, a smaller model")
    options = parser.parse_args()
    if not (DATA / "math").exists():
        raise SystemExit(f"{DATA}: the real data is not here")
    # The defaults are for a hundred times as many texts: at lr 0.1 the scores lie close together.
    settings = ClassifierSettings(lr=0.5, held_out=0, max_chars=PASSAGE)
    if options.quick:
        settings = replace(settings, dim=16, bucket=200_000)
    begun, claims = time.monotonic(), []
    for name, (positive, negative, *new) in pairs(250 if options.quick else 600).items():
        (held, seen), (held_other, seen_other) = split(positive), split(negative)
        sides = [texts(seen), texts(seen_other)]
        fewest = min(map(len, sides))
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.bin"
            drawn = [draw(lambda side=side: [pa.array(side, pa.large_string())], fewest, 0)
                     for side in sides]  # fmt: skip
            report = train_classifier(*drawn, settings, model)
            classifier = Classifier(model)
        print(f"\n{name}: trained on {report['trained']}")
        for what, judges in (("held out", (held, held_other)), ("sources not seen", new)):
            row = measure(f"{name}, {what}", classifier, *judges)
            key = f"{name}_{what.replace(' ', '_')}"
            claims += [(f"{key}_{part}", row[part]) for part in ("precision", "recall")]
    print(f"\ntook {time.monotonic() - begun:.0f} s")
    for key, value in claims:
        print(key, value, TARGETS[key])


# A little less than what both settings reached in November 2026.
TARGETS = {
    "mathematics_held_out_precision": 0.95,
    "mathematics_held_out_recall": 0.95,
    "mathematics_sources_not_seen_precision": 0.94,
    "mathematics_sources_not_seen_recall": 0.6,
    "novels_held_out_precision": 0.9,
    "novels_held_out_recall": 0.95,
    "novels_sources_not_seen_precision": 0.6,
    "novels_sources_not_seen_recall": 0.6,
}


if __name__ == "__main__":
    main()
