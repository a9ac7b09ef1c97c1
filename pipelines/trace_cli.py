"""`gristmill trace`: which documents a training step read, and which steps read a document."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

errors = Console(stderr=True)


def trace(
    run: Annotated[str, typer.Argument(help="A run's folder, as runs/quickstart, or its recipe.")],
    step: Annotated[
        int | None, typer.Option("--step", help="Name every document in this step's batch.")
    ] = None,
    row: Annotated[
        int | None, typer.Option("--row", help="Only this row of the step's batch, from 0.")
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", help="Name every step that saw this document's id.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Sequences of steps that training has not recorded."),
    ] = None,
) -> None:
    """Follow tokens back to their documents, or documents forward to the steps that saw them.

    Steps are those that training recorded; where it has not yet, those that the batch size gives.
    Offsets and lengths are in tokens.
    """
    from pipelines.trace import UnknownDocument, trace_document, trace_step

    if (step is None) == (document is None):
        raise typer.BadParameter("give --step N or --document ID, one of them")
    if row is not None and step is None:
        raise typer.BadParameter("--row is of a step: give --step N too")
    opened = _open(run, batch_size)
    if step is not None:
        found = trace_step(opened, step, row)
        print(json.dumps(found, ensure_ascii=False) if as_json else _step(found))
        return
    try:
        documents = trace_document(opened, document)
    except UnknownDocument as error:
        errors.print(f"[red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    text = json.dumps(documents, ensure_ascii=False) if as_json else None
    print(text or "\n\n".join(_document(x, document) for x in documents))


def _open(run: str, batch_size: int | None):
    """Open a run by its folder or its recipe."""
    from pipelines.trace import Run

    if Path(run).is_dir():
        return Run.open(Path(run), batch_size)
    from pipelines.recipe import load_recipe

    recipe = load_recipe(run)
    if batch_size is None and recipe.train is not None:
        batch_size = recipe.train.batch_size
    return Run.open(recipe.directory, batch_size)


def _step(found: dict) -> str:
    """A line for each piece."""
    tokens = sum(piece["length"] for piece in found["pieces"])
    documents = len({piece["id"] for piece in found["pieces"]})
    lines = [
        f"step {found['step']:,}: {found['phase']}, sequences {found['first']:,} to "
        f"{found['last'] - 1:,}; here {documents:,} documents, {tokens:,} tokens"
        + ("" if found["recorded"] else "; not trained yet, by the batch size"),
    ]
    header = ["row", "offset", "length", "start", "id", "source", "domain", "language", "uri"]
    rows = [[piece[name] for name in header] for piece in found["pieces"]]
    return "\n".join(lines + _table(header, rows, numbers=4))


def _document(found: dict, wanted: str) -> str:
    """A paragraph on the document and a line for each time that it was seen."""
    of = "" if found["id"] == wanted else f" (made from {wanted})"
    about = [_plain(found[name] or "-") for name in ("source", "domain", "language", "uri")]
    lines = [f"{found['id']}{of}: {found['tokens']:,} tokens, {', '.join(about)}"]
    if found["held_out"]:
        where = found["held_out"]
        used = "but not used there" if where == "validation" else f"in {where}"
        return "\n".join([*lines, f"held out for validation ({used}): no step sees it"])
    if not found["seen"]:
        return "\n".join([*lines, "in no step: the mixture has no room for it"])
    header = ["step", "row", "offset", "length", "start", "phase", ""]
    rows = [
        [x[name] for name in header[:-1]] + ["" if x["recorded"] else "not trained yet"]
        for x in found["seen"]
    ]
    return "\n".join(lines + _table(header, rows, numbers=5))


def _table(header: list[str], rows: list[list], numbers: int) -> list[str]:
    """Lines of columns, the first `numbers` of them to the right. A batch may have thousands, for
    which rich's tables are too slow."""
    cells = [header, *([_plain("-" if x is None else x) for x in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if k < numbers else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _plain(value: object) -> str:
    """Names of documents must not steer the terminal."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)
