"""Loss spikes: steps whose loss stands far above the steps before them, and what they had read.

A step's loss is compared with the median of the `WINDOW` recorded steps before it, in units of
their median absolute deviation (times 1.4826, which for normal noise is the standard deviation).
Both are robust: a spike neither hides the next one nor moves its own measure, and a falling loss
counts as no spike. The deviation is taken as at least a thousandth of the median, or a run whose
loss hardly moves would be all spikes. A loss that is not finite is the largest spike there is.
Steps less than half a window from a larger spike belong to it.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.page import table
from pipelines.trace import Run, top_documents, trace_step

WINDOW = 64  # steps
LEAST_BEFORE = 16  # steps before the first that can be judged
LEAST = 5.0  # deviations above the median
_FLOOR = 1e-3  # of the median


@dataclass(frozen=True)
class Spike:
    """A step, its loss (nan if it was not finite), the median before it, and how many deviations
    the loss is above it. `source` is the one whose own loss rose the most over its median."""

    step: int
    loss: float
    median: float
    deviations: float
    source: str | None


def find_spikes(lines: list[dict], most: int = 5) -> list[Spike]:
    """The largest spikes, the largest first.

    lines: of metrics.jsonl, those of steps in order: `step`, `loss` (None where it was not finite)
    and, if known, `source_loss`.
    """
    losses = np.array([np.nan if x["loss"] is None else x["loss"] for x in lines], np.float64)
    measured = []
    for k in range(LEAST_BEFORE, len(losses)):
        before = losses[max(k - WINDOW, 0) : k]
        before = before[np.isfinite(before)]
        if len(before) < LEAST_BEFORE:
            continue
        median = float(np.median(before))
        deviation = 1.4826 * float(np.median(np.abs(before - median)))
        above = (losses[k] - median) / max(deviation, _FLOOR * abs(median), 1e-12)
        above = float(above) if math.isfinite(losses[k]) else math.inf
        if above >= LEAST:
            measured.append((above, k, median))
    chosen: list[tuple[float, int, float]] = []
    for spike in sorted(measured, key=lambda x: (-x[0], x[1])):
        if len(chosen) < most and all(abs(spike[1] - k) >= WINDOW // 2 for _, k, _ in chosen):
            chosen.append(spike)
    return [
        Spike(lines[k]["step"], float(losses[k]), median, above, _worst_source(lines, k))
        for above, k, median in chosen
    ]


def _worst_source(lines: list[dict], k: int) -> str | None:
    """The source whose loss in line k is furthest above its median in the lines before."""
    worst, most = None, 0.0
    for source, loss in (lines[k].get("source_loss") or {}).items():
        before = [
            x["source_loss"][source]
            for x in lines[max(k - WINDOW, 0) : k]
            if (x.get("source_loss") or {}).get(source) is not None
        ]
        if before and loss is not None and loss - float(np.median(before)) > most:
            worst, most = source, loss - float(np.median(before))
    return worst


def spikes_section(run: Path, lines: list[dict], documents: int = 3) -> list[str]:
    """The report's section: each spike with the documents that had most tokens in its step."""
    heading = (
        "<h2>Loss spikes, and what was read in them</h2><p>Steps whose loss is at least "
        f"{LEAST:g} deviations (median absolute ones) above the median of the {WINDOW} steps "
        "before, with the documents that have most tokens in the step. All of them: "
        "<code>gristmill trace RUN --step N</code>.</p>"
    )
    spikes = find_spikes(lines)
    if not spikes:
        return [heading, f"<p>None in {len(lines):,} steps.</p>"]
    opened = Run.open(run)
    rows = []
    for spike in spikes:
        told = trace_step(opened, spike.step)
        loss = f"{spike.loss:.3f}" if math.isfinite(spike.loss) else "not finite"
        head = [
            spike.step,
            loss,
            f"{spike.median:.3f}",
            f"{spike.deviations:.1f}",
            spike.source or "-",
        ]
        for about in top_documents(told["pieces"], documents):
            what = (about["id"], about["source"], about["language"] or "-", about["uri"] or "-")
            rows.append([*head, f"{about['here']:,}", *what])
            head = [""] * len(head)
    header = ["step", "loss", "median before", "deviations above", "source that rose most"]
    return [heading, table([*header, "tokens", "document", "source", "language", "uri"], rows)]
