"""Building the sample: four domains within their budgets, sorted, in Parquet shards.

    DIR/code-00000-of-00006.parquet   rows of `curation.document.SCHEMA`, by (source, uri)
    DIR/multilingual-…, math-…, web-…
    DIR/sample.json                   what is in it: packages, versions, licences, bytes and
                                      documents by domain, source, language and script

The bytes are a function of the packages' versions, the seed and the target alone. The budgets are
filled in order of how soon a domain runs dry: translations, prose, mathematics (whose generated
problems never end), and code takes what is left. `sample.json` is removed first and written last,
so a directory that has one is whole; a second call with the same versions finds it and returns.
"""

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ..document import SCHEMA, make_batch
from . import code, mathematics, prose
from .budget import fill
from .catalogs import SOURCES as CATALOGS
from .catalogs import multilingual_sources
from .packages import SampleError, find_package

VERSION = 2  # of the bytes: raise it whenever the same packages would give another sample

SHARD_BYTES = 8_000_000
ROW_GROUP_BYTES = 2_000_000

# Parts of the target. A domain that has less leaves the rest to those after it.
DOMAINS = (
    ("multilingual", 0.225, multilingual_sources),
    ("web", 0.175, prose.prose_sources),
    ("math", 0.15, mathematics.math_sources),
    ("code", 0.45, code.code_sources),
)

Progress = Callable[[str, int, int], None]


def build_sample(
    out: Path,
    *,
    seed: int = 0,
    target_bytes: int = 90_000_000,
    progress: Progress | None = None,
) -> dict:
    """Gather the sample corpus into the folder `out`; return what `sample.json` says.

    `target_bytes` of text is an upper bound, reached as far as the packages go (about 120 MB);
    `progress(domain, bytes done, bytes planned)` is called as the work goes on.
    Raises `SampleError` when a package of the extra `sample` is missing, or on a target below
    1 MB.
    """
    if target_bytes < 1_000_000:
        raise SampleError(f"target_bytes is {target_bytes}, a sample needs at least 1,000,000")
    out = Path(out)
    key = {
        "version": VERSION,
        "seed": seed,
        "target_bytes": target_bytes,
        "packages": installed_packages(),
    }
    done = _finished(out, key)
    if done is not None:
        return done
    out.mkdir(parents=True, exist_ok=True)
    (out / "sample.json").unlink(missing_ok=True)

    files, domains, licenses = [], {}, Counter()
    left, parts = target_bytes, sum(part for _, part, _ in DOMAINS)
    for domain, part, sources in DOMAINS:
        budget = int(left * min(1.0, part / parts))
        rows = _gather(domain, fill(sources(seed), budget), budget, progress)
        rows.sort(key=lambda row: (row["source"], row["uri"]))
        domains[domain] = _summary(rows)
        for row in rows:
            licenses[row["license"] or "unknown"] += len(row["text"].encode())
        files += _write_shards(out, domain, rows)
        left -= domains[domain]["bytes"]
        parts -= part

    for stale in out.iterdir():
        if _SHARD_NAME.fullmatch(stale.name) and stale.name not in {f["path"] for f in files}:
            stale.unlink()
    sample = {
        **key,
        "documents": sum(d["documents"] for d in domains.values()),
        "bytes": sum(d["bytes"] for d in domains.values()),
        "domains": domains,
        "licenses": dict(sorted(licenses.items())),
        "files": files,
    }
    _write_atomically(out / "sample.json", json.dumps(sample, indent=1, sort_keys=True).encode())
    return sample


def installed_packages() -> dict[str, dict]:
    """Version and licence of every package that the sample draws on, {name: {version, license}}.

    Raises `SampleError` for the first that is missing and must not be.
    """
    needed = {name for _, name in CATALOGS} | {name for _, name in prose.SOURCES}
    needed |= {name for _, name, _ in code.PROJECTS} | {n for _, n, _ in mathematics.SOURCES}
    packages = {}
    for name in sorted(needed | set(prose.CARRIED)):
        try:
            package = find_package(name)
        except SampleError:
            if name in needed:
                raise
            continue
        packages[name] = {"version": package.version, "license": package.license}
    return packages


_SHARD_NAME = re.compile(r"\.?(?:code|math|multilingual|web)-\d{5}-of-\d{5}\.parquet(?:\.\d+)?")


def _gather(
    domain: str, documents: Iterator[dict], budget: int, progress: Progress | None
) -> list[dict]:
    rows, size, told = [], 0, 0
    for row in documents:
        rows.append(row)
        size += len(row["text"].encode())
        if progress and size - told >= 500_000:
            progress(domain, size, budget)
            told = size
    if progress:
        progress(domain, size, size)
    return rows


def _summary(rows: Sequence[dict]) -> dict:
    tables: dict[str, dict] = defaultdict(lambda: defaultdict(lambda: {"documents": 0, "bytes": 0}))
    total = 0
    for row in rows:
        size = len(row["text"].encode())
        total += size
        names = {"sources": row["source"], "languages": row.get("language") or "unknown"}
        _, _, script = names["languages"].partition("_")
        if script:
            names["scripts"] = script
        for table, name in names.items():
            tables[table][name]["documents"] += 1
            tables[table][name]["bytes"] += size
    return {
        "documents": len(rows),
        "bytes": total,
        **{table: dict(sorted(names.items())) for table, names in sorted(tables.items())},
    }


def _runs(rows: Sequence[dict], limit: int) -> Iterator[list[dict]]:
    """Cut rows into runs of at least `limit` bytes of text, the last of what remains."""
    run, size = [], 0
    for row in rows:
        run.append(row)
        size += len(row["text"].encode())
        if size >= limit:
            yield run
            run, size = [], 0
    if run:
        yield run


def _write_shards(out: Path, domain: str, rows: Sequence[dict]) -> list[dict]:
    shards = list(_runs(rows, SHARD_BYTES))
    written = []
    for k, shard in enumerate(shards):
        path = out / f"{domain}-{k:05d}-of-{len(shards):05d}.parquet"
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
            for group in _runs(shard, ROW_GROUP_BYTES):
                writer.write_batch(make_batch(group))
        data = sink.getvalue()
        _write_atomically(path, data)
        written.append(
            {
                "path": path.name,
                "documents": len(shard),
                "size": data.size,
                "xxh3": xxhash.xxh3_128_hexdigest(data),
            }
        )
    return written


def _write_atomically(path: Path, data: bytes | pa.Buffer) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(data)
    beside.replace(path)


def _finished(out: Path, key: dict) -> dict | None:
    """The content of `sample.json` if it was made from `key` and its shards are all there."""
    try:
        sample = json.loads((out / "sample.json").read_bytes())
        if any(sample[name] != value for name, value in key.items()):
            return None
        sizes = [(out / f["path"]).stat().st_size == f["size"] for f in sample["files"]]
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None
    return sample if all(sizes) else None
