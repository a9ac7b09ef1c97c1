"""`gristmill kernels`: how fast the GPU kernels could be, and what their machine code needs.

Everything comes from the shapes of a model, the published rates of the chips and the table of
compiled resources; no GPU is asked for and nothing is measured here. Measuring is
`tests/benchmarks/bench_kernels.py`.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

HEADER = ["kernel", "shape", "TFLOP", "GB", "H100 µs", "H800 µs", "H200 µs", "limit"]
HEADER += ["warps", "saves GB"]


def kernels(
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a micro-batch.")] = 4096,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write the tables as one HTML page.")
    ] = None,
) -> None:
    """Print each GPU kernel's floor on H100, H800 and H200, and what its machine code needs."""
    console = Console(width=160 if not Console().is_terminal else None)
    tables = roofline_tables(tokens)
    for title, header, rows in tables:
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(header):
            table.add_column(column, justify="left" if number < 1 else "right")
        for row in rows:
            table.add_row(*map(str, row))
        console.print(table)
    if html is not None:
        from pipelines.page import page

        beside = html.with_name(html.name + ".tmp")
        beside.write_text(page("GPU kernels", [roofline_section(tables)]), "utf-8")
        beside.replace(html)
        console.print(f"page: {html}", soft_wrap=True)


def roofline_tables(tokens: int = 4096) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of every table: floors by model, DeepSeek's trace, resources."""
    from model.kernels.resources import read_table
    from model.kernels.roofline import MODELS, planner_check

    resources = read_table()[1]
    tables = [
        (
            f"{name}: a layer with experts, {tokens:,} tokens",
            HEADER,
            _floors(name, tokens, resources),
        )
        for name in MODELS
    ]
    tflop, checks = planner_check(MODELS["v3-671b"])
    rows = [[c.what, f"{c.measured:.1f}", f"{c.predicted:.1f}"] for c in checks]
    rows += [[f"of it {tflop:.1f} TFLOP in FP8, 57.4 in the trace", "", ""]]
    title = "DeepSeek's H800 trace (4 layers, forward and backward) against our floor, ms"
    tables.append((title, ["", "trace", "floor"], rows))
    header = [
        "build",
        "registers",
        "stack",
        "shared",
        "warps/SM",
        "QGMMA",
        "async",
        "16-byte loads",
    ]
    lines = []
    for name, r in sorted(resources.items()):
        warps = f"{r.blocks * r.warps} of 64"
        numbers = (r.registers, r.stack, r.shared, warps, r.qgmma, r.async_copies, r.loads)
        lines.append([name, *map(str, numbers)])
    tables.append(("compiled for sm_90a", header, lines))
    return tables


def roofline_section(tables: list | None = None) -> str:
    """The tables as a fragment of a page."""
    import html

    from pipelines.page import table

    made = tables if tables is not None else roofline_tables()
    parts = [f"<h2>{html.escape(title)}</h2>{table(head, rows)}" for title, head, rows in made]
    return "\n".join(parts)


def _floors(name: str, tokens: int, resources: dict) -> list[list[str]]:
    from model.kernels.roofline import CHIPS, MODELS, RANKS, best_build, floor, works

    rows = []
    for work in works(MODELS[name], tokens, RANKS.get(name, 1)):
        build = best_build(work, resources)
        floors = [floor(work, chip, build) for chip in CHIPS]
        warps = f"{build[1].blocks * build[1].warps} of 64" if build else "-"
        times = [f"{f.seconds * 1e6:,.1f}" for f in floors]
        saved = f"{work.saved / 1e9:.3f}" if work.saved else "-"
        flop = f"{work.operations / 1e12:.3f}" if work.operations else "-"
        limit = [floors[0].side, warps, saved]
        rows.append([work.kernel, work.shape, flop, f"{work.moved / 1e9:.3f}", *times, *limit])
    return rows
