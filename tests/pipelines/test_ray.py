"""Ray: a whole stage on two workers of a cluster of its own."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("ray", reason="needs the extra `ray`")
pytestmark = pytest.mark.slow


def test_a_stage_on_ray_has_the_same_bytes(make_run, curated):
    run = make_run("ray")
    run.write_curation(executor="ray", workers=2, tasks=3)
    run("curate", "tiny.yaml")
    assert run.bytes("curate") == curated.bytes("curate")


def test_a_task_that_fails_on_ray_ends_the_run_with_its_own_words(make_run):
    run = make_run("ray")
    run.write_curation(executor="ray", workers=2, on_error="stop")
    _, err = run("curate", "tiny.yaml", code=1)
    assert "prose.jsonl.gz" in err and "malformed JSON" in err and err.count("\n") == 1, err


# Prints the addresses, in hexadecimal, that this process and those it started listen on.
LISTENING = """
import os, re
from pathlib import Path
from pipelines.ray_tasks import _connect
_connect(1)
import ray
ray.get(ray.remote(lambda: 0).remote())
parents, sockets = {}, {}
for folder in Path("/proc").glob("[0-9]*"):
    try:
        parents[folder.name] = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        sockets[folder.name] = [os.readlink(link) for link in (folder / "fd").iterdir()]
    except OSError:
        pass
ours = {str(os.getpid())}
for _ in range(9):
    ours |= {pid for pid, parent in parents.items() if parent in ours}
inodes = set(re.findall(r"socket:.(\\d+)", str([sockets.get(pid) for pid in ours])))
for kind in ("tcp", "tcp6"):
    for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
        _, local, _, state, *rest = line.split()
        if state == "0A" and rest[5] in inodes:
            print("listens", local.split(":")[0])
"""


def test_a_cluster_of_our_own_listens_on_loopback_only():
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=200,
        env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
    )  # fmt: skip
    addresses = [line.split()[1] for line in done.stdout.splitlines() if "listens" in line]
    assert len(addresses) > 3, done.stderr
    assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F"}
