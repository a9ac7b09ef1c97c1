"""Measuring jobs in processes of their own, in turn, and keeping what they say.

`Bench` is one invocation of the benchmark: its settings, its files, its claims. A job is a
dictionary that `tok_peers.py` reads; a `Measure` is what several runs of one job gave.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
MB = 1_000_000
MEMORY = 12 << 30  # bytes of address space for one measured process
LENT = 1 << 30  # bytes that a measured process has the system lend it before its clock starts
ONCE_OVER = 20  # seconds after which a library is not measured again
# Whoever takes less than these seconds is measured thrice as often: chance is a larger part of it.
SHORT = 2.0
MAIN = ("code", "english", "multilingual")


@dataclass
class Measure:
    """What the runs of one job gave: seconds and CPU seconds of each run's passes."""

    seconds: list[list[float]] = field(default_factory=list)
    cpu: list[list[float]] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    owns: list[int] = field(default_factory=list)
    last: dict = field(default_factory=dict)
    error: str | None = None
    at_least: float | None = None  # seconds after which it was stopped

    def median(self, number: int = 0) -> float | None:
        """Median seconds of a pass over the runs; the time limit where it was stopped."""
        if self.error:
            return self.at_least
        return statistics.median(passes[number] for passes in self.seconds)

    def rate(self, number: int = 0) -> float:
        """MB of text a second, by the median; 0 where it failed."""
        return 0.0 if self.error else self.last["bytes"] / MB / self.median(number)

    @property
    def short(self) -> bool:
        return not self.error and max(sum(passes) for passes in self.seconds) < SHORT

    @property
    def peak(self) -> int:
        return max(self.peaks, default=0)

    @property
    def own(self) -> int:
        """The peak without what the process held before, see `tok_peers.py`; trainings only."""
        return max(self.owns, default=0)


@dataclass
class Bench:
    """What one invocation of the benchmark knows: settings, files, and the claims so far."""

    options: argparse.Namespace
    folder: Path
    console: Console
    installed: set[str] = field(default_factory=lambda: {"ours", "tokenizers"})
    files: dict[str, Path] = field(default_factory=dict)
    deepseek: str | None = None
    claims: list[tuple[str, float, float]] = field(default_factory=list)

    def child(self, job: dict, limit: float | None = None) -> dict:
        """Run one job in a process of its own; its answer, with `error` where it has none."""
        ours = job.get("library") in (None, "ours", "tokenizers") and not job.get("peers")
        python = sys.executable if ours else self.options.peers
        lend = 0 if self.options.quick else LENT
        job = {"threads": self.options.threads, "memory": MEMORY, "lend": lend} | job
        environment = os.environ | {
            "RAYON_NUM_THREADS": str(self.options.threads),
            "TOKENIZERS_PARALLELISM": "true",
        }
        limit = limit or self.options.limit
        try:
            done = subprocess.run(
                [python, str(HERE / "tok_peers.py"), json.dumps(job)],
                capture_output=True,
                timeout=limit,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"over {limit:g} s", "at_least": limit}
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        said = done.stderr.decode(errors="replace").strip()
        if "memory allocation" in said or "bad_alloc" in said:
            return {"error": f"out of memory ({MEMORY >> 30} GB)"}
        return {"error": f"exit {done.returncode}: {said.splitlines()[-1] if said else ''}"}

    def measure(
        self, jobs: dict[str, dict], limit: float | None = None, once: Collection[str] = ()
    ) -> dict[str, Measure]:
        """Run jobs (by the name they have in the tables) in turn, as often as `--runs` says.

        Short ones thrice as often, those that `once` names a single time. One at a time, but with
        `--quick` two.
        """
        jobs = {name: job for name, job in jobs.items() if job["library"] in self.installed}
        measures = {name: Measure() for name in jobs}

        def run(name: str) -> None:
            measure = measures[name]
            done = measure.seconds and (name in once or sum(measure.seconds[0]) > ONCE_OVER)
            if measure.error or done:
                return
            answer = self.child(jobs[name] | {"out": str(self.out(name))}, limit)
            said = answer.get("error") or ", ".join(f"{s:.2f} s" for s in answer["seconds"])
            job = jobs[name]
            place = Path(job["corpus"]).stem
            print(f"{job['task']} {job['scheme']} {place} {name}: {said}", file=sys.stderr)
            if "error" in answer:
                measure.error, measure.at_least = answer["error"], answer.get("at_least")
                return
            measure.seconds.append(answer["seconds"])
            measure.cpu.append(answer["cpu"])
            measure.peaks.append(answer["peak"])
            measure.owns.append(answer.get("own", 0))
            measure.last = answer

        runs = self.options.runs
        for number in range(runs if self.options.quick else 3 * runs):
            with ThreadPoolExecutor(2 if self.options.quick else 1) as pool:
                list(pool.map(run, [n for n in jobs if number < runs or measures[n].short]))
        return measures

    def out(self, name: str) -> Path:
        return self.folder / f"out-{name}"

    def claim(self, name: str, value: float | None, target: float) -> None:
        """Note a claim; a value of None is one that could not be measured, and is left out."""
        if value is not None:
            self.claims.append((name, value, target))

    def table(self, title: str, columns: str, rows: list[list[str]], failures: list[str]) -> None:
        """Print a table (columns by name, separated by `|`), and what failed."""
        # Not the table's own title, which is broken where the table is narrow.
        self.console.print(title, style="bold", markup=False, highlight=False)
        table = Table()
        for i, column in enumerate(columns.split("|")):
            table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)
        for failure in failures:
            self.console.print(f"  {failure}", markup=False, highlight=False)


def ratio(peer: float | None, ours: float | None) -> float | None:
    """A peer's figure over ours; 0 where only ours failed, None where the peer's is not known."""
    if not peer:
        return None
    return peer / ours if ours else 0.0
