"""Looking at what curation did: what each step dropped, and samples of the dropped documents.

`gristmill rejected` reads the manifest for counts and the `rejected/` files for samples, one file
at a time. The same command shows the same documents each time, from files all over the corpus.
`gristmill task` is what the executors call, and nobody else.
"""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

console = Console()


def rejected(
    run: Annotated[
        str, typer.Argument(help="A run's folder, its curate folder, or the recipe it came from.")
    ],
    step: Annotated[
        str | None, typer.Option("--step", help="Only what this step rejected.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Only this reason: `length:min_chars`.")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Documents to show at most.")] = 20,
    chars: Annotated[int, typer.Option(min=1, help="Characters of each text to show.")] = 300,
) -> None:
    """Show documents that curation rejected; without a step or reason, the counts by each."""
    folder = find_curated(run)
    from pipelines.files import read_json

    tally = [row for row in read_json(folder / "manifest.json")["metrics"]["tally"] if row["step"]]
    if step is None and reason is None:
        console.print(_reasons(tally))
        return
    wanted = sorted(
        {
            (row["step"], row["reason"])
            for row in tally
            if step in (None, row["step"]) and reason in (None, row["reason"], _short(row))
        }
    )
    if not wanted:
        known = ", ".join(sorted({f"{row['step']} {row['reason']}" for row in tally}))
        asked = " ".join(part for part in (step, reason) if part)
        raise ValueError(
            f"{folder}: nothing was rejected for {asked!r}; expected a step and reason among: "
            f"{known or 'none, nothing was rejected'}"
        )
    total = sum(row["documents"] for row in tally if (row["step"], row["reason"]) in wanted)
    shown = 0
    for row in sample_rejected(folder, set(wanted), n):
        shown += 1
        title = f"{row['reason']}  {row['source']}  {row['language'] or '-'}  {row['uri'] or '-'}"
        console.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
        console.print(row["id"], style="dim", highlight=False)
        more = " …" if len(row["text"]) > chars else ""
        console.print(_plain(row["text"][:chars]) + more, markup=False, highlight=False)
        console.print()
    console.print(f"{shown:,} of {total:,} documents", style="dim", highlight=False)


def task(
    directory: Annotated[Path, typer.Argument(help="A stage's folder.")],
    name: Annotated[str, typer.Argument(help="The map, a folder of work/tasks.")],
    number: Annotated[int, typer.Argument(min=0, help="The task.")],
) -> None:
    """Do one task of a stage that `gristmill run` prepared (called by Slurm)."""
    from pipelines.tasks import run_task

    run_task(directory, name, number)


def find_curated(run: str) -> Path:
    """The finished curate folder of a run's folder or a recipe.

    Raises ValueError if it is not there, RecipeError if `run` is neither.
    """
    for folder in (Path(run) / "curate", Path(run)):
        if (folder / "manifest.json").is_file() and (folder / "rejected").is_dir():
            return folder
    if Path(run).is_dir():
        raise ValueError(
            f"{run}: no finished curation in it, expected curate/manifest.json: "
            "run `gristmill curate` first"
        )
    from pipelines.recipe import load_recipe

    folder = load_recipe(run).directory / "curate"
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"{folder}: curation is not done: run `gristmill curate {run}` first")
    return folder


def sample_rejected(folder: Path, wanted: set[tuple[str, str]], n: int) -> Iterator[dict]:
    """Up to n rejected rows whose (step, reason) is wanted, from files in a fixed random order.

    At first few from each file, so that a corpus of many files is seen in its breadth.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted((folder / "rejected").glob("*.parquet"))
    random.Random(0).shuffle(paths)
    given: dict[Path, int] = {}
    for share in (max(1, n // 8), n):
        for path in paths:
            if n <= 0:
                return
            with pq.ParquetFile(path) as file:
                keys = file.read(columns=["step", "reason"]).to_pylist()
                places = [k for k, key in enumerate(keys) if tuple(key.values()) in wanted]
                random.Random(path.name).shuffle(places)
                start = given.get(path, 0)
                chosen = sorted(places[start : start + min(share, n)])
                given[path] = start + len(chosen)
                if not chosen:
                    continue
                n -= len(chosen)
                first = 0
                for group in range(file.num_row_groups):
                    last = first + file.metadata.row_group(group).num_rows
                    here = [place - first for place in chosen if first <= place < last]
                    if here:
                        yield from file.read_row_group(group).take(pa.array(here)).to_pylist()
                    first = last


def readable(size: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _short(row: dict) -> str:
    return row["reason"].partition(":")[2]


def _plain(text: str) -> str:
    """A text on few lines, with nothing in it that a terminal would obey."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    joined = "\n".join(line for line in lines if line)
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in joined)


def _reasons(tally: list[dict]) -> Table:
    """Counts by step and reason."""
    documents: Counter = Counter()
    size: Counter = Counter()
    for row in tally:
        documents[row["step"], row["reason"]] += row["documents"]
        size[row["step"], row["reason"]] += row["bytes"]
    table = Table(title="rejected, by step and reason", title_justify="left")
    for column in ("step", "reason", "documents", "text"):
        table.add_column(column, justify="right" if column in ("documents", "text") else "left")
    for (step, reason), count in sorted(documents.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(step, reason, f"{count:,}", readable(size[step, reason]))
    return table


def print_curation(manifest: dict[str, Any], out: Console) -> None:
    """What each step was given, dropped and edited, in order, and what was kept."""
    metrics = manifest["metrics"]
    tally = metrics["tally"]
    table = Table(title="what each step dropped", title_justify="left")
    for column in ("step", "given", "dropped", "", "text", "dropped", "mostly"):
        table.add_column(column, justify="left" if column in ("step", "mostly") else "right")
    for flow in metrics["steps"]:
        mine = [row for row in tally if row["step"] == flow["step"]]
        documents = sum(row["documents"] for row in mine)
        size = sum(row["bytes"] for row in mine)
        reasons: Counter = Counter()
        for row in mine:
            reasons[_short(row) or row["reason"]] += row["documents"]
        notes = [f"{reason} {count:,}" for reason, count in reasons.most_common(2)]
        if flow["documents_edited"]:
            cut = readable(max(0, flow["bytes_in"] - flow["bytes_out"]))
            notes.append(f"{flow['documents_edited']:,} edited, {cut} less")
        if flow["documents_out"] != flow["documents_in"]:
            notes.append(f"{flow['documents_out']:,} out")
        share = f"{documents / flow['documents_in']:.1%}" if flow["documents_in"] else "-"
        numbers = (f"{flow['documents_in']:,}", f"{documents:,}", share)
        texts = (readable(flow["bytes_in"]), readable(size))
        table.add_row(flow["step"], *numbers, *texts, ", ".join(notes))
    kept = [row for row in tally if not row["step"]]
    documents, size = (sum(row[key] for row in kept) for key in ("documents", "bytes"))
    table.add_section()
    table.add_row("kept", f"{documents:,}", "", "", readable(size), "", "")
    out.print(table)
    peak = metrics["peak_work_bytes"]
    if peak:
        out.print(f"intermediate files: {readable(peak)} at most, now deleted", highlight=False)
