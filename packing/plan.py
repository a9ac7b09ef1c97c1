"""The plan: every training sequence, decided before the first step.

From the tables of documents alone, without reading a token, a plan fixes for each phase which
documents take part (`packing.mixture` says how many tokens of each pile, `packing.stretches` which
documents), how they are cut and packed (`packing.sequences`) and in which order the sequences come
(a keyed permutation of them). A new ratio, seed or length is a new plan, never a new encoding; and
what was in step 41,200 is looked up, not replayed.

Documents are read once (`packing.census`) and gone through once more for each phase; nothing in
memory grows with their number, and no byte depends on how many threads worked. Sequences lie in the
order they were packed: neighbours are no likelier to share a source or a shard than any two. The
loader goes through them by the permutation.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from packing.best_fit import best_fit
from packing.census import RECORD, Census, Rows, ahead, take_census
from packing.cutting import too_long
from packing.draws import draws
from packing.mixture import MixtureError, Phase, Pile, Share, Wanted, refuse, want
from packing.sequences import (
    PIECE,
    PLAN_SCHEMA,
    ROWS_IN_BATCH,
    ROWS_IN_FILE,
    STRATEGIES,
    Writer,
    in_rows,
    pack_all,
)
from packing.stretches import Parts, Selection, Stretch, find_stretches
from packing.validation import Chosen, held_out

__all__ = [
    "PIECE",
    "PLAN_SCHEMA",
    "ROWS_IN_BATCH",
    "ROWS_IN_FILE",
    "MixtureError",
    "Phase",
    "PlanConfig",
    "Share",
    "Validation",
    "held_out",
    "make_plan",
    "piles_of",
]

Progress = Callable[[str, int, int], None]  # what, done, of how many documents


@dataclass(frozen=True)
class Validation:
    """The documents held out: a fraction of all, and how many sequences of each domain to use."""

    fraction: float = 0.01
    sequences: int = 32
    exclude_sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanConfig:
    """Everything that a plan depends on besides the documents.

    max_epochs: how often a source may be gone through in all phases together, by source name;
    `default_max_epochs` for the others. when_short: domain, source or language → others that give
    what it cannot. strategy: of packing, `best_fit`, `concat` or `none`.
    """

    phases: tuple[Phase, ...]
    seed: int = 0
    default_max_epochs: float = 4.0
    max_epochs: Mapping[str, float] = field(default_factory=dict)
    validation: Validation = Validation()
    when_short: Mapping[str, Sequence[str]] = field(default_factory=dict)
    strategy: str = "best_fit"


def piles_of(census: Census, config: PlanConfig) -> list[Pile]:
    """The piles of a census, by their numbers in it, with their epochs.

    Raises MixtureError for a source in max_epochs, or a name in when_short, that no document has.
    """
    sources = {source for _, source, _ in census.names}
    if unknown := sorted(set(config.max_epochs) - sources):
        raise MixtureError(
            f"max_epochs names source {unknown[0]!r}, which no document has; there are "
            f"{', '.join(sorted(sources))}"
        )
    known = {name for names in census.names for name in names}
    for name, others in config.when_short.items():
        for one in (name, *others):
            if one not in known:
                raise MixtureError(
                    f"when_short names {one!r}, which is no domain, source or language of any "
                    f"document; domains are {', '.join(sorted({d for d, _, _ in census.names}))}"
                )
    return [
        Pile(domain, source, language, count.documents, count.tokens,
             config.max_epochs.get(source, config.default_max_epochs))
        for (domain, source, language), count in zip(census.names, census.counts, strict=True)
    ]  # fmt: skip


def make_plan(
    stems: Sequence[Path],
    out: Path,
    config: PlanConfig,
    *,
    workers: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> dict:
    """Plan all phases over the token shards `stems` and write the plan into `out`.

    workers: threads, which change no byte; without, one for each core that may be used.

    Returns what `plan.json` holds: for each phase its files, sequences, fill (share of places that
    hold a token), and by domain, source and language the tokens wanted and planned and the epochs;
    the validation sets; the piles; and the sources, in the order of their `source_ids`. Raises
    MixtureError when a share cannot be met, ValueError when a sequence is shorter than the longest
    atomic span or a table of documents cannot be read.
    """
    if config.strategy not in STRATEGIES:
        raise ValueError(
            f"unknown strategy {config.strategy!r}, expected one of {', '.join(STRATEGIES)}"
        )
    for k, phase in enumerate(config.phases):
        if phase.tokens <= 0 or phase.length <= 0:
            raise ValueError(
                f"phase-{k}: {phase.tokens} tokens in sequences of {phase.length}, expected both "
                "above 0"
            )
    out.mkdir(parents=True, exist_ok=True)
    shortest = min(phase.length for phase in config.phases)
    chosen = Chosen(config.phases[0].length, config.validation.sequences, config.seed)
    workers = workers or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(workers) as pool:
        census = take_census(
            stems,
            out / ".census.partial",
            config.seed,
            config.validation.fraction,
            pool,
            workers,
            spans_above=0 if config.strategy == "concat" else shortest,
            each=lambda places, rows: _consider(chosen, places, rows, config),
            progress=lambda done, total: progress("read documents", done, total),
        )
        try:
            piles = piles_of(census, config)
            for k, phase in enumerate(config.phases):
                if census.longest_span > phase.length:
                    raise ValueError(f"phase-{k}: {too_long(census.longest_span, phase.length)}")
            wanted = want(piles, config.phases, config.when_short)
            refuse(piles, config.phases, wanted)
            stretches = find_stretches(
                census,
                [part.piles for part in wanted],
                [pile.most for pile in piles],
                [phase.length for phase in config.phases],
                config.seed,
                pool,
            )
            phases = []
            taken = np.zeros(len(piles), np.int64)
            for k, phase in enumerate(config.phases):
                written, documents = _write_phase(
                    census, out, k, stretches[k], config, pool, progress
                )
                for pile, stretch in stretches[k].items():
                    taken[pile] += stretch.tokens
                phases.append(
                    {
                        "name": written.name,
                        "length": phase.length,
                        "budget": phase.tokens,
                        "sequences": written.rows,
                        "tokens": written.tokens,
                        "fill": written.tokens / max(written.rows * phase.length, 1),
                        "files": written.files,
                        **_told(piles, phase, wanted[k], stretches[k], documents, taken),
                    }
                )
        finally:
            census.close()
    validation = {}
    for domain in sorted({d for phase in config.phases for d in phase.mixture}):
        place, start, length = chosen.pieces(domain)
        writer = Writer(out, f"validation-{domain}")
        if len(place):
            bins, _ = best_fit(length, chosen.length)
            by = np.argsort(draws(place, config.seed, "validation-place"), kind="stable")
            rows = in_rows(place[by], start[by], length[by], bins[by])
            writer.write(rows.split(config.validation.sequences)[0])
        validation[domain] = {
            "name": writer.name,
            "length": chosen.length,
            "files": writer.close(),
            "sequences": writer.rows,
        }
    plan = {
        "seed": config.seed,
        "strategy": config.strategy,
        "held_out": config.validation.fraction,
        "shards": [stem.name for stem in stems],
        "sources": sorted({source for _, source, _ in census.names}),
        "phases": phases,
        "validation": validation,
        "piles": [
            {"domain": p.domain, "source": p.source, "language": p.language,
             "documents": p.documents, "tokens": p.tokens}
            for p in sorted(piles, key=lambda p: (p.domain, p.source, p.language))
        ],
    }  # fmt: skip
    temporary = out / ".plan.json.partial"
    temporary.write_text(json.dumps(plan, indent=2, ensure_ascii=False), "utf-8")
    temporary.replace(out / "plan.json")
    return plan


def _consider(chosen: Chosen, places: np.ndarray, rows: Rows, config: PlanConfig) -> None:
    """Hand the held-out documents of a segment to the validation sets."""
    used = np.array(
        [source not in config.validation.exclude_sources for _, source, _ in rows.names], bool
    )
    mine = np.flatnonzero(rows.held_out & used[rows.piles]) if len(used) else np.empty(0, np.int64)
    if not len(mine):
        return
    domains = sorted({domain for domain, _, _ in rows.names})
    number = np.array([domains.index(domain) for domain, _, _ in rows.names])
    spans = rows.spans.of(mine)
    chosen.add(
        rows.keys[mine], places[mine], rows.tokens[mine], number[rows.piles[mine]], domains, spans
    )


def _write_phase(
    census: Census,
    out: Path,
    number: int,
    stretches: dict[int, Stretch],
    config: PlanConfig,
    pool: Executor,
    progress: Progress,
) -> tuple[Writer, np.ndarray]:
    """Pack and write a phase's sequences; the writer, and the documents of each pile (int64)."""
    length = config.phases[number].length
    selection = Selection(stretches, len(census.names), config.seed)
    documents = np.zeros(len(census.names), np.int64)
    total = sum(count.documents for count in census.counts)
    what = f"pack phase-{number}"

    def pick(window: int) -> tuple[int, Parts, np.ndarray]:
        records = census.window(window)
        return len(records) // RECORD.itemsize, *selection.pick(records)

    def parts() -> Iterator[Parts]:
        done = 0
        for n, part, picked in ahead(pool, pick, range(census.windows)):
            documents[:] += picked
            done += n
            progress(what, done, total)
            yield part

    writer = Writer(out, f"phase-{number}")
    for rows in pack_all(parts(), census, length, config.strategy, pool):
        writer.write(rows)
    writer.close()
    return writer, documents


def _told(
    piles: Sequence[Pile],
    phase: Phase,
    wanted: Wanted,
    stretches: dict[int, Stretch],
    documents: np.ndarray,
    taken: np.ndarray,
) -> dict:
    """What a phase came to, by domain, by pile, and the epochs so far."""
    got = {pile: stretch.tokens for pile, stretch in stretches.items()}
    order = sorted(range(len(piles)), key=lambda k: (piles[k].domain, piles[k].source,
                                                     piles[k].language))  # fmt: skip
    domains = {}
    for domain, share in phase.shares().items():
        mine = [k for k in order if piles[k].domain == domain]
        domains[domain] = {
            "share": share.share,
            "wanted": wanted.domains[domain],
            "planned": sum(got.get(k, 0) for k in mine),
            "documents": int(sum(documents[k] for k in mine)),
            "available": sum(piles[k].tokens for k in mine),
        }
    parts = [
        {
            "domain": piles[k].domain,
            "source": piles[k].source,
            "language": piles[k].language,
            "wanted": int(wanted.piles[k]),
            "planned": got[k],
            "documents": int(documents[k]),
            "available": piles[k].tokens,
            "epochs": int(taken[k]) / max(piles[k].tokens, 1),
        }
        for k in order
        if k in got
    ]
    epochs: dict[str, list[int]] = {}
    for k in order:
        entry = epochs.setdefault(f"{piles[k].domain}/{piles[k].source}", [0, 0])
        entry[0] += int(taken[k])
        entry[1] += piles[k].tokens
    return {
        "domains": domains,
        "parts": parts,
        "epochs": {name: t / max(size, 1) for name, (t, size) in epochs.items()},
    }
