"""Datasets of random documents, published without the stages before: quick, and of any size."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.document import SCHEMA, document_id
from packing import Phase, PlanConfig, Validation, make_plan
from packing.shards import DOCUMENTS_SCHEMA, write_shard
from pipelines.publish import configs, packed
from pipelines.recipe import Recipe
from pipelines.recipe_data import PublishSection, SourceSection
from pipelines.recipe_training import PhaseSection, PlanSection
from pipelines.stages.publish import describe, licences_of

LICENSES = ["MIT", "Apache-2.0", "GPL-3.0-only", "LicenseRef-own | terms\nof use", None]
LANGUAGES = ["eng_Latn", "deu_Latn", "srp_Latn", "zho_Hant", "python", None]


PHASES = {"lengths": (32, 128), "documents": 120, "shard_bytes": 6_000}


class Made:
    """What was published: `root`, and what it was made from."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 0,
        lengths: tuple[int, ...] = (64,),
        shards: int = 3,
        documents: int = 40,
        words: int = 60,
        shard_bytes: int = 500_000_000,
        fraction: float = 0.1,
        order=list,
    ):
        self.folder, self.fraction = folder, fraction
        rng = random.Random(seed)
        vocabulary = [rng.randbytes(rng.randrange(2, 5)).hex() for _ in range(2000)]
        self.documents: list[dict] = []
        self.tokens: list[np.ndarray] = []
        self.texts, self.stems = [], []
        for shard in range(shards):
            rows, lengths_here = [], []
            for i in range(documents):
                text = " ".join(rng.choices(vocabulary, k=rng.randrange(1, words)))
                uri = f"{shard}/{i}"
                rows.append(
                    dict.fromkeys(SCHEMA.names)
                    | {
                        "id": document_id("here", uri, text),
                        "text": text,
                        "source": "here",
                        "domain": "web" if i % 3 else "code",
                        "language": rng.choice(LANGUAGES),
                        "uri": uri,
                        "license": rng.choice(LICENSES),
                    }
                )
                lengths_here.append(text.count(" ") + 2)
            path = folder / "curate" / "documents" / f"{shard:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_pylist(rows, SCHEMA)
            pq.write_table(table, path, compression="zstd", row_group_size=max(documents // 4, 1))
            self.texts.append(path)
            tokens = np.array([rng.randrange(3, 900) for _ in range(sum(lengths_here))], np.int32)
            tokens[np.cumsum(lengths_here) - 1] = 1
            stem = folder / "encode" / f"shard-{shard:05d}"
            stem.parent.mkdir(exist_ok=True)
            known = [
                {name: row.get(name) for name in ("id", "source", "domain", "language")}
                | {"bytes": len(row["text"]), "tokens": n}
                for row, n in zip(rows, lengths_here, strict=True)
            ]
            write_shard(stem, tokens, pa.Table.from_pylist(known, DOCUMENTS_SCHEMA))
            self.stems.append(stem)
            self.documents += rows
            self.tokens += np.split(tokens, np.cumsum(lengths_here)[:-1])
        budget = sum(map(len, self.tokens)) // (2 * len(lengths))
        mixture = {"web": 0.7, "code": 0.3}
        self.plan = make_plan(
            self.stems,
            folder / "plan",
            PlanConfig(
                tuple(Phase(length, budget, mixture) for length in lengths),
                validation=Validation(fraction, 8),
            ),
        )
        self.recipe = Recipe(
            name="made",
            sources=(SourceSection(path="here", name="here", domain="web"),),
            plan=PlanSection(
                phases=(PhaseSection(length=lengths[0], tokens=budget, mixture=mixture),)
            ),
            encode={"fim": {"rate": {}}},
            publish=PublishSection(name="made dataset", shard_bytes=shard_bytes),
        )
        self.root = folder / "publish" / "dataset"
        ids = folder / "publish" / configs.IDS
        ids.parent.mkdir(parents=True)
        packed.write_ids(self.stems, ids)
        packed_rows = packed.PackedRows(folder / "plan", folder / "encode", ids)
        cut = (shard_bytes, fraction)
        self.jobs = [
            *configs.file_jobs("text", configs.text_pieces(self.texts), *cut),
            *configs.file_jobs("tokenized", configs.tokenized_pieces(self.stems), *cut),
            *configs.packed_jobs(packed_rows, self.plan, shard_bytes),
        ]
        places = [str(folder / name) for name in ("publish", "plan", "encode")]
        records: dict[int, dict] = {}
        for number in order(range(len(self.jobs))):
            records[number] = configs.write_file(number, self.jobs[number], *places, 0, fraction)
        self.records = json.loads(json.dumps([records[k] for k in range(len(self.jobs))]))
        joins = configs.validation_jobs(self.jobs, self.records, shard_bytes)
        joined = [configs.write_validation(k, job, places[0]) for k, job in enumerate(joins)]
        tally = [
            {
                "domain": row["domain"],
                "language": row["language"] or "",
                "step": "",
                "reason": "",
                "documents": 1,
                "bytes": len(row["text"]),
            }
            for row in self.documents
        ]
        tally.append(tally[0] | {"step": "length", "reason": "too | short", "documents": 7})
        files = [record["entry"] for record in [*self.records, *joined]]
        licences = licences_of(self.records)
        _, self.splits = describe(
            self.root, self.recipe, self.plan, tally, files, licences, "<pad>"
        )

    def files(self, config: str, split: str = "train") -> list[Path]:
        """The files of a split, as a glob sorts them."""
        return sorted((self.root / "data" / config).glob(f"{split}-*.parquet"))

    def rows(self, config: str, split: str = "train") -> list[dict]:
        return [
            row for path in self.files(config, split) for row in pq.read_table(path).to_pylist()
        ]


@pytest.fixture(scope="session")
def make(tmp_path_factory):
    """Publish random documents: `make(lengths=(64, 128))`."""
    return lambda **changes: Made(tmp_path_factory.mktemp("made"), **changes)


@pytest.fixture(scope="session")
def made(make) -> Made:
    """A small dataset, not to be changed."""
    return make()


@pytest.fixture(scope="session")
def settings_of_phases() -> dict:
    """What the dataset `phases` is made with."""
    return PHASES


@pytest.fixture(scope="session")
def phases(make) -> Made:
    """A dataset of two phases of different lengths, in several files; not to be changed."""
    return make(**PHASES)


def command(*arguments, **environment) -> subprocess.Popen:
    """Start `gristmill …` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GRISTMILL_TRACEBACK": ""} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def start():
    """Start `gristmill ARGUMENTS`, with variables of the environment as keywords."""
    return command


@pytest.fixture
def gristmill():
    """Run `gristmill ARGUMENTS` to its end; gives the exit code and all that it printed."""

    def run(*arguments, **environment) -> tuple[int, str]:
        process = command(*arguments, **environment)
        out, err = process.communicate(timeout=120)
        return process.returncode, out + err

    return run
