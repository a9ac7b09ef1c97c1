"""`gristmill projects`: code projects to documents without a recipe, and a look at one's order."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

console = Console()


def projects(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Folders, archives (.tar.*, .zip, .whl) or Parquet tables (repo, path, content); "
            "or `show` and the name of a project."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write into, or to show from.")
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="A folder is a folder of projects, not one project.")
    ] = False,
    order: Annotated[
        Literal["dependencies", "random"],
        typer.Option(help="A file behind those that it needs, or by chance, for comparison."),
    ] = "dependencies",
    max_bytes: Annotated[
        int, typer.Option(min=1, help="Bytes of a document; larger projects are cut in parts.")
    ] = 1 << 18,
    license: Annotated[
        list[str] | None,
        typer.Option("--license", help="SPDX identifier that may be used; may be repeated."),
    ] = None,
    holes: Annotated[
        bool,
        typer.Option(
            "--holes/--no-holes", help="Keep nodes of the syntax trees as spans, for FIM."
        ),
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of --order random.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Turn code projects into documents: files behind those they need, each under its path.

    Writes OUT/projects/documents/*.parquet (curation's schema, with spans of files and syntax
    nodes), graphs/*.parquet (who needs whom) and manifest.json. Killed, it goes on where it was.
    [bold]gristmill projects show NAME --out OUT[/] draws the order of one project; NAME may also
    be a folder or an archive.
    """
    if sources[0].name == "show" and str(sources[0]) == "show" and len(sources) == 2:
        _show(sources[1], out)
        return
    if out is None:
        raise ValueError("--out: missing; expected a folder to write into")
    from pipelines.files import read_json
    from pipelines.recipe import Recipe, check_place
    from pipelines.recipe_data import ProjectsSection, ProjectsSource
    from pipelines.runner import lock, make_progress, run_stage
    from pipelines.stages.projects import STAGE

    for source in sources:
        if not source.exists():
            raise ValueError(f"{source}: no such file or folder")
    names = [_name(source, sources) for source in sources]
    recipe = Recipe(
        name="projects",
        out=str(out),
        seed=seed,
        workers=workers,
        projects=ProjectsSection(
            sources=tuple(
                ProjectsSource(path=str(path), name=name, each=each and path.is_dir())
                for path, name in zip(sources, names, strict=True)
            ),
            order=order,
            max_bytes=max_bytes,
            licenses=tuple(license) if license else None,
            holes=holes,
        ),
    )
    check_place(recipe, "gristmill projects")
    with lock(recipe.directory), make_progress(console) as progress:
        run_stage(recipe, STAGE, progress)
    told = read_json(recipe.directory / "projects" / "manifest.json")["metrics"]["projects"]
    _print(told, recipe.directory / "projects")


def _name(path: Path, all_paths: list[Path]) -> str:
    """A source's name: the path's, as far as a name may hold it, and a number where two agree."""
    plain = [
        "".join(c if c.isalnum() or c in "._-" else "-" for c in p.resolve().name) or "projects"
        for p in all_paths
    ]
    at = all_paths.index(path)
    name = plain[at] if plain[at][0].isalnum() else f"p{plain[at]}"
    return name if plain.count(plain[at]) == 1 else f"{name}-{at}"


def _print(told: dict, folder: Path) -> None:
    table = Table(title=f"{folder}: what was made", title_justify="left", show_header=False)
    share = told["edges_in_order"] / told["edges"] if told["edges"] else 1.0
    rows = [
        ("projects", f"{told['projects']:,}, {told['not_allowed']:,} without an allowed licence"),
        ("documents", f"{told['documents']:,} of {told['files']:,} files"),
        ("imports", f"{told['imports']:,}, {told['edges']:,} edges between files"),
        ("edges in order", f"{share:.1%} lead to a file that stands before"),
        ("languages", _counts(told["languages"])),
        ("licences", _counts(told["licences"])),
        ("set aside", _counts(told["aside"])),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _counts(counts: dict[str, int], most: int = 8) -> str:
    shown = [f"{name} {n:,}" for name, n in list(counts.items())[:most]]
    return ", ".join(shown) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def _show(name: Path, out: Path | None) -> None:
    """Draw a project: of a run's graphs by its name, or straight from where it lies."""
    import pyarrow.parquet as pq

    from pipelines.projects import graph, show

    if out is None:
        from curation.project.documents import ProjectSettings, documents, read_project
        from curation.project.files import find_projects

        if not name.exists():
            raise ValueError(
                f"{name}: no such file or folder; to show a project of a run, give its --out"
            )
        settings = ProjectSettings(holes=False)
        for raw in find_projects(name):
            project = read_project(raw, settings)
            show(graph(project, sum(1 for _ in documents(project, settings))), console)
        return
    known: list[str] = []
    folders = [
        folder for folder in (out / "projects" / "graphs", out / "graphs") if folder.is_dir()
    ]
    if not folders:
        raise ValueError(f"{out}: no graphs in it; expected what `gristmill projects --out` wrote")
    for path in sorted(folders[0].glob("*.parquet")):
        names = pq.read_table(path, columns=["name"])["name"].to_pylist()
        known += names
        if str(name) in names:
            row = pq.read_table(path, filters=[("name", "==", str(name))]).to_pylist()[0]
            show(row, console)
            return
    near = ", ".join(known[:20]) + (" …" if len(known) > 20 else "")
    raise ValueError(f"{out}: no project {str(name)!r}; there are: {near or 'none'}")
