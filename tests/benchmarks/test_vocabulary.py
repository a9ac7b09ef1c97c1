"""The benchmark of the vocabulary runs, and deals packages to training and test whole."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data" / "multilingual"


@pytest.mark.slow
def test_it_measures_every_language_with_every_tokenizer_and_prints_its_claims():
    if not DATA.is_dir():
        pytest.skip(f"no multilingual text at {DATA}")
    done = subprocess.run(
        [sys.executable, HERE / "bench_vocabulary.py", "--quick"],
        capture_output=True, encoding="utf-8", env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table, claims = done.stdout.split("\ntook ", 1)
    rows = [line.strip("│").split("│") for line in table.splitlines() if line.startswith("│")]
    of = {name.strip(): [cell.strip() for cell in cells] for name, *cells in rows}
    assert len(of) == 5 + 129
    assert all(len(cells) >= 4 for cells in of.values())
    assert all(float(cell) > 1 for cell in of["macro"])
    values = dict(
        re.fullmatch(r"(\S+) (\S+) \S+", line).groups() for line in claims.splitlines()[1:]
    )
    assert float(values["vocabulary_macro_bytes_per_token"]) > 1
    assert float(values["vocabulary_4_over_worst_premium"]) > 0


def test_a_package_is_known_by_its_name_wherever_it_lies():
    sys.path.insert(0, str(HERE))
    try:
        from packages import PARTS, package_of, part_of
    finally:
        sys.path.remove(str(HERE))
    for path, package in {
        "/opt/venv/lib/python3.11/site-packages/rich/table.py": "rich",
        "/opt/venv/lib/python3.11/site-packages/pip/_vendor/rich/table.py": "rich",
        "/usr/lib/python3/dist-packages/six.py": "six",
        "/usr/lib/python3.11/json/decoder.py": "python/json",
        "/usr/include/x86_64-linux-gnu/openssl/conf.h": "openssl",
        "/usr/include/node/openssl/conf.h": "openssl",
        "/usr/include/stdio.h": "include",
    }.items():
        assert package_of(Path(path)) == package
    assert {part_of(f"package{i}") for i in range(100)} == set(PARTS)
