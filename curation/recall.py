"""Recall: collect from a pool of pages all that are like a few, as DeepSeekMath found mathematics.

DeepSeekMath (Shao et al. 2024, section 2.1) trained fastText on a seed of mathematical pages
against random ones, kept what scored well in a crawl, looked for domains of which more than a tenth
had been kept, added their other pages to the seed, since a classifier misses what its seed does not
show, and began again; after four rounds 98% of what was recalled had been collected before. Nothing
here knows of mathematics: with a seed of code it recalls code.

A round: draw positive texts from the seed and the pages that joined it, negative ones from the rest
of the pool; train (`classifier.py`); score the whole pool; take what scores at least `min_score`,
or the best `most_bytes` of it; find domains (`domains.py`), whose pages that were not taken join
the seed for the next round. What was once collected stays. The pool is streamed twice a round, and
its documents are arrays of about 40 bytes each. Samples are the documents of least hash of their
ids, so that the result depends on the pool's documents and their order, not on its files.

    out/key.json               what the folder was made from; anything else is refused
    out/round-01/*.npy, .json  what a finished round leaves; a killed run goes on after the last
    out/model.bin, .json       the last round's classifier
    out/documents-*.parquet    the recalled documents, with `recall_score` and `recall_round`
    out/report.json            last of all
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.classifier import Classifier, ClassifierSettings, judge, train_classifier
from curation.document import SCHEMA, with_metadata
from curation.domains import Tally, part_keys, part_of
from curation.sampling import BATCH, Documents, least_keys

Progress = Callable[[str, int, int], None]  # (what, documents done, of how many)

SHARD, GROUP = 50 * BATCH, BATCH  # documents of a file and of a row group
NAMED = 50  # new domains that a report names, those with most pages first


@dataclass(frozen=True)
class RecallSettings:
    """How to recall. The defaults of the classifier are DeepSeekMath's.

    `positives` and `negatives` are trained on at most; `held_out` of the seed and of the pool never
    (or a tenth of them, if there are few). `domain_share` of a domain's pages, at least
    `domain_pages`, make it one to look through; its pages of at least `join_score` join the seed
    (DeepSeekMath had people choose among the addresses; 0 takes all pages). It ends after `rounds`,
    or when of what was recalled `stop_share` had been collected before.
    """

    classifier: ClassifierSettings = field(
        default_factory=lambda: ClassifierSettings(
            dim=256, lr=0.1, word_ngrams=3, min_count=3, epochs=3, held_out=0
        )
    )
    rounds: int = 4
    stop_share: float = 0.98
    positives: int = 500_000
    negatives: int = 500_000
    min_score: float = 0.5
    most_bytes: int | None = None
    domain_share: float = 0.1
    domain_pages: int = 10
    join_score: float = 0.1
    held_out: int = 2000
    seed: int = 0


@dataclass
class _State:
    """What the rounds so far have found, for each document of the pool."""

    first: np.ndarray  # uint8: the round in which it was collected, 0 for none
    score: np.ndarray  # float32: its score then
    joined: np.ndarray  # bool: it is in the seed


def recall(
    seed_paths: Sequence[Path],
    pool_paths: Sequence[Path],
    settings: RecallSettings,
    out: Path,
    progress: Progress | None = None,
    *,
    labelled: tuple[Sequence[Path], Sequence[Path]] | None = None,
    count_tokens: Callable[[list[str]], int] | None = None,
    each: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Recall from the pool what is like the seed; both are Parquet files of documents.

    Precision and recall are measured on `labelled` documents (Parquet files of positive and of
    negative ones), else on those held out of the seed and of the pool, where any page of the pool
    counts as negative, so that precision is at least what is said. Tokens are bytes / 4, unless
    `count_tokens` counts those of some texts. `each` is told of each round, finished ones too.
    Returns the report, which is also `out/report.json`. Raises ValueError if `out` was made from
    other documents or settings or by something else, or a file is not one of documents.
    """
    say = progress or (lambda what, done, total: None)
    for path in pool_paths:
        Documents.check(path, SCHEMA.names)
    seed = Documents(seed_paths, settings.seed)
    pool = Documents(pool_paths, settings.seed)
    for documents, what in ((seed, "seed"), (pool, "pool")):
        if not len(documents):
            raise ValueError(f"{out}: no documents in the {what}")
    key = _key(seed, pool, settings, labelled)
    _check_key(out, key)
    wanted = asdict(settings)
    if (out / "report.json").exists():
        report = json.loads((out / "report.json").read_text())
        if report["settings"] == wanted:
            for found in report["rounds"]:
                each(found)
            return report
    held = _hold_out(seed, pool, settings, labelled)
    tally = Tally(_read_parts(pool, say))
    state = _State(
        np.zeros(len(pool), np.uint8), np.zeros(len(pool), np.float32), np.zeros(len(pool), bool)
    )
    rounds: list[dict[str, Any]] = []
    for number in range(1, settings.rounds + 1):
        folder = out / f"round-{number:02}"
        if (folder / "round.json").exists():
            state = _State(*(np.load(folder / f"{name}.npy") for name in vars(state)))
            rounds.append(json.loads((folder / "round.json").read_text()))
        else:
            found = _round(number, seed, pool, tally, state, held, settings, out, say)
            if count_tokens:
                texts = pool.texts(state.first == number)
                found["new"]["tokens"] = sum(count_tokens([text]) for text in texts)
            rounds.append(found)
            _save(folder, state, found)
        each(rounds[-1])
        if number > 1 and rounds[-1]["already"] >= settings.stop_share:
            break
    _write_documents(pool, state, out, say)
    report = {
        "settings": wanted,
        "seed": len(seed),
        "pool": len(pool),
        "documents": int((state.first > 0).sum()),
        "bytes": int(pool.bytes[state.first > 0].sum()),
        "tokens": sum(found["new"]["tokens"] for found in rounds),
        "rounds": rounds,
    }
    _write_json(out / "report.json", report)
    return report


def _read_parts(pool: Documents, say: Progress) -> np.ndarray:
    keys = np.zeros((len(pool), 2), np.uint64)
    for row, batch in pool.stream(["uri"]):
        keys[row : row + len(batch)] = part_keys(batch["uri"].to_pylist())
        say("reading the pool", row + len(batch), len(pool))
    return keys


def _round(
    number: int,
    seed: Documents,
    pool: Documents,
    tally: Tally,
    state: _State,
    held: "_HeldOut",
    settings: RecallSettings,
    out: Path,
    say: Progress,
) -> dict[str, Any]:
    """Do one round: change `state` and tell of it."""
    before = state.first > 0
    known, _ = tally.found(before, settings.domain_share, settings.domain_pages)
    positives = [~held.seed, state.joined & ~held.pool]
    least = least_keys(
        np.concatenate([seed.keys[positives[0]], pool.keys[positives[1]]]), settings.positives
    )
    others = ~before & ~state.joined & ~held.pool
    negatives = others & (pool.keys <= least_keys(pool.keys[others], settings.negatives))

    positive = chain(
        seed.texts(positives[0] & (seed.keys <= least)),
        pool.texts(positives[1] & (pool.keys <= least)),
    )
    say(f"round {number}: training", 0, len(pool))
    trained = train_classifier(
        positive, pool.texts(negatives), settings.classifier, out / "model.bin"
    )
    classifier = Classifier(out / "model.bin")
    scores = np.zeros(len(pool), np.float32)
    for row, batch in pool.stream(["text"]):
        scores[row : row + len(batch)] = classifier.score(batch["text"].to_pylist())
        say(f"round {number}: scoring", row + len(batch), len(pool))

    recalled = scores >= settings.min_score
    if settings.most_bytes is not None:
        best = np.flatnonzero(recalled)
        best = best[np.lexsort((pool.keys[best], -scores[best]))]
        recalled[best[np.cumsum(pool.bytes[best]) > settings.most_bytes]] = False
    new = recalled & ~before
    state.first[new] = number
    state.score[new] = scores[new]
    collected = before | new
    found, inside = tally.found(collected, settings.domain_share, settings.domain_pages)
    joining = found[tally.part] & ~collected & ~state.joined & (scores >= settings.join_score)
    state.joined |= joining
    return {
        "round": number,
        "trained": trained["trained"],
        "judged": held.judge(classifier),
        "recalled": _amount(pool, recalled),
        "new": _amount(pool, new),
        "already": round(float((recalled & before).sum() / max(recalled.sum(), 1)), 4),
        "collected": _amount(pool, collected),
        "domains": int(found.sum()),
        "new_domains": int((found & ~known).sum()),
        "joined": int(joining.sum()),
        "largest_new_domains": _name(pool, tally, found & ~known, inside),
    }


def _amount(pool: Documents, rows: np.ndarray) -> dict[str, int]:
    size = int(pool.bytes[rows].sum())
    return {"documents": int(rows.sum()), "bytes": size, "tokens": size // 4}


def _name(
    pool: Documents, tally: Tally, parts: np.ndarray, inside: np.ndarray
) -> list[dict[str, Any]]:
    """Name the largest of some parts, with their pages and how many of them are collected."""
    rows = np.flatnonzero(parts)
    rows = rows[np.lexsort((pool.keys[tally.first[rows]], -tally.pages[rows]))][:NAMED]
    wanted = dict(zip(tally.first[rows].tolist(), rows.tolist(), strict=True))
    if not wanted:
        return []
    names = {}
    for row, batch in pool.stream(["uri"]):
        for at in wanted.keys() & range(row, row + len(batch)):
            names[wanted[at]] = part_of(batch["uri"][at - row].as_py())[1]
    return [
        {"domain": names[i], "pages": int(tally.pages[i]), "collected": int(inside[i])}
        for i in rows.tolist()
    ]


@dataclass(frozen=True)
class _HeldOut:
    """Texts to judge by, and which documents of seed and pool they are."""

    positive: list[str]
    negative: list[str]
    seed: np.ndarray  # bool [documents of the seed]
    pool: np.ndarray

    def judge(self, classifier: Classifier) -> list[dict[str, float]]:
        return judge(classifier.score(self.positive), classifier.score(self.negative))


def _hold_out(
    seed: Documents,
    pool: Documents,
    settings: RecallSettings,
    labelled: tuple[Sequence[Path], Sequence[Path]] | None,
) -> _HeldOut:
    most = settings.classifier.max_chars

    def texts(documents: Documents, rows: np.ndarray) -> list[str]:
        return [text[:most] for text in documents.texts(rows)]

    if labelled:
        sides = [Documents(paths, settings.seed) for paths in labelled]
        held = [texts(side, np.ones(len(side), bool)) for side in sides]
        keys = np.concatenate([side.keys for side in sides])
        return _HeldOut(*held, np.isin(seed.keys, keys), np.isin(pool.keys, keys))
    rows = [
        documents.keys <= least_keys(documents.keys, min(settings.held_out, len(documents) // 10))
        for documents in (seed, pool)
    ]
    return _HeldOut(texts(seed, rows[0]), texts(pool, rows[1]), *rows)


def _key(
    seed: Documents,
    pool: Documents,
    settings: RecallSettings,
    labelled: tuple[Sequence[Path], Sequence[Path]] | None,
) -> dict[str, Any]:
    """What makes a folder's rounds what they are; more rounds may be asked for later."""
    values = asdict(settings)
    del values["rounds"], values["stop_share"]
    judged = [Documents(paths, 0).digest for paths in labelled or ()]
    return {"seed": seed.digest, "pool": pool.digest, "labelled": judged, "settings": values}


def _check_key(out: Path, key: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "key.json"
    if not path.exists():
        if any(found.name != "key.json.part" for found in out.iterdir()):
            raise ValueError(
                f"{out}: holds other files, expected an empty or a new folder; name another one"
            )
        _write_json(path, key)
        return
    known = json.loads(path.read_text())
    other = [name for name in key if key[name] != known.get(name)]
    if other:
        raise ValueError(
            f"{out}: was made with other {' and '.join(other)}; remove it or name another folder"
        )


def _save(folder: Path, state: _State, found: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    for name, values in vars(state).items():
        np.save(folder / f"{name}.npy", values)
    _write_json(folder / "round.json", found)


def _write_json(path: Path, value: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.rename(path)


def _write_documents(pool: Documents, state: _State, out: Path, say: Progress) -> None:
    """Write the collected documents: files and row groups of fixed numbers of them."""
    shards = 0
    groups = _groups(_collected(pool, state, say))
    while (group := next(groups, None)) is not None:
        path = out / f"documents-{shards:05}.parquet"
        part = path.with_suffix(".part")
        with pq.ParquetWriter(part, SCHEMA, compression="zstd") as file:
            for table in chain([group], islice(groups, SHARD // GROUP - 1)):
                file.write_table(table)
        part.rename(path)
        shards += 1
    for path in out.glob("documents-*"):
        if path.suffix != ".parquet" or int(path.stem.split("-")[1]) >= shards:
            path.unlink()


def _collected(pool: Documents, state: _State, say: Progress) -> Iterator[pa.RecordBatch]:
    place = SCHEMA.get_field_index("metadata")
    for row, batch in pool.stream(SCHEMA.names):
        rows = slice(row, row + len(batch))
        mask = state.first[rows] > 0
        batch = batch.select(SCHEMA.names).cast(SCHEMA).filter(pa.array(mask))
        metadata = [
            with_metadata(old, recall_round=number, recall_score=round(score, 4))
            for old, number, score in zip(
                batch["metadata"].to_pylist(),
                state.first[rows][mask].tolist(),
                state.score[rows][mask].tolist(),
                strict=True,
            )
        ]
        yield batch.set_column(place, SCHEMA.field(place), pa.array(metadata, pa.string()))
        say("writing", rows.stop, len(pool))


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Put batches together to row groups; an empty one if there is nothing."""
    waiting, written = SCHEMA.empty_table(), 0
    for batch in batches:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        if len(waiting) >= GROUP:
            yield waiting.slice(0, GROUP).combine_chunks()
            waiting, written = waiting.slice(GROUP), written + 1
    if len(waiting) or not written:
        yield waiting.combine_chunks()
