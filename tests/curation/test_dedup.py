"""The round that drops documents: what it decides, however the corpus comes."""

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup import DocumentDedup
from curation.document import make_batch

MEMORY = 64 << 20
TINY = 4096  # bytes: some hundred records


def batch_of(texts, **columns):
    return make_batch(
        {"text": text, "source": "s", "domain": "web", "uri": str(i)}
        | {name: values[i] for name, values in columns.items()}
        for i, text in enumerate(texts)
    )


def prose(rng, count):
    return [f"w{rng.randrange(10**9)}" for _ in range(count)]


def write(tables, folder):
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.parquet" for number in range(len(tables))]
    for table, path in zip(tables, paths, strict=True):
        pq.write_table(table, path, row_group_size=7)
    return paths


def merged(config, tables, folder, memory=MEMORY):
    """The decisions about signatures that lie in as many files."""
    config.merge(write(tables, folder / "signed"), folder / "out", memory)
    return pq.read_table(folder / "out" / "decisions.parquet").to_pylist()


def decide(config, batch, folder):
    """(row, kept row, reason) of each document of a batch that goes."""
    found = merged(config, [config.sign(batch)], folder)
    ids = batch["id"].to_pylist()
    for each in found:
        assert each["id"] == ids[each["row"]]
        assert each["kept"] == (None if each["kept_row"] is None else ids[each["kept_row"]])
    return [(each["row"], each["kept_row"], each["reason"]) for each in found]


def test_texts_that_differ_in_white_space_only_are_exact_duplicates(tmp_path):
    texts = ["one  two\nthree", "one two three", "one two\u3000three ", "One two three"]
    exact = "documents:exact"
    assert decide(DocumentDedup(), batch_of(texts), tmp_path) == [(1, 0, exact), (2, 0, exact)]


def test_a_cluster_keeps_its_first_document_and_tells_why_each_other_goes(tmp_path):
    base = " ".join(prose(random.Random(3), 300))
    texts = ["unlike the rest of them all", base, f"{base} end", base.replace(" ", "\n")]
    batch = batch_of([*texts, f"{base}  end", "a b", "a c"])
    assert decide(DocumentDedup(), batch, tmp_path / "all") == [
        (2, 1, "documents:near"),
        (3, 1, "documents:exact"),
        (4, 1, "documents:exact"),
    ]
    assert decide(DocumentDedup(near=False), batch, tmp_path / "exact") == [
        (3, 1, "documents:exact"),
        (4, 2, "documents:exact"),
    ]
    assert decide(DocumentDedup(exact=False), batch, tmp_path / "near") == [
        (row, 1, "documents:near") for row in (2, 3, 4)
    ]


def test_documents_of_one_address_are_duplicates_by_choice(tmp_path):
    uris = ["http://A.org/x/", "https://a.org/x?utm_source=b#c", "a.py", "a.py", None, None]
    batch = batch_of(list("uvwxyz"), uri=uris)
    assert decide(DocumentDedup(), batch, tmp_path / "off") == []
    assert decide(DocumentDedup(url=True), batch, tmp_path / "on") == [(1, 0, "documents:url")]


KEEP = {
    "first": (DocumentDedup(), 0),
    "longest": (DocumentDedup(keep="longest"), 2),
    "best_quality": (DocumentDedup(keep="best_quality", quality_key="score"), 1),
    "preferred_source": (DocumentDedup(keep="preferred_source", prefer=("books", "wiki")), 3),
    "none": (DocumentDedup(keep="none"), None),
}


@pytest.mark.parametrize("keep", KEEP)
def test_the_survivor_is_the_one_asked_for_and_the_first_of_those(tmp_path, keep):
    config, kept = KEEP[keep]
    base = " ".join(prose(random.Random(4), 400))
    texts = [base, f"{base} x", f"{base} yy", f"{base} zz", f"{base} x", "another text"]
    scores = ['{"score": 1}', '{"score": 2.5}', '{"score": "9"}', '{"score": true}', None, "nine"]
    sources = ["crawl", "wiki", "wiki", "books", "books", "books"]
    batch = batch_of(texts, metadata=scores, source=sources)
    found = decide(config, batch, tmp_path)
    assert [row for row, _, _ in found] == [row for row in range(5) if row != kept]
    assert {kept_row for _, kept_row, _ in found} == {kept}
    reasons = {row: reason for row, _, reason in found}
    # The second is a copy of the fifth, which goes with it or comes after it.
    assert reasons.pop(4) == "documents:exact"
    if keep == "none":
        assert reasons.pop(1) == "documents:exact"
    assert set(reasons.values()) == {"documents:near"}


def test_a_copy_of_the_survivor_goes_as_exact_even_if_it_comes_first(tmp_path):
    config = DocumentDedup(keep="preferred_source", prefer=("wiki",))
    batch = batch_of(["a b", "a  b", "a b "], source=["crawl", "wiki", "crawl"])
    assert decide(config, batch, tmp_path) == [(0, 1, "documents:exact"), (2, 1, "documents:exact")]


def signed_of(config, rows, first=0):
    """Signatures out of small numbers, so that everything collides with everything."""
    columns = {"id": pa.array([(first + i).to_bytes(16, "big") for i in range(len(rows))])}
    for place, (kind, width) in enumerate(config.kinds.items()):
        values = [row[place] for row in rows]
        if width == 2:
            values = [None if v is None else v.to_bytes(16, "big") for v in values]
        columns[kind] = pa.array(values, pa.binary(16) if width == 2 else pa.uint64())
    columns["id"] = columns["id"].cast(pa.binary(16))
    if config.scored:
        columns["score"] = pa.array([row[-1] for row in rows], pa.float64())
    return pa.table(columns)


def oracle(config, rows, earlier=()):
    """Decide by the definition: the components of the graph of all matches."""
    kinds = list(config.kinds)

    def alike(a, b):
        return {k for k, x, y in zip(kinds, a, b, strict=False) if x is not None and x == y}

    groups = [{i} for i in range(len(rows))]
    for i in range(len(rows)):
        for j in range(i):
            if alike(rows[i], rows[j]):
                a, b = (next(g for g in groups if k in g) for k in (i, j))
                if a is not b:
                    groups.remove(b)
                    a |= b
    decisions = {}
    for group in groups:
        kept = min(group)
        if config.scored:
            kept = max(sorted(group), key=lambda i: rows[i][-1])
        if config.keep == "none" and len(group) > 1:
            kept = None
        if any(alike(rows[i], old) for i in group for old in earlier):
            decisions |= dict.fromkeys(group, (None, "documents:earlier"))
            continue
        for i in group - {kept}:
            others = range(len(rows)) if kept is None else {*range(i), kept}
            found = {kind for j in others if j != i for kind in alike(rows[i], rows[j])}
            reason = next((k for k in ("exact", "url") if k in found), "near")
            decisions[i] = (kept, f"documents:{reason}")
    return [(row, *decisions[row]) for row in sorted(decisions)]


value = st.none() | st.integers(0, 9)
corpora = st.lists(
    st.tuples(st.integers(0, 12), value, value, value, st.sampled_from([-float("inf"), 0, 1, 2])),
    max_size=24,
)
configs = st.sampled_from(
    [
        DocumentDedup(url=True, bands=2),
        DocumentDedup(url=True, bands=2, keep="longest"),
        DocumentDedup(url=True, bands=2, keep="none"),
        DocumentDedup(exact=False, url=True, bands=2),
    ]
)


def short(found):
    for each in found:
        assert int(each["id"], 16) == each["row"]
        assert (each["kept"] is None) == (each["kept_row"] is None)
        assert each["kept"] is None or int(each["kept"], 16) == each["kept_row"]
    return [(each["row"], each["kept_row"], each["reason"]) for each in found]


@settings(max_examples=120, deadline=None)
@given(configs, corpora, st.data())
def test_clusters_are_the_components_however_the_corpus_is_cut(
    tmp_path_factory, config, rows, data
):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    ends = [0, *cuts, len(rows)]
    if not config.exact:
        rows = [(url, *rest) for _, url, *rest in rows]
    folder = tmp_path_factory.mktemp("merge")
    tables = [signed_of(config, rows[a:b], a) for a, b in pairwise(ends)]
    assert short(merged(config, tables, folder)) == oracle(config, rows)


@pytest.mark.parametrize("keep", ["first", "longest", "none"])
def test_a_merge_with_little_memory_decides_as_one_with_much(tmp_path, keep):
    rng = random.Random(8)
    config = DocumentDedup(url=True, bands=2, keep=keep, write_index=True)
    some = [None, *range(4000)]
    rows = [
        (rng.randrange(9000), *(rng.choice(some) for _ in range(3)), rng.randrange(3))
        for _ in range(3000)
    ]
    # One text, and one that no document has alone, so often that its group is in many runs.
    rows += [(0, None, None, None, 0)] * 1000
    tables = [signed_of(config, rows[a : a + 900], a) for a in range(0, len(rows), 900)]
    much = merged(config, tables, tmp_path / "much")
    little = merged(config, tables, tmp_path / "little", TINY)
    assert much == little and len(much) > 1000
    index = [tmp_path / name / "out" / "index.parquet" for name in ("much", "little")]
    assert pq.read_table(index[0]) == pq.read_table(index[1])
    names = sorted(path.name for path in (tmp_path / "little" / "out").iterdir())
    assert names == ["decisions.parquet", "index.parquet"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["first", "longest", "none"]), corpora, st.data())
def test_a_corpus_in_parts_loses_what_it_would_at_once(tmp_path_factory, keep, rows, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    folder = tmp_path_factory.mktemp("parts")
    index, lost = None, []
    for number, (start, end) in enumerate(pairwise([0, *cuts, len(rows)])):
        config = DocumentDedup(url=True, bands=2, keep=keep, index=index, write_index=True)
        part = rows[start:end]
        found = short(merged(config, [signed_of(config, part)], folder / str(number), TINY))
        assert found == oracle(config, part, rows[:start])
        lost += [start + row for row, _, _ in found]
        index = str(folder / str(number) / "out" / "index.parquet")
    if keep == "first":
        assert lost == [row for row, _, _ in oracle(DocumentDedup(url=True, bands=2), rows)]


def test_a_new_crawl_loses_what_is_like_any_document_of_an_earlier_one(tmp_path):
    rng = random.Random(6)
    old, new = prose(rng, 300), prose(rng, 300)
    first = DocumentDedup(url=True, write_index=True)
    batch = batch_of([" ".join(old), "short one"], uri=["http://a.org/1", "http://a.org/2"])
    assert decide(first, batch, tmp_path / "1") == []
    second = DocumentDedup(url=True, index=str(tmp_path / "1" / "out" / "index.parquet"))
    texts = [" ".join(new), " ".join(old[:-2]), "short\none", "other", "new one", " ".join(new[3:])]
    uris = ["b", "http://b.org/", "c", "https://a.org/2#top", "d", "e"]
    assert decide(second, batch_of(texts, uri=uris), tmp_path / "2") == [
        (1, None, "documents:earlier"),
        (2, None, "documents:earlier"),
        (3, None, "documents:earlier"),
        (5, 0, "documents:near"),
    ]
    third = DocumentDedup(url=True, index=str(tmp_path / "2" / "out" / "index.parquet"))
    again = decide(third, batch_of([*texts, " ".join(old)]), tmp_path / "3")
    assert {reason for _, _, reason in again} == {"documents:earlier"} and len(again) == 7


def test_an_index_or_signatures_of_other_settings_are_refused_by_name(tmp_path):
    batch = batch_of(["a b c d e f"])
    merged(DocumentDedup(write_index=True), [DocumentDedup().sign(batch)], tmp_path)
    index = str(tmp_path / "out" / "index.parquet")
    for change, message in (
        ({"ngram": 6}, "ngram: 5, expected 6"),
        ({"bands": 7, "rows": 16}, "bands: 14, expected 7, rows: 8, expected 16"),
        ({"seed": 1}, "seed: 0, expected 1"),
        ({"url": True}, "url: False, expected True"),
        ({"near": False}, "near: True, expected False"),
    ):
        config = DocumentDedup(**change, index=index)
        with pytest.raises(ValueError, match=message):
            merged(config, [config.sign(batch)], tmp_path / "new")
        with pytest.raises(ValueError, match=f"{message}.*sign again"):
            merged(DocumentDedup(**change), [DocumentDedup().sign(batch)], tmp_path / "new")
    with pytest.raises(ValueError, match="another keep: sign again"):
        merged(DocumentDedup(keep="longest"), [DocumentDedup().sign(batch)], tmp_path / "new")
    with pytest.raises(ValueError, match="would be overwritten"):
        merged(DocumentDedup(index=index), [DocumentDedup().sign(batch)], tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        config = DocumentDedup(index=str(tmp_path / "missing.parquet"))
        merged(config, [DocumentDedup().sign(batch)], tmp_path / "new")
    with pytest.raises(ValueError, match="not an index"):
        config = DocumentDedup(index=str(tmp_path / "out" / "decisions.parquet"))
        merged(config, [config.sign(batch)], tmp_path / "new")
    assert not list(tmp_path.glob("new/out/*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": 0}, "at least 1"),
        ({"exact": False, "near": False}, "one of exact, url and near"),
        ({"keep": "best_quality"}, "quality_key need each other"),
        ({"quality_key": "q"}, "quality_key need each other"),
        ({"keep": "preferred_source"}, "prefer need each other"),
        ({"keep": "last"}, "unknown keep 'last'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DocumentDedup(**settings)


def test_batches_get_the_decisions_about_their_rows(tmp_path):
    rng = random.Random(9)
    texts = [str(rng.randrange(40)) for _ in range(200)]
    batch, config = batch_of(texts), DocumentDedup()
    merged(config, [config.sign(batch)], tmp_path)
    decisions = tmp_path / "out" / "decisions.parquet"
    expected = ["documents:exact" if text in texts[:i] else None for i, text in enumerate(texts)]
    for size in (1, 7, 200):
        parts = [config.apply(batch.slice(at, size), decisions, at) for at in range(0, 200, size)]
        assert [reject for part in parts for reject in part["reject"].to_pylist()] == expected
        assert pa.Table.from_batches(parts).drop_columns("reject") == pa.Table.from_batches([batch])
    assert config.apply(batch.slice(0, 0), decisions, 0).num_rows == 0


def test_a_corpus_that_changed_since_it_was_signed_is_refused(tmp_path):
    batch, config = batch_of(["a", "a", "b"]), DocumentDedup()
    merged(config, [config.sign(batch)], tmp_path)
    with pytest.raises(ValueError, match="sign it again"):
        config.apply(batch.slice(1), tmp_path / "out" / "decisions.parquet", 0)


def test_no_documents_have_no_duplicates(tmp_path):
    config = DocumentDedup(url=True, keep="longest", write_index=True)
    empty = config.sign(batch_of([]))
    assert merged(config, [], tmp_path / "none") == []
    assert merged(config, [empty, empty], tmp_path / "empty") == []
    index = str(tmp_path / "empty" / "out" / "index.parquet")
    config = DocumentDedup(url=True, keep="longest", index=index)
    assert merged(config, [config.sign(batch_of(["a"]))], tmp_path / "one") == []


def test_a_killed_merge_leaves_nothing_half_written(tmp_path):
    config = DocumentDedup(bands=12, rows=1)
    rng = random.Random(5)
    rows = [[rng.randrange(2**60) for _ in range(13)] for _ in range(5000)]
    paths = write([signed_of(config, rows)] * 2, tmp_path / "signed")
    out = tmp_path / "out"
    code = (
        "import sys, pathlib; from curation.dedup import DocumentDedup;"
        "names = list(map(pathlib.Path, sys.argv[1:])); print('begun', flush=True);"
        "DocumentDedup(bands=12, rows=1).merge(names[1:], names[0], 4096); print('done')"
    )
    run = [sys.executable, "-c", code, str(out), *map(str, paths)]
    for wait in (0.0, 0.15):
        with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "begun\n"
            time.sleep(wait)
            os.kill(process.pid, signal.SIGKILL)
            finished = process.stdout.read() == "done\n"
        if not finished:
            assert not out.exists() or not (out / "decisions.parquet").exists()
            left = [path.name for path in out.iterdir()] if out.exists() else []
            assert all(name.startswith(".decisions.parquet.") for name in left)
    subprocess.run(run, check=True, capture_output=True)
    assert [path.name for path in out.iterdir()] == ["decisions.parquet"]
    found = pq.read_table(out / "decisions.parquet")
    assert found["row"].to_pylist() == list(range(5000, 10_000))
    assert found["kept_row"].to_pylist() == list(range(5000))
