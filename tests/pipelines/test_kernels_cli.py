"""`gristmill kernels` prints floors and resources, and writes them as a page."""

import subprocess
import sys

import pytest

from model.kernels.resources import read_table


@pytest.mark.slow
def test_the_tables_and_the_page(tmp_path):
    command = [sys.executable, "-m", "pipelines.cli", "kernels", "--html", "page.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    for text in ("v3-671b", "moe-1b", "57.4 TFLOP", "SwiGLU backward", "instructions", "memory"):
        assert text in page
        assert text in done.stdout
    for build in read_table()[1]:
        assert f"<td>{build}</td>" in page
