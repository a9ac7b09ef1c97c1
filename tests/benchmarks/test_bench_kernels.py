"""The kernels' benchmark says that no GPU is here, and its checks hold in the interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).with_name("bench_kernels.py")


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(BENCH), *arguments],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"} | variables,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="says that no GPU is here: one is")
def test_without_a_gpu_it_lists_what_it_would_run_and_runs_nothing():
    done = run("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "no GPU is here" in done.stdout and "requantize_columns" in done.stdout
    done = run()
    assert done.returncode == 1 and "no GPU is here" in done.stdout


@pytest.mark.slow
def test_every_case_is_right_in_the_interpreter():
    done = run("--quick", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal" in done.stdout and "WRONG" not in done.stdout
