"""Projects to documents: `gristmill projects` and the stage of that name.

The work is cut into groups of projects of about the same size; each gives a shard of documents (the
curation schema) and a shard of graphs: a row for each project with its licence, statistics, and
each of its files with what it needs, in order. From the graphs come the manifest's statistics, the
report's table and `gristmill projects show`.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape

from curation.document import SCHEMA
from curation.project.documents import Project, ProjectSettings, batches, documents, read_project
from curation.project.files import ProjectError, find_projects, places_of
from curation.readers import Problem
from pipelines.files import atomic

GROUP_BYTES = 64 << 20

GRAPHS = pa.schema(
    [
        ("name", pa.string()),
        ("license", pa.string()),
        ("used", pa.bool_()),  # false where the licence is not on the list
        ("documents", pa.int64()),
        ("edges", pa.int64()),
        ("edges_in_order", pa.int64()),
        ("imports", pa.int64()),
        ("bytes", pa.int64()),
        ("aside", pa.list_(pa.struct([("reason", pa.string()), ("files", pa.int64())]))),
        (
            "files",
            pa.list_(
                pa.struct(
                    [
                        ("path", pa.string()),
                        ("language", pa.string()),
                        ("bytes", pa.int64()),
                        ("needs", pa.list_(pa.string())),
                        ("problem", pa.string()),
                    ]
                )
            ),
        ),
    ]
)


@dataclass(frozen=True)
class ProjectSource:
    """A project, a table of projects, or with `each` a folder of them; `source` names its rows."""

    path: str
    source: str
    each: bool = False


def plan_projects(sources: Sequence[ProjectSource]) -> list[dict]:
    """Cut sources into jobs: groups of projects of one source, in order of their names.

    Raises ProjectError for a path that does not exist or holds no project.
    """
    jobs: list[dict] = []
    for source in sources:
        root = Path(source.path)
        places = places_of(root) if source.each and root.is_dir() else [root]
        if not root.exists() or not places:
            what = "no such file or folder" if not root.exists() else "no projects in it"
            raise ProjectError(f"{root}: {what}")
        group, held = [], 0
        for place in places:
            size = _size(place)
            if group and held + size > GROUP_BYTES:
                jobs.append({"source": source.source, "paths": group})
                group, held = [], 0
            group.append(str(place))
            held += size
        jobs.append({"source": source.source, "paths": group})
    return jobs


def _size(place: Path) -> int:
    """Bytes of a file, or of the files in a folder, links not followed."""
    if place.is_file():
        return place.stat().st_size
    walk = os.walk(place)
    return sum((Path(f) / name).lstat().st_size for f, _, names in walk for name in names)


def write_projects(number: int, job: dict, out: str, settings: dict, on_error: str) -> dict:
    """Write the documents and graphs of one job; a damaged project is told and left out."""
    chosen = ProjectSettings(**settings | {"source": job["source"]})
    directory, problems = Path(out), []
    graphs: list[dict] = []
    rows = size = 0

    def all_documents() -> Iterable[dict]:
        for path in job["paths"]:
            try:
                for raw in find_projects(Path(path)):
                    project = read_project(raw, chosen)
                    made = 0
                    for row in documents(project, chosen):
                        made += 1
                        yield row
                    graphs.append(graph(project, made))
            except (ValueError, pa.ArrowException, OSError) as error:
                if on_error == "stop":
                    raise
                problems.append(Problem(path, "", str(error).removeprefix(f"{path}: ")))

    with (
        atomic(directory / "documents" / f"{number:05d}.parquet") as path,
        pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer,
    ):
        for batch in batches(all_documents()):
            writer.write_batch(batch)
            rows += len(batch)
            size += pc.sum(pc.binary_length(batch["text"])).as_py()
    with atomic(directory / "graphs" / f"{number:05d}.parquet") as path:
        pq.write_table(pa.Table.from_pylist(graphs, GRAPHS), path, compression="zstd")
    return {
        "rows": rows,
        "bytes": size,
        "projects": len(graphs),
        "problems": [asdict(problem) for problem in problems],
    }


def graph(project: Project, made: int) -> dict:
    """The row of `GRAPHS` for a project of which `made` documents were written."""
    told = project.statistics()
    return {
        "name": project.name,
        "license": project.license,
        "used": made > 0,
        "documents": made,
        **{key: told[key] for key in ("edges", "edges_in_order", "imports", "bytes")},
        "aside": [{"reason": reason, "files": n} for reason, n in told["aside"].items()],
        "files": [
            {
                "path": path,
                "language": project.files[path].language,
                "bytes": len(project.files[path].data),
                "needs": project.edges[path],
                "problem": project.facts[path].problem or None,
            }
            for path in project.order
        ],
    }


def add_up(graphs: pa.Table) -> dict:
    """Statistics over all projects, JSON-able."""
    rows = graphs.to_pylist()
    aside, languages, licences = Counter(), Counter(), Counter()
    for row in rows:
        aside.update({entry["reason"]: entry["files"] for entry in row["aside"]})
        languages.update(file["language"] for file in row["files"])
        licences[row["license"] or "unknown"] += 1
    sums = {
        key: sum(row[key] for row in rows)
        for key in ("documents", "edges", "edges_in_order", "imports", "bytes")
    }
    return {
        "projects": len(rows),
        "not_allowed": sum(not row["used"] and bool(row["files"]) for row in rows),
        "files": sum(len(row["files"]) for row in rows),
        **sums,
        "aside": dict(aside.most_common()),
        "languages": dict(languages.most_common()),
        "licences": dict(licences.most_common()),
    }


def show(row: dict, console: Console, most: int = 200) -> None:
    """Draw one project's order: a line for each file, what it needs by the numbers of the files."""
    place = {file["path"]: number for number, file in enumerate(row["files"], 1)}
    share = row["edges_in_order"] / row["edges"] if row["edges"] else 1
    console.print(
        f"[bold]{escape(row['name'])}[/]  {escape(row['license'] or 'licence unknown')}, "
        f"{len(place):,} files, {row['bytes'] / 1e3:,.0f} kB, {row['edges']:,} edges, {share:.0%} "
        f"of them to a file that stands before; {row['documents']:,} documents",
        highlight=False,
        soft_wrap=True,
    )
    for path, number in list(place.items())[:most]:
        file = row["files"][number - 1]
        needs = [
            str(place[other]) if place[other] < number else f"[red]{place[other]}[/]"
            for other in file["needs"]
        ]
        shown = " ".join(needs[:12]) + (" …" if len(needs) > 12 else "")
        console.print(
            f"[dim]{number:>4}[/] {escape(path)} [dim]{file['language']}[/]"
            + (f"  [cyan]needs[/] {shown}" if shown else "")
            + (f"  [yellow]{escape(file['problem'])}[/]" if file["problem"] else ""),
            highlight=False,
            soft_wrap=True,
        )
    if len(place) > most:
        console.print(f"… and {len(place) - most:,} more")
    if row["aside"]:
        told = ", ".join(f"{entry['files']:,} {entry['reason']}" for entry in row["aside"])
        console.print(f"set aside: {told}", highlight=False)
