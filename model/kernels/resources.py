"""What every kernel needs on a Hopper chip, kept in `resources.tsv` beside this file.

`python -m model.kernels.resources` compiles every build of every kernel and compares with the
table; `--write` writes it anew (after a change of a kernel, or of triton's version, which the first
line names). A test does the comparison too: more registers, stack or shared memory than the table
says is a failure, and so is any spilling at all, table or not.
"""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

import triton

from model.kernels.compile import Build, Compiled, compile_build

TABLE = Path(__file__).with_name("resources.tsv")
# Modules of this folder that hold kernels: each has BUILDS, a list of `compile.Build`.
MODULES: tuple[str, ...] = (
    "cross_entropy",
    "decode",
    "grouped",
    "product",
    "quantize",
    "quantize_weights",
    "swiglu",
    "rms_norm",
    "permute",
)


@dataclass(frozen=True)
class Resources:
    """A line of the table: `Compiled` in numbers. `loads` of 16 bytes against `narrow_loads`."""

    registers: int
    stack: int
    shared: int
    warps: int
    blocks: int
    instructions: int
    qgmma: int
    async_copies: int
    loads: int
    narrow_loads: int


def all_builds() -> list[Build]:
    """Every build of every kernel; names are unique."""
    return [b for name in MODULES for b in importlib.import_module(f"model.kernels.{name}").BUILDS]


def measure(compiled: Compiled) -> Resources:
    """The numbers of a compiled kernel that the table keeps."""
    wide = compiled.loads.get(128, 0)
    return Resources(
        compiled.registers,
        compiled.stack,
        compiled.shared,
        compiled.warps,
        compiled.blocks,
        compiled.instructions.total(),
        compiled.count("QGMMA"),
        compiled.async_copies,
        wide,
        sum(compiled.loads.values()) - wide,
    )


def worse(found: Resources, kept: Resources) -> list[str]:
    """What got worse, as `registers 40 -> 48`; empty when nothing did."""
    more = ("registers", "stack", "shared", "narrow_loads")
    fewer = ("blocks", "qgmma", "async_copies")
    names = [n for n in more if getattr(found, n) > getattr(kept, n)]
    names += [n for n in fewer if getattr(found, n) < getattr(kept, n)]
    return [f"{n} {getattr(kept, n)} -> {getattr(found, n)}" for n in names]


def read_table(path: Path = TABLE) -> tuple[str, dict[str, Resources]]:
    """The triton version the table was made with, and its lines by build name."""
    version, _, *lines = path.read_text("utf-8").splitlines()
    rows = {}
    for line in lines:
        name, *numbers = line.split("\t")
        rows[name] = Resources(*map(int, numbers))
    return version.removeprefix("# triton "), rows


def write_table(rows: dict[str, Resources], path: Path = TABLE) -> None:
    """Write the table whole, or leave the old one."""
    header = "\t".join(["build", *Resources.__dataclass_fields__])
    lines = [f"# triton {triton.__version__}", header]
    lines += ["\t".join([name, *map(str, vars(r).values())]) for name, r in sorted(rows.items())]
    beside = path.with_suffix(".tmp")
    beside.write_text("\n".join(lines) + "\n", "utf-8")
    beside.replace(path)


def main() -> int:
    """Compare with the table, or with `--write` write it; 1 when something got worse or spills."""
    kept = read_table()[1] if TABLE.exists() else {}
    rows, bad = {}, 0
    for build in all_builds():
        rows[build.name] = found = measure(compile_build(build))
        notes = worse(found, kept[build.name]) if build.name in kept else ["new"]
        notes += ["spills"] if found.stack else []
        bad += bool(notes)
        print(build.name, found, *notes, sep="  ")
    gone = sorted(kept.keys() - rows.keys())
    print(*(f"{name}  in the table, but no longer a build" for name in gone), sep="\n")
    if "--write" in sys.argv[1:]:
        write_table(rows)
        return int(any(row.stack for row in rows.values()))
    return int(bool(bad or gone))


if __name__ == "__main__":
    sys.exit(main())
