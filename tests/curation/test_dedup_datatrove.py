"""Our clusters against those of datatrove's MinHash, on source files of Python's library.

The two have different words (datatrove's come from spaCy, after it has changed numbers and names of
days) and different arithmetic (its products wrap before they are taken modulo a prime), so they
differ where chance decides. They must not where it does not: documents with 5-gram sets of Jaccard
0.95 or more by both definitions are together with probability 1 - 2e-7, those of 0.2 or less with
4e-5. The corpus has files with copies that lack a line, and nothing in between.
"""

import random
import sysconfig
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.dedup import DocumentDedup
from curation.document import make_batch
from curation.words import words

minhash = pytest.importorskip("datatrove.pipeline.dedup.minhash", reason="datatrove not installed")
pytest.importorskip("spacy", reason="spaCy, which datatrove's MinHash needs, is not installed")

FAMILIES, COPIES = 24, 2


def source_files():
    root = Path(sysconfig.get_path("stdlib"))
    found = [
        path.read_text("utf-8", "ignore")
        for path in sorted(root.glob("[a-z]*.py")) + sorted(root.glob("asyncio/*.py"))
        if 4000 < path.stat().st_size < 8000
    ]
    if len(found) < FAMILIES:
        pytest.skip(f"{root} has {len(found)} source files of that size, needs {FAMILIES}")
    return found


def without_a_line(text, rng):
    lines = text.split("\n")
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def ours(text):
    found = words(text)
    return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}


def similarity(a, b):
    return len(a & b) / len(a | b)


def kept_by_datatrove(texts, folder):
    from datatrove.data import Document

    config = minhash.MinhashConfig()
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
    sign = minhash.MinhashDedupSignature(str(folder / "signatures"), config)
    sign.run(documents)
    for bucket in range(config.num_buckets):
        step = minhash.MinhashDedupBuckets(
            str(folder / "signatures"), str(folder / "buckets"), config=config
        )
        step.run(None, bucket, config.num_buckets)
    cluster = minhash.MinhashDedupCluster(str(folder / "buckets"), str(folder / "out"), config)
    cluster.run(None)
    left = minhash.MinhashDedupFilter(str(folder / "out")).run(documents, 0, 1)
    return {int(document.id) for document in left}, sign


def kept_by_us(texts, folder):
    batch = make_batch(
        {"text": text, "source": "s", "domain": "code", "uri": str(i)}
        for i, text in enumerate(texts)
    )
    config = DocumentDedup(exact=False)
    folder.mkdir()
    pq.write_table(config.sign(batch), folder / "0.parquet")
    config.merge([folder / "0.parquet"], folder, 1 << 26)
    dropped = pq.read_table(folder / "decisions.parquet")["row"].to_pylist()
    return set(range(len(texts))) - set(dropped)


def test_one_of_each_family_is_kept_as_datatrove_does(tmp_path):
    rng = random.Random(1)
    families = []
    for text in source_files():
        family = [text, *(without_a_line(text, rng) for _ in range(COPIES))]
        if len(families) < FAMILIES and not any(
            similarity(ours(text), ours(other[0])) > 0.2 for other in families
        ):
            families.append(family)
    places = [(number, text) for number, family in enumerate(families) for text in family]
    rng.shuffle(places)
    texts = [text for _, text in places]
    theirs, sign = kept_by_datatrove(texts, tmp_path / "datatrove")
    mine = kept_by_us(texts, tmp_path / "ours")

    # That the corpus is as the docstring says, by datatrove's n-grams too.
    shingles = [set(sign.get_shingles(text).ravel().tolist()) for text in texts]
    sets = [ours(text) for text in texts]
    sure = set(range(len(families)))
    for i, (family, _) in enumerate(places):
        for j in range(i):
            pair = similarity(sets[i], sets[j]), similarity(shingles[i], shingles[j])
            if family == places[j][0] and min(pair) < 0.95:
                sure.discard(family)
            if family != places[j][0]:
                assert max(pair) < 0.3, (texts[i][:80], texts[j][:80], pair)
    assert len(sure) > FAMILIES // 2
    for family in sure:
        members = {i for i, (number, _) in enumerate(places) if number == family}
        assert len(members & theirs) == len(members & mine) == 1, texts[min(members)][:80]
    for family in range(len(families)):
        members = {i for i, (number, _) in enumerate(places) if number == family}
        assert members & theirs and members & mine
