"""`gristmill trace`: a step's documents, a document's steps, and what it says of others."""

import itertools
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.spikes import spikes_section

sys.path.insert(0, str(Path(__file__).parents[1] / "packing"))
from packed_run import SOURCES, write_packed

SETS = {"phase-0": (24, 43), "phase-1": (9, 30), "validation-web": (24, 2)}
SIZES = [4] * 10 + [3] + [8] * 2  # recorded: 59 sequences; the first phase's end cuts step 11


def uri(shard, document):
    return f"https://example.org/{shard}/{document}" if document % 5 else None


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A run's folder with all that a trace reads."""
    run = write_packed(tmp_path_factory.mktemp("run") / "r", SETS, seed=8, documents=60)
    write_around(run)
    return run


def write_around(run):
    """Curated documents, splits, the plan's manifest and the record of training."""
    folder = run.directory / "curate" / "documents"
    folder.mkdir(parents=True)
    splits = []
    for s, ids in enumerate(run.ids):
        table = pa.table(
            {"id": ids, "text": ["…"] * len(ids), "uri": [uri(s, d) for d in range(len(ids))]}
        )
        pq.write_table(table, folder / f"{s:05d}.parquet", row_group_size=11)
        splits.append({"path": f"/elsewhere/{s:05d}.parquet"})  # where it was when it was encoded
    (run.shards / "splits.json").write_text(json.dumps({"splits": splits}))
    config = {"plan": {"validation": {"fraction": 0.0}}}
    (run.plan / "manifest.json").write_text(json.dumps({"config": config}))
    (run.directory / "train").mkdir()
    consumed, lines = 0, []
    for step, size in enumerate(SIZES, 1):
        consumed += size
        lines.append(json.dumps({"step": step, "sequences": consumed, "loss": 3.0}))
    (run.directory / "train" / "metrics.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def gristmill(monkeypatch, capsys):
    """Run `gristmill trace …` in this process; gives what it printed and its exit code."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gristmill", "trace", *map(str, arguments)])
        monkeypatch.delenv("GRISTMILL_TRACEBACK", raising=False)
        with pytest.raises(SystemExit) as left:
            main()
            raise SystemExit(0)
        printed = capsys.readouterr()
        return printed.out, printed.err, left.value.code or 0

    return run


def pieces_of(run, first, last):
    """What must be told of positions first … last - 1."""
    for position in range(first, last):
        offset = 0
        for s, d, start, length in run.row(position)[0]:
            yield {
                "row": position - first, "offset": offset, "length": length, "start": start,
                "id": run.ids[s][d], "source": SOURCES[run.sources[s][d]],
                "domain": "math" if run.sources[s][d] == 1 else "web", "language": "eng_Latn",
                "tokens": len(run.documents[s][d]), "uri": uri(s, d),
            }  # fmt: skip
            offset += length


def test_a_step_names_every_document_of_its_batch(traced, gristmill):
    first = 0
    for step, size in enumerate([*SIZES, 8, 6], 1):
        out, _, code = gristmill(traced.directory, "--step", step, "--json")
        told = json.loads(out)
        assert code == 0 and (told["first"], told["last"]) == (first, first + size)
        assert told["recorded"] == (step <= len(SIZES))
        assert told["phase"] == ("phase-0" if first < 43 else "phase-1")
        assert told["pieces"] == list(pieces_of(traced, first, first + size))
        first += size
    assert first == 73


def test_a_row_is_that_part_of_the_batch(traced, gristmill):
    whole = json.loads(gristmill(traced.directory, "--step", 12, "--json")[0])["pieces"]
    for row in range(8):
        out, _, _ = gristmill(traced.directory, "--step", 12, "--row", row, "--json")
        assert json.loads(out)["pieces"] == [x for x in whole if x["row"] == row]
    _, err, code = gristmill(traced.directory, "--step", 12, "--row", 8)
    assert code == 1 and "rows are 0 to 7, not 8" in err


def test_what_is_printed_has_the_same_in_it(traced, gristmill):
    out, _, _ = gristmill(traced.directory, "--step", 11)
    head, header, *rows = out.splitlines()
    assert head.startswith("step 11: phase-0, sequences 40 to 42")
    names = header.split()
    wanted = list(pieces_of(traced, 40, 43))
    assert [dict(zip(names, row.split(), strict=True)) for row in rows] == [
        {name: str(x[name]) if x[name] is not None else "-" for name in names} for x in wanted
    ]
    out, _, _ = gristmill(traced.directory, "--step", 14)
    assert "not trained yet" in out.splitlines()[0]


def test_a_document_names_every_step_that_saw_it(traced, gristmill):
    """Both ways: together, the documents see all that the steps have."""
    ends = [sum(SIZES[:k]) for k in range(len(SIZES) + 1)] + [67, 73]
    wanted = {}
    for step, (first, last) in enumerate(itertools.pairwise(ends), 1):
        for piece in pieces_of(traced, first, last):
            where = {name: piece[name] for name in ("row", "offset", "length", "start")}
            phase = "phase-0" if first < 43 else "phase-1"
            seen = {"step": step, "recorded": step <= len(SIZES), "phase": phase} | where
            wanted.setdefault(piece["id"], []).append(seen)
    for name in list(wanted)[::15]:
        out, _, code = gristmill(traced.directory, "--document", name, "--json")
        (told,) = json.loads(out)
        assert code == 0 and told["id"] == name and told["held_out"] is None
        assert told["seen"] == wanted[name]
        out, _, _ = gristmill(traced.directory, "--document", name)
        assert len(out.splitlines()) == 2 + len(wanted[name]) and name in out


def test_a_held_out_document_says_so_and_one_that_was_not_taken_too(traced, gristmill):
    seen = {(s, d) for k in range(73) for s, d, _, _ in traced.row(k)[0]}
    held = {(s, d) for row in traced.rows["validation-web"] for s, d, _, _ in row} - seen
    for s in range(3):
        for d in range(60):
            if (s, d) in held:
                out, _, code = gristmill(traced.directory, "--document", traced.ids[s][d])
                assert "held out for validation (in validation-web)" in out and code == 0
            elif (s, d) not in seen:
                out, _, code = gristmill(traced.directory, "--document", traced.ids[s][d])
                assert "in no step" in out and code == 0


def test_a_document_is_found_by_the_one_it_was_made_from(traced, gristmill):
    name = next(x for ids in traced.ids for x in ids if x[-1] in "01")
    out, _, code = gristmill(traced.directory, "--document", f"parent-of-{name}")
    assert code == 0 and out.startswith(f"{name} (made from parent-of-{name})")


def test_an_unknown_id_says_so_with_exit_code_2(traced, gristmill):
    out, err, code = gristmill(traced.directory, "--document", "f" * 32)
    assert code == 2 and not out and f"{'f' * 32}: no document of this id" in " ".join(err.split())


MISTAKES = [
    (("--step", 16), 1, "ends with step 15"),
    (("--step", 0), 1, "counted from 1"),
    ((), 2, "one of them"),
    (("--step", 1, "--document", "x"), 2, "one of them"),
    (("--document", "x", "--row", 1), 2, "--row is of a step"),
]


@pytest.mark.parametrize(("arguments", "exit_code", "words"), MISTAKES)
def test_a_mistake_is_told_in_a_line(traced, gristmill, arguments, exit_code, words):
    _, err, code = gristmill(traced.directory, *arguments)
    assert code == exit_code and words in err and "Traceback" not in err


def test_a_folder_without_a_plan_says_what_to_run(tmp_path, gristmill):
    _, err, code = gristmill(tmp_path, "--step", 1)
    assert code == 1 and "gristmill plan" in err


def test_documents_that_moved_are_found_by_their_id(tmp_path, gristmill):
    run = write_packed(tmp_path / "r", SETS, seed=8, documents=60)
    write_around(run)
    folder = run.directory / "curate" / "documents"
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    for path in folder.glob("*.parquet"):
        path.unlink()
    moved = pa.concat_tables(tables[::-1])
    pq.write_table(moved, folder / "00000.parquet", row_group_size=17)
    out, _, _ = gristmill(run.directory, "--step", 1, "--json")
    assert json.loads(out)["pieces"] == list(pieces_of(run, 0, 4))
    (folder / "00000.parquet").unlink()
    out, _, _ = gristmill(run.directory, "--step", 1, "--json")
    assert {x["uri"] for x in json.loads(out)["pieces"]} == {None}


def test_names_cannot_steer_the_terminal(tmp_path, gristmill):
    run = write_packed(tmp_path / "r", SETS, seed=8, documents=60)
    write_around(run)
    path = run.directory / "curate" / "documents" / "00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(2, "uri", pa.array(["\x1b[2Jhere\nthere"] * 60)), path)
    out, _, _ = gristmill(run.directory, "--step", 1)
    assert "\x1b" not in out and "\ufffd[2Jhere\ufffdthere" in out


def test_the_report_names_the_top_documents_of_the_spikes(traced):
    lines = [{"step": k, "loss": 3.0} for k in range(1, 30)]
    quiet = "".join(spikes_section(traced.directory, lines[:14]))
    assert "None in 14 steps" in quiet
    # Sixteen steps are looked back on, and the record has thirteen: others are by the batch size.
    path = traced.directory / "train" / "metrics.jsonl"
    before = path.read_text()
    marks = [{"step": k, "sequences": 3 * k, "loss": 3.0} for k in range(1, 25)]
    try:
        path.write_text("".join(json.dumps(x) + "\n" for x in marks))
        marks[18]["loss"] = 8.0
        section = "".join(spikes_section(traced.directory, marks))
    finally:
        path.write_text(before)
    tokens: dict[str, int] = {}
    for piece in pieces_of(traced, 54, 57):  # what step 19 took
        tokens[piece["id"]] = tokens.get(piece["id"], 0) + piece["length"]
    top = sorted(tokens.values(), reverse=True)[:3]
    shown = [name for name in tokens if name in section]
    assert "<td>19</td>" in section and sorted((tokens[x] for x in shown), reverse=True) == top


@pytest.mark.slow
def test_a_real_run_is_traced_both_ways(finished):
    metrics = (finished.out / "train" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in metrics if "sequences" in json.loads(line)]
    out, _ = finished("trace", str(finished.out), "--step", "3", "--json")
    told = json.loads(out)
    assert (told["first"], told["last"]) == (steps[1]["sequences"], steps[2]["sequences"])
    assert all(piece["uri"] for piece in told["pieces"])
    piece = told["pieces"][0]
    out, _ = finished("trace", "tiny.yaml", "--document", piece["id"], "--json")
    seen = [(x["step"], x["row"], x["offset"]) for found in json.loads(out) for x in found["seen"]]
    assert (3, piece["row"], piece["offset"]) in seen
    curated = {
        row["id"]: row["uri"]
        for path in (finished.out / "curate" / "documents").glob("*.parquet")
        for row in pq.read_table(path, columns=["id", "uri"]).to_pylist()
    }
    assert all(curated[x["id"]] == x["uri"] for x in told["pieces"])
    page = (finished.out / "report" / "report.html").read_text("utf-8")
    assert "Loss spikes" in page
