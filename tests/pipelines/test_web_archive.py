"""Real web archives through the whole of curation: every page is kept, rejected, or a problem.

With -s it shows the table that `gristmill curate` ends with, and the reasons.
"""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from curation.readers import Source, plan_splits, read_split

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "web"
STEPS = (
    "language", "length", "gopher_repetition", "gopher_quality", "c4", "fineweb", "private_data",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no archives in {DATA}"),
]


@pytest.fixture(scope="module")
def sources() -> list[dict]:
    about = {"domain": "web", "format": "warc"}
    return [
        {"path": str(DATA / "pages.warc.gz"), "name": "pages"} | about,
        {"path": str(DATA / "warc"), "name": "malformed"} | about,
    ]


def test_archives_are_curated_and_everything_is_accounted_for(make_run, sources):
    run = make_run("web")
    recipe = {
        "name": "tiny",
        "sources": sources,
        "curate": {"steps": list(STEPS), "dedup": {"documents": {}}, "split_bytes": 2 << 20},
    }
    (run.directory / "web.yaml").write_text(yaml.safe_dump(recipe))
    out, err = run("curate", "web.yaml")
    reasons, _ = run("rejected", "web.yaml")
    print(out, reasons, sep="\n")
    metrics, folder = run.manifest("curate")["metrics"], run.out / "curate"

    # What there is to read, by the readers alone.
    problems: list = []
    read = Counter(
        uri
        for source in sources
        for split in plan_splits(Source(**source), 2 << 20)
        for batch in read_split(split, problems.append)
        for uri in batch["uri"].to_pylist()
    )
    assert read.total() > 150
    assert metrics["problem_count"] == len(problems) > 3
    assert metrics["problems"] == [vars(problem) for problem in problems]
    names = {path.name for path in (DATA / "warc").iterdir()} | {"pages.warc.gz"}
    assert {problem["file"] for problem in metrics["problems"]} <= names
    assert all(problem["what"] for problem in metrics["problems"])
    assert "warcio--bad.arc" in err or "warcio--bad.arc" in out

    # Read = kept + rejected, address by address, and by step and reason.
    kept, gone = (
        pa.concat_tables(pq.read_table(path) for path in sorted((folder / name).glob("*.parquet")))
        for name in ("documents", "rejected")
    )
    assert Counter(kept["uri"].to_pylist()) + Counter(gone["uri"].to_pylist()) == read
    assert gone["step"].null_count == gone["reason"].null_count == 0
    by_reason = Counter(zip(gone["step"].to_pylist(), gone["reason"].to_pylist(), strict=True))
    tally: Counter = Counter()
    for row in metrics["tally"]:
        tally[row["step"], row["reason"]] += row["documents"]
    assert tally.pop(("", "")) == len(kept) > 20
    assert tally == by_reason
    for step, reason in by_reason:
        assert reason.startswith(f"{step}:") and len(reason) > len(step) + 1
        assert reason in reasons
    given = read.total()
    for flow in metrics["steps"]:
        assert flow["documents_in"] == given, flow
        given -= sum(n for (step, _), n in by_reason.items() if step == flow["step"])
    assert given == len(kept)
    assert [flow["step"] for flow in metrics["steps"]] == [*STEPS, "documents"]

    # And it is drawn.
    page = (run.out / "curate-report" / "report.html").read_text("utf-8")
    drawn = page.partition("<h2>Curation")[2].partition("<h2>")[0]
    assert all(reason in drawn for _, reason in by_reason)
    assert all(problem["file"] in drawn for problem in metrics["problems"])
