"""The plan: every training sequence, decided before the first step.

From the tables of documents alone, without reading a token, a plan fixes for each phase which
documents take part (`packing.mixture`), how they are packed (`packing.best_fit`) and in which order
the sequences come (a keyed permutation of them). A new ratio, seed or length is a new plan, never a
new encoding; and what was in step 41,200 is looked up, not replayed.

A set of sequences is a list of Arrow files, `NAME-00000.arrow`, …, with a row per sequence:
`pieces`, a list of (shard, document, start, length). Sequences lie in the order they were packed;
the loader goes through the permutation. Validation documents are chosen by the hash of their id (of
their first parent's id, if they were made from others), so that no re-mix ever lets one into
training.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packing.best_fit import best_fit
from packing.cutting import cut
from packing.draws import draw_fraction, draw_many
from packing.mixture import MixtureError, Pile, select

PIECE = pa.struct(
    [
        ("shard", pa.int32()),
        ("document", pa.int64()),
        ("start", pa.int64()),
        ("length", pa.int32()),
    ]
)
PLAN_SCHEMA = pa.schema([pa.field("pieces", pa.list_(PIECE), nullable=False)])
ROWS_IN_BATCH = 4096
ROWS_IN_FILE = 1 << 20


@dataclass(frozen=True)
class Phase:
    """A stretch of training: sequence length and budget in tokens, and domain → share."""

    length: int
    tokens: int
    mixture: dict[str, float]


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
    `default_max_epochs` for the others.
    """

    phases: tuple[Phase, ...]
    seed: int = 0
    default_max_epochs: float = 4.0
    max_epochs: dict[str, float] = field(default_factory=dict)
    validation: Validation = Validation()


_COLUMNS = ["id", "source", "domain", "parents", "tokens", "atomic"]


def read_documents(stems: Sequence[Path]) -> pa.Table:
    """Read the tables of documents of token shards, with their `shard` and `document` numbers."""
    tables = []
    for shard, stem in enumerate(stems):
        table = pq.read_table(stem.with_name(stem.name + ".documents.parquet"), columns=_COLUMNS)
        table = table.append_column("shard", pa.array(np.full(len(table), shard, np.int32)))
        tables.append(table.append_column("document", pa.array(np.arange(len(table)))))
    return pa.concat_tables(tables)


def held_out(
    ids: Sequence[str], parents: Sequence[list[str] | None], seed: int, fraction: float
) -> np.ndarray:
    """Which documents are for validation: bool [documents].

    A document made from others goes where its first parent goes.
    """
    names = [p[0] if p else i for p, i in zip(parents, ids, strict=True)]
    drawn = draw_many(seed, "validation", names)
    return (drawn >> np.uint64(11)).astype(np.float64) / (1 << 53) < fraction


Pieces = tuple[np.ndarray, np.ndarray, np.ndarray]  # row of the table, start, length: int64 [n]


def _pieces(documents: pa.Table, rows: np.ndarray, length: int) -> Pieces:
    """Cut documents (rows of the table, repeated for epochs) into pieces that fit a sequence."""
    tokens = documents["tokens"].to_numpy()[rows]
    atomic = documents["atomic"].take(pa.array(rows)).to_pylist()
    pieces = []
    for row, n, spans in zip(rows.tolist(), tokens.tolist(), atomic, strict=True):
        spans = [(span["start"], span["length"]) for span in spans or ()]
        pieces += [(row, start, size) for start, size in cut(n, length, spans)]
    row, start, size = np.array(pieces, np.int64).reshape(-1, 3).T
    return row, start, size


def _pack(documents: pa.Table, pieces: Pieces, length: int, seed: int, name: str) -> pa.Table:
    """Pack pieces into sequences."""
    rows, starts, lengths = pieces
    bins, count = best_fit(lengths, length)
    # Best fit lays the longest piece first; a drawn order keeps length and position apart.
    lead = np.array([draw_fraction(seed, "piece", name, i) for i in range(len(bins))])
    order = np.lexsort((lead, bins))
    offsets = np.searchsorted(bins[order], np.arange(count + 1)).astype(np.int32)
    rows = rows[order]
    column = pa.StructArray.from_arrays(
        [
            pa.array(documents["shard"].to_numpy()[rows], pa.int32()),
            pa.array(documents["document"].to_numpy()[rows], pa.int64()),
            pa.array(starts[order], pa.int64()),
            pa.array(lengths[order], pa.int32()),
        ],
        fields=list(PIECE),
    )
    return pa.table([pa.ListArray.from_arrays(pa.array(offsets), column)], schema=PLAN_SCHEMA)


def _write(table: pa.Table, out: Path, name: str) -> list[str]:
    """Write sequences as Arrow files of at most ROWS_IN_FILE rows; returns their names."""
    names = []
    for k, start in enumerate(range(0, max(len(table), 1), ROWS_IN_FILE)):
        names.append(f"{name}-{k:05d}.arrow")
        with pa.OSFile(str(out / names[-1]), "wb") as sink, pa.ipc.new_file(sink, PLAN_SCHEMA) as w:
            w.write_table(table.slice(start, ROWS_IN_FILE).combine_chunks(), ROWS_IN_BATCH)
    return names


def _validation_pieces(
    documents: pa.Table, kept: np.ndarray, domain: str, config: PlanConfig
) -> Pieces:
    """One drawn piece of each held-out document of a domain, as many as fill its sequences.

    One piece and not all: a few long documents would otherwise be the whole of a small set.
    """
    length = config.phases[0].length
    domains = np.array(documents["domain"].to_pylist(), object)
    sources = np.array(documents["source"].to_pylist(), object)
    rows = np.flatnonzero(
        kept & (domains == domain) & ~np.isin(sources, list(config.validation.exclude_sources))
    )
    ids = documents["id"].take(pa.array(rows)).to_pylist()
    draws = draw_many(config.seed, "validation-order", ids)
    row, start, size = _pieces(documents, rows[np.argsort(draws, kind="stable")], length)
    ids = documents["id"].take(pa.array(row)).to_pylist()
    names = [f"{i} {s}" for i, s in zip(ids, start.tolist(), strict=True)]
    best: dict[int, tuple[int, int]] = {}  # row: (piece, its draw)
    for k, (r, drawn) in enumerate(
        zip(row.tolist(), draw_many(config.seed, "validation-piece", names).tolist(), strict=True)
    ):
        if r not in best or drawn < best[r][1]:
            best[r] = (k, drawn)
    chosen = np.array([k for k, _ in best.values()], np.int64)
    before = np.cumsum(size[chosen]) - size[chosen]
    chosen = chosen[before < config.validation.sequences * length]
    return row[chosen], start[chosen], size[chosen]


def make_plan(stems: Sequence[Path], out: Path, config: PlanConfig) -> dict:
    """Plan all phases over the token shards `stems` and write the plan into `out`.

    Returns what `plan.json` holds: for each phase its files, sequences, fill (share of places that
    hold a token), and by domain the tokens wanted and planned and the epochs; the validation sets;
    and the sources, in the order of their `source_ids`. Raises MixtureError when a share cannot be
    met, ValueError when a sequence is shorter than the longest atomic span.
    """
    documents = read_documents(stems)
    tokens = documents["tokens"].to_numpy()
    sources = documents["source"].to_pylist()
    domains = documents["domain"].to_pylist()
    ids = documents["id"].to_pylist()
    parents = documents["parents"].to_pylist()
    kept_out = held_out(ids, parents, config.seed, config.validation.fraction)
    groups: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(domains, sources, strict=True)):
        if not kept_out[row]:
            groups.setdefault(key, []).append(row)
    longest = max(
        (span["length"] for spans in documents["atomic"].to_pylist() if spans for span in spans),
        default=0,
    )
    piles = []
    for (domain, source), rows in sorted(groups.items()):
        piles.append(
            Pile(
                source=source,
                domain=domain,
                rows=np.array(rows, np.int64),
                tokens=tokens[rows],
                ids=[ids[row] for row in rows],
                seed=config.seed,
                max_epochs=config.max_epochs.get(source, config.default_max_epochs),
            )
        )
    unknown = set(config.max_epochs) - set(sources)
    if unknown:
        raise MixtureError(
            f"max_epochs names the source {sorted(unknown)[0]!r}, which no document has; "
            f"there are {', '.join(sorted(set(sources)))}"
        )

    out.mkdir(parents=True, exist_ok=True)
    phases = []
    for k, phase in enumerate(config.phases):
        name = f"phase-{k}"
        if longest > phase.length:
            raise ValueError(
                f"{name}: length {phase.length} is below the longest atomic span, {longest}: "
                f"plan at least {longest} tokens, or encode with a smaller fim.span_tokens"
            )
        chosen = select(piles, phase.tokens, phase.mixture, name, slack=phase.length)
        rows = np.concatenate(list(chosen.values()))
        pieces = _pieces(documents, rows, phase.length)
        table = _pack(documents, pieces, phase.length, config.seed, name)
        planned = {domain: int(tokens[rows].sum()) for domain, rows in chosen.items()}
        phases.append(
            {
                "name": name,
                "length": phase.length,
                "sequences": len(table),
                "tokens": sum(planned.values()),
                "fill": sum(planned.values()) / max(len(table) * phase.length, 1),
                "files": _write(table, out, name),
                "domains": {
                    domain: {
                        "share": share,
                        "wanted": round(phase.tokens * share),
                        "planned": planned[domain],
                        "documents": len(set(chosen[domain].tolist())),
                        "available": sum(int(p.tokens.sum()) for p in piles if p.domain == domain),
                    }
                    for domain, share in phase.mixture.items()
                },
                "epochs": {
                    f"{p.domain}/{p.source}": p.taken / max(int(p.tokens.sum()), 1) for p in piles
                },
            }
        )
    validation = {}
    for domain in sorted({d for phase in config.phases for d in phase.mixture}):
        pieces = _validation_pieces(documents, kept_out, domain, config)
        name = f"validation-{domain}"
        table = _pack(documents, pieces, config.phases[0].length, config.seed, name)
        table = table.slice(0, config.validation.sequences)
        validation[domain] = {
            "name": name,
            "length": config.phases[0].length,
            "sequences": len(table),
            "files": _write(table, out, name),
        }
    plan = {
        "seed": config.seed,
        "shards": [stem.name for stem in stems],
        "sources": sorted(set(sources)),
        "phases": phases,
        "validation": validation,
    }
    (out / "plan.json").write_text(json.dumps(plan, indent=2, ensure_ascii=False), "utf-8")
    return plan
