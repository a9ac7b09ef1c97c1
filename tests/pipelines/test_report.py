"""The report's tables say what the stages' manifests say."""

import itertools
from html.parser import HTMLParser

import pytest

pytestmark = pytest.mark.slow


class Tables(HTMLParser):
    """The tables of a page by the heading above them: rows of cells, the header first."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.heading, self.inside = {}, "", ""
        self.feed(page)

    def handle_starttag(self, tag, _):
        self.inside = tag
        if tag == "h2":
            self.heading = ""
        elif tag == "tr":
            self.tables.setdefault(self.heading, []).append([])
        elif tag in ("td", "th"):
            self.tables[self.heading][-1].append("")

    def handle_endtag(self, _):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "h2":
            self.heading += data
        elif self.inside in ("td", "th"):
            self.tables[self.heading][-1][-1] += data


def tables_of(run):
    return Tables((run.out / "report" / "report.html").read_text("utf-8")).tables


def number(cell):
    return int(cell.split()[0].replace(",", ""))


def find(tables, words):
    (found,) = [rows for heading, rows in tables.items() if heading.startswith(words)]
    return found


def test_projects_are_shown_where_the_recipe_has_them(with_projects, finished):
    told = with_projects.manifest("projects")["metrics"]["projects"]
    rows = {row[0]: row[1] for row in find(tables_of(with_projects), "Projects")}
    assert number(rows["projects"]) == told["projects"] == 1
    for name, key in (
        ("files that count", "files"),
        ("imports", "imports"),
        ("edges: a file needs another", "edges"),
        ("… that stands before it", "edges_in_order"),
        ("documents", "documents"),
    ):
        assert number(rows[name]) == told[key] > 0
    assert f"{told['edges_in_order'] / told['edges']:.1%}" in rows["… that stands before it"]
    assert rows["licences, by projects"] == "unknown 1"
    page = (with_projects.out / "report" / "report.html").read_text("utf-8")
    assert "Plotly.newPlot" in page.partition("<h2>Projects")[2].partition("<h2>")[0]
    assert not any(heading.startswith("Projects") for heading in tables_of(finished))


@pytest.mark.parametrize("run", ["with_projects", "finished"])
def test_each_step_of_curation_begins_with_what_the_one_before_has_left(run, request):
    run = request.getfixturevalue(run)
    metrics = run.manifest("curate")["metrics"]
    header, *rows = find(tables_of(run), "Curation")
    assert header[:3] == ["step", "documents in", "out"]
    rows = rows[: len(metrics["steps"])]  # a table of problems comes after
    assert [row[0] for row in rows] == [flow["step"] for flow in metrics["steps"]]
    assert number(rows[0][1]) == sum(row["documents"] for row in metrics["tally"])
    for before, after in itertools.pairwise(rows):
        assert (before[2], before[6]) == (after[1], after[5])  # documents and megabytes
    kept = [row for row in metrics["tally"] if not row["step"]]
    assert number(rows[-1][2]) == sum(row["documents"] for row in kept)
    assert float(rows[-1][6]) == round(sum(row["bytes"] for row in kept) / 1e6, 2)
    for row in rows:
        assert number(row[1]) - number(row[2]) == number(row[3])


def test_holes_are_shown_beside_what_the_recipe_wanted(with_projects):
    fim = with_projects.manifest("encode")["metrics"]["fim"]
    _, *rows = find(tables_of(with_projects), "Fill-in-the-middle")
    shown = {row[0]: row[1:] for row in rows}
    for what, made in (("hole", fim["holes"]), ("format", fim["formats"])):
        counts = {n: number(row[0]) for n, row in shown.items() if n.startswith(what)}
        assert counts == {f"{what}: {name}": count for name, count in made.items()}
        assert sum(counts.values()) == fim["documents"] > 20
    assert shown["hole: syntax"][2] == "40.0%" and shown["format: spm"][2] == "50.0%"
    page = (with_projects.out / "report" / "report.html").read_text("utf-8")
    assert f"{fim['changed'] / fim['tokens']:.1%} of which the unbroken text does not" in page


def test_the_floors_and_resources_of_the_kernels_are_folded_into_it(finished):
    pytest.importorskip("triton")
    from model.kernels.resources import read_table

    page = (finished.out / "report" / "report.html").read_text("utf-8")
    folded = page.partition("<h2>GPU kernels")[2].partition("<details>")[2].partition("</details>")
    assert "v3-671b" in folded[0] and "moe-1b" in folded[0] and folded[1]
    for build in read_table()[1]:
        assert f"<td>{build}</td>" in folded[0]
