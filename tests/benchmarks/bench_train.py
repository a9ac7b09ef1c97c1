"""The model against transformers' `DeepseekV3ForCausalLM`: training, memory and generation.

    python tests/benchmarks/bench_train.py [--quick] [--threads 2] [--only training memory …]

Same configuration, weights, tokens, optimizer and process, steps in turn, medians of the ratios of
neighbours. A claim's target is 1.6 times transformers' tokens a second, or 75% of the float32 rate
of matrix products where that is less; 4 times for generation, or 70% of what reading the active
weights allows. `--quick` uses a tiny model and says nothing of speed. Alone on two cores the whole
takes about 20 minutes. See `train_sides.py` for the sides and `train_profile.py` for the profile.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import train_sides as sides

from model.flops import training_operations
from model.generate import generate

LENGTHS = (512, 2048)
PARTS = ("training", "profile", "generation", "speculation", "memory")
NEXT = (
    "To try next: norms, residual sums and the router's choice are torch's, a twentieth of it all; "
    "the head's matrix is rearranged for every block of tokens, 4% of its products. "
    "Generation: four tokens of one pass read two to three times the experts of one."
)


class Bench:
    """One invocation: its options, its console, its claims."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.console = Console(width=110)
        self.claims: list[tuple[str, float, float]] = []
        self.sizes = ["tiny"] if options.quick else options.sizes
        self.lengths = (64,) if options.quick else LENGTHS

    def table(self, title: str, columns: str, rows: list[list[str]]) -> None:
        self.console.print(title, style="bold", markup=False, highlight=False)
        table = Table()
        for i, column in enumerate(columns.split("|")):
            table.add_column(column, justify="left" if i == 0 else "right")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def training(self) -> None:
        rows = [self._train(name, length) for name in self.sizes for length in self.lengths]
        self.table(
            "training, float32, MTP off; share: of the rate of matrix products",
            "size, length|ours tok/s|share|transformers tok/s|share|ratio|GFLOP/s|ours with MTP",
            rows,
        )

    def _train(self, name: str, length: int) -> list[str]:
        config = sides.SIZES[name]
        ids = sides.batch(config, length)
        model = sides.ours(config)
        twin = sides.theirs(config, model)
        with_mtp = dataclasses.replace(config, num_nextn_predict_layers=1)
        steps = {
            "ours": sides.our_step(model, ids),
            "theirs": sides.their_step(twin, ids),
            "mtp": sides.our_step(sides.ours(with_mtp), ids),
        }
        rate = sides.product_rate(256 if self.options.quick else 2048)
        took: dict[str, list[float]] = {side: [] for side in steps}
        rates, losses = [], {}
        for i in range(self.options.pairs + 1):
            for side, step in steps.items():
                if side == "mtp" and i > 2:
                    continue
                rates.append(rate())
                began = time.perf_counter()
                losses[side] = step()
                if i:  # the first makes the moments
                    took[side].append(time.perf_counter() - began)
        drift = abs(losses["ours"] / losses["theirs"] - 1)
        self.console.print(f"{name} {length}: losses after {i} steps differ by {drift:.1e}")
        peak = statistics.median(rates)
        needed = training_operations(config, length) * ids.numel()
        pairs = zip(took["theirs"], took["ours"], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        median = {side: statistics.median(values) for side, values in took.items()}
        share = {side: needed / median[side] / peak for side in ("ours", "theirs")}
        most = 0.75 / share["theirs"]
        self.claim(f"train_{name}_{length}_vs_transformers", ratio, min(1.6, most))
        return [
            f"{name}, {length}",
            f"{ids.numel() / median['ours']:,.0f}",
            f"{share['ours']:.1%}",
            f"{ids.numel() / median['theirs']:,.0f}",
            f"{share['theirs']:.1%}",
            f"{ratio:.2f}",
            f"{peak / 1e9:.0f}",
            f"{median['mtp'] / median['ours'] - 1:+.0%} time",
        ]

    def profile(self) -> None:
        from train_profile import by_part

        found = {}
        for name in self.sizes:
            model = sides.ours(sides.SIZES[name])
            step = sides.our_step(model, sides.batch(model.config, self.lengths[0]))
            step()
            found[name] = by_part(model, step)
        rows = []
        for part in next(iter(found.values())):
            row = [part]
            for parts in found.values():
                whole = sum(map(sum, parts.values()))
                forward, backward = (value / whole for value in parts[part])
                row.append(f"{forward + backward:.1%} ({forward:.1%} + {backward:.1%})")
            rows.append(row)
        columns = "|".join(["part", *found])
        self.table(f"a step at {self.lengths[0]}: share (forward + backward)", columns, rows)
        self.console.print(NEXT)

    def generation(self) -> None:
        rows = []
        new = 8 if self.options.quick else 128
        read = sides.read_rate(16 if self.options.quick else 512)
        for name in self.sizes:
            config = sides.SIZES[name]
            model = sides.ours(config)
            twin = sides.theirs(config, model).eval()
            prompt = sides.batch(config, 64)[:1]
            took: dict[str, list[float]] = {"ours": [], "theirs": []}
            rates, equal = [], 0.0
            for i in range(self.options.pairs + 1):
                rates.append(read())
                began = time.perf_counter()
                mine = generate(model, prompt[0].tolist(), new).tokens
                middle = time.perf_counter()
                with torch.inference_mode():
                    other = twin.generate(
                        input_ids=prompt,
                        attention_mask=torch.ones_like(prompt),
                        min_new_tokens=new,
                        max_new_tokens=new,
                        do_sample=False,
                        use_cache=True,
                        pad_token_id=0,
                    )[0, prompt.shape[1] :].tolist()
                if i:
                    took["ours"].append(middle - began)
                    took["theirs"].append(time.perf_counter() - middle)
                equal = sum(a == b for a, b in zip(mine, other, strict=True)) / new
            speed = {side: new / statistics.median(values) for side, values in took.items()}
            pairs = zip(took["theirs"], took["ours"], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            weights = 4 * config.parameter_count().active
            allowed = statistics.median(rates) / weights
            self.claim(
                f"generate_{name}_vs_transformers", ratio, min(4.0, 0.7 * allowed / speed["theirs"])
            )
            rows.append(
                [
                    name,
                    f"{speed['ours']:.0f}",
                    f"{speed['theirs']:.0f}",
                    f"{ratio:.2f}",
                    f"{weights / 1e6:.0f} MB",
                    f"{statistics.median(rates) / 1e9:.1f} GB/s",
                    f"{speed['ours'] / allowed:.0%}",
                    f"{equal:.0%}",
                ]
            )
        self.table(
            f"greedy generation, cached, batch 1, 64 tokens and {new} more (prompt included)",
            "size|ours tok/s|transformers|ratio|read a token|memory|of what it allows|same tokens",
            rows,
        )

    def speculation(self) -> None:
        """A model with one multi-token module learns a text where each token follows from one."""
        rows = [row for name in self.sizes for row in self._speculate(name)]
        self.table(
            "speculation after learning a predictable text; the second row of a size with noise on "
            "its module, for drafts that are often wrong",
            "size|accepted|passes without|with it|ratio|same tokens",
            rows,
        )

    def _speculate(self, name: str) -> list[list[str]]:
        quick = self.options.quick
        model = sides.ours(dataclasses.replace(sides.SIZES[name], num_nextn_predict_layers=1))
        symbols = 64
        follower = torch.randperm(symbols, generator=torch.Generator().manual_seed(3)).tolist()
        texts = []
        for first in range(8):
            row = [first * 7 % symbols]
            while len(row) < 129:
                row.append(follower[row[-1]])
            texts.append(row)
        text = torch.tensor(texts)
        sides.RATE = 2e-3
        step = sides.our_step(model, text)
        for _ in range(4 if quick else 60):
            if step() < 0.02:
                break
        prompt, new = text[0, :32].tolist(), 8 if quick else 192
        # As much noise as leaves about six of ten drafts right: by halves, more and less.
        projection = model.mtp_modules[0].eh_proj.weight
        learned = projection.detach().clone()
        noise = torch.randn(learned.shape, generator=torch.Generator().manual_seed(1))
        noise *= learned.std()
        amount, width = 16.0, 8.0
        for _ in range(1 if quick else 9):
            projection.data = learned + amount * noise
            found = generate(model, prompt, new, speculative=True).acceptance
            amount, width = amount + (width if found > 0.6 else -width), width / 2
        rows = []
        for weight in (learned, projection.detach().clone()):
            projection.data = weight
            ratios = []
            for _ in range(self.options.pairs):
                began = time.perf_counter()
                plain = generate(model, prompt, new)
                middle = time.perf_counter()
                ahead = generate(model, prompt, new, speculative=True)
                ratios.append((middle - began) / (time.perf_counter() - middle))
            ratio = statistics.median(ratios)
            if ahead.acceptance > 0.5:
                self.claim(f"speculation_{name}_at_{100 * ahead.acceptance:.0f}", ratio, 1.0)
            rows.append(
                [
                    name,
                    f"{ahead.acceptance:.0%}",
                    str(plain.passes),
                    str(ahead.passes),
                    f"{ratio:.2f}",
                    str(plain.tokens == ahead.tokens),
                ]
            )
        return rows

    def memory(self) -> None:
        rows = []
        for name in self.sizes:
            for length in self.lengths:
                if name == "200M" and length == LENGTHS[0]:
                    continue  # half a minute for what 2,048 shows
                peaks = {s: self._peak(s, name, length) for s in ("ours", "recompute", "theirs")}
                self.claim(
                    f"memory_{name}_{length}_vs_transformers", peaks["theirs"] / peaks["ours"], 1.0
                )
                self.claim(
                    f"memory_{name}_{length}_recompute", peaks["ours"] / peaks["recompute"], 1.0
                )
                rows.append(
                    [f"{name}, {length}", *(f"{value / 1e6:,.0f} MB" for value in peaks.values())]
                )
        self.table(
            "memory of a first step above the weights (gradients and moments included)",
            "size, length|ours|recomputing|transformers",
            rows,
        )

    def _peak(self, side: str, name: str, length: int) -> int:
        job = ["--child", side, name, str(length), "--threads", str(self.options.threads)]
        command = [sys.executable, str(Path(__file__).resolve()), *job]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{side} {name} {length}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])["peak"]

    def claim(self, name: str, value: float, target: float) -> None:
        self.claims.append((name, value, target))


def child(side: str, name: str, length: int) -> None:
    """Take one step in this process; print by how much its memory rose at most."""
    config = sides.SIZES[name]
    ids = sides.batch(config, length)
    if side == "theirs":
        step = sides.their_step(sides.theirs(config), ids)
    else:
        step = sides.our_step(sides.ours(config, side == "recompute"), ids)
    sides.product_rate(64)()  # the library's own buffers
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = _kilobytes("VmRSS:")
    step()
    print(json.dumps({"peak": (_kilobytes("VmHWM:") - before) * 1024}))


def _kilobytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise ValueError(f"/proc/self/status has no {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model, once")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, help="measured steps a side")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sizes", nargs="+", choices=["14M", "60M", "200M"], default=None)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sizes = options.sizes or ["14M", "60M", "200M"]
    options.pairs = options.pairs or (1 if options.quick else 4)
    torch.set_num_threads(options.threads)
    if options.child:
        child(options.child[0], options.child[1], int(options.child[2]))
        return
    began = time.perf_counter()
    bench = Bench(options)
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    load = os.getloadavg()[0]
    bench.console.print(f"{model}, {options.threads} threads, load {load:.1f}; {versions}")
    for name in PARTS:
        if name in options.only:
            getattr(bench, name)()
    print(f"\ntook {time.perf_counter() - began:.0f} s")
    for name, value, target in bench.claims:
        print(f"{name} {value:.3f} {target:.3f}")


if __name__ == "__main__":
    main()
