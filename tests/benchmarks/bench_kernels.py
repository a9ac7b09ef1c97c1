"""Check and time every GPU kernel against its reference and its peers; one run, one table.

    python tests/benchmarks/bench_kernels.py              on a machine with a Hopper GPU
    python tests/benchmarks/bench_kernels.py --dry-run    anywhere: what would be run, on what
    TRITON_INTERPRET=1 ... bench_kernels.py --quick       anywhere: checks alone, small, interpreted

For each case and shape: results held against the reference, then kernel and peers in turn, rounds
interleaved, each timed by CUDA events with the L2 cache emptied between runs (Triton's do_bench),
median over the rounds. Beside microseconds stand TB/s and TFLOP/s of what the work needs at least.
The last lines are `name value target`: the share of the memory's or the tensor cores' published
rate that was reached, and how many times faster than the best peer. Exit code 1 where a check fails
or nothing could be run.
"""

import argparse
import platform
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import triton
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))
from kernel_case import Case, all_cases, differences

from model.kernels.compile import INTERPRETED
from model.kernels.roofline import CHIPS

ROUNDS = 5
console = Console(width=150 if not Console().is_terminal else None)


def device_for_this() -> str | None:
    """`cuda`, `cpu` where kernels are interpreted, None where nothing can run."""
    if INTERPRETED:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else None


def chip():
    """The published rates of this GPU, or None for one that isn't in the table."""
    name = torch.cuda.get_device_name()
    return next((c for c in CHIPS if c.name in name), None)


def check(case: Case, inputs: tuple) -> str:
    """`equal`, the largest difference where some is allowed, or what is wrong."""
    found = differences(case.run(*inputs), case.reference(*inputs), case.partial)
    if not all(difference <= case.tolerance for difference in found):  # NaN is wrong too
        return f"WRONG: differs by {found}, allowed {case.tolerance:.2g}"
    return "equal" if not any(found) else f"within {max(found):.1g}"


def able(peers: Mapping, inputs: tuple) -> tuple[dict, list[str]]:
    """Those peers that torch and the chip can run on `inputs`, and why not the others."""
    found, missing = {}, []
    for name, function in peers.items():
        try:
            function(*inputs)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            missing.append(f"{name}: {str(error).strip().splitlines()[0][:200]}")
        else:
            found[name] = function
    return found, missing


def time_in_turn(contenders: dict, inputs: tuple, rounds: int) -> dict[str, float]:
    """Median milliseconds of each, rounds interleaved."""
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, function in contenders.items():
            run = lambda function=function: function(*inputs)  # noqa: E731
            times[name].append(triton.testing.do_bench(run, rep=50, return_mode="median"))
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> int:
    """Parse, run, print; see above for exit codes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, run nothing")
    parser.add_argument("--quick", action="store_true", help="one shape a case, two rounds")
    parser.add_argument("--only", default="", help="cases with this in their name")
    arguments = parser.parse_args()
    cases = [case for case in all_cases() if arguments.only in case.name]
    device = device_for_this()
    where = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "a CPU"
    console.print(
        f"torch {torch.__version__}, triton {triton.__version__}, "
        f"python {platform.python_version()} on {where}"
        + (", kernels interpreted" if INTERPRETED else ""),
        soft_wrap=True,
    )
    if device is None:
        console.print("no GPU is here: nothing can be timed", soft_wrap=True)
    if arguments.dry_run:
        table = Table("case", "shapes", "peers", title="would run", title_justify="left")
        for case in cases:
            shapes = ", ".join(str(list(shape)) for shape in case.shapes)
            table.add_row(case.name, shapes, ", ".join(case.peers) or "-")
        console.print(table)
        return 0
    if device is None:
        console.print("look with --dry-run, or check with TRITON_INTERPRET=1", soft_wrap=True)
        return 1
    return run_all(cases, device, arguments.quick)


def run_all(cases: list[Case], device: str, quick: bool) -> int:
    """Run the cases and print the table and the claims; 1 where a check failed."""
    table = Table("case", "shape", "check", title="kernels", title_justify="left")
    for column in ("µs", "TB/s", "TFLOP/s", "peers, µs"):
        table.add_column(column, justify="right")
    claims, absent, wrong = [], [], 0
    rates = chip() if device == "cuda" else None
    for case in cases:
        shapes = [case.small] if device == "cpu" else case.shapes[: 1 if quick else None]
        for shape in shapes:
            inputs = case.inputs(shape, device)
            checked = check(case, inputs)
            wrong += checked.startswith("WRONG")
            row = [case.name, str(list(shape)), checked]
            if device == "cuda":
                peers, missing = able(case.peers, inputs)
                absent += [f"{case.name} {list(shape)}: no {why}" for why in missing]
                contenders = {"kernel": case.run, **peers}
                times = time_in_turn(contenders, inputs, 2 if quick else ROUNDS)
                seconds = times.pop("kernel") / 1e3
                moved, operations = case.moved(shape), case.operations(shape)
                row += [f"{seconds * 1e6:.1f}", f"{moved / seconds / 1e12:.2f}"]
                row.append(f"{operations / seconds / 1e12:.1f}" if operations else "-")
                row.append(", ".join(f"{name} {t * 1e3:.1f}" for name, t in times.items()))
                label = f"{case.name}_{'x'.join(map(str, shape))}"
                if rates:
                    least = max(moved / rates.memory, operations / getattr(rates, case.rate))
                    claims.append(f"{label}_share_of_floor {least / seconds:.3f} 0.8")
                if times:
                    best = min(times.values()) / 1e3
                    claims.append(f"{label}_against_best_peer {best / seconds:.3f} 1.0")
            table.add_row(*row)
    console.print(table)
    for line in absent:
        console.print(line, soft_wrap=True, markup=False)
    print(*claims, sep="\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
