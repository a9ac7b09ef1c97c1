"""Recall of mathematics from a pool that we made, so that what is right is known, round by round.

    python tests/benchmarks/bench_recall.py [--join-score 0.1]

Seed: logic (OpenLogic) and algebraic geometry (Stacks Project), in LaTeX. Pool: 2,500 English pages
of the multilingual data, each source a host, and mathematics that the seed does not have: Napkin
and HoTT (LaTeX), a course of linear algebra (XML), formal conjectures (Lean), word problems in
plain English (GSM8K). Also prints the first classifier's judgement by threshold, and its speed.
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.classifier import Classifier, ClassifierSettings, judged_table
from curation.document import make_batch
from curation.recall import RecallSettings, recall

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def documents() -> tuple[list[dict], list[dict]]:
    """The seed and the pool, shuffled; the pool's mathematics is of the domain `math`."""
    books = defaultdict(list)
    with pa.CompressedInputStream(str(DATA / "math" / "math_text.jsonl.zst"), "zstd") as file:
        for line in file.read().splitlines():
            row = json.loads(line)
            books[row["source"].split("/")[1]].append(row["text"])
    with (DATA / "math" / "gsm8k-train.jsonl").open() as file:
        problems = [json.loads(next(file)) for _ in range(1500)]
    books["problems"] = [f"{row['question']}\n{row['answer']}" for row in problems]
    english = []
    for path in sorted((DATA / "multilingual").glob("*.parquet")):
        table = pq.read_table(path, filters=[("language", "==", "eng_Latn")])
        english += table.select(["text", "source"]).to_pylist()
    dice = random.Random(1)
    dice.shuffle(english)

    def document(text: str, host: str, domain: str) -> dict:
        uri = f"https://{host}.example/{'tex' if domain == 'math' else 'docs'}/{len(text)}"
        return {"text": text[:6000], "source": host, "domain": domain, "uri": uri}

    seed = [document(text, "seed", "math") for text in books["OpenLogic"] + books["stacks-project"]]
    pool = [document(row["text"], row["source"], "web") for row in english[:2500]]
    for host in ("napkin", "book", "fcla", "formal-conjectures", "problems"):
        pool += [document(text, host, "math") for text in books[host][:1500]]
    dice.shuffle(pool)
    return seed, pool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--join-score", type=float, default=RecallSettings.join_score)
    settings = RecallSettings(
        classifier=ClassifierSettings(
            dim=64, word_ngrams=3, epochs=3, bucket=200_000, max_chars=4000, held_out=0
        ),
        join_score=parser.parse_args().join_score,
    )
    seed, pool = documents()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side, rows in (("seed", seed), ("pool", pool)):
            pq.write_table(pa.Table.from_batches([make_batch(rows)]), folder / f"{side}.parquet")
        begin = time.process_time()
        report = recall(
            [folder / "seed.parquet"], [folder / "pool.parquet"], settings, folder / "out"
        )
        print(f"{time.process_time() - begin:.1f} s of processor time")
        table = pq.read_table(sorted((folder / "out").glob("documents-*.parquet")))
        collected = [
            (json.loads(row["metadata"])["recall_round"], row["domain"], row["source"])
            for row in table.select(["metadata", "domain", "source"]).to_pylist()
        ]
        total = sum(row["domain"] == "math" for row in pool)
        print("round  recalled  already  collected  precision  recall  joined  new domains")
        for one in report["rounds"]:
            until = [domain for number, domain, _ in collected if number <= one["round"]]
            right = until.count("math")
            print(
                f"{one['round']:5}  {one['recalled']['documents']:8}  {one['already']:7.3f}"
                f"  {len(until):9}  {right / max(len(until), 1):9.4f}  {right / total:6.3f}"
                f"  {one['joined']:6}",
                *(domain["domain"] for domain in one["largest_new_domains"]),
            )
        print("collected:", Counter(source for *_, source in collected).most_common())
        print("the first round, where the pool's held-out pages all count as wrong:")
        print(judged_table(report["rounds"][0]["judged"]))
        classifier, texts = Classifier(folder / "out" / "model.bin"), [row["text"] for row in pool]
        begin = time.process_time()
        classifier.score(texts)
        size = sum(len(text[:4000].encode()) for text in texts) / 1e6
        print(f"scoring: {size / (time.process_time() - begin):.1f} MB/s of what is read")


if __name__ == "__main__":
    main()
