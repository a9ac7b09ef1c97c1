"""Speed of private data, decontamination and the datatrove adapter, beside datatrove's own classes.

    python tests/benchmarks/bench_cleaning.py [MEGABYTES]

Each measure takes turns with the one that it is compared with, five times over the same documents;
what is printed is the fastest turn's MB/s by the processor's clock, and the ratio of the two.
"""

import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter
from datatrove.pipeline.formatters import PIIFormatter

from curation.datatrove_step import DatatroveStep
from curation.decontaminate import DecontaminationFilter
from curation.document import make_batch
from curation.private_data import PrivateDataFilter
from curation.words import hash_ngrams, hash_words

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


def compare(name: str, megabytes: float, ours: Callable, other: str, theirs: Callable) -> None:
    """Print a line: ours against theirs on the same documents."""
    best = [float("inf"), float("inf")]
    for _ in range(5):
        for which, run in enumerate((ours, theirs)):
            start = time.process_time()
            run()
            best[which] = min(best[which], time.process_time() - start)
    print(
        f"{name}: {megabytes / best[0]:.1f} MB/s; {other}: {megabytes / best[1]:.2f} MB/s; "
        f"{best[1] / best[0]:.1f} times"
    )


def measure(title: str, texts: list[str]) -> None:
    """Measure all on some documents."""
    batch = make_batch(
        {"text": text, "source": "s", "domain": "web", "uri": str(i)}
        for i, text in enumerate(texts)
    )
    megabytes = size_of(texts)
    print(f"{title}: {megabytes:.1f} MB, {len(texts):,} documents")
    peer = PIIFormatter()
    same_kinds = PrivateDataFilter(ipv6=None, phone=None, key=None, card=None, iban=None)
    every_kind = PrivateDataFilter()

    def theirs() -> list[str]:
        return [peer.format(text) for text in texts]

    compare("all private data", megabytes, lambda: every_kind(batch), "PIIFormatter", theirs)
    compare("e-mail and IPv4", megabytes, lambda: same_kinds(batch), "PIIFormatter", theirs)
    if (DATA / "benchmarks").is_dir():
        step = DecontaminationFilter(str(DATA / "benchmarks"))
        compare(
            "decontamination", megabytes, lambda: step(batch),
            "n-grams hashed by words.py", lambda: hash_ngrams(hash_words(texts)[0], 10),
        )  # fmt: skip
    few = batch.slice(0, 100)
    gopher, adapted = GopherQualityFilter(), DatatroveStep("GopherQualityFilter")
    compare(
        "GopherQualityFilter adapted", size_of(texts[:100]), lambda: adapted(few),
        "alone", lambda: [gopher.filter(Document(text=text, id="")) for text in texts[:100]],
    )  # fmt: skip


def size_of(texts: list[str]) -> float:
    """Megabytes of UTF-8."""
    return sum(len(text.encode()) for text in texts) / 1e6


def main() -> None:
    """Measure, on English and on all languages of the corpus."""
    wanted = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    table = pq.read_table(DATA / "multilingual" / "train-00000-of-00004.parquet")
    columns = (table[name].to_pylist() for name in ("text", "language"))
    rows = list(zip(*columns, strict=True))
    english = [text for text, language in rows if language == "eng_Latn"]
    for title, texts in (("English", english), ("all languages", [text for text, _ in rows[::9]])):
        sizes = accumulate(len(text.encode()) / 1e6 for text in texts)
        measure(title, [t for t, total in zip(texts, sizes, strict=True) if total <= wanted])


if __name__ == "__main__":
    main()
