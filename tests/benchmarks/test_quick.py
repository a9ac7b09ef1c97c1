"""The tokenizer's benchmark runs, with the other libraries and without them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench_tok.py")
PEERS = ("gigabpe", "rustbpe", "gigatoken", "snaptokens", "kitoken", "bpeasy", "tiktoken")
# The benchmark's own default: an environment that has the other libraries, where one is named.
PEER_PYTHON = os.environ.get("GRISTMILL_PEERS", sys.executable)


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick", *arguments],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def claims(output: str) -> dict[str, float]:
    """The last lines: name, value, target."""
    lines = output.split("\ntook ", 1)[1].splitlines()[1:]
    assert all(re.fullmatch(r"\S+ \S+ \S+", line) for line in lines)
    return {name: float(value) for name, value, _ in (line.split() for line in lines)}


def installed(python: str) -> set[str]:
    """Which of the other libraries a Python has."""
    code = "import sys, importlib.util as u; print(*[n for n in sys.argv[1:] if u.find_spec(n)])"
    done = subprocess.run([python, "-c", code, *PEERS], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def rows(output: str) -> dict[str, list[list[str]]]:
    """The tables' rows by their title, each a list of cells."""
    tables: dict[str, list[list[str]]] = {}
    for line in output.splitlines():
        if line.startswith(("train,", "encode,")):
            title = line.strip()
            tables[title] = []
        elif line.startswith("│"):
            tables[title].append([cell.strip() for cell in line.strip("│").split("│")])
    return tables


@pytest.mark.slow
def test_without_other_libraries_ours_is_still_compared_with_tokenizers():
    if installed(sys.executable):
        pytest.skip("other libraries are installed in this environment")
    output = run("--peers", sys.executable, "--corpus", "code")
    missing = re.search(r"^missing peers .*: (.*)$", output, re.MULTILINE)
    assert set(missing[1].split(", ")) == set(PEERS)
    measured = claims(output)
    for scheme in ("gpt2", "deepseek-v3", "multilingual"):
        assert measured[f"train_{scheme}_code_vs_tokenizers"] > 0
        assert measured[f"encode_{scheme}_code_same_ids"] == 1
    for title, table in rows(output).items():
        if title.startswith("train,") and "again" not in title:
            ours, theirs = table
            assert (ours[0], theirs[0]) == ("ours", "tokenizers")
            assert ours[-2:] == theirs[-2:]  # as many merges, and the same ones


@pytest.mark.slow
def test_every_other_library_gives_a_figure():
    if missing := set(PEERS) - installed(PEER_PYTHON):
        pytest.skip(f"not installed in {PEER_PYTHON}: {', '.join(sorted(missing))}")
    output = run("--peers", PEER_PYTHON, "--corpus", "code")
    measured = claims(output)
    for library in ("gigabpe", "rustbpe", "gigatoken", "bpeasy"):
        assert measured[f"train_gpt2_code_vs_{library}"] > 0
        assert measured[f"train_gpt2_code_memory_vs_{library}"] > 0
    tables = rows(output)
    gpt2 = next(table for title, table in tables.items() if title.startswith("encode, gpt2, code"))
    assert {row[0] for row in gpt2} == {
        "ours", "gigatoken", "snaptokens", "kitoken", "tiktoken", "tokenizers"
    }  # fmt: skip
    # All of them encode the tokenizer that was trained in the run as `tokenizers` does.
    assert {row[-1].split()[0] for row in gpt2} == {"0"}
