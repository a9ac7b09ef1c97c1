import random
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup import MinHash, drop_duplicates, find_duplicates, jaccard, signatures
from curation.document import make_batch

CONFIG = MinHash()


def batch_of(texts, uris=None):
    uris = uris or [str(i) for i in range(len(texts))]
    return make_batch(
        {"text": t, "source": "s", "domain": "web", "uri": u}
        for t, u in zip(texts, uris, strict=True)
    )


def prose(rng, count):
    return [f"w{rng.randrange(10**9)}" for _ in range(count)]


def test_planted_pairs_are_caught_as_often_as_the_formula_says():
    rng = random.Random(7)
    for shared in (0.70, 0.80, 0.86, 0.90, 0.95):
        texts, chances = [], []
        for _ in range(250):
            body = prose(rng, 120)
            same = int(120 * shared)
            a, b = " ".join(body), " ".join(body[:same] + prose(rng, 120 - same))
            texts += [a, b]
            chances.append(1 - (1 - jaccard(a, b, 5) ** 8) ** 14)
        bands = np.array(signatures(batch_of(texts), CONFIG)["bands"].to_pylist(), np.uint64)
        caught = (bands[::2] == bands[1::2]).any(axis=1).sum()
        chances = np.array(chances)
        spread = np.sqrt((chances * (1 - chances)).sum())
        assert abs(caught - chances.sum()) < 4 * spread + 1, (shared, caught, chances.sum())


def test_one_band_agrees_as_often_as_the_sets_overlap():
    # 2,000 permutations one by one: the estimate of Jaccard is within its standard error.
    rng = random.Random(1)
    body = prose(rng, 200)
    a, b = " ".join(body), " ".join(body[:150] + prose(rng, 50))
    config = MinHash(bands=2000, rows=1)
    bands = np.array(signatures(batch_of([a, b]), config)["bands"].to_pylist(), np.uint64)
    true = jaccard(a, b, 5)
    assert abs((bands[0] == bands[1]).mean() - true) < 4 * (true * (1 - true) / 2000) ** 0.5


def test_texts_that_differ_in_white_space_only_are_exact_duplicates():
    texts = ["one  two\nthree", "one two three", "one two\u3000three ", "One two three"]
    found = find_duplicates([signatures(batch_of(texts), CONFIG)], CONFIG).to_pylist()
    assert [(f["row"], f["reject"]) for f in found] == [(1, "dedup:exact"), (2, "dedup:exact")]


def test_short_documents_have_no_bands_and_only_exact_duplicates():
    table = signatures(batch_of(["a b c d", "a b c d!", "", "a b c d e"]), CONFIG)
    assert [bands is None for bands in table["bands"].to_pylist()] == [True, True, True, False]
    assert find_duplicates([table], CONFIG).num_rows == 0


def test_a_cluster_keeps_its_first_document_and_tells_why_each_other_goes():
    rng = random.Random(3)
    words = prose(rng, 300)
    base = " ".join(words)
    texts = ["unlike the rest of them all", base, f"{base} end", base.replace(" ", "\n"), base]
    batch = batch_of(texts)
    found = find_duplicates([signatures(batch, CONFIG)], CONFIG)
    ids = batch["id"].to_pylist()
    assert found["id"].to_pylist() == [ids[2], ids[3], ids[4]]
    assert found["kept"].to_pylist() == [ids[1]] * 3
    assert found["reject"].to_pylist() == ["dedup:near", "dedup:exact", "dedup:exact"]
    exact = MinHash(exact_only=True)
    table = signatures(batch, exact)
    assert table["bands"].null_count == 5
    assert find_duplicates([table], exact)["row"].to_pylist() == [3, 4]


def test_an_exact_copy_of_a_near_duplicate_leads_to_the_same_survivor():
    base = " ".join(prose(random.Random(5), 300))
    batch = batch_of([base, f"{base} end", f"{base}  end"])
    found = find_duplicates([signatures(batch, CONFIG)], CONFIG)
    assert found["reject"].to_pylist() == ["dedup:near", "dedup:exact"]
    assert set(found["kept"].to_pylist()) == {batch["id"][0].as_py()}


def table_of(rows, bands=3):
    """Signatures out of small numbers, so that everything collides with everything."""
    return pa.table(
        {
            "id": pa.array([f"{i:032x}" for i, _, _ in rows], pa.string()),
            "exact": pa.array([e.to_bytes(16, "big") for _, e, _ in rows], pa.binary(16)),
            "bands": pa.array([b for _, _, b in rows], pa.list_(pa.uint64(), bands)),
        }
    )


def clusters(rows):
    """Decide by the definition: the component of a graph, and its first member."""
    groups = [{i} for i in range(len(rows))]
    for i, (_, exact, bands) in enumerate(rows):
        for j in range(i):
            _, other, others = rows[j]
            # An exact copy brings no bands of its own.
            copies = [any(r[1] == rows[k][1] for r in rows[:k]) for k in (i, j)]
            near = bands and others and not any(copies)
            if exact == other or (near and any(map(int.__eq__, bands, others))):
                a, b = (next(g for g in groups if k in g) for k in (i, j))
                if a is not b:
                    groups.remove(b)
                    a |= b
    return {i: min(group) for group in groups for i in group if i != min(group)}


documents = st.lists(
    st.tuples(st.integers(0, 12), st.none() | st.tuples(*[st.integers(0, 9)] * 3)), max_size=14
)


@settings(max_examples=200)
@given(documents, st.data())
def test_clusters_are_the_components_however_the_corpus_is_split(documents, data):
    rows = [(i, exact, bands) for i, (exact, bands) in enumerate(documents)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    config = MinHash(bands=3)
    ends = [0, *cuts, len(rows)]
    split = [table_of(rows[a:b]) for a, b in pairwise(ends)]
    found = find_duplicates(split, config)
    assert found == find_duplicates([table_of(rows)], config)
    got = {r["row"]: int(r["kept"], 16) for r in found.to_pylist()}
    assert got == clusters(rows)
    first = {exact: i for i, exact, _ in reversed(rows)}
    for row in found.to_pylist():
        exact = rows[row["row"]][1]
        assert row["reject"] == ("dedup:exact" if first[exact] < row["row"] else "dedup:near")


def test_signatures_do_not_depend_on_the_batch_they_were_made_in():
    rng = random.Random(11)
    texts = [" ".join(prose(rng, n)) for n in (3, 40, 40_000, 5, 700)] + ["", "漢字" * 50]
    together = signatures(batch_of(texts), CONFIG)
    apart = [signatures(batch_of([t], [str(i)]), CONFIG) for i, t in enumerate(texts)]
    assert pa.concat_tables(apart).combine_chunks() == together.combine_chunks()
    assert signatures(batch_of(texts).slice(2, 2), CONFIG).to_pylist() == [
        row for table in apart[2:4] for row in table.to_pylist()
    ]
    other = signatures(batch_of(texts), MinHash(seed=1))
    assert other["bands"][2] != together["bands"][2]
    assert other["exact"] == together["exact"]


def test_rows_are_dropped_by_their_place_or_by_id():
    batch = batch_of(["same text", "other text", "same text"])
    found = find_duplicates([signatures(batch, CONFIG)], CONFIG)
    for first in (0, None):
        out = drop_duplicates(batch, found, first)
        assert out["reject"].to_pylist() == [None, None, "dedup:exact"]
        assert out.drop_columns("reject") == batch
    assert drop_duplicates(batch.slice(2), found, 2)["reject"].to_pylist() == ["dedup:exact"]
    assert drop_duplicates(batch.slice(0, 0), found, 0).num_rows == 0


def test_one_copy_of_a_document_that_is_there_twice_under_one_id_is_kept():
    batch = batch_of(["same text", "same text"], ["u", "u"])
    found = find_duplicates([signatures(batch, CONFIG)], CONFIG)
    assert drop_duplicates(batch, found, 0)["reject"].to_pylist() == [None, "dedup:exact"]
    assert drop_duplicates(batch, found)["reject"].to_pylist() == [None, None]


def test_a_corpus_that_changed_since_it_was_signed_is_refused():
    batch = batch_of(["a", "a", "b"])
    found = find_duplicates([signatures(batch, CONFIG)], CONFIG)
    with pytest.raises(ValueError, match="sign it again"):
        drop_duplicates(batch.slice(1), found, 0)


def test_signatures_of_another_configuration_are_refused():
    with pytest.raises(ValueError, match="14 bands, expected 5"):
        find_duplicates([signatures(batch_of(["a"]), CONFIG)], MinHash(bands=5))
    with pytest.raises(ValueError, match="at least 1"):
        MinHash(rows=0)


def test_no_documents_have_no_duplicates():
    empty = signatures(batch_of([]), CONFIG)
    assert find_duplicates([], CONFIG).num_rows == 0
    assert find_duplicates([empty, empty], CONFIG).num_rows == 0
