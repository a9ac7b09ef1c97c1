"""`gristmill rejected`: what was dropped, by step and reason, and samples to read."""

import json
import re
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.curate_cli import sample_rejected


@pytest.fixture(scope="module")
def rows(curated):
    paths = sorted((curated.out / "curate" / "rejected").glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def test_without_a_step_the_counts_by_step_and_reason(curated, rows):
    counts = Counter((row["step"], row["reason"]) for row in rows)
    assert len(counts) > 3
    for run in (str(curated.out), str(curated.out / "curate"), "tiny.yaml"):
        out, _ = curated("rejected", run)
        table = re.findall(r"│ (\S+) +│ (\S+) +│ +([\d,]+) +│", out)
        assert {(step, reason): int(n) for step, reason, n in table} == counts


def test_a_sample_shows_where_each_document_is_from_why_it_went_and_how_it_begins(curated, rows):
    there = [row for row in rows if row["reason"] == "documents:exact"]
    asked = ("--step", "documents", "--reason", "exact")
    out, _ = curated("rejected", "tiny.yaml", *asked)
    for row in there:
        words = row["text"].split()[:3]
        for part in (row["id"], row["source"], row["uri"], "documents:exact", *words):
            assert part in out
    assert f"{len(there)} of {len(there)} documents" in out
    out, _ = curated("rejected", "tiny.yaml", *asked, "--n", "1")
    assert f"1 of {len(there)} documents" in out


def test_a_step_or_reason_that_rejected_nothing_names_those_that_did(curated):
    _, err = curated("rejected", "tiny.yaml", "--step", "lenght", code=1)
    assert "'lenght'" in err and "length length:min_chars" in err and err.count("\n") == 1


def test_a_run_that_is_not_there_or_not_done_says_what_to_do(curated, tmp_path):
    _, err = curated("rejected", str(tmp_path), code=1)
    assert "run `gristmill curate` first" in err
    _, err = curated("rejected", "nothing.yaml", code=2)
    assert "no such recipe file" in err


def test_a_sample_is_of_what_was_asked_for_and_the_same_each_time(tmp_path):
    from pipelines.curation_maps import REJECTED_SCHEMA

    folder = tmp_path / "rejected"
    folder.mkdir()
    number = 0
    for k in range(6):
        made = []
        for _ in range(40):
            number += 1
            reason = "a:x" if number % 3 else "a:y"
            made.append(
                {"id": f"{number:032x}", "text": str(number), "source": "s", "domain": "web"}
                | {"step": "a", "reason": reason}
            )
        table = pa.Table.from_pylist(made, schema=REJECTED_SCHEMA)
        pq.write_table(table, folder / f"{k:05d}.parquet", row_group_size=7)
    for n in (1, 5, 30, 80, 200):
        got = [int(row["text"]) for row in sample_rejected(tmp_path, {("a", "y"), ("a", "a:y")}, n)]
        assert len(got) == len(set(got)) == min(n, 80) and not any(k % 3 for k in got)
        again = [int(row["text"]) for row in sample_rejected(tmp_path, {("a", "a:y")}, n)]
        assert again == got
    few = [int(row["text"]) for row in sample_rejected(tmp_path, {("a", "a:y")}, 6)]
    assert len({(k - 1) // 40 for k in few}) == 6  # one from each file


def test_what_curate_prints_at_its_end_adds_up(curated):
    out, _ = curated("curate", "tiny.yaml")
    manifest = json.loads((curated.out / "curate" / "manifest.json").read_text())
    flows = manifest["metrics"]["steps"]
    table = {
        cells[0]: [int(cell.replace(",", "")) for cell in cells[1:3] if cell]
        for line in out.split("what each step dropped")[1].splitlines()
        if line.startswith("│") and (cells := [cell.strip() for cell in line.split("│")[1:-1]])
    }
    given, dropped = table["length"]
    for flow in flows[1:]:
        assert table[flow["step"]][0] == given - dropped
        given, dropped = table[flow["step"]]
    assert table["kept"] == [given - dropped]
