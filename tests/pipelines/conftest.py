"""A small run of the whole line on real text that Python itself brings: seconds, not minutes."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import yaml

from pipelines.cli import main

STDLIB = Path(sysconfig.get_paths()["stdlib"])

RECIPE = {
    "name": "tiny",
    "seed": 7,
    "workers": 2,
    "sources": [
        {"path": "prose.jsonl.gz", "name": "topics", "domain": "web", "license": "PSF-2.0"},
        {"path": "code", "name": "stdlib", "domain": "code", "license": "PSF-2.0"},
    ],
    "curate": {"split_bytes": 200_000},
    "tokenizer": {"vocab_size": 600},
    "encode": {"fim": {"rate": {"code": 0.5}, "span_tokens": 64}},
    "plan": {
        "phases": [{"length": 64, "tokens": 12_000, "mixture": {"web": 0.65, "code": 0.35}}],
        "validation": {"fraction": 0.1, "sequences": 8},
    },
    "train": {
        "model": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "moe_intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "q_lora_rank": None,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
            "n_routed_experts": 4,
            "max_position_embeddings": 256,
        },
        "batch_size": 5,
        "learning_rate": 3.0e-3,
        "warmup_steps": 4,
        "checkpoint_every": 5,
        "eval_every": 20,
        "threads": 1,
    },
}

LINE = ("curate", "tokenizer", "encode", "plan", "train", "export", "publish", "report")


def write_sources(directory: Path) -> None:
    """Prose and code, with a duplicate, a near-empty file and a line that is no JSON."""
    with gzip.open(directory / "prose.jsonl.gz", "wt", encoding="utf-8") as file:
        for name in sorted(topics):
            file.write(json.dumps({"text": topics[name], "url": f"topic/{name}"}) + "\n")
        file.write(json.dumps({"text": topics["try"], "url": "topic/try-again"}) + "\n")
        file.write("{not json\n")
    for package in ("json", "email", "concurrent"):
        shutil.copytree(
            STDLIB / package,
            directory / "code" / package,
            ignore=shutil.ignore_patterns("__pycache__", "test*"),
        )
    (directory / "code" / "empty.py").write_text("x = 1\n")


class Run:
    """A folder with sources and a recipe, and the command line to run it with."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.out = directory / "runs" / "tiny"
        directory.mkdir(parents=True, exist_ok=True)
        write_sources(directory)
        self.write()

    def write(self, **changes) -> None:
        """Write the recipe with some sections changed."""
        (self.directory / "tiny.yaml").write_text(yaml.safe_dump(RECIPE | changes))

    def write_curation(self, **changes) -> None:
        """Write a recipe of curation alone: many splits, quick steps."""
        content = {key: RECIPE[key] for key in ("name", "seed", "workers", "sources")}
        content["curate"] = {"steps": ["length", "symbols"], "split_bytes": 50_000}
        (self.directory / "tiny.yaml").write_text(yaml.safe_dump(content | changes))

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *arguments],
            cwd=self.directory,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "GRISTMILL_TRACEBACK": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run a command to its end; returns what it printed."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, out + err
        return out, err

    def manifest(self, stage: str) -> dict:
        return json.loads((self.out / stage / "manifest.json").read_text("utf-8"))

    def bytes(self, stage: str) -> dict[str, str]:
        """Checksums of all that a stage made, by path."""
        return {entry["path"]: entry["xxh3"] for entry in self.manifest(stage)["outputs"]}


@pytest.fixture
def make_run(tmp_path):
    """Make folders for runs: `make_run("a")`."""
    return lambda name: Run(tmp_path / name)


@pytest.fixture(scope="session")
def curated(tmp_path_factory) -> Run:
    """A run of curation alone, in one process, never disturbed."""
    run = Run(tmp_path_factory.mktemp("curated"))
    run.write_curation(workers=1)
    run("curate", "tiny.yaml")
    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Run:
    """A run that was never disturbed."""
    # A folder of this name must not be taken for the stage's own.
    run = Run(tmp_path_factory.mktemp("finished") / "documents")
    run("run", "tiny.yaml")
    return run


@pytest.fixture(scope="module")
def with_projects(tmp_path_factory) -> Run:
    """A run whose code is a project, with holes of every kind."""
    run = Run(tmp_path_factory.mktemp("projects"))
    fim = {
        "rate": {"code": 1.0},
        "span_tokens": 64,
        "holes": {"characters": 0.2, "lines": 0.2, "syntax": 0.4, "project": 0.2},
        "formats": {"psm": 0.5, "spm": 0.5},
    }
    run.write(
        sources=RECIPE["sources"][:1],
        projects={"sources": [{"path": "code", "name": "stdlib"}], "max_bytes": 4_000},
        encode={"fim": fim},
    )
    run("run", "tiny.yaml")
    return run


@pytest.fixture(scope="session")
def line() -> tuple[str, ...]:
    """The stages of the small run, in order."""
    return LINE


@pytest.fixture
def mistake(monkeypatch, capsys):
    """Run `gristmill tok …` in this process, which must fail with one line; gives that line."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gristmill", "tok", *map(str, arguments)])
        monkeypatch.delenv("GRISTMILL_TRACEBACK", raising=False)
        with pytest.raises(SystemExit) as left:
            main()
        lines = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning: ")]
        assert left.value.code == 1 and len(lines) == 1 and lines[0].startswith("error: "), lines
        return lines[0]

    return run
