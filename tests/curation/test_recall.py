import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.classifier import ClassifierSettings
from curation.document import SCHEMA, make_batch
from curation.recall import RecallSettings, recall

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SETTINGS = RecallSettings(
    classifier=ClassifierSettings(
        dim=8, bucket=5000, min_count=1, lr=0.5, word_ngrams=2, epochs=5, held_out=0
    ),
    rounds=3,
    domain_pages=5,
    join_score=0,
)
FOOD, BAKING, SHIPS = (
    words.split()
    for words in (
        "stir the soup add salt onions butter then serve it warm with bread",
        "knead dough flour yeast oven crust rise overnight with bread butter salt",
        "the ship left harbour wind strong sail mast captain crew north storm",
    )
)


def page(words, number, uri):
    text = " ".join(random.Random(f"{words[0]}{number}").choices(words, k=20))
    return {"text": f"{text} {number}", "source": "s", "domain": "web", "uri": uri}


def write(path, rows, files=1, row_group=None):
    """Write documents as so many Parquet files."""
    table = pa.Table.from_batches([make_batch(rows)])
    size = -(-len(rows) // files)
    paths = [path.with_name(f"{path.name}-{i}.parquet") for i in range(files)]
    for i, name in enumerate(paths):
        pq.write_table(table.slice(i * size, size), name, row_group_size=row_group)
    return paths


def seed_rows():
    return [page(FOOD, number, None) for number in range(100)]


def pool_rows():
    rows = [page(SHIPS, i, f"https://sea{i % 7}.example/log/{i}") for i in range(1000)]
    rows += [page(FOOD, 1000 + i, f"https://kitchen.example/recipes/{i}") for i in range(60)]
    # Pages that the seed says little of, on the host of those that it knows.
    rows += [page(BAKING, i, f"https://kitchen.example/recipes/bread-{i}") for i in range(60)]
    rows += [page(SHIPS, 2000 + i, f"https://kitchen.example/boats/{i}") for i in range(60)]
    random.Random(3).shuffle(rows)
    return rows


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A seed, a pool, and what was recalled."""
    folder = tmp_path_factory.mktemp("recall")
    seed, pool = write(folder / "seed", seed_rows()), write(folder / "pool", pool_rows())
    report = recall(seed, pool, SETTINGS, folder / "out")
    return folder / "out", report, seed, pool


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def recalled(folder):
    return pq.read_table(sorted(folder.glob("documents-*.parquet")))


def test_what_is_like_the_seed_is_recalled_with_its_score_and_round(done):
    out, report, _, _ = done
    table = recalled(out)
    assert table.schema == SCHEMA
    uris = table["uri"].to_pylist()
    assert sum("/recipes/" in uri for uri in uris) >= 110
    assert sum("/recipes/" not in uri for uri in uris) <= 5
    said = [json.loads(value) for value in table["metadata"].to_pylist()]
    assert all(value["recall_score"] >= 0.5 for value in said)
    rounds = [value["recall_round"] for value in said]
    for one in report["rounds"]:
        assert one["new"]["documents"] == rounds.count(one["round"])
    assert report["documents"] == len(table)
    assert report["bytes"] == sum(len(text.encode()) for text in table["text"].to_pylist())


def test_the_pages_of_a_found_domain_join_the_seed_and_are_recalled_later(done):
    _, report, _, _ = done
    first, second = report["rounds"][:2]
    assert [domain["domain"] for domain in first["largest_new_domains"]] == [
        "kitchen.example/recipes"
    ]
    assert first["new_domains"] == 1
    assert 0 < first["joined"] <= 120 - first["new"]["documents"]
    assert second["trained"]["positive"] > first["trained"]["positive"]
    assert second["new"]["documents"] > 0
    assert first["new"]["tokens"] == first["new"]["bytes"] // 4


def test_pages_of_a_found_domain_that_are_quite_unlike_the_seed_may_be_left_out(done, tmp_path):
    _, report, seed, pool = done
    careful = recall(seed, pool, replace(SETTINGS, join_score=0.2, rounds=1), tmp_path / "out")
    assert 0 < careful["rounds"][0]["joined"] < report["rounds"][0]["joined"]


def test_it_ends_when_nearly_all_had_been_collected(done, tmp_path):
    _, report, seed, pool = done
    settings = replace(SETTINGS, rounds=9, stop_share=0.9)
    rounds = recall(seed, pool, settings, tmp_path / "out")["rounds"]
    assert len(rounds) < 9
    assert rounds[-1]["already"] >= 0.9
    assert all(one["already"] < 0.9 for one in rounds[1:-1])
    assert rounds[: len(report["rounds"])] == report["rounds"][: len(rounds)]


def test_the_result_does_not_depend_on_how_the_pool_was_cut(done, tmp_path):
    out, _, _, _ = done
    seed = write(tmp_path / "seed", seed_rows(), files=3)
    pool = write(tmp_path / "pool", pool_rows(), files=5, row_group=37)
    recall(seed, pool, SETTINGS, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(out)


def test_a_killed_run_goes_on_to_the_same_bytes(done, tmp_path):
    out, _, seed, pool = done
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import test_recall as t\n"
        "from pathlib import Path\n"
        "def die(what, done, total):\n"
        "    if what == 'round 2: scoring' and done >= 1000: os._exit(9)\n"
        "t.recall([Path(sys.argv[2])], [Path(sys.argv[3])], t.SETTINGS, Path(sys.argv[4]), die)\n"
    )
    paths = [Path(__file__).parent, *seed, *pool, tmp_path / "out"]
    killed = subprocess.run([sys.executable, "-c", script, *map(str, paths)], env={**os.environ})
    assert killed.returncode == 9
    assert (tmp_path / "out" / "round-01" / "round.json").exists()
    assert not (tmp_path / "out" / "report.json").exists()
    seen = []
    recall(seed, pool, SETTINGS, tmp_path / "out", lambda what, *_: seen.append(what))
    assert not any(what.startswith("round 1") for what in seen)
    assert contents(tmp_path / "out") == contents(out)


def test_a_finished_run_is_not_done_again_and_more_rounds_go_on(done, tmp_path):
    _, _, seed, pool = done
    short = replace(SETTINGS, rounds=1)
    first = recall(seed, pool, short, tmp_path / "out")
    seen = []
    assert recall(seed, pool, short, tmp_path / "out", lambda *say: seen.append(say)) == first
    assert seen == []
    recall(seed, pool, SETTINGS, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(done[0])


def test_a_folder_made_from_other_things_is_refused(done, tmp_path):
    out, _, seed, pool = done
    before = contents(out)
    with pytest.raises(ValueError, match="other settings; remove it"):
        recall(seed, pool, replace(SETTINGS, min_score=0.4), out)
    with pytest.raises(ValueError, match="other pool; remove it"):
        recall(seed, write(tmp_path / "pool", pool_rows()[1:]), SETTINGS, out)
    assert contents(out) == before
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"none\.parquet: no documents, for want of id"):
        recall(seed, [tmp_path / "none.parquet"], SETTINGS, tmp_path / "out")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "documents-00000.parquet").write_text("mine")
    with pytest.raises(ValueError, match="notes: holds other files"):
        recall(seed, pool, SETTINGS, tmp_path / "notes")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["documents-00000.parquet"]
    with pytest.raises(ValueError, match="no documents in the pool"):
        recall(seed, [], SETTINGS, tmp_path / "out")


def test_rounds_are_told_as_they_end_and_again_when_all_is_done(done, tmp_path):
    _, report, seed, pool = done
    told, finished = [], []
    for each in (told.append, finished.append):
        recall(seed, pool, replace(SETTINGS, rounds=2), tmp_path / "out", each=each)
    assert told == finished == report["rounds"][:2]


def test_the_best_are_taken_up_to_a_number_of_bytes(done, tmp_path):
    _, _, seed, pool = done
    settings = replace(SETTINGS, rounds=1, most_bytes=1000)
    one = recall(seed, pool, settings, tmp_path / "out")["rounds"][0]
    assert 800 < one["recalled"]["bytes"] <= 1000
    kept, of_all = (
        {
            row["id"]: said["recall_score"]
            for row in recalled(folder).to_pylist()
            if (said := json.loads(row["metadata"]))["recall_round"] == 1
        }
        for folder in (tmp_path / "out", done[0])
    )
    left = [score for name, score in of_all.items() if name not in kept]
    assert left and kept.items() < of_all.items()
    assert min(kept.values()) >= max(left)


def test_pages_without_an_address_are_scored_and_join_no_domain(done, tmp_path):
    _, _, seed, _ = done
    rows = [{**row, "uri": None if i % 2 else "no address"} for i, row in enumerate(pool_rows())]
    settings = replace(SETTINGS, rounds=1)
    one = recall(seed, write(tmp_path / "pool", rows), settings, tmp_path / "out")["rounds"][0]
    assert one["recalled"]["documents"] > 10
    assert one["domains"] == one["joined"] == 0


def test_nothing_recalled_is_an_empty_file(done, tmp_path):
    _, _, seed, pool = done
    settings = replace(SETTINGS, rounds=2, min_score=1.1)
    report = recall(seed, pool, settings, tmp_path / "out")
    assert report["documents"] == 0
    assert recalled(tmp_path / "out").num_rows == 0


def test_tokens_are_counted_by_who_can(done, tmp_path):
    _, _, seed, pool = done
    settings = replace(SETTINGS, rounds=2)
    report = recall(
        seed, pool, settings, tmp_path / "out",
        count_tokens=lambda texts: sum(len(text.split()) for text in texts),
    )  # fmt: skip
    assert report["tokens"] == 21 * report["documents"]


def test_mathematics_is_recalled_from_real_texts_and_its_hosts_are_found(tmp_path):
    if not (DATA / "math").exists():
        pytest.skip("the real data is not here")
    books: dict[str, list[str]] = {}
    with pa.CompressedInputStream(str(DATA / "math" / "math_text.jsonl.zst"), "zstd") as file:
        for line in file.read().splitlines():
            row = json.loads(line)
            books.setdefault(row["source"], []).append(row["text"][:3000])
    path = sorted((DATA / "multilingual").glob("*.parquet"))[0]
    rows = pq.read_table(path, columns=["text", "language", "source"]).to_pylist()
    rows = [row for row in rows if row["language"] == "eng_Latn"]
    english = [(row["text"][:3000], row["source"]) for row in rows]
    random.Random(1).shuffle(english)

    def document(text, uri):
        return {"text": text, "source": "s", "domain": "web", "uri": uri}

    logic = books["OpenLogicProject/OpenLogic"]
    planted = {"napkin": books["vEnhance/napkin"][20:], "hott": books["HoTT/book"]}
    pool = [document(t, f"https://{s}.example/docs/{i}") for i, (t, s) in enumerate(english[:900])]
    for host, texts in planted.items():
        pool += [document(t, f"https://{host}.example/tex/{i}") for i, t in enumerate(texts)]
    random.Random(2).shuffle(pool)
    labelled = (
        write(
            tmp_path / "yes",
            [document(t, None) for t in books["vEnhance/napkin"][:20] + logic[400:500]],
        ),
        write(tmp_path / "no", [document(t, None) for t, _ in english[900:1200]]),
    )
    settings = RecallSettings(
        classifier=ClassifierSettings(
            dim=16, bucket=20_000, word_ngrams=3, epochs=5, lr=0.2, held_out=0, max_chars=3000
        ),
        rounds=3,
    )
    seed = write(tmp_path / "seed", [document(t, None) for t in logic[:400]])
    report = recall(
        seed, write(tmp_path / "pool", pool), settings, tmp_path / "out", labelled=labelled
    )
    at_half = [
        next(row for row in one["judged"] if row["min_score"] == 0.5) for one in report["rounds"]
    ]
    assert all(after["precision"] >= before["precision"] for before, after in pairwise(at_half))
    assert at_half[-1]["recall"] >= at_half[0]["recall"]
    assert at_half[-1]["precision"] > 0.95
    found = {domain["domain"] for domain in report["rounds"][0]["largest_new_domains"]}
    assert found == {"napkin.example/tex", "hott.example/tex"}
    uris = recalled(tmp_path / "out")["uri"].to_pylist()
    right = sum(uri.split("/")[2] in ("napkin.example", "hott.example") for uri in uris)
    assert right / len(uris) > 0.95
    assert right > 0.8 * sum(map(len, planted.values()))
